"""Measuring side by side: variants in turn, medians and spread, ratios paired by round, results as JSON.

Absolute figures are of one machine in one hour. A ratio is of the same rounds of one run, so a noisy moment
hits both its sides; its median is what `docs/performance.md` says, with how far it was from round to round.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import itertools
import json
import os
import pathlib
import platform
import shlex
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
RESULTS = CACHE / "bench"
_VERSIONS = ("numpy", "torch", "msgspec")


@dataclass(frozen=True)
class Spread:
    """Median, least and most of some samples."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """Raises ValueError where there is no sample."""
        if not samples:
            raise ValueError("nothing was measured")
        return cls(statistics.median(samples), min(samples), max(samples))

    def __str__(self) -> str:
        """`3.1 [2.9–4.0]`; a single value or samples that all read the same stand alone."""
        middle, least, most = map(short, (self.median, self.least, self.most))
        return middle if least == most else f"{middle} [{least}–{most}]"


@dataclass(frozen=True)
class Row:
    """One variant: what it took, sample by sample, and where that should be."""

    name: str
    unit: str
    samples: Sequence[float]
    note: str = ""
    target: float | None = None
    at_least: bool = False
    """The target is the least that is wanted; else it is the most."""

    @property
    def reached(self) -> bool | None:
        """Whether the median is where it should be; None where nothing was asked."""
        return _reached(self.samples, self.target, self.at_least)


@dataclass(frozen=True)
class Ratio:
    """One variant over another, sample by sample, and where it should be."""

    name: str
    samples: Sequence[float]
    target: float | None = None
    at_least: bool = True
    """The target is the least that is wanted; else it is the most."""

    @classmethod
    def paired(
        cls,
        name: str,
        over: Sequence[float],
        under: Sequence[float],
        target: float | None = None,
        at_least: bool = True,
    ) -> Ratio:
        """Of samples that were taken in the same rounds. Raises ValueError if they were not."""
        return cls(name, [a / b for a, b in zip(over, under, strict=True)], target, at_least)

    @property
    def reached(self) -> bool | None:
        """Whether the median is where it should be; None where nothing was asked."""
        return _reached(self.samples, self.target, self.at_least)


def _reached(samples: Sequence[float], target: float | None, at_least: bool) -> bool | None:
    if target is None:
        return None
    middle = Spread.of(samples).median
    return middle >= target if at_least else middle <= target


@dataclass
class Table:
    """What belongs together: variants, and ratios between them."""

    title: str
    rows: list[Row] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)


@dataclass
class Result:
    """All tables of one benchmark, the machine they are of, and how they were made."""

    name: str
    tables: list[Table]
    machine: Mapping[str, str] = field(default_factory=lambda: machine())
    command: str = ""

    def save(self, directory: pathlib.Path = RESULTS) -> pathlib.Path:
        """Into `directory/NAME.json`, where the report finds it."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.name}.json"
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")
        return path

    @classmethod
    def load(cls, path: pathlib.Path) -> Result:
        """Inverse of `save`."""
        data = json.loads(path.read_text())
        tables = [
            Table(t["title"], [Row(**row) for row in t["rows"]], [Ratio(**ratio) for ratio in t["ratios"]])
            for t in data["tables"]
        ]
        return cls(data["name"], tables, data["machine"], data["command"])


def side_by_side(works: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each of `works` gives (seconds, rounds per second, …), in turn, so that a noisy moment hits all.

    Every second round goes backwards: no variant is always the one after the same neighbour.
    """
    samples: dict[str, list[float]] = {name: [] for name in works}
    names = list(works)
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            samples[name].append(works[name]())
    return samples


def short(value: float) -> str:
    """Three digits, and no exponent within reason."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1e}"


def markdown(result: Result) -> str:
    """The tables of a benchmark as they stand in the docs."""
    parts = []
    for table in result.tables:
        parts.append(f"**{table.title}**")
        if table.rows:
            parts.append(_rows(table.rows))
        if table.ratios:
            parts.append(_ratios(table.ratios))
    facts = ", ".join(f"{name} {value}" if name != "at" else value for name, value in result.machine.items())
    parts.append(f"<sub>`{result.command}`: {facts}</sub>")
    return "\n\n".join(parts)


def _rows(rows: Sequence[Row]) -> str:
    if all(row.target is None for row in rows):
        lines = ["| | median [min–max] | unit | |", "|---|---|---|---|"]
        lines += [f"| {row.name} | {Spread.of(row.samples)} | {row.unit} | {row.note} |" for row in rows]
        return "\n".join(lines)
    lines = ["| | median [min–max] | unit | wanted | | |", "|---|---|---|---|---|---|"]
    for row in rows:
        figure = f"| {row.name} | {Spread.of(row.samples)} | {row.unit} "
        lines.append(f"{figure}| {_wanted(row)} | {_verdict(row)} | {row.note} |")
    return "\n".join(lines)


def _ratios(ratios: Iterable[Ratio]) -> str:
    lines = ["| ratio | median [min–max] | wanted | |", "|---|---|---|---|"]
    for ratio in ratios:
        figure = f"| {ratio.name} | {Spread.of(ratio.samples)} "
        lines.append(f"{figure}| {_wanted(ratio)} | {_verdict(ratio)} |")
    return "\n".join(lines)


def _wanted(of: Row | Ratio) -> str:
    sign = "≥" if of.at_least else "≤"
    return "" if of.target is None else f"{sign} {short(of.target)}"


def _verdict(of: Row | Ratio) -> str:
    return {None: "", True: "reached", False: "**not reached**"}[of.reached]


def machine() -> dict[str, str]:
    """What a figure depends on: cores, CPU, memory, kernel, Python, libraries; and when it was taken."""
    facts = {
        "at": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "cores": str(os.cpu_count()),
        "CPU": _first_after("/proc/cpuinfo", "model name") or platform.machine(),
        "memory": _memory(),
        "Linux": platform.release(),
        "Python": platform.python_version(),
    }
    return facts | {name: version for name in _VERSIONS if (version := _version(name))}


def _memory() -> str:
    total = _first_after("/proc/meminfo", "MemTotal")
    return f"{int(total.split()[0]) / 2**20:.0f} GiB" if total else "unknown"


def _first_after(path: str, key: str) -> str:
    try:
        with open(path) as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
    except OSError:
        return ""


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def parser(doc: str | None, rounds: int) -> argparse.ArgumentParser:
    """The options that every benchmark has. From here on SIGTERM, too, ends what it has started."""
    exit_on_terminate()
    options = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    options.add_argument("--quick", action="store_true", help="smaller and shorter: does it still work?")
    options.add_argument(
        "--rounds", type=int, default=rounds, help=f"how often each takes its turn ({rounds})"
    )
    return options


def exit_on_terminate() -> None:
    """Let SIGTERM end this process as an exception does, once: a second one must not tear the tidying."""

    def leave(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(143)

    signal.signal(signal.SIGTERM, leave)


def finish(name: str, tables: list[Table], quick: bool) -> None:
    """Show what was measured; keep it for the report unless it was a quick look."""
    result = Result(name, tables, command=typed(sys.argv))
    print(markdown(result))
    if not quick:
        print(f"\nkept in {result.save().relative_to(ROOT)}", file=sys.stderr)


def typed(words: Sequence[str]) -> str:
    """The command as a reader would type it: from the root, and with a context of his own."""
    script = pathlib.Path(words[0]).name
    after = itertools.pairwise(words)
    return shlex.join(
        ["python", f"tests/bench/{script}", *("NAME" if a == "--context" else b for a, b in after)]
    )


def run_json(command: Sequence[str], timeout: float, env: Mapping[str, str] | None = None) -> Any:
    """What a script prints as its last line, as JSON; its whole session is killed when it fails or hangs.

    Raises RuntimeError with the end of what it said.
    """
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=None if env is None else dict(env),
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=timeout)
    except BaseException as error:
        _kill_session(process.pid)
        out, err = process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise RuntimeError(f"{' '.join(command)}: nothing after {timeout:.0f} s\n{err[-2000:]}") from None
        raise
    _kill_session(process.pid)  # who stayed behind would disturb what is measured next
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit status {process.returncode}\n{err[-2000:]}")
    return json.loads(out.strip().splitlines()[-1])


def _kill_session(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
