"""What the NPDC remembers of its rounds: statistics of the last one and of all, and one record a round."""

from __future__ import annotations

import base64
import json
import logging
import pathlib
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from elf_worker.aggregation.northpole import RoundLog
from elf_worker.roles import files
from elf_worker.statistics import Product
from elf_worker.statistics.builtin import Loss
from elf_worker.statistics.product import State

_log = logging.getLogger(__name__)
REMEMBERED = 1000
"""Records of rounds kept in memory; the file, where there is one, has all."""
HISTORY_FILE = "history.jsonl"
STATISTICS_FILE = "statistics.json"
WINDOW_FILE = "window.url"
"""Holds the address of the running NPDC's window."""
NAMED_HOMES = 100


@dataclass(frozen=True)
class Unsaved:
    """What is to be written to a chronicle's folder. Made on the event loop, stored in a thread."""

    directory: pathlib.Path
    lines: str
    statistics: bytes | None
    """None: those that are stored already are good enough."""

    def store(self) -> None:
        """Write it. A disk that is full or slow stops no training: what cannot be written is lost."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with (self.directory / HISTORY_FILE).open("a") as file:
                file.write(self.lines)
            if self.statistics is not None:
                files.write_atomically(self.directory / STATISTICS_FILE, self.statistics, durable=False)
        except OSError as error:
            _log.warning("history and statistics cannot be written: %s", error)


class Chronicle:
    """Fed with one round after the other. Not thread-safe: it lives on the event loop."""

    def __init__(self, product: Product, directory: str = "") -> None:
        self._product = product
        self._directory = pathlib.Path(directory) if directory else None
        self.total: State = {}
        """All rounds together."""
        self.last: State = {}
        """The last round, all MDCs together."""
        self._log: RoundLog | None = None
        self.round = 0
        self.population: list[dict[str, int]] = []
        """How many homes the rounds had: each change, and the rounds that were done then."""
        self.history: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)
        self._unwritten: list[str] = []

    def note(self, log: RoundLog) -> None:
        """A round has been closed."""
        self.round, self.last, self._log = log.round, log.statistics, log
        self._product.combine(self.total, self._product.lasting(log.statistics))

    @property
    def by_mdc(self) -> dict[int, State]:
        """The last round, each MDC for itself."""
        return self._log.statistics_by_mdc if self._log is not None else {}

    def write(
        self, log: RoundLog, loss: float | None, metrics: dict[str, float], npdc: dict[str, float]
    ) -> None:
        """One record of the round; `npdc` has the seconds of the NPDC's own steps."""
        path = self._product.report({k: v for k, v in self.last.items() if k == "slowest_path"})
        record: dict[str, Any] = {
            "round": log.round,
            "homes": log.homes,
            "at": round(time.time(), 6),
            "seconds": round(log.seconds, 6),
            "counted": log.counted,
            "failed": log.failed,
            "loss": loss,
            "byMdc": {str(index): count for index, count in log.by_mdc.items()},
            "npdc": {step: round(seconds, 6) for step, seconds in npdc.items()},
            **path.get("slowest_path", {}),
        }
        if log.missing:
            record["missing"] = len(log.missing)
        if log.reasons:
            record["reasons"] = log.reasons
        if metrics:
            record["metrics"] = metrics
        self.history.append(record)
        if self._directory is not None:
            self._unwritten.append(json.dumps(record) + "\n")

    def unsaved(self, whole: bool = True) -> Unsaved | None:
        """What the folder lacks: new records, and, if `whole`, what `report` and `homes_between` say."""
        if self._directory is None:
            return None
        lines, self._unwritten = self._unwritten, []
        if not whole:
            return Unsaved(self._directory, "".join(lines), None)
        last = base64.b64encode(self._product.to_wire(self.last)).decode()
        data = json.dumps({"report": self.report(), "population": self.population, "last": last})
        return Unsaved(self._directory, "".join(lines), data.encode())

    @classmethod
    def saved(cls, directory: pathlib.Path) -> tuple[dict[str, Any], Chronicle]:
        """The report as it was saved, and a chronicle that answers `homes_between`.

        Raises OSError, ValueError or KeyError when there is none.
        """
        data = json.loads((directory / STATISTICS_FILE).read_text())
        found = cls(Product([Loss()]))
        found.last = found._product.from_wire(base64.b64decode(data["last"]))
        found.round = data["report"]["round"]
        found.population = data.get("population", [])
        return data["report"], found

    def report(self) -> dict[str, Any]:
        """Everything, for people."""
        return {
            "round": self.round,
            "lastRound": self._product.report(self.last),
            "total": self._product.report(self.total),
            "mdcs": {str(i): self._product.report(state) for i, state in sorted(self.by_mdc.items())},
            "errors": dict(self._product.errors),
        }

    def summary(self) -> dict[str, str]:
        """The last round in a few words, bounded, for the status."""
        found = self._product.report(self.last)
        out: dict[str, str] = {}
        if homes := found.get("homes"):
            failed = ", ".join(f"{count} {reason}" for reason, count in homes["failed"].items())
            out["homes"] = f"{homes['served']} served" + (f", failed: {failed}" if failed else "")
        for name in ("loss", "gradient_norm", "home_seconds", "mdc_seconds"):
            state = found.get(name)
            if state and state["count"]:
                key = "".join(part.capitalize() if i else part for i, part in enumerate(name.split("_")))
                out[key] = (
                    f"p50 {state['p50']:.4g}, p90 {state['p90']:.4g}, "
                    f"least {state['min']:.4g} ({state['minId']}), most {state['max']:.4g} ({state['maxId']})"
                )
        shown = {"homes", "loss", "gradient_norm", "home_seconds", "mdc_seconds", "mdc_gradient_norm"}
        shown |= {"classes", "bytes", "mdc_bytes", "slowest_path"}
        for name in sorted(set(found) - shown)[:10]:
            out[name[:40]] = json.dumps(found[name])[:200]
        return out

    def announce(self, url: str) -> None:
        """Say in the folder, if there is one, where the window is."""
        if self._directory is not None:
            self._directory.mkdir(parents=True, exist_ok=True)
            files.write_atomically(self._directory / WINDOW_FILE, url.encode())

    def homes_between(self, low: float, high: float) -> dict[str, Any]:
        """How many homes had a loss in `low..high` in the last round, and who some of them are."""
        state = self.last.get(Loss.name)
        count, homes = state.between(low, high) if state is not None else (0, [])
        named = homes[:NAMED_HOMES]
        return {"round": self.round, "count": count, "homes": named, "all": count == len(named)}

    def to_bytes(self) -> bytes:
        """The totals, for a successor."""
        return self._product.to_wire(self.total)

    def restore(self, data: bytes) -> None:
        """Inverse of `to_bytes`."""
        self.total = self._product.from_wire(data)
