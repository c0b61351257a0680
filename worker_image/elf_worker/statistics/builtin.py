"""The statistics that every job has, and those it can ask for."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from elf_worker.exact import ExactSum
from elf_worker.statistics import distribution
from elf_worker.statistics.base import HomeObservation, ManyHomes, MdcObservation, Statistic
from elf_worker.statistics.distribution import Distribution

MAX_CLASSES = 100
OTHER = "Other"
REASONS = frozenset(
    "TaskFailed Injected NonFinite OutOfRange WrongSize WrongType BadWeight GroupTooSmall Overflow".split()
)
"""Why homes fail; what a home makes up beyond is Other."""
MAX_WATCHED = 16
"""Homes whose paths are kept because somebody asks."""
SAMPLE = 8
"""Ids kept of the homes in one bin of the loss."""

Metrics = Iterable[tuple[str, Mapping[str, str], float]]


def _added(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
    for key, count in b.items():
        a[key] = a.get(key, 0) + count
    return a


class Homes(Statistic):
    """Homes served, and homes failed by reason."""

    sees_failures = True

    def identity(self) -> Any:
        """[served, {reason: failed}]."""
        return [0, {}]

    def of(self, observation: HomeObservation) -> Any:
        """One or the other."""
        if not observation.failed:
            return [1, {}]
        return [0, {observation.failed if observation.failed in REASONS else OTHER: 1}]

    def of_many(self, seen: ManyHomes) -> Any:
        """All of them served."""
        return [len(seen), {}]

    def combine(self, a: Any, b: Any) -> Any:
        """Counts add up."""
        return [a[0] + b[0], _added(a[1], b[1])]

    def report(self, state: Any) -> Any:
        """Reasons from the most frequent down."""
        ordered = sorted(state[1].items(), key=lambda item: (-item[1], item[0]))
        return {"served": state[0], "failed": dict(ordered)}

    def metrics(self, state: Any) -> Metrics:
        """Gauges of the last round."""
        yield "_served", {}, float(state[0])
        for reason, count in state[1].items():
            yield "_failed", {"reason": reason}, float(count)


class _OneNumber(Statistic):
    """A distribution of one number per observation."""

    samples = 0

    def number(self, observation: Any) -> tuple[float, int]:
        """(the number, the id of who had it)."""
        raise NotImplementedError

    def numbers(self, seen: ManyHomes) -> npt.NDArray[np.float64]:
        """The number of each of many homes."""
        return np.array([self.number(one)[0] for one in seen])

    def of_many(self, seen: ManyHomes) -> Distribution:
        """See `distribution`."""
        return distribution.many(self.numbers(seen), seen.homes.tolist(), self.samples, seen.round)

    def identity(self) -> Distribution:
        """Nothing observed."""
        return Distribution()

    def of(self, observation: Any) -> Distribution:
        """One observation."""
        value, label = self.number(observation)
        return distribution.one(value, label, self.samples, observation.round)

    def combine(self, a: Distribution, b: Distribution) -> Distribution:
        """See `distribution`."""
        return distribution.combine(a, b, self.samples)

    def lasting(self, state: Distribution) -> Distribution:
        """Without the sample of ids: who had which number is asked of the last round alone."""
        return replace(state, samples={})

    def report(self, state: Distribution) -> Any:
        """See `distribution`."""
        return distribution.report(state)

    def metrics(self, state: Distribution) -> Metrics:
        """See `distribution`."""
        return distribution.metrics(state)

    def to_wire(self, state: Distribution) -> bytes:
        """See `distribution`."""
        return distribution.to_wire(state)

    def from_wire(self, data: bytes) -> Distribution:
        """See `distribution`."""
        return distribution.from_wire(data)


class HomeSeconds(_OneNumber):
    """Time per home: from sending it the weights to having its vector."""

    def number(self, observation: HomeObservation) -> tuple[float, int]:
        """Seconds, home."""
        return observation.seconds, observation.home

    def numbers(self, seen: ManyHomes) -> npt.NDArray[np.float64]:
        """They were ready together."""
        return np.full(len(seen), seen.seconds)


class Loss(_OneNumber):
    """Loss per home; also answers which homes have a loss between two values."""

    samples = SAMPLE
    max_bytes = 1 << 20

    def number(self, observation: HomeObservation) -> tuple[float, int]:
        """Mean loss of its examples, home."""
        return observation.loss, observation.home

    def numbers(self, seen: ManyHomes) -> npt.NDArray[np.float64]:
        """Mean losses."""
        return seen.losses


class GradientNorm(_OneNumber):
    """Norm of the gradients of homes; its variance is that across homes."""

    def number(self, observation: HomeObservation) -> tuple[float, int]:
        """Norm, home."""
        return observation.gradient_norm, observation.home

    def numbers(self, seen: ManyHomes) -> npt.NDArray[np.float64]:
        """Norms."""
        return seen.gradient_norms


class MdcSeconds(_OneNumber):
    """Time per MDC: the extremes name the fastest and the slowest."""

    level = "mdc"

    def number(self, observation: MdcObservation) -> tuple[float, int]:
        """Seconds, MDC."""
        return observation.seconds, observation.mdc


class MdcGradientNorm(_OneNumber):
    """Norm of the mean gradients of MDCs; its variance is that across MDCs."""

    level = "mdc"

    def number(self, observation: MdcObservation) -> tuple[float, int]:
        """Norm, MDC."""
        return observation.gradient_norm, observation.mdc


class Classes(Statistic):
    """Examples of each class. Of more than a hundred classes, those with the smallest hashes are kept apart.

    A class that is kept in the end was kept in every part of it, so its count is exact, in whatever order.
    """

    def identity(self) -> Any:
        """{class: examples}."""
        return {}

    def of(self, observation: HomeObservation) -> Any:
        """As the task tells."""
        return self._bounded({str(name)[:32]: int(count) for name, count in observation.classes.items()})

    def of_many(self, seen: ManyHomes) -> Any:
        """What tells nothing costs nothing."""
        state: dict[str, int] = {}
        for classes in seen.classes:
            if classes:
                state = self.combine(state, self._bounded({str(n)[:32]: int(c) for n, c in classes.items()}))
        return state

    def combine(self, a: Any, b: Any) -> Any:
        """Counts add up."""
        return self._bounded(_added(a, b))

    def report(self, state: Any) -> Any:
        """Examples and their shares, the most frequent classes first."""
        total = sum(state.values()) or 1
        ordered = sorted(state.items(), key=lambda item: (-item[1], item[0]))
        return {name: {"examples": count, "share": count / total} for name, count in ordered}

    def _bounded(self, state: dict[str, int]) -> dict[str, int]:
        names = [name for name in state if name != OTHER]
        if len(names) > MAX_CLASSES:
            for name in sorted(names, key=_hash)[MAX_CLASSES:]:
                state[OTHER] = state.get(OTHER, 0) + state.pop(name)
        return state


def _hash(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


class Bytes(Statistic):
    """Payload bytes between homes and their MDCs."""

    def identity(self) -> Any:
        """[up, down]."""
        return [0, 0]

    def of(self, observation: HomeObservation) -> Any:
        """Of one home."""
        return [observation.bytes_up, observation.bytes_down]

    def of_many(self, seen: ManyHomes) -> Any:
        """Of all of them."""
        return [seen.bytes_up, seen.bytes_down]

    def combine(self, a: Any, b: Any) -> Any:
        """They add up."""
        return [a[0] + b[0], a[1] + b[1]]

    def report(self, state: Any) -> Any:
        """In bytes."""
        return {"up": state[0], "down": state[1]}

    def metrics(self, state: Any) -> Metrics:
        """By direction."""
        yield "", {"direction": "up"}, float(state[0])
        yield "", {"direction": "down"}, float(state[1])


class MdcBytes(Bytes):
    """Payload bytes between MDCs and the NPDC."""

    name = "mdc_bytes"
    level = "mdc"


class SlowestPath(Statistic):
    """What the slowest home of the round did, and homes that somebody asks about."""

    def __init__(self) -> None:
        self.watched: frozenset[int] = frozenset()
        """Homes whose paths are kept whatever they are; at most 16."""

    def identity(self) -> Any:
        """[slowest path or None, {home: path}]."""
        return [None, {}]

    def of(self, observation: HomeObservation) -> Any:
        """(seconds, home, MDC, seconds waiting, seconds computing)."""
        seen = observation
        path = [seen.seconds, seen.home, seen.mdc, seen.waiting_seconds, seen.computing_seconds]
        return [path, {seen.home: path} if seen.home in self.watched else {}]

    def of_many(self, seen: ManyHomes) -> Any:
        """They were ready together: the one with the highest id, and those that somebody asks about."""
        slowest = int(np.argmax(seen.homes))
        asked = np.flatnonzero(np.isin(seen.homes, list(self.watched))).tolist() if self.watched else []
        chosen = map(self.of, (seen[index] for index in {slowest, *asked}))
        return functools.reduce(self.combine, chosen, self.identity())

    def combine(self, a: Any, b: Any) -> Any:
        """The slower of both."""
        slowest = max((path for path in (a[0], b[0]) if path is not None), default=None)
        asked = a[1]
        for home, path in b[1].items():
            asked[home] = max(path, asked.get(home, path))
        return [slowest, {home: asked[home] for home in sorted(asked)[:MAX_WATCHED]}]

    def report(self, state: Any) -> Any:
        """Paths by name of their steps."""
        asked = {str(home): _path(path) for home, path in sorted(state[1].items())}
        return {"slowest": _path(state[0]) if state[0] else None} | ({"asked": asked} if asked else {})


def _path(path: list[Any]) -> dict[str, Any]:
    seconds, home, mdc, waiting, computing = path
    return {
        "home": home,
        "mdc": mdc,
        "seconds": seconds,
        "waitingInPod": waiting,
        "computing": computing,
        "onTheWay": max(0.0, seconds - waiting - computing),
    }


class ElementwiseVariance(Statistic):
    """Variance across homes of each element of the gradient; exact sums of values and of squares.

    Not among the built-in ones: its state has 32 bytes per parameter. Ask for it by
    `statistics: ["elf_worker.statistics.builtin:ElementwiseVariance"]`. Squares are rounded to float32 once,
    per home, so the variance has an error of about 2^-24 of the mean square. A home whose gradient has
    elements of `2^10.5` or more (squares beyond the range of exact sums) is counted apart.
    """

    max_bytes = 1 << 33

    def identity(self) -> Any:
        """[homes, values, squares, homes left out]; sums of no size yet."""
        return [0, ExactSum(0), ExactSum(0), 0]

    def of(self, observation: HomeObservation) -> Any:
        """Sums of one home."""
        gradient = observation.gradient
        values, squares = ExactSum(gradient.size), ExactSum(gradient.size)
        try:
            with np.errstate(over="ignore"):
                squares.add(gradient * gradient)
            values.add(gradient)
        except ValueError:
            return [0, ExactSum(0), ExactSum(0), 1]
        return [1, values, squares, 0]

    def combine(self, a: Any, b: Any) -> Any:
        """Sums add up; those of no size are neutral."""
        if not b[0]:
            return [*a[:3], a[3] + b[3]]
        values, squares = (ExactSum(b[1].size), ExactSum(b[1].size)) if not a[0] else (a[1], a[2])
        values.merge(b[1])
        squares.merge(b[2])
        return [a[0] + b[0], values, squares, a[3] + b[3]]

    def report(self, state: Any) -> Any:
        """The mean over elements and the five elements that vary most."""
        homes, values, squares, left_out = state
        if not homes:
            return {"homes": 0, "leftOut": left_out}
        variance = squares.mean(homes).astype("f8") - values.mean(homes).astype("f8") ** 2
        variance = variance.clip(min=0.0)
        largest = variance.argsort(kind="stable")[::-1][:5]
        return {
            "homes": homes,
            "leftOut": left_out,
            "mean": float(variance.mean()) if variance.size else 0.0,
            "largest": [{"element": int(i), "variance": float(variance[i])} for i in largest],
        }

    def to_wire(self, state: Any) -> bytes:
        """Sums as their own bytes."""
        homes, values, squares, left_out = state
        bounds = (homes, left_out, values.size, values.bound, squares.bound)
        return super().to_wire([*bounds, bytes(values.to_bytes()), bytes(squares.to_bytes())])

    def from_wire(self, data: bytes) -> Any:
        """Inverse of `to_wire`."""
        homes, left_out, size, bound, squares_bound, values, squares = super().from_wire(data)
        sums = ExactSum.from_bytes(size, values, bound), ExactSum.from_bytes(size, squares, squares_bound)
        return [homes, *sums, left_out]


BUILT_IN: tuple[type[Statistic], ...] = (
    Homes,
    HomeSeconds,
    Loss,
    GradientNorm,
    Classes,
    Bytes,
    SlowestPath,
    MdcSeconds,
    MdcGradientNorm,
    MdcBytes,
)
