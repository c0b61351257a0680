"""Clipping and robust means: against plain Python, and against liars."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elf_worker.aggregation.robust import SMALLEST_GROUP, clip, combine, cut_of, norm

Floats = npt.NDArray[np.float32]
METHODS = ["median", "trimmedMean"]
SIZE = 4

values = st.one_of(
    st.floats(-(2.0**20), 2.0**20, width=32),
    st.floats(-1.0, 1.0, width=32),
    st.sampled_from([0.0, -0.0, 2.0**-149, 1e-30, 1e-12]),
)
"""What one element of a vector may be."""
tame = st.floats(2.0**-20, 2.0**20, width=32).flatmap(lambda x: st.sampled_from([x, -x]))
"""Values whose products and quotients are far from the ends of float32."""
weights = st.integers(1, 1 << 24)


def vector(elements: Sequence[float]) -> Floats:
    return np.array(elements, np.float32)


# -- the norm ---------------------------------------------------------------------------------------------


def plain_norm(elements: Floats) -> float:
    return math.sqrt(math.fsum(float(x) * float(x) for x in elements))


@given(st.lists(values, max_size=50))
def test_the_norm_is_the_root_of_the_sum_of_squares(elements: list[float]) -> None:
    assert norm(vector(elements)) == pytest.approx(plain_norm(vector(elements)), rel=1e-12, abs=0)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4095, 4096, 4097, 3 * 4096, 3 * 4096 + 1, 100_003])
def test_the_norm_of_vectors_of_any_length(size: int) -> None:
    """Up to, at and beyond the ends of a row; no element is left out and none is counted twice."""
    rng = np.random.default_rng(size)
    elements = (rng.standard_normal(size) * 10.0 ** rng.integers(-9, 6, size)).astype(np.float32)
    assert norm(elements) == pytest.approx(plain_norm(elements), rel=1e-12, abs=0)
    for place in {0, size // 2, size - 1} & set(range(size)):
        one = np.zeros(size, np.float32)
        one[place] = 3
        assert norm(one) == 3


@pytest.mark.parametrize("x", [3.0e38, 1.0e-45, 1.0e-30])
def test_squares_beyond_float32_neither_overflow_nor_vanish(x: float) -> None:
    assert norm(vector([x, x])) == pytest.approx(math.sqrt(2) * float(np.float32(x)), rel=1e-12, abs=0)


# -- clipping ---------------------------------------------------------------------------------------------


@given(st.lists(values, min_size=1, max_size=9), weights, st.floats(0, 10))
def test_what_is_short_enough_stays_as_it_is(elements: list[float], weight: int, more: float) -> None:
    before = vector(elements)
    limit = norm(before[:-1]) / weight + more
    assert clip(before.copy(), weight, limit).tobytes() == before.tobytes()


@given(st.lists(tame, min_size=2, max_size=9), weights, st.floats(2.0**-10, 1 - 2.0**-20))
def test_what_is_too_long_is_shortened_to_the_limit(elements: list[float], weight: int, part: float) -> None:
    before = vector(elements)
    kept = before.tobytes()
    limit = plain_norm(before[:-1]) / weight * part
    after = clip(before, weight, limit)
    assert before.tobytes() == kept, "the argument is changed"
    assert after.dtype == np.float32
    assert after[-1] == before[-1], "the loss is no part of the gradient"
    length = plain_norm(after[:-1]) / weight
    assert limit * (1 - 2.0**-22) <= length <= limit * (1 + 2.0**-22)
    for x, y in zip(before[:-1], after[:-1], strict=True):
        assert float(y) == pytest.approx(float(x) * part, rel=2.0**-22, abs=0), "the direction is another"


@given(st.lists(tame, min_size=2, max_size=9), weights, st.floats(2.0**-10, 2.0**10))
def test_nothing_is_shortened_by_more_than_a_rounding_twice(
    elements: list[float], weight: int, limit: float
) -> None:
    once = clip(vector(elements), weight, limit)
    twice = clip(once, weight, limit)
    assert twice == pytest.approx(once, rel=2.0**-22, abs=0)


def test_the_loss_does_not_count_and_is_not_shortened() -> None:
    assert clip(vector([3, 4, 1e6]), 1, 5.0).tobytes() == vector([3, 4, 1e6]).tobytes()
    assert clip(vector([3, 4, 1e6]), 1, 2.5).tobytes() == vector([1.5, 2, 1e6]).tobytes()


def test_the_limit_is_for_the_gradient_per_example() -> None:
    assert clip(vector([30, 40, 7]), 10, 5.0).tobytes() == vector([30, 40, 7]).tobytes()
    assert clip(vector([30, 40, 7]), 5, 5.0).tobytes() == vector([15, 20, 7]).tobytes()


def test_a_gradient_of_zeros_has_no_direction_and_needs_none() -> None:
    assert clip(vector([0, 0, 7]), 1, 1e-3).tobytes() == vector([0, 0, 7]).tobytes()


# -- robust means -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "percent", "homes", "cut"),
    [
        ("median", 10, 3, 1),
        ("median", 10, 4, 1),
        ("median", 49, 5, 2),
        ("median", 1, 6, 2),
        ("median", 1, 7, 3),
        ("median", 10, 10_000, 4999),
        ("trimmedMean", 1, 3, 1),
        ("trimmedMean", 49, 3, 1),
        ("trimmedMean", 10, 4, 1),
        ("trimmedMean", 49, 4, 1),
        ("trimmedMean", 10, 19, 1),
        ("trimmedMean", 10, 20, 2),
        ("trimmedMean", 10, 29, 2),
        ("trimmedMean", 25, 8, 2),
        ("trimmedMean", 49, 5, 2),
        ("trimmedMean", 49, 100, 49),
        ("trimmedMean", 29, 100, 29),
        ("trimmedMean", 10, 10_000, 1000),
    ],
)
def test_how_many_are_left_out_at_either_end(method: str, percent: int, homes: int, cut: int) -> None:
    assert cut_of(method, percent, homes) == cut


@given(st.sampled_from(METHODS), st.integers(1, 49), st.integers(SMALLEST_GROUP, 10_000))
def test_one_at_least_is_left_out_and_one_at_least_is_left(method: str, percent: int, homes: int) -> None:
    cut = cut_of(method, percent, homes)
    assert 1 <= cut
    assert homes - 2 * cut >= 1
    assert cut <= cut_of("median", percent, homes)


@st.composite
def groups(draw: st.DrawFn, most: int = 12) -> tuple[list[Floats], list[int]]:
    """Vectors and weights of a group."""
    homes = draw(st.integers(SMALLEST_GROUP, most))
    rows = st.lists(values, min_size=SIZE, max_size=SIZE).map(vector)
    return draw(st.lists(rows, min_size=homes, max_size=homes)), draw(
        st.lists(weights, min_size=homes, max_size=homes)
    )


def per_example(vectors: list[Floats], weights: list[int], element: int) -> list[float]:
    """Every home's value for an element divided by its examples, in order."""
    return sorted(float(v[element] / np.float32(w)) for v, w in zip(vectors, weights, strict=True))


@given(groups(), st.integers(1, 49))
def test_a_median_is_that_of_the_statistics_module(group: tuple[list[Floats], list[int]], trim: int) -> None:
    found = combine("median", trim, *group)
    assert found.dtype == np.float32
    assert found.shape == (SIZE,)
    for element in range(SIZE):
        middle = statistics.median(per_example(*group, element))
        assert float(found[element]) == pytest.approx(middle * sum(group[1]), rel=2.0**-22, abs=2.0**-140)


@given(groups(), st.integers(1, 49))
def test_a_trimmed_mean_is_that_of_exact_fractions(group: tuple[list[Floats], list[int]], trim: int) -> None:
    """The sum of the values that are left may cancel: its error is relative to the largest of them."""
    found = combine("trimmedMean", trim, *group)
    homes, weight = len(group[1]), sum(group[1])
    cut = max(1, math.floor(Fraction(homes * trim, 100)))
    cut = min(cut, (homes - 1) // 2)
    for element in range(SIZE):
        left = per_example(*group, element)[cut : homes - cut]
        exact = sum(map(Fraction, left)) / len(left) * weight
        reach = max(map(abs, left)) * weight
        assert (
            abs(Fraction(float(found[element])) - exact)
            <= abs(exact) * 2.0**-23 + reach * 2.0**-48 + 2.0**-149
        )


@given(groups(), st.sampled_from(METHODS), st.integers(1, 49), st.randoms(use_true_random=False))
def test_the_order_of_homes_changes_no_bit(
    group: tuple[list[Floats], list[int]], method: str, trim: int, rng: random.Random
) -> None:
    expected = combine(method, trim, *group).tobytes()
    pairs = list(zip(*group, strict=True))
    rng.shuffle(pairs)
    vectors, weights = zip(*pairs, strict=True)
    assert combine(method, trim, vectors, weights).tobytes() == expected


@pytest.mark.parametrize("method", METHODS)
def test_every_order_of_a_group_whose_sums_would_round_gives_the_same_bytes(method: str) -> None:
    rows = [vector([x, -x, 1 / x, 0]) for x in (1000.0, 1e-9, 3e-7, -999.9, 0.1)]
    found = {
        combine(method, 10, [rows[i] for i in order], [3, 1, 4, 1, 5]).tobytes()
        for order in itertools.permutations(range(5))
    }
    assert len(found) > 1, "weights that stay while vectors move belong to other homes"
    moved = {
        combine(method, 10, [rows[i] for i in order], [(3, 1, 4, 1, 5)[i] for i in order]).tobytes()
        for order in itertools.permutations(range(5))
    }
    assert len(moved) == 1


lies = st.one_of(
    values,
    st.sampled_from([1e30, -1e30, 3.4e38, -3.4e38, 2097151.875]),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
)


@given(
    st.lists(st.lists(values, min_size=SIZE, max_size=SIZE).map(vector), min_size=3, max_size=3),
    st.lists(weights, min_size=4, max_size=4),
    st.lists(lies, min_size=SIZE, max_size=SIZE).map(vector),
    st.integers(0, 3),
    st.sampled_from(METHODS),
)
def test_one_liar_among_four_moves_nothing_beyond_the_honest(
    honest: list[Floats], weights: list[int], lie: Floats, place: int, method: str
) -> None:
    """Wherever it sits and whatever it says, each element stays between the honest homes' extremes."""
    vectors = [*honest[:place], lie, *honest[place:]]
    found = combine(method, 10, vectors, weights)
    truthful = weights[:place] + weights[place + 1 :]
    for element in range(SIZE):
        said = per_example(honest, truthful, element)
        low, high = np.float32(said[0] * sum(weights)), np.float32(said[-1] * sum(weights))
        assert low <= found[element] <= high


@pytest.mark.parametrize("method", METHODS)
def test_weights_decide_the_size_of_a_vector_and_not_its_vote(method: str) -> None:
    """A home that claims a million examples still has one voice."""
    rows = [vector([1.0] * 2), vector([2.0] * 2), vector([900.0 * 1e6] * 2)]
    found = combine(method, 10, rows, [1, 1, 1_000_000])
    assert found.tobytes() == vector([2.0 * 1_000_002] * 2).tobytes()


@pytest.mark.parametrize("method", METHODS)
def test_what_does_not_fit_is_infinite_and_nobody_is_warned(method: str) -> None:
    found = combine(method, 10, [vector([3e38, 1])] * 3, [1, 1, 1])
    assert found[0] == math.inf
    assert found[1] == 3


@pytest.mark.parametrize("method", METHODS)
def test_no_argument_is_changed(method: str) -> None:
    rows = [vector([3, 1]), vector([2, 2]), vector([1, 3])]
    before = [row.tobytes() for row in rows]
    combine(method, 10, rows, [1, 2, 3])
    assert [row.tobytes() for row in rows] == before
