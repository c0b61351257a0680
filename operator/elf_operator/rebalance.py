"""Which MDC serves which home."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Held = dict[int, list[int]]
"""Slot → homes, in ascending order."""


@dataclass(frozen=True)
class Zones:
    """Where homes and MDCs are, by index. Who is absent is in no zone: near to nobody, far from everybody."""

    homes: Mapping[int, str] = field(default_factory=dict)
    mdcs: Mapping[int, str] = field(default_factory=dict)

    def near(self, home: int, slot: int) -> bool:
        """Whether the home is in the MDC's zone."""
        zone = self.homes.get(home)
        return zone is not None and zone == self.mdcs.get(slot)


NOWHERE = Zones()


def rebalance(
    current: Mapping[int, frozenset[int]],
    eligible: Iterable[int],
    homes: int,
    capacity: int | None = None,
    zones: Zones = NOWHERE,
) -> dict[int, frozenset[int]]:
    """Homes `0 .. homes-1` over the eligible MDCs, at most `capacity` in each.

    Laws, the earlier before the later: every home is in at most one MDC, and in one if there is room; loads
    differ by at most one; no assignment with these properties moves fewer homes away from where `current`
    has them; an MDC gives away a home of its own zone only when it has no other left, and no other way of
    filling the places that are free then puts more homes into MDCs of their zone; equal arguments give equal
    results. A home never moves just to get into its zone.
    """
    slots = sorted(set(eligible))
    if not slots:
        return {}
    placed = homes if capacity is None else min(homes, capacity * len(slots))
    held = {slot: sorted(h for h in current.get(slot, ()) if h < homes) for slot in slots}
    base, extra = divmod(placed, len(slots))
    # Every home above `base` that stays is a move saved: the larger loads go to MDCs that have more, first
    # to those that would have to give away homes of their own zone.
    full = sorted(
        (slot for slot in slots if len(held[slot]) > base),
        key=lambda s: (sum(zones.near(h, s) for h in held[s]) <= base, -len(held[s]), s),
    )[:extra]
    size = dict.fromkeys(slots, base) | dict.fromkeys(full, base + 1)
    loose = _Loose(homes, held, size, zones)
    kept = {slot: loose.keep(slot, held[slot], size[slot]) for slot in slots}
    others = sorted((s for s in slots if len(held[s]) <= base), key=lambda s: (-len(held[s]), s))
    for slot in loose.most_wanted(others, extra - len(full)):
        size[slot] += 1
    placement = loose.place({slot: size[slot] - len(kept[slot]) for slot in slots})
    return {slot: frozenset(kept[slot] + placement[slot]) for slot in slots}


class _Loose:
    """The homes that need a place, and how many of them could have one in their own zone."""

    def __init__(self, homes: int, held: Held, size: Mapping[int, int], zones: Zones) -> None:
        self._zones = zones
        settled = {home for stay in held.values() for home in stay}
        self._homes = [home for home in range(homes) if home not in settled]
        self._room: Counter[str | None] = Counter()
        """Zone → free places that no loose home of the zone can claim; below zero: homes without a place."""
        for slot, stay in held.items():
            self._room[zones.mdcs.get(slot)] += max(0, size[slot] - len(stay))
        self._room.subtract(zones.homes.get(home) for home in self._homes)

    def keep(self, slot: int, held: Sequence[int], size: int) -> list[int]:
        """Who of these stays; the others are loose from now on."""
        by_zone: dict[str | None, list[int]] = {}
        for home in held:
            by_zone.setdefault(self._zones.homes.get(home), []).append(home)
        own = self._zones.mdcs.get(slot)

        def worth_leaving(zone: str | None) -> tuple[bool, bool, int]:
            """Least is first to go: strangers that have room elsewhere, strangers, then the zone's own."""
            return (
                zone is not None and zone == own,
                zone is None or self._room[zone] <= 0,
                -by_zone[zone][-1],
            )

        for _ in range(len(held) - size):
            zone = min((zone for zone, there in by_zone.items() if there), key=worth_leaving)
            self._homes.append(by_zone[zone].pop())
            self._room[zone] -= 1
        return sorted(home for there in by_zone.values() for home in there)

    def most_wanted(self, slots: Sequence[int], count: int) -> list[int]:
        """So many of these MDCs to get one place more: first where homes of the zone lack one."""
        lacking = Counter(self._room)
        wanted: list[int] = []
        rest: list[int] = []
        for slot in slots:
            zone = self._zones.mdcs.get(slot)
            is_wanted = zone is not None and lacking[zone] < 0
            lacking[zone] += is_wanted
            (wanted if is_wanted else rest).append(slot)
        return (wanted + rest)[:count]

    def place(self, vacancies: Mapping[int, int]) -> Held:
        """The loose homes into free places: first those of an MDC's own zone, then the others."""
        found: Held = {slot: [] for slot in vacancies}
        waiting: dict[str | None, list[int]] = {}
        for home in sorted(self._homes, reverse=True):
            waiting.setdefault(self._zones.homes.get(home), []).append(home)
        for slot, free in vacancies.items():
            zone = self._zones.mdcs.get(slot)
            own = waiting.get(zone, []) if zone is not None else []
            found[slot] = [own.pop() for _ in range(min(free, len(own)))]
        rest = iter(sorted(home for homes in waiting.values() for home in homes))
        for slot, free in vacancies.items():
            found[slot] += [home for _, home in zip(range(free - len(found[slot])), rest, strict=False)]
        return found


def rebalance_units(
    current: Mapping[int, frozenset[int]],
    eligible: Iterable[int],
    units: Sequence[Collection[int]],
    capacity: int | None = None,
    zones: Zones = NOWHERE,
) -> dict[int, frozenset[int]]:
    """`rebalance` of homes that only move together: the same laws, with loads counted in units.

    `units` are disjoint and hold all homes. A unit whose homes are split in `current` counts as held by none.
    `capacity` is in homes: an MDC holds as many units as fit if all were as large as the largest. A unit is
    in the zone of most of its homes, if more than half of them are in one.
    """
    home_of = {home: slot for slot, homes in current.items() for home in homes}
    held: dict[int, set[int]] = {slot: set() for slot in current}
    for number, unit in enumerate(units):
        holders = {home_of.get(home) for home in unit}
        if len(holders) == 1 and (slot := holders.pop()) is not None:
            held[slot].add(number)
    placed = rebalance(
        {slot: frozenset(numbers) for slot, numbers in held.items()},
        eligible,
        len(units),
        None if capacity is None else capacity_in_units(capacity, units),
        Zones(_zones_of_units(units, zones), zones.mdcs),
    )
    return {slot: frozenset(home for i in mine for home in units[i]) for slot, mine in placed.items()}


def capacity_in_units(capacity: int, units: Sequence[Collection[int]]) -> int:
    """Units that an MDC holds which holds so many homes."""
    return capacity // max(map(len, units), default=1)


def _zones_of_units(units: Sequence[Collection[int]], zones: Zones) -> dict[int, str]:
    found: dict[int, str] = {}
    for number, unit in enumerate(units):
        there = [zones.homes.get(home) for home in unit]
        for zone in set(there):
            if zone is not None and 2 * there.count(zone) > len(there):
                found[number] = zone
    return found
