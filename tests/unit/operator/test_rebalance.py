"""Which MDC serves which home: the laws in the function's docstring."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elf_operator.rebalance import Zones, capacity_in_units, rebalance, rebalance_units
from elf_worker.contract import groups
from strategies import assignments, zoned_assignments

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


# -- homes that only move together ------------------------------------------------------------------------

Held = dict[int, frozenset[int]]
UNITS = [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]

UNIT_ROWS: dict[str, tuple[dict[int, set[int]], list[int], dict[int, set[int]]]] = {
    "nobody can serve: all wait": ({0: {0, 1, 2, 3}}, [], {}),
    "a first start": ({}, [0, 1], {0: {0, 1, 2, 3, 4, 5, 6}, 1: {7, 8, 9}}),
    "loads are counted in units and not in homes": (
        {0: {0, 1, 2, 3}, 1: {4, 5, 6, 7, 8, 9}},
        [0, 1],
        {0: {0, 1, 2, 3}, 1: {4, 5, 6, 7, 8, 9}},
    ),
    "one leaves: only its units move": (
        {0: {0, 1, 2, 3}, 1: {4, 5, 6}, 2: {7, 8, 9}},
        [0, 2],
        {0: {0, 1, 2, 3, 4, 5, 6}, 2: {7, 8, 9}},
    ),
    "a unit that two share is placed anew, whole": (
        {0: {0, 1, 4, 5, 6}, 1: {2, 3, 7, 8, 9}, 2: set()},
        [0, 1, 2],
        {0: {4, 5, 6}, 1: {7, 8, 9}, 2: {0, 1, 2, 3}},
    ),
    "a unit of which homes wait is placed anew, whole": (
        {0: {0, 1, 2}, 1: {4, 5, 6}},
        [0, 1],
        {0: {0, 1, 2, 3}, 1: {4, 5, 6, 7, 8, 9}},
    ),
    "more MDCs than units": ({}, [0, 1, 2, 3], {0: {0, 1, 2, 3}, 1: {4, 5, 6}, 2: {7, 8, 9}, 3: set()}),
}


@pytest.mark.parametrize("sentence", UNIT_ROWS)
def test_who_serves_which_units(sentence: str) -> None:
    current, eligible, expected = UNIT_ROWS[sentence]
    assert rebalance_units({i: frozenset(h) for i, h in current.items()}, eligible, UNITS) == expected


@st.composite
def unit_assignments(draw: st.DrawFn) -> tuple[Held, list[int], list[range]]:
    """(current, eligible, units): most units are where they were whole; some homes have strayed."""
    current, eligible, homes = draw(assignments())
    units = groups(homes, draw(st.integers(1, 6))) if homes else []
    mdcs = sorted(current)
    places = {h: m for m, held in current.items() for h in held}
    if not draw(st.booleans()):
        for unit in units:
            if draw(st.integers(0, 3)):
                places |= dict.fromkeys(unit, draw(st.sampled_from(mdcs)))
    return {m: frozenset(h for h, p in places.items() if p == m) for m in mdcs}, eligible, units


def whole_in(held: Mapping[int, frozenset[int]], unit: Iterable[int]) -> list[int]:
    return [mdc for mdc, homes in held.items() if homes.issuperset(unit)]


@given(unit_assignments())
def test_units_stay_whole_every_one_once_and_loads_in_units_are_within_one(
    case: tuple[Held, list[int], list[range]],
) -> None:
    current, eligible, units = case
    new = rebalance_units(current, eligible, units)
    assert set(new) == set(eligible)
    if not eligible:
        return
    assert sorted(h for held in new.values() for h in held) == [h for unit in units for h in unit]
    assert all(len(whole_in(new, unit)) == 1 for unit in units)
    loads = [sum(new[mdc].issuperset(unit) for unit in units) for mdc in new]
    assert max(loads) - min(loads) <= 1


@given(unit_assignments())
def test_a_unit_that_was_not_whole_anywhere_is_held_by_none(
    case: tuple[Held, list[int], list[range]],
) -> None:
    """It is placed as if nobody had had any of it; and no more units move than if they were homes."""
    current, eligible, units = case
    new = rebalance_units(current, eligible, units)
    whole = [unit for unit in units if whole_in(current, unit)]
    cleaned = {m: frozenset(h for u in whole if held.issuperset(u) for h in u) for m, held in current.items()}
    assert rebalance_units(cleaned, eligible, units) == new
    as_homes = {
        m: frozenset(i for i, u in enumerate(units) if held.issuperset(u)) for m, held in current.items()
    }
    numbers = rebalance(as_homes, eligible, len(units))
    stayed = sum(bool({*whole_in(current, unit)} & {*whole_in(new, unit)}) for unit in units)
    assert stayed == sum(len(held & numbers.get(m, frozenset())) for m, held in as_homes.items())


@given(unit_assignments())
def test_units_are_placed_the_same_again_and_no_argument_is_changed(
    case: tuple[Held, list[int], list[range]],
) -> None:
    current, eligible, units = case
    before = copy.deepcopy((current, units))
    new = rebalance_units(current, eligible, units)
    assert (current, units) == before
    assert rebalance_units(dict(reversed(current.items())), [*reversed(eligible)], units) == new
    assert rebalance_units(new, eligible, units) == new


@given(assignments())
def test_units_of_one_home_are_homes(case: tuple[Held, list[int], int]) -> None:
    current, eligible, homes = case
    assert rebalance_units(current, eligible, groups(homes, 1)) == rebalance(current, eligible, homes)
    assert rebalance_units(current, eligible, [{h} for h in range(homes)]) == rebalance(
        current, eligible, homes
    )


# -- capacity and zones -----------------------------------------------------------------------------------

Zoned = tuple[Held, list[int], int, int | None, tuple[dict[int, str], dict[int, str]]]

ZONE_ROWS: dict[str, tuple[dict[int, set[int]], str, int | None, str, dict[int, set[int]]]] = {
    # current, zones of the MDCs (all are eligible), capacity, zones of the homes, expected
    "a first start puts homes into their zone": ({}, "we", None, "ewew", {0: {1, 3}, 1: {0, 2}}),
    "who finds no place in its zone goes elsewhere": ({}, "ew", None, "eeee", {0: {0, 1}, 1: {2, 3}}),
    "the larger load goes where homes lack a place": ({}, "ew", None, "wew", {0: {1}, 1: {0, 2}}),
    "nobody moves just to get into its zone": (
        {0: {0, 1}, 1: {2, 3}},
        "we",
        None,
        "eeww",
        {0: {0, 1}, 1: {2, 3}},
    ),
    "strangers leave first, and go home": (
        {0: {0, 1, 2, 3}, 1: set()},
        "ew",
        None,
        "weew",
        {0: {1, 2}, 1: {0, 3}},
    ),
    "of strangers those leave whose zone has room": (
        {0: {0, 1, 2, 3}, 1: set()},
        "ew",
        None,
        "wwnn",
        {0: {2, 3}, 1: {0, 1}},
    ),
    "who would have to give away its own keeps the larger load": (
        {0: {0, 1}, 1: {2, 3}, 2: set()},
        "eww",
        None,
        "wwww",
        {0: {0}, 1: {2, 3}, 2: {1}},
    ),
    "no more leave for a zone than it has room for": (
        {0: {0, 1, 2, 3}, 1: set(), 2: set()},
        "ewn",
        None,
        "wwnn",
        {0: {0, 2}, 1: {1}, 2: {3}},
    ),
    "an MDC with too many homes takes no room from the others": (
        {0: {2}, 1: {0, 1}, 2: set(), 3: set()},
        "eeew",
        None,
        "wew",
        {0: {2}, 1: {1}, 2: set(), 3: {0}},
    ),
    "each zone gets the places that it lacks": ({}, "wwe", None, "wwwee", {0: {0, 1}, 1: {2}, 2: {3, 4}}),
    "without a zone nobody is near": ({}, "--", None, "ewew", {0: {0, 1}, 1: {2, 3}}),
    "what finds no room waits": ({}, "--", 1, "---", {0: {0}, 1: {1}}),
    "who waits is placed where there is room in its zone": ({}, "ew", 1, "ewew", {0: {0}, 1: {1}}),
    "who is served stays, who waits waits": ({0: {3}, 1: {2}}, "ew", 1, "ewew", {0: {3}, 1: {2}}),
    "a smaller capacity sends strangers away first": ({0: {0, 1, 2}}, "e", 2, "wee", {0: {1, 2}}),
}


def zones_of(places: str) -> dict[int, str]:
    return {i: zone for i, zone in enumerate(places) if zone != "-"}


@pytest.mark.parametrize("sentence", ZONE_ROWS)
def test_who_serves_whom_where(sentence: str) -> None:
    current, mdcs, capacity, homes, expected = ZONE_ROWS[sentence]
    held = {i: frozenset(there) for i, there in current.items()}
    zones = Zones(zones_of(homes), zones_of(mdcs))
    assert rebalance(held, range(len(mdcs)), len(homes), capacity, zones) == expected


@given(zoned_assignments())
def test_all_that_find_room_are_placed_once_and_loads_are_within_one_and_the_capacity(case: Zoned) -> None:
    current, eligible, homes, capacity, places = case
    new = rebalance(current, eligible, homes, capacity, Zones(*places))
    assert set(new) == set(eligible)
    placed = [home for held in new.values() for home in held]
    room = homes if capacity is None else capacity * len(eligible)
    assert len(placed) == len(set(placed)) == (min(homes, room) if eligible else 0)
    assert set(placed) <= set(range(homes))
    if eligible:
        loads = [len(held) for held in new.values()]
        assert max(loads) - min(loads) <= 1
        assert capacity is None or max(loads) <= capacity


@given(zoned_assignments())
def test_zones_change_neither_the_number_of_moves_nor_what_is_settled(case: Zoned) -> None:
    current, eligible, homes, capacity, places = case
    zones = Zones(*places)
    before = copy.deepcopy((current, places))
    new = rebalance(current, eligible, homes, capacity, zones)
    assert (current, places) == before
    assert moves(current, new) == moves(current, rebalance(current, eligible, homes, capacity))
    assert rebalance(dict(reversed(current.items())), [*reversed(eligible)], homes, capacity, zones) == new
    assert rebalance(new, eligible, homes, capacity, zones) == new


@given(zoned_assignments(most_homes=5, most_mdcs=3))
def test_no_assignment_within_the_capacity_moves_fewer(case: Zoned) -> None:
    current, eligible, homes, capacity, places = case
    if not eligible:
        return
    room = homes if capacity is None else min(homes, capacity * len(eligible))
    every = (
        {m: frozenset(h for h in range(homes) if chosen[h] == m) for m in eligible}
        for chosen in itertools.product([*eligible, None], repeat=homes)
        if homes - chosen.count(None) == room
    )
    new = rebalance(current, eligible, homes, capacity, Zones(*places))
    assert moves(current, new) == min(moves(current, one) for one in every if fair(one.values()))


@given(zoned_assignments(most_homes=6, most_mdcs=3))
def test_no_other_way_to_fill_the_free_places_puts_more_homes_into_their_zone(case: Zoned) -> None:
    current, eligible, homes, capacity, places = case
    zones = Zones(*places)
    new = rebalance(current, eligible, homes, capacity, zones)
    came = {m: held - current.get(m, frozenset()) for m, held in new.items()}
    settled = {h for m, held in new.items() for h in held - came[m]}
    free = [m for m, homes_ in came.items() for _ in homes_]
    loose = [h for h in range(homes) if h not in settled]
    most = max(
        (sum(map(zones.near, chosen, free)) for chosen in itertools.permutations(loose, len(free))),
        default=0,
    )
    assert sum(zones.near(h, m) for m, homes_ in came.items() for h in homes_) == most


@given(zoned_assignments())
def test_no_home_leaves_its_zone_while_a_stranger_stays(case: Zoned) -> None:
    current, eligible, homes, capacity, places = case
    zones = Zones(*places)
    new = rebalance(current, eligible, homes, capacity, zones)
    for mdc, held in new.items():
        had = {h for h in current.get(mdc, ()) if h < homes}
        if any(zones.near(h, mdc) for h in had - held):
            assert all(zones.near(h, mdc) for h in had & held)


@pytest.mark.parametrize("mdcs", ["we", "ew"])
def test_a_unit_of_which_only_half_is_in_a_zone_is_in_none(mdcs: str) -> None:
    zones = Zones(zones_of("ew" + 2 * mdcs[0]), zones_of(mdcs))
    assert rebalance_units({}, [0, 1], [[0, 1], [2, 3]], None, zones) == {0: {2, 3}, 1: {0, 1}}


@given(zoned_assignments(), st.integers(1, 5))
def test_units_obey_capacity_and_follow_most_of_their_homes(case: Zoned, size: int) -> None:
    current, eligible, homes, capacity, places = case
    units = groups(homes, size) if homes else []
    new = rebalance_units(current, eligible, units, capacity, Zones(*places))
    assert all(capacity is None or len(held) <= capacity for held in new.values())
    numbers = {m: frozenset(i for i in range(len(units)) if units[i][0] in held) for m, held in new.items()}
    assert {m: frozenset(h for i in held for h in units[i]) for m, held in numbers.items()} == new
    zones = {}
    for number, unit in enumerate(units):
        there = [places[0].get(h) for h in unit]
        zones |= {number: zone for zone in there if there.count(zone) > len(unit) / 2 and zone}  # noqa: B035
    whole = {
        m: frozenset(i for i, u in enumerate(units) if held.issuperset(u)) for m, held in current.items()
    }
    room = None if capacity is None else capacity_in_units(capacity, units)
    assert rebalance(whole, eligible, len(units), room, Zones(zones, places[1])) == numbers


def fair(held: Iterable[frozenset[int]]) -> bool:
    loads = [len(homes) for homes in held]
    return max(loads) - min(loads) <= 1


def moves(old: Mapping[int, frozenset[int]], new: Mapping[int, frozenset[int]]) -> int:
    return sum(len(homes - new.get(mdc, frozenset())) for mdc, homes in old.items())
