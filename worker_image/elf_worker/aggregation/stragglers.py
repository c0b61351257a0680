"""Which MDCs are much slower than the others, round after round."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ROUNDS = 5
"""So many rounds in a row make a straggler: anybody is slow once."""
FLOOR_SECONDS = 0.05
"""What an MDC must lose beyond the allowed multiple: among milliseconds, multiples mean nothing."""


@dataclass(frozen=True)
class Straggler:
    """Means over the rounds that made it one."""

    seconds: float
    """Its own seconds a round."""
    median: float
    """The median of the others."""


class Stragglers:
    """Fed with the MDCs' own seconds of one round after the other.

    Laws: an MDC is named exactly when, in each of the last `rounds` rounds noted, it took more than `factor`
    times the median of the others, and `floor` seconds more than that; so one MDC alone is never named, and
    of several never all. What MDCs are called does not matter, nor the order they come in.
    """

    def __init__(self, factor: float, rounds: int = ROUNDS, floor: float = FLOOR_SECONDS) -> None:
        self._factor, self._rounds, self._floor = factor, rounds, floor
        self._streaks: dict[str, deque[tuple[float, float]]] = {}
        """MDC → (its seconds, the median of the others) in its last slow rounds, without a gap."""

    def note(self, seconds: Mapping[str, float]) -> dict[str, Straggler]:
        """One round of all MDCs that had a part in it; who is a straggler now. The absent begin anew."""
        ordered = sorted(seconds.values())
        streaks: dict[str, deque[tuple[float, float]]] = {}
        for who, own in seconds.items():
            median = median_without(ordered, ordered.index(own)) if len(ordered) > 1 else own
            if own > self._factor * median + self._floor:
                streaks[who] = self._streaks.get(who, deque(maxlen=self._rounds))
                streaks[who].append((own, median))
        self._streaks = streaks
        return {
            who: Straggler(*(sum(column) / len(streak) for column in zip(*streak, strict=True)))
            for who, streak in streaks.items()
            if len(streak) == self._rounds
        }


def median_without(ordered: Sequence[float], left_out: int) -> float:
    """The median of at least two numbers in ascending order, without the one at this place."""
    last = len(ordered) - 2  # index of the largest of the others
    low, high = (k + (k >= left_out) for k in (last // 2, (last + 1) // 2))
    return (ordered[low] + ordered[high]) / 2
