"""What happened in a local run: who died, when, and how long it took to be well again."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from elf_operator.status import Replacement


@dataclass
class Death:
    """One pod's end and what followed. Times are seconds since the run began."""

    pod: str
    cause: str
    at: float
    round: int
    noticed: float | None = None
    successor: str | None = None
    serving: float | None = None
    next_round: float | None = None


@dataclass
class Account:
    """Samples of training and all deaths."""

    began: float
    samples: list[dict[str, Any]] = field(default_factory=list)
    deaths: list[Death] = field(default_factory=list)

    def sample(self, now: float, training: dict[str, Any]) -> None:
        """Note the newest progress, if it is new."""
        round_ = int(training.get("round", 0))
        entry = {
            "seconds": round(now - self.began, 3),
            "round": round_,
            "loss": _number(training.get("loss")),
            "metrics": {k: _number(v) for k, v in training.get("metrics", {}).items()},
        }
        last = self.samples[-1] if self.samples else None
        if last is None or (last["round"], last["metrics"]) != (entry["round"], entry["metrics"]):
            self.samples.append(entry)
        for death in self.deaths:
            if death.next_round is None and round_ > death.round:
                death.next_round = now - self.began

    def died(self, now: float, pod: str, cause: str, round_: int) -> None:
        """A pod is dead (or has been made so)."""
        self.deaths.append(Death(pod, cause, now - self.began, round_))

    def replaced(self, entry: Replacement, successor: str) -> None:
        """The operator acted on it."""
        for death in self.deaths:
            if death.pod == entry.pod:
                death.noticed = entry.time - self.began
                death.successor = successor
                if entry.recovery_seconds is not None:
                    death.serving = death.noticed + entry.recovery_seconds

    def rows(self) -> list[dict[str, Any]]:
        """The deaths as plain data; durations are seconds after the death."""
        return [
            {
                "pod": d.pod,
                "cause": d.cause,
                "atSeconds": round(d.at, 2),
                "atRound": d.round,
                "successor": d.successor,
                "noticedAfter": _after(d.noticed, d.at),
                "servingAfter": _after(d.serving, d.at),
                "nextRoundAfter": _after(d.next_round, d.at),
            }
            for d in self.deaths
        ]


def _after(then: float | None, at: float) -> float | None:
    return None if then is None else round(max(0.0, then - at), 2)


def _number(text: Any) -> float | None:
    value = float(text) if text is not None else math.nan
    return value if math.isfinite(value) else None
