"""What a data center has counted: all of a contribution or nothing of it."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest

from elf_worker.aggregation import ids
from elf_worker.aggregation.tally import MAX_REASONS, MAX_WEIGHT, SAMPLE_CHARS, Tally
from elf_worker.exact import NotSummableError
from elf_worker.messages import Stamp, Submit

SIZE = 4
STAMP = Stamp(0, 0)


def vector(x: float, size: int = SIZE) -> bytes:
    return np.full(size, x, "<f4").tobytes()


def tally_of(*homes: int, failed: tuple[int, ...] = ()) -> Tally:
    tally = Tally(SIZE)
    for home in homes:
        tally.add(home, home + 1, vector(0.1 * 7.0**-home))
    for home in failed:
        tally.fail(home, "TaskFailed", "ill")
    return tally


def sent(tally: Tally) -> tuple[Submit, bytes | None]:
    message, payload = tally.submit(STAMP)
    return message, None if payload is None else bytes(payload)


def merged(*tallies: Tally) -> Tally:
    total = Tally(SIZE)
    for tally in tallies:
        total.merge(*sent(tally))
    return total


def test_the_split_over_mdcs_and_their_order_change_nothing() -> None:
    whole = sent(merged(tally_of(0, 1, 2, 3, 4, failed=(5,))))
    parts = [tally_of(0, 3), tally_of(1, failed=(5,)), tally_of(2, 4)]
    for order in itertools.permutations(parts):
        assert sent(merged(*order)) == whole


def test_failed_homes_are_settled_without_a_vector() -> None:
    tally = tally_of(failed=(1, 2))
    assert (tally.members, tally.failed, tally.settled, tally.weight) == (0, 6, 6, 0)
    message, payload = sent(tally)
    assert payload is None
    assert message.reasons == {"TaskFailed": 2}
    assert merged(tally, tally_of(0)).settled == 7


@pytest.mark.parametrize(
    ("weight", "payload", "reason"),
    [
        (0, vector(1), "BadWeight"),
        (-1, vector(1), "BadWeight"),
        (MAX_WEIGHT + 1, vector(1), "BadWeight"),
        (1, vector(1, SIZE - 1), "WrongSize"),
        (1, vector(1) + b"\0", "WrongSize"),
        (1, None, "WrongSize"),
        (1, vector(float("nan")), "NonFinite"),
        (1, vector(float("-inf")), "NonFinite"),
        (1, vector(2.0**21), "OutOfRange"),
    ],
)
def test_a_bad_vector_changes_nothing(weight: int, payload: bytes | None, reason: str) -> None:
    tally = tally_of(0, failed=(1,))
    before = sent(tally)
    with pytest.raises(NotSummableError) as refusal:
        tally.add(2, weight, payload)
    assert refusal.value.reason == reason
    assert sent(tally) == before


GOOD, GOOD_PAYLOAD = sent(tally_of(2, 3, failed=(4,)))
HUGE = np.full(2 * SIZE, 2**60, "<i8").tobytes()


@pytest.mark.parametrize(
    ("changes", "payload", "reason"),
    [
        ({"members": ids.to_wire(0b101)}, GOOD_PAYLOAD, "Overlap"),
        ({"members": ids.to_wire(0b110)}, GOOD_PAYLOAD, "Overlap"),
        ({"failed": ids.to_wire(0b1)}, GOOD_PAYLOAD, "Overlap"),
        ({"failed": ids.to_wire(0b100)}, GOOD_PAYLOAD, "Overlap"),
        ({"weight": 0}, GOOD_PAYLOAD, "BadWeight"),
        ({"weight": -3}, GOOD_PAYLOAD, "BadWeight"),
        ({"weight": 2 * MAX_WEIGHT + 1}, GOOD_PAYLOAD, "BadWeight"),
        ({}, b"", "WrongSize"),
        ({}, None, "WrongSize"),
        ({}, GOOD_PAYLOAD[:-1], "WrongSize"),
        ({"bound": -1}, GOOD_PAYLOAD, "Overflow"),
        ({"bound": 2**32}, GOOD_PAYLOAD, "Overflow"),
        ({}, HUGE, "OutOfRange"),
        ({"bound": 0}, np.array([1] + [0] * (2 * SIZE - 1), "<i8").tobytes(), "OutOfRange"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_a_bad_submit_changes_nothing(changes: dict, payload: bytes | None, reason: str) -> None:
    tally = tally_of(0, failed=(1,))
    before = sent(tally)
    with pytest.raises(NotSummableError) as refusal:
        tally.merge(msgspec.structs.replace(GOOD, **changes), payload)
    assert refusal.value.reason == reason
    assert sent(tally) == before


def test_reasons_and_samples_stay_small() -> None:
    tally = Tally(SIZE)
    for home in range(3 * MAX_REASONS):
        tally.fail(home, f"Reason{home}", "x" * 10 * SAMPLE_CHARS)
    assert len(tally.reasons) == MAX_REASONS + 1
    assert sum(tally.reasons.values()) == 3 * MAX_REASONS
    assert tally.reasons["Other"] == 2 * MAX_REASONS
    assert len(tally.sample) == SAMPLE_CHARS
    assert tally.sample.startswith("home 0: x")
