"""Which homes each MDC of a job that runs serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from elf_operator.observation import Observation
from elf_operator.places import Place
from elf_operator.rebalance import Zones, rebalance, rebalance_units
from elf_operator.slots import vacate
from elf_operator.spec import Spec
from elf_worker.contract import Role, Slot

FIRST_START_SECONDS = 60.0
"""How long homes wait for an MDC that starts for the first time before others take them."""


@dataclass(frozen=True)
class Assignment:
    """The MDCs' slots with their homes."""

    slots: dict[int, Slot]
    waiting: str = ""
    """Why homes wait, if the MDCs that serve have no room for them."""


def assign(
    seen: Observation, spec: Spec, now: float, old: Mapping[int, Slot], mdcs: Sequence[Place], count: int
) -> Assignment:
    """So many homes, balanced over the MDCs that serve or start for the first time.

    `old`: the MDCs' slots of the wiring so far; those of MDCs that are not wanted any more are vacated.
    """
    current: dict[int, frozenset[int]] = {}
    for place in mdcs:
        before = old.get(place.index)
        if before is not None and before.uid and before.uid in (place.slot.uid, place.slot.predecessor):
            current[place.index] = before.homes
    eligible = [p.index for p in mdcs if _eligible(p, seen, now)]
    if not eligible:
        eligible = [p.index for p in mdcs if p.pod is not None and p.verdict is None]
    zones = zones_of(seen, spec)
    if seen.zones:
        current = _rooted(current, seen, spec, mdcs, count)
    capacity = spec.mdc_capacity
    if spec.aggregation == "mean":  # each home is a unit: a million ranges would only cost time
        homes = rebalance(current, eligible, count, capacity, zones)
    else:
        homes = rebalance_units(current, eligible, spec.units_of(count), capacity, zones)
    waiting, left = "", count - sum(map(len, homes.values()))
    if eligible and left:
        waiting = (
            f"{left} of {count} homes wait for an MDC: {len(eligible)} "
            f"serve{'s' * (len(eligible) == 1)}, "
            f"spec.miniDataCenters.capacity is {capacity}"
        )
    slots = {p.index: replace(p.slot, homes=homes.get(p.index, frozenset())) for p in mdcs}
    retired = {i: s for i, s in old.items() if i >= spec.mdcs}
    slots |= {i: replace(vacate(s), replaced=s.replaced) for i, s in retired.items()}
    return Assignment(slots, waiting)


def _eligible(place: Place, seen: Observation, now: float) -> bool:
    if place.pod is None or place.verdict is not None:
        return False
    first = place.slot.replaced == 0 and now - place.pod.created < FIRST_START_SECONDS
    return first or place.serves(seen.training)


def _rooted(
    current: Mapping[int, frozenset[int]], seen: Observation, spec: Spec, mdcs: Sequence[Place], count: int
) -> dict[int, frozenset[int]]:
    """Only what has begun to work: the rest has nothing to lose by a move.

    Homes and MDCs are assigned before they have nodes; once they have, they may still get into one zone.
    """
    running = {p.index for p in seen.of(Role.HOME) if p.ready}
    slots = {place.index for place in mdcs if place.serves(seen.training)}
    begun: set[int] = set()
    for unit in spec.units_of(count):
        if any(home // spec.per_pod in running for home in unit):
            begun.update(unit)
    return {slot: homes & begun for slot, homes in current.items() if slot in slots}


def zones_of(seen: Observation, spec: Spec) -> Zones:
    """Zones of homes and of MDCs: those of the nodes that their pods are on.

    A successor that is only tried, on another node, does not count before the wiring names it.
    """
    slots = seen.wiring.mdcs.values() if seen.wiring is not None else ()
    named = {slot.uid for slot in slots}
    pods = sorted(seen.pods, key=lambda pod: (pod.uid in named, pod.incarnation))
    newest = {(p.role, p.index): p for p in pods}
    there = {place: seen.zones[pod.node] for place, pod in newest.items() if pod.node in seen.zones}
    homes = {
        home: zone
        for (role, index), zone in there.items()
        if role is Role.HOME
        for home in range(index * spec.per_pod, min((index + 1) * spec.per_pod, spec.homes))
    }
    return Zones(homes, {index: zone for (role, index), zone in there.items() if role is Role.MDC})
