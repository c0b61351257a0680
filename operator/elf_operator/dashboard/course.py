"""The course of a job so far, in a bounded number of samples. Pure: the time is told, never asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elf_operator.dashboard.picture import number
from elf_operator.observation import parse_time

SAMPLES = 600
FAULTS = 200
Sample = tuple[float, int, float | None, float | None, float | None]
"""(time, round, loss, metric, rounds a second)."""


class Course:
    """Samples of progress, and faults as marks.

    A long job keeps its whole course: when there are too many samples every second one goes, and new ones
    come half as often. The first and the newest are always there.
    """

    def __init__(self) -> None:
        self._samples: list[Sample] = []
        self._newest: Sample | None = None
        self._spacing = 0.0
        self._faults: dict[tuple[str, float], dict[str, Any]] = {}
        self._metric = ""

    def note(self, now: float, status: Mapping[str, Any]) -> None:
        """The job's status as it is now."""
        for entry in status.get("lastReplacements") or ():
            self._note_fault(entry)
        training = status.get("training") or {}
        if "round" not in training:
            return
        self._metric, value = _metric(training)
        loss, rate = number(training.get("loss")), number(training.get("roundsPerSecond"))
        sample = (now, int(training["round"]), loss, value, rate)
        if self._newest is not None and self._newest[1:] == sample[1:]:
            return
        self._newest = sample
        if not self._samples or now - self._samples[-1][0] >= self._spacing:
            self._samples.append(sample)
            if len(self._samples) >= SAMPLES:
                self._thin()

    def to_json(self) -> dict[str, Any]:
        """For a picture."""
        samples = list(self._samples)
        if self._newest is not None and samples[-1] is not self._newest:
            samples.append(self._newest)
        return {
            "columns": ["time", "round", "loss", "metric", "roundsPerSecond"],
            "metric": self._metric,
            "samples": [(round(time, 2), *rest) for time, *rest in samples],
            "faults": list(self._faults.values()),
        }

    def _thin(self) -> None:
        self._samples = self._samples[::2]
        self._spacing = (self._samples[-1][0] - self._samples[0][0]) / len(self._samples)

    def _note_fault(self, entry: Mapping[str, Any]) -> None:
        time, pod = parse_time(entry.get("time")), str(entry.get("pod"))
        fault = {"time": time, "pod": pod, "reason": str(entry.get("reason"))}
        fault["recoverySeconds"] = number(entry.get("recoverySeconds"))
        self._faults[pod, time] = fault
        if len(self._faults) > FAULTS:
            del self._faults[next(iter(self._faults))]


def _metric(training: Mapping[str, Any]) -> tuple[str, float | None]:
    """The metric that the job shows, such as `f1 0.97`: its name and value."""
    name, _, value = str(training.get("metric") or "").rpartition(" ")
    return name, number(value)
