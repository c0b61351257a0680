"""The laws of the exact sum, and what it refuses."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from fractions import Fraction
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elf_worker.aggregation import robust
from elf_worker.exact import (
    ExactSum,
    NotSummableError,
    accumulator,
    arithmetic,
    check_packed,
    check_vector,
    max_packed_bytes,
    measures_of_packed,
    portable,
)
from kernels import compiled, using

SIZE = 3
UNIT = Fraction(1, 2**75)

values = st.one_of(
    st.floats(-(2.0**20), 2.0**20, width=32),
    st.floats(-1.0, 1.0, width=32),
    st.sampled_from([0.0, -0.0, 2.0**-52, -(2.0**-149), 2.0**-149, float(np.float32(2.0**21 - 0.125))]),
)
vectors = st.lists(values, min_size=SIZE, max_size=SIZE).map(lambda v: np.array(v, np.float32))
contributions = st.lists(vectors, max_size=12)


@pytest.fixture(scope="module", autouse=True, params=["compiled", "portable"])
def loops(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Each law holds with both."""
    wanted = portable if request.param == "portable" else compiled(lambda: tmp_path_factory.mktemp("kernel"))
    with using(wanted):
        yield


def sum_of(parts: list[np.ndarray], size: int = SIZE) -> ExactSum:
    total = ExactSum(size)
    for part in parts:
        total.add(part)
    return total


def state(total: ExactSum) -> tuple[bytes, int]:
    return bytes(total.to_bytes()), total.bound


def value(total: ExactSum) -> list[Fraction]:
    limbs = [int(x) for x in np.frombuffer(total.to_bytes(), "<i8")]
    return [
        Fraction(h, 2**30) + Fraction(low, 2**75) for h, low in zip(limbs[:SIZE], limbs[SIZE:], strict=True)
    ]


def grow(parts: list[np.ndarray], rng: random.Random) -> ExactSum:
    """The sum over any tree with any number of children a node."""
    if len(parts) < 2 or rng.random() < 0.3:
        return sum_of(parts)
    cuts = sorted(rng.choices(range(len(parts) + 1), k=rng.randint(1, 3)))
    total = ExactSum(SIZE)
    for low, high in zip([0, *cuts], [*cuts, len(parts)], strict=True):
        total.merge(grow(parts[low:high], rng) if high - low < len(parts) else sum_of(parts))
    return total


# -- laws -------------------------------------------------------------------------------------------------


@given(contributions, st.randoms(use_true_random=False))
def test_order_and_shape_of_the_tree_change_no_bit(parts: list[np.ndarray], rng: random.Random) -> None:
    expected = state(sum_of(parts))
    shuffled = list(parts)
    rng.shuffle(shuffled)
    assert state(sum_of(shuffled)) == expected
    assert state(grow(shuffled, rng)) == expected


@given(contributions, contributions, contributions)
def test_merge_is_a_commutative_monoid(a: list[np.ndarray], b: list[np.ndarray], c: list[np.ndarray]) -> None:
    left, right, swapped = sum_of(a), sum_of(b), sum_of(b)
    right.merge(sum_of(c))
    left_first = sum_of(a)
    left_first.merge(sum_of(b))
    left_first.merge(sum_of(c))
    left.merge(right)
    swapped.merge(sum_of(a))
    swapped.merge(sum_of(c))
    assert state(left) == state(left_first) == state(swapped)
    unit = sum_of(a)
    unit.merge(ExactSum(SIZE))
    assert state(unit) == state(sum_of(a))


@given(contributions)
def test_every_term_is_its_nearest_multiple_of_the_unit(parts: list[np.ndarray]) -> None:
    expected = [
        sum((round(Fraction(float(p[i])) / UNIT) * UNIT for p in parts), Fraction()) for i in range(SIZE)
    ]
    assert value(sum_of(parts)) == expected


exact_values = st.one_of(
    st.just(0.0),
    st.tuples(st.sampled_from([-1, 1]), st.integers(2**23, 2**24 - 1), st.integers(-75, -3)).map(
        lambda t: t[0] * t[1] * 2.0 ** t[2]
    ),
)


@given(st.lists(st.lists(exact_values, min_size=SIZE, max_size=SIZE), max_size=12))
def test_the_sum_is_exact_where_that_is_promised(rows: list[list[float]]) -> None:
    parts = [np.array(row, np.float32) for row in rows]
    total = sum_of(parts)
    for i, exact in enumerate(value(total)):
        assert exact == sum((Fraction(row[i]) for row in rows), Fraction())
        assert float(exact) == math.fsum(row[i] for row in rows)


@given(st.lists(st.floats(-(2.0**-52), 2.0**-52, width=32), min_size=1, max_size=20))
def test_tiny_terms_err_by_at_most_half_a_unit_each(column: list[float]) -> None:
    total = sum_of([np.full(SIZE, x, np.float32) for x in column])
    error = abs(value(total)[0] - sum(map(Fraction, column)))
    assert error <= len(column) * UNIT / 2


@given(contributions.filter(bool), st.integers(1, 2**24))
def test_the_mean_is_within_its_bound(parts: list[np.ndarray], weight: int) -> None:
    total = sum_of(parts)
    for exact, mean in zip(value(total), total.mean(weight), strict=True):
        quotient = exact / weight
        if abs(exact) < 2**23 and abs(quotient) >= Fraction(2) ** -126:
            assert abs(Fraction(float(mean)) - quotient) <= abs(quotient) * Fraction(2**27 + 1, 2**51)


def test_plain_float_sums_do_depend_on_order() -> None:
    """Else the laws above would say nothing."""
    column = [1000.0, 1e-12, 3e-7, -1000.0]
    for dtype in (np.float32, np.float64):
        sums = {
            np.cumsum(np.array(order, dtype))[-1] for order in (column, [column[0], column[3], *column[1:3]])
        }
        assert len(sums) > 1
    parts = [np.full(SIZE, x, np.float32) for x in column]
    assert state(sum_of(parts)) == state(sum_of(parts[::-1]))


@pytest.mark.parametrize(
    ("x", "exact"),
    [
        (-0.0, Fraction()),
        (2.0**-149, Fraction()),
        (-(2.0**-76), Fraction()),
        (1.5 * 2.0**-76, UNIT),
        (2.0**-75, UNIT),
        (-(2.0**-52), -Fraction(1, 2**52)),
        (float(np.nextafter(np.float32(2.0**21), np.float32(0))), Fraction(2**24 - 1, 8)),
    ],
)
def test_extremes(x: float, exact: Fraction) -> None:
    assert value(sum_of([np.full(SIZE, x, np.float32)])) == [exact] * SIZE


def test_minus_zero_leaves_no_trace() -> None:
    assert state(sum_of([np.full(SIZE, -0.0, np.float32)])) == state(ExactSum(SIZE))


# -- many additions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 2, 7])
@pytest.mark.parametrize("count", [6, 7, 8, 50])
def test_carrying_changes_no_bit(monkeypatch: pytest.MonkeyPatch, every: int, count: int) -> None:
    rng = np.random.default_rng(count)
    parts = [
        (rng.standard_normal(SIZE) * 10.0 ** rng.integers(-12, 6)).astype(np.float32) for _ in range(count)
    ]
    expected = state(sum_of(parts))
    monkeypatch.setattr(accumulator, "_CARRY_EVERY", every)
    total = sum_of(parts)
    assert total._raw <= total._grown < every
    assert state(total) == expected


def test_low_limbs_survive_the_most_additions_without_a_carry() -> None:
    """The largest low limb, as often as is allowed between two carries."""
    part = np.full(1, 2.0**-31 - 2.0**-55, np.float32)
    total = ExactSum(1)
    total._fill()
    for _ in range(accumulator._CARRY_EVERY - 1):  # `add` without its checks: they take most of the time
        arithmetic.current.fold(part, total._high, total._low)
    total._raw = total._grown = accumulator._CARRY_EVERY - 1
    total.add(part)
    limbs = np.frombuffer(total.to_bytes(), "<i8")
    exact = Fraction(int(limbs[0]), 2**30) + Fraction(int(limbs[1]), 2**75)
    assert exact == accumulator._CARRY_EVERY * Fraction(float(part[0]))


def test_vectors_longer_than_a_chunk() -> None:
    size = portable._CHUNK + 5
    part = np.arange(size, dtype=np.float32) / 7
    total = sum_of([part, part, -part], size)
    assert np.array_equal(total.mean(1), part)


# -- refusals ---------------------------------------------------------------------------------------------


BAD = [
    (np.array([0, np.nan, 0], np.float32), "NonFinite"),
    (np.array([np.inf, 0, 0], np.float32), "NonFinite"),
    (np.array([0, 0, -np.inf], np.float32), "NonFinite"),
    (np.array([np.inf, np.nan, -np.inf], np.float32), "NonFinite"),
    (np.array([2.0**21, 0, 0], np.float32), "OutOfRange"),
    (np.array([0, -(2.0**21), 0], np.float32), "OutOfRange"),
    (np.zeros(SIZE, np.float64), "WrongSize"),
    (np.zeros(SIZE, np.int32), "WrongSize"),
    (np.zeros(SIZE + 1, np.float32), "WrongSize"),
    (np.zeros((1, SIZE), np.float32), "WrongSize"),
    (np.float32(1), "WrongSize"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD)
def test_bad_contributions_change_nothing(bad: np.ndarray, reason: str) -> None:
    total = sum_of([np.array([1, 2, 3], np.float32)])
    before = state(total)
    with pytest.raises(NotSummableError) as refusal:
        total.add(bad)
    assert refusal.value.reason == reason
    assert state(total) == before


def test_capacity_is_refused_before_it_overflows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accumulator, "CAPACITY", 10)
    total = sum_of([np.array([3.5, 0, 0], np.float32), np.array([0, 4.0, 0], np.float32)])
    assert total.bound == 8
    before = state(total)
    for act in (
        lambda: total.add(np.array([0, 0, 1.5], np.float32)),
        lambda: total.merge(sum_of([np.array([2, 0, 0], np.float32)])),
    ):
        with pytest.raises(NotSummableError) as refusal:
            act()
        assert refusal.value.reason == "Overflow"
        assert state(total) == before
    total.add(np.array([0, 0, 1], np.float32))
    assert total.bound == 9


def test_capacity_holds_the_largest_sum_there_is() -> None:
    """2047 of the largest vectors fit; their high limbs stay within 64 bits and the mean comes out right."""
    largest = np.full(1, np.nextafter(np.float32(2.0**21), np.float32(0)), np.float32)
    total = sum_of([largest] * 2047, 1)
    assert total.mean(2047)[0] == largest[0]
    with pytest.raises(NotSummableError, match="at most"):
        total.add(largest)


def test_sums_of_other_sizes_are_refused() -> None:
    total = ExactSum(SIZE)
    with pytest.raises(NotSummableError) as refusal:
        total.merge(ExactSum(SIZE + 1))
    assert refusal.value.reason == "WrongSize"


# -- the wire ---------------------------------------------------------------------------------------------


@given(contributions, contributions)
def test_what_was_on_the_wire_is_as_good(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    sent = sum_of(a)
    received = ExactSum.from_bytes(SIZE, bytes(sent.to_bytes()), sent.bound)
    assert state(received) == state(sent)
    received.merge(sum_of(b))
    assert state(received) == state(sum_of(a + b))


@settings(max_examples=50)
@given(contributions, contributions, st.integers(1, 9))
def test_bytes_need_not_be_copied_to_be_counted(
    a: list[np.ndarray], b: list[np.ndarray], weight: int
) -> None:
    sent = sum_of(b)
    wire = bytes(sent.to_bytes())
    with mock.patch.object(portable, "_CHUNK", 2):  # more than one, and one that is not full
        total = sum_of(a)
        total.merge_bytes(wire, sent.bound)
        assert state(total) == state(sum_of(a + b))
        mean = sent.mean(weight)
    assert mean.tobytes() == sent.mean(weight).tobytes()


def test_one_value_has_one_form() -> None:
    """The range that is let in has one value more than what is ever sent."""
    odd, usual = limbs(0, 2**44), limbs(1, -(2**44))
    for wire in (odd, usual):
        assert bytes(ExactSum.from_bytes(1, wire, 1).to_bytes()) == usual
        total = ExactSum(1)
        total.merge_bytes(wire, 1)
        assert bytes(total.to_bytes()) == usual


def limbs(high: int, low: int) -> bytes:
    return np.array([high, low], "<i8").tobytes()


@pytest.mark.parametrize(
    ("payload", "bound", "reason"),
    [
        (limbs(0, 0)[:-8], 0, "WrongSize"),
        (limbs(0, 0) * 2, 0, "WrongSize"),
        (b"", 0, "WrongSize"),
        (limbs(0, 0), -1, "Overflow"),
        (limbs(0, 0), 2**32, "Overflow"),
        (limbs(0, 2**44 + 1), 1, "OutOfRange"),
        (limbs(0, -(2**44) - 1), 1, "OutOfRange"),
        (limbs(2**30 + 1, 0), 1, "OutOfRange"),
        (limbs(-(2**30) - 1, 0), 1, "OutOfRange"),
        (limbs(-(2**63), 0), 2**32 - 1, "OutOfRange"),
        (limbs(0, -(2**63)), 2**32 - 1, "OutOfRange"),
    ],
)
def test_bad_sums_are_refused(payload: bytes, bound: int, reason: str) -> None:
    total = sum_of([np.array([0.75], np.float32)], 1)
    before = state(total)
    for take in (
        lambda: ExactSum.from_bytes(1, payload, bound),
        lambda: total.merge_bytes(payload, bound),
    ):
        with pytest.raises(NotSummableError) as refusal:
            take()
        assert refusal.value.reason == reason
    assert state(total) == before


@pytest.mark.parametrize("payload", [None, limbs(0, 0)[:-1], b"\0"], ids=["none", "one short", "one"])
def test_what_is_no_row_of_limbs_is_refused_too(payload: bytes | None) -> None:
    """numpy has errors of its own for these; a peer must not be able to raise them in the NPDC."""
    with pytest.raises(NotSummableError) as refusal:
        ExactSum.from_bytes(1, payload, 0)
    assert refusal.value.reason == "WrongSize"


@settings(max_examples=30)
@given(contributions)
def test_a_sum_received_is_a_copy(parts: list[np.ndarray]) -> None:
    wire = bytearray(sum_of(parts).to_bytes())
    received = ExactSum.from_bytes(SIZE, wire, sum_of(parts).bound)
    before = state(received)
    wire[:] = bytes(len(wire))
    assert state(received) == before


# -- packed -----------------------------------------------------------------------------------------------


@given(contributions, st.randoms(use_true_random=False))
def test_equal_sums_have_equal_packed_bytes(parts: list[np.ndarray], rng: random.Random) -> None:
    shuffled = list(parts)
    rng.shuffle(shuffled)
    wire = sum_of(parts).pack()
    assert wire == grow(shuffled, rng).pack()
    assert len(wire) <= max_packed_bytes(SIZE)


@given(contributions, contributions, st.integers(1, 9))
def test_a_packed_sum_is_as_good(a: list[np.ndarray], b: list[np.ndarray], weight: int) -> None:
    sent = sum_of(b)
    wire, bound = sent.pack(), sent.bound
    total = sum_of(a)
    total.merge_packed(wire, bound)
    assert state(total) == state(sum_of(a + b))
    mean = sent.mean(weight)
    assert measures_of_packed(SIZE, wire, weight) == (robust.norm(mean[:-1]), float(mean[-1]))
    assert state(sent) == state(sum_of(b)), "looking at it changes nothing"


def test_a_packed_sum_of_zeros_is_its_headers() -> None:
    assert bytes(ExactSum(SIZE).pack()) == b"\0\0"
    assert bytes(ExactSum(0).pack()) == b""
    total = sum_of([np.array([1, 2, 3], np.float32)])
    before = state(total)
    total.merge_packed(b"\0\0", 0)
    assert state(total) == before


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        (1.0, b"\x01\x4b\x01"),  # 1 · 2^75
        (-3.0, b"\x01\x4b\xfd"),
        (2.0**-75, b"\x01\x00\x01"),
        (129 * 2.0**-40, b"\x02\x23\x81\x00"),
        ((2**17 + 1) * 2.0**-10, b"\x03\x41\x01\x00\x02"),
    ],
)
def test_the_packed_form_byte_by_byte(element: float, expected: bytes) -> None:
    assert bytes(sum_of([np.full(1, element, np.float32)], 1).pack()) == expected


def test_a_block_that_needs_more_than_eight_bytes_is_two_rows_of_limbs() -> None:
    total = sum_of([np.array([1.0, 2.0**-75], np.float32)], 2)
    assert bytes(total.pack()) == b"\x10\0" + np.array([2**30, 0, 0, 1], "<i8").tobytes()


@pytest.mark.parametrize(
    ("payload", "bound", "reason"),
    [
        (None, 0, "WrongSize"),
        (b"", 0, "WrongSize"),
        (b"\x01", 0, "WrongSize"),
        (b"\x01\x4b", 1, "WrongSize"),
        (b"\x01\x4b\x01\x00", 1, "WrongSize"),
        (b"\x00\x00", -1, "Overflow"),
        (b"\x00\x00", 2**32, "Overflow"),
        (b"\x09\x00" + bytes(9), 1, "OutOfRange"),  # no such width
        (b"\x01\x6b\x01", 2**32 - 1, "OutOfRange"),  # more zeros than there can be
        (b"\x00\x01", 1, "OutOfRange"),
        (b"\x01\x00\x00", 1, "OutOfRange"),  # a zero at length
        (b"\x01\x4a\x02", 1, "OutOfRange"),  # one zero is not taken off
        (b"\x02\x4b\x01\x00", 1, "OutOfRange"),  # wider than it has to be
        (b"\x10\x00" + np.array([2**30, 0], "<i8").tobytes(), 1, "OutOfRange"),
        (b"\x01\x4b\x01", 0, "OutOfRange"),
        (b"\x01\x4b\x03", 2, "OutOfRange"),
        (b"\x01\x4b\xfd", 2, "OutOfRange"),
    ],
)
def test_bad_packed_sums_are_refused(payload: bytes | None, bound: int, reason: str) -> None:
    total = sum_of([np.array([0.75], np.float32)], 1)
    before = state(total)
    for take in (
        lambda: check_packed(1, payload, bound),
        lambda: total.merge_packed(payload, bound),
    ):
        with pytest.raises(NotSummableError) as refusal:
            take()
        assert refusal.value.reason == reason
    assert state(total) == before


def test_a_packed_sum_counts_against_the_capacity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accumulator, "CAPACITY", 10)
    other = sum_of([np.array([5, 0, 0], np.float32)])
    total = sum_of([np.array([0, 5, 0], np.float32)])
    before = state(total)
    with pytest.raises(NotSummableError) as refusal:
        total.merge_packed(other.pack(), other.bound)
    assert refusal.value.reason == "Overflow"
    assert state(total) == before


# -- in parts, and again ----------------------------------------------------------------------------------


@given(contributions)
def test_adding_in_parts_is_adding(parts: list[np.ndarray]) -> None:
    total = ExactSum(SIZE)
    for part in parts:
        total.reserve(check_vector(part))
    for part in reversed(parts):
        total.fold(part)
    assert state(total) == state(sum_of(parts))


@given(contributions, contributions)
def test_folding_what_was_packed_in_parts_is_merging(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    wires = [(sum_of([part]).pack(), sum_of([part]).bound) for part in b]
    total = sum_of(a)
    for wire, bound in wires:
        check_packed(SIZE, wire, bound)
        total.reserve(bound)
    for wire, _ in wires:
        total.fold_packed(wire)
    assert state(total) == state(sum_of(a + b))


@given(contributions, contributions)
def test_a_sum_that_was_cleared_is_a_new_one(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    total = sum_of(a)
    memory = total._high, total._low
    total.clear()
    assert state(total) == state(ExactSum(SIZE))
    for part in b:
        total.add(part)
    assert state(total) == state(sum_of(b))
    assert total._high is memory[0]
    assert total._low is memory[1]


@pytest.mark.parametrize(("bad", "reason"), BAD)
def test_no_part_takes_what_the_whole_refuses(bad: np.ndarray, reason: str) -> None:
    """A fold reads as many elements as the sum has: it must look, whoever has looked before."""
    total = sum_of([np.array([1, 2, 3], np.float32)])
    before = state(total)
    with pytest.raises(NotSummableError) as refusal:
        if reason == "WrongSize":
            total.fold(bad)
        else:
            check_vector(bad)
    assert refusal.value.reason == reason
    assert state(total) == before
    if bad.dtype != np.float32:
        with pytest.raises(NotSummableError):
            check_vector(bad)


@pytest.mark.parametrize("wire", [None, b"", b"\x01\x4b", b"\x01\x4b\x01\x01", b"\xff\xff" + bytes(255)])
def test_a_fold_of_packed_bytes_looks_at_their_length(wire: bytes | None) -> None:
    total = sum_of([np.array([0.75], np.float32)], 1)
    before = state(total)
    with pytest.raises(NotSummableError):
        total.fold_packed(wire)
    assert state(total) == before


def test_vectors_need_not_lie_in_a_row() -> None:
    part = np.arange(2 * SIZE, dtype=np.float32)[::2]
    assert state(sum_of([part])) == state(sum_of([part.copy()]))
    assert check_vector(part) == 4


def test_a_bound_that_may_not_be_reserved_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accumulator, "CAPACITY", 10)
    total = ExactSum(SIZE)
    total.reserve(9)
    with pytest.raises(NotSummableError):
        total.reserve(1)
    assert total.bound == 9


def test_what_was_packed_stays_while_somebody_holds_it() -> None:
    """A sum packs into the same memory again, once nobody holds what is there."""
    rng = np.random.default_rng(0)
    total, packed, copies = ExactSum(5000), [], []
    for tail in (b"", b"tail", b"another"):
        total.add(rng.standard_normal(5000).astype(np.float32))
        packed.append(total.pack(tail))
        copies.append(bytes(packed[-1]))
        assert copies[-1] == bytes(ExactSum.from_bytes(5000, total.to_bytes(), total.bound).pack()) + tail
    assert [bytes(one) for one in packed] == copies
    del packed
    for size in (100_000, 3):
        assert bytes(total.pack(bytes(size))) == copies[-1].removesuffix(b"another") + bytes(size)
