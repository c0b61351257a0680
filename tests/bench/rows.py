"""Rows of figures beside what was wished: a table for people, JSON for a page."""

from __future__ import annotations

import json
import pathlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One figure, measured several times."""

    name: str
    unit: str
    samples: Sequence[float]
    target: float | None = None
    """What the median should be; None: it is only shown."""
    at_least: bool = False
    """Whether more is better."""

    @property
    def median(self) -> float:
        """The middle sample."""
        return statistics.median(self.samples)

    @property
    def ratio(self) -> float | None:
        """How much of the target the median is."""
        return None if self.target is None else self.median / self.target

    @property
    def met(self) -> bool | None:
        """Whether the median is on the right side of the target."""
        if self.target is None:
            return None
        return self.median >= self.target if self.at_least else self.median <= self.target

    def as_json(self) -> dict[str, object]:
        """With the samples, so that a page may say more than the median."""
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "min": min(self.samples),
            "max": max(self.samples),
            "samples": list(self.samples),
            "target": self.target,
            "atLeast": self.at_least,
            "ratioToTarget": self.ratio,
            "met": self.met,
        }


def table(rows: Sequence[Row]) -> str:
    """One line a row."""
    wide = max((len(row.name) for row in rows), default=0)
    out = [f"{'':{wide}}  {'median':>9} {'min–max':>17} {'n':>3}  {'target':>9} {'of target':>9}"]
    for row in rows:
        spread = f"{_short(min(row.samples))}–{_short(max(row.samples))}"
        line = f"{row.name:{wide}}  {_short(row.median):>9} {spread:>17} {len(row.samples):3d}"
        if row.target is not None and row.ratio is not None:
            sign = "≥" if row.at_least else "≤"
            line += f"  {sign + ' ' + _short(row.target):>9} {row.ratio:8.2f}{' ' if row.met else '!'}"
        else:
            line += " " * 21
        out.append(f"{line}  {row.unit}")
    return "\n".join(out)


def show(rows: Sequence[Row], path: str | None) -> None:
    """Print the table; write the JSON where a path is given."""
    print(table(rows))
    if path:
        pathlib.Path(path).write_text(json.dumps([row.as_json() for row in rows], indent=1) + "\n")


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
