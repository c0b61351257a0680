"""What a data center has counted: all of a contribution or nothing of it."""

from __future__ import annotations

import itertools
import pickle
import random
from collections.abc import Iterable

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elf_worker.aggregation import ids, precision, robust
from elf_worker.aggregation.tally import MAX_REASONS, MAX_WEIGHT, REASON_CHARS, SAMPLE_CHARS, Intake, Tally
from elf_worker.exact import ExactSum, NotSummableError
from elf_worker.exact.accumulator import CAPACITY
from elf_worker.exact.form import HIGH_BITS
from elf_worker.messages import Discarded, Stamp, Submit

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
        (1, Discarded(4 * SIZE + 1), "WrongSize"),
        (1, Discarded(1 << 33), "WrongSize"),
        (1, vector(float("nan")), "NonFinite"),
        (1, vector(float("-inf")), "NonFinite"),
        (1, vector(2.0**21), "OutOfRange"),
    ],
)
def test_a_bad_vector_changes_nothing(weight: int, payload: bytes | Discarded | None, reason: str) -> None:
    tally = tally_of(0, failed=(1,))
    before = sent(tally)
    with pytest.raises(NotSummableError) as refusal:
        tally.add(2, weight, payload)
    assert refusal.value.reason == reason
    assert sent(tally) == before


GOOD, GOOD_PAYLOAD = sent(tally_of(2, 3, failed=(4,)))


def packed(high: int, low: int) -> bytes:
    """The sum whose elements all have these limbs."""
    limbs = np.array([high] * SIZE + [low] * SIZE, "<i8")
    return bytes(ExactSum.from_bytes(SIZE, limbs.tobytes(), CAPACITY - 1).pack())


BEYOND = packed((GOOD.bound << HIGH_BITS) + 1, 0)
LONGER = bytes([16, 0]) + np.array([1] * SIZE + [0] * SIZE, "<i8").tobytes()
"""A sum that would fit in fewer bytes."""
NO_FORM = bytes([9, 0, *GOOD_PAYLOAD[2:]])


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
        ({}, Discarded(1 << 33), "WrongSize"),
        ({"bound": -1}, GOOD_PAYLOAD, "Overflow"),
        ({"bound": 2**32}, GOOD_PAYLOAD, "Overflow"),
        ({}, GOOD_PAYLOAD + b"\0", "WrongSize"),
        ({}, BEYOND, "OutOfRange"),
        ({}, LONGER, "OutOfRange"),
        ({}, NO_FORM, "OutOfRange"),
        ({"bound": 0}, packed(1, 0), "OutOfRange"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_a_bad_submit_changes_nothing(changes: dict, payload: bytes | Discarded | None, reason: str) -> None:
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


def test_long_reasons_are_cut_and_still_counted_together() -> None:
    tally = Tally(SIZE)
    for home in range(3):
        tally.fail(home, "R" * REASON_CHARS + str(home), "ill")
        tally.refuse("S" * REASON_CHARS + str(home))
    assert tally.reasons == {"R" * REASON_CHARS: 3}
    assert tally.refused == {"S" * REASON_CHARS: 3}


def test_refusals_are_counted_few_by_name_and_travel_with_the_tally() -> None:
    tally = Tally(SIZE)
    for k in range(3 * MAX_REASONS):
        tally.refuse(f"Reason{k}")
        tally.refuse("Reason0")
    message, _ = sent(tally)
    assert len(message.refused) == MAX_REASONS + 1
    assert message.refused["Reason0"] == 3 * MAX_REASONS + 1
    assert message.refused["Other"] == 2 * MAX_REASONS
    assert (message.members, message.failed, message.reasons) == (b"", b"", {})


def test_what_another_mdc_says_of_reasons_stays_small_too() -> None:
    total = Tally(SIZE)
    said = {f"{k}" * 2 * REASON_CHARS: 2 for k in range(10)} | {f"Reason{k}": 1 for k in range(100)}
    total.merge(Submit(STAMP, b"", ids.to_wire(1), 0, 0, said, "x" * 10 * SAMPLE_CHARS, {}), None)
    assert len(total.reasons) == MAX_REASONS + 1
    assert max(map(len, total.reasons)) == REASON_CHARS
    assert sum(total.reasons.values()) == 120
    assert len(total.sample) == SAMPLE_CHARS


# -- precision and clipping -------------------------------------------------------------------------------


@pytest.mark.parametrize("expected", precision.BYTES)
@pytest.mark.parametrize("sent_as", [*precision.BYTES, "float64", "", "x" * 1_000_000])
def test_a_vector_of_another_type_is_refused(expected: str, sent_as: str) -> None:
    """Also when the bytes would fit: two types have as many."""
    tally = Tally(SIZE, Intake(precision=expected))
    payload = bytes(precision.encode(np.full(SIZE, 0.5, np.float32), expected))
    assert tally.room() == len(payload)
    if sent_as == expected:
        tally.add(0, 1, payload, sent_as)
        assert tally.members == 1
        return
    with pytest.raises(NotSummableError) as refusal:
        tally.add(0, 1, payload, sent_as)
    assert refusal.value.reason == "WrongType"
    assert len(str(refusal.value)) < 100
    assert (tally.held, tally.weight) == (0, 0)


@pytest.mark.parametrize("kind", precision.BYTES)
def test_a_vector_is_counted_as_it_was_rounded_by_its_home(kind: str) -> None:
    tally = Tally(SIZE, Intake(precision=kind))
    expected = ExactSum(SIZE)
    for home in range(5):
        row = np.full(SIZE, 0.1 * 7.0**-home, np.float32)
        payload = bytes(precision.encode(row, kind))
        tally.add(home, 1, payload, kind)
        expected.add(precision.decode(payload, kind))
    assert bytes(tally.total.to_bytes()) == bytes(expected.to_bytes())


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_what_a_home_could_not_write_in_its_type_is_refused_as_infinite(kind: str) -> None:
    tally = Tally(SIZE, Intake(precision=kind, clip_norm=1.0))
    with pytest.raises(NotSummableError) as refusal:
        tally.add(0, 1, bytes(precision.encode(np.full(SIZE, 3.4e38, np.float32), kind)), kind)
    assert refusal.value.reason == "NonFinite"


@pytest.mark.parametrize("group_size", [0, 3])
def test_long_gradients_are_clipped_before_they_are_counted(group_size: int) -> None:
    """Per example: the gradient of the first is (1.5, 2, 0), of the others (0.15, 0.2, 0)."""
    intake = Intake(homes=3, clip_norm=0.5, group_size=group_size, method="median")
    tally = Tally(SIZE, intake)
    for home, scale in enumerate((1.0, 0.1, 0.1)):
        row = np.array([6, 8, 0, 100], np.float32) * np.float32(scale)
        tally.add(home, 4, row.tobytes())
    clipped = robust.clip(np.array([6, 8, 0, 100], np.float32), 4, 0.5)
    assert clipped[:2] == pytest.approx([1.2, 1.6])
    short = np.array([6, 8, 0, 100], np.float32) * np.float32(0.1)
    assert tally.members == 0b111
    expected = clipped + 2.0 * short if not group_size else 3 * short
    assert tally.total.mean(1) == pytest.approx(expected, rel=1e-6)


# -- groups -----------------------------------------------------------------------------------------------

MEDIAN = Intake(homes=7, method="median", group_size=3)
GROUPS = (0b1111, 0b1110000)
ROWS = [np.array([x, -x, 0.3 * x, 1], np.float32) for x in (1.5, -2.25, 1e-6, 3.1, 0.7, 0.1, -0.9)]
WEIGHTS = [1, 5, 2, 1, 9, 3, 4]
ORDERS = list(itertools.permutations(range(4)))


def hear(tally: Tally, homes: Iterable[int], ill: Iterable[int] = ()) -> Tally:
    """With these homes' vectors added in this order; those that are ill fail instead."""
    for home in homes:
        if home in ill:
            tally.fail(home, "TaskFailed", "ill")
        else:
            tally.add(home, WEIGHTS[home], ROWS[home].tobytes())
    return tally


def combined(*homes: int) -> np.ndarray:
    return robust.combine("median", 10, [ROWS[h] for h in homes], [WEIGHTS[h] for h in homes])


def in_sum(*vectors: np.ndarray) -> bytes:
    total = ExactSum(SIZE)
    for one in vectors:
        total.add(one)
    return bytes(total.to_bytes())


def test_a_home_alone_is_held_and_not_settled() -> None:
    tally = hear(Tally(SIZE, MEDIAN), [2])
    assert (tally.members, tally.failed, tally.settled, tally.held) == (0, 0, 0, 0b100)
    assert (tally.weight, tally.reasons) == (0, {})
    assert bytes(tally.total.to_bytes()) == in_sum()
    message, payload = sent(tally)
    assert (message.members, message.failed, message.weight, payload) == (b"", b"", 0, None)


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_a_group_waits_for_its_last_home(order: tuple[int, ...]) -> None:
    tally = hear(Tally(SIZE, MEDIAN), order[:-1])
    assert (tally.settled, tally.held) == (0, ids.mask_of(order[:-1]))
    hear(tally, order[-1:])
    assert (tally.members, tally.failed, tally.held) == (0b1111, 0, 0b1111)
    assert tally.weight == sum(WEIGHTS[:4])
    assert bytes(tally.total.to_bytes()) == in_sum(combined(0, 1, 2, 3))


def test_one_group_does_not_wait_for_another() -> None:
    tally = hear(Tally(SIZE, MEDIAN), [0, 4, 1, 5, 2, 3])
    assert (tally.members, tally.held) == (0b1111, 0b111111)
    hear(tally, [6])
    assert tally.members == 0b1111111
    assert tally.weight == sum(WEIGHTS)
    assert bytes(tally.total.to_bytes()) == in_sum(combined(0, 1, 2, 3), combined(4, 5, 6))


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_a_failure_waits_with_its_group_and_leaves_the_others_to_be_combined(order: tuple[int, ...]) -> None:
    tally = hear(Tally(SIZE, MEDIAN), order[:-1], ill=[1])
    assert (tally.settled, tally.held, tally.reasons) == (0, ids.mask_of(order[:-1]), {})
    hear(tally, order[-1:], ill=[1])
    assert (tally.members, tally.failed) == (0b1101, 0b0010)
    assert (tally.weight, tally.reasons, tally.sample) == (4, {"TaskFailed": 1}, "home 1: ill")
    assert bytes(tally.total.to_bytes()) == in_sum(combined(0, 2, 3))


@pytest.mark.parametrize(
    ("ill", "reasons"),
    [
        ({0, 1}, {"TaskFailed": 2, "GroupTooSmall": 2}),
        ({0, 1, 3}, {"TaskFailed": 3, "GroupTooSmall": 1}),
        ({0, 1, 2, 3}, {"TaskFailed": 4}),
    ],
)
def test_a_group_of_fewer_than_three_vectors_fails_whole(ill: set[int], reasons: dict[str, int]) -> None:
    """And nothing else does."""
    tally = hear(Tally(SIZE, MEDIAN), range(7), ill)
    assert (tally.members, tally.failed) == (0b1110000, 0b1111)
    assert tally.reasons == reasons
    assert tally.weight == sum(WEIGHTS[4:])
    assert bytes(tally.total.to_bytes()) == in_sum(combined(4, 5, 6))


@pytest.mark.parametrize(
    ("weight", "payload", "kind", "reason"),
    [
        (1, vector(float("nan")), "float32", "NonFinite"),
        (1, vector(float("inf")), "float32", "NonFinite"),
        (1, vector(2.0**21), "float32", "OutOfRange"),
        (0, vector(1), "float32", "BadWeight"),
        (MAX_WEIGHT + 1, vector(1), "float32", "BadWeight"),
        (1, vector(1)[:-4], "float32", "WrongSize"),
        (1, Discarded(17), "float32", "WrongSize"),
        (1, vector(1), "float16", "WrongType"),
    ],
)
def test_a_bad_vector_of_a_group_is_refused_at_once(
    weight: int, payload: bytes | Discarded, kind: str, reason: str
) -> None:
    tally = hear(Tally(SIZE, MEDIAN), [0])
    with pytest.raises(NotSummableError) as refusal:
        tally.add(1, weight, payload, kind)
    assert refusal.value.reason == reason
    assert tally.held == 0b1
    hear(tally, [1, 2, 3])
    assert bytes(tally.total.to_bytes()) == in_sum(combined(0, 1, 2, 3))


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 1, MAX_WEIGHT), (1, MAX_WEIGHT, 1)])
def test_a_group_whose_combination_is_too_large_to_add_fails_whole(weights: tuple[int, ...]) -> None:
    """Each vector is small enough; but two of them, and so the middle, are so large for one example."""
    tally = Tally(SIZE, MEDIAN)
    for home, weight in zip((4, 5, 6), weights, strict=True):
        tally.add(home, weight, vector(2.0**20.9))
    assert (tally.members, tally.weight, tally.failed, tally.held) == (0, 0, 0b1110000, 0b1110000)
    assert tally.reasons == {"OutOfRange": 3}
    assert bytes(tally.total.to_bytes()) == in_sum()
    hear(tally, range(4))
    assert (tally.members, tally.weight) == (0b1111, sum(WEIGHTS[:4]))


def test_a_vector_that_waits_is_a_copy() -> None:
    """The buffer it came in belongs to somebody else."""
    tally = Tally(SIZE, MEDIAN)
    buffer = bytearray(ROWS[2].tobytes())
    tally.add(2, WEIGHTS[2], buffer)
    buffer[:] = bytes(len(buffer))
    hear(tally, [0, 1, 3])
    assert bytes(tally.total.to_bytes()) == in_sum(combined(0, 1, 2, 3))


def test_the_rest_carries_the_waiting_over_and_nothing_is_counted_twice() -> None:
    tally = hear(Tally(SIZE, MEDIAN), [4, 0, 1, 2, 3, 5], ill=[1])
    tally.refuse("NotMine")
    first = sent(tally)
    rest = tally.rest()
    assert (tally.settled, tally.held) == (0b1111, 0b1111)
    assert (rest.settled, rest.held, rest.weight) == (0, 0b110000, 0)
    assert (rest.reasons, rest.sample, rest.refused) == ({}, "", {})
    assert rest.room() == tally.room()
    hear(rest, [6])
    assert (rest.members, rest.weight) == (0b1110000, sum(WEIGHTS[4:]))
    total = Tally(SIZE)
    total.merge(*first)
    total.merge(*sent(rest))
    assert (total.members, total.failed) == (0b1111101, 0b10)
    assert total.weight == sum(WEIGHTS) - WEIGHTS[1]
    assert bytes(total.total.to_bytes()) == in_sum(combined(0, 2, 3), combined(4, 5, 6))
    assert rest.rest().held == 0


@given(
    st.permutations(range(7)),
    st.sets(st.integers(0, 6)),
    st.sets(st.integers(0, 6), max_size=3),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
)
def test_any_split_of_groups_over_mdcs_and_flushes_gives_the_same_bytes(
    order: list[int], flushes: set[int], ill: set[int], mdcs: int, rng: random.Random
) -> None:
    """Groups are served by any MDC, homes speak in any order, and what is settled is sent at any time."""
    whole = sent(merged(hear(Tally(SIZE, MEDIAN), range(7), ill)))
    mdc_of = [rng.randrange(mdcs) for _ in GROUPS]
    tallies = [Tally(SIZE, MEDIAN) for _ in range(mdcs)]
    parts: list[tuple[Submit, bytes | None]] = []
    for step, home in enumerate(order):
        index = mdc_of[GROUPS.index(MEDIAN.group_of(home))]
        hear(tallies[index], [home], ill)
        if step in flushes:
            parts.append(sent(tallies[index]))
            tallies[index] = tallies[index].rest()
    parts += map(sent, tallies)
    rng.shuffle(parts)
    total = Tally(SIZE)
    for part in parts:
        total.merge(*part)
    message, payload = sent(total)
    assert payload == whole[1]
    assert msgspec.structs.replace(message, sample="") == msgspec.structs.replace(whole[0], sample="")


@pytest.mark.parametrize(
    ("home", "group"), [(0, 0b1111), (3, 0b1111), (4, 0b1110000), (6, 0b1110000), (7, 0)]
)
def test_the_group_of_a_home(home: int, group: int) -> None:
    assert MEDIAN.group_of(home) == group
    assert Intake().group_of(home) == 0


def test_a_failure_that_waits_holds_no_more_than_the_sample_of_its_message() -> None:
    """A million bytes of complaint from each home of a large group would fill the memory of an MDC."""
    tally = Tally(SIZE, MEDIAN)
    tally.fail(0, "R" * 1_000_000, "x" * 1_000_000)
    assert len(pickle.dumps(tally)) < 10_000


@pytest.mark.parametrize("group_size", [0, 4])
def test_a_payload_that_was_thrown_away_is_refused_even_if_it_had_the_right_size(
    group_size: int,
) -> None:
    """Room was made for it after its first bytes had come."""
    tally = Tally(SIZE, Intake(homes=4, group_size=group_size))
    with pytest.raises(NotSummableError):
        tally.add(0, 1, Discarded(4 * SIZE))
    assert tally.held == 0


def test_a_sum_that_was_thrown_away_is_refused_even_if_it_had_the_right_size() -> None:
    tally = tally_of(0)
    with pytest.raises(NotSummableError):
        tally.merge(GOOD, Discarded(len(GOOD_PAYLOAD)))
    with pytest.raises(NotSummableError):
        tally.merge(GOOD, Discarded(tally.sum_room()))
    assert tally.settled == 1
