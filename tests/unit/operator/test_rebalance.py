"""Which MDC serves which home: the laws in the function's docstring."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given

from elf_operator.rebalance import rebalance
from strategies import assignments

ROWS: dict[str, tuple[dict[int, set[int]], list[int], int, dict[int, set[int]]]] = {
    "nobody can serve: all wait": ({0: {0, 1}}, [], 4, {}),
    "there are no homes": ({}, [0, 1], 0, {0: set(), 1: set()}),
    "a first start spreads evenly": ({}, [0, 1], 5, {0: {0, 1, 2}, 1: {3, 4}}),
    "balanced already: nothing moves": ({0: {1, 3}, 1: {0, 2}}, [0, 1], 4, {0: {1, 3}, 1: {0, 2}}),
    "the larger load stays where it is": ({0: {0}, 1: {1, 2}}, [0, 1], 3, {0: {0}, 1: {1, 2}}),
    "one leaves: only its homes move": ({0: {0, 1}, 1: {2, 3}}, [0], 4, {0: {0, 1, 2, 3}}),
    "one comes: it gets its share": ({0: {0, 1, 2, 3}}, [0, 1], 4, {0: {0, 1}, 1: {2, 3}}),
    "more MDCs than homes": ({}, [0, 1, 2], 2, {0: {0}, 1: {1}, 2: set()}),
    "homes that are not of the job are dropped": ({0: {9, 12}}, [0], 1, {0: {0}}),
}


@pytest.mark.parametrize("sentence", ROWS)
def test_who_serves_whom(sentence: str) -> None:
    current, eligible, homes, expected = ROWS[sentence]
    found = rebalance({i: frozenset(held) for i, held in current.items()}, eligible, homes)
    assert found == expected


@given(assignments())
def test_every_home_once_loads_within_one(case: tuple[dict[int, frozenset[int]], list[int], int]) -> None:
    current, eligible, homes = case
    new = rebalance(current, eligible, homes)
    assert set(new) == set(eligible)
    if eligible:
        assert sorted(h for held in new.values() for h in held) == list(range(homes))
        assert max(map(len, new.values())) - min(map(len, new.values())) <= 1


@given(assignments())
def test_it_is_deterministic_idempotent_and_changes_no_argument(
    case: tuple[dict[int, frozenset[int]], list[int], int],
) -> None:
    current, eligible, homes = case
    before = copy.deepcopy(current)
    new = rebalance(current, eligible, homes)
    assert current == before
    shuffled = dict(reversed(current.items()))
    assert rebalance(shuffled, [*reversed(eligible), *eligible], homes) == new
    assert rebalance(new, eligible, homes) == new


@given(assignments(most_homes=6, most_mdcs=3))
def test_no_fair_assignment_moves_fewer(case: tuple[dict[int, frozenset[int]], list[int], int]) -> None:
    current, eligible, homes = case
    if not eligible:
        return
    every = (
        {m: frozenset(h for h in range(homes) if places[h] == m) for m in eligible}
        for places in itertools.product(eligible, repeat=homes)
    )
    assert moves(current, rebalance(current, eligible, homes)) == min(
        moves(current, one) for one in every if fair(one.values())
    )


def fair(held: Iterable[frozenset[int]]) -> bool:
    loads = [len(homes) for homes in held]
    return max(loads) - min(loads) <= 1


def moves(old: Mapping[int, frozenset[int]], new: Mapping[int, frozenset[int]]) -> int:
    return sum(len(homes - new.get(mdc, frozenset())) for mdc, homes in old.items())
