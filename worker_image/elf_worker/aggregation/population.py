"""How many homes each round of a job had: a schedule that is part of the state.

A schedule is a list of `[round, homes]`: when `round` rounds were done, the next ones had so many homes. It
is written when a round is stepped, by whoever steps it, and travels with the weights. So weights and schedule
cannot disagree, whichever copy a successor takes up.
"""

from __future__ import annotations

from collections.abc import Sequence

Schedule = list[list[int]]


def noted(schedule: Sequence[Sequence[int]], round_: int, homes: int) -> Schedule:
    """With the round after `round_` rounds, which had so many homes: a copy, as it was if that is no news."""
    known = [list(entry) for entry in schedule]
    if known and known[-1][1] == homes:
        return known
    return [*known, [round_, homes]]


def homes_after(schedule: Sequence[Sequence[int]], round_: int) -> int:
    """How many homes took part in the round that began when `round_` rounds were done."""
    return [homes for since, homes in schedule if since <= round_][-1]
