"""Which MDC serves which home."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def rebalance(
    current: Mapping[int, frozenset[int]], eligible: Iterable[int], homes: int
) -> dict[int, frozenset[int]]:
    """Homes `0 .. homes-1` over the eligible MDCs.

    Laws: every home is in exactly one MDC (none, if no MDC is eligible); loads differ by at most one; no
    assignment with these properties moves fewer homes away from where `current` has them; equal arguments
    give equal results.
    """
    slots = sorted(set(eligible))
    if not slots:
        return {}
    held = {slot: sorted(h for h in current.get(slot, ()) if h < homes) for slot in slots}
    base, extra = divmod(homes, len(slots))
    # The MDCs with most homes get the larger loads: every home above `base` that stays is a move saved.
    by_load = sorted(slots, key=lambda slot: (-len(held[slot]), slot))
    size = {slot: base + (rank < extra) for rank, slot in enumerate(by_load)}
    kept = {slot: held[slot][: size[slot]] for slot in slots}
    placed = {home for stay in kept.values() for home in stay}
    loose = (home for home in range(homes) if home not in placed)
    return {
        slot: frozenset(kept[slot] + [next(loose) for _ in range(size[slot] - len(kept[slot]))])
        for slot in slots
    }


def rebalance_units(
    current: Mapping[int, frozenset[int]], eligible: Iterable[int], units: Sequence[Iterable[int]]
) -> dict[int, frozenset[int]]:
    """`rebalance` of homes that only move together: the same laws, with loads counted in units.

    `units` are disjoint and hold all homes. A unit whose homes are split in `current` counts as held by none.
    """
    numbered = [frozenset(unit) for unit in units]
    held = {
        slot: frozenset(i for i, u in enumerate(numbered) if u <= homes) for slot, homes in current.items()
    }
    placed = rebalance(held, eligible, len(numbered))
    return {slot: frozenset().union(*(numbered[i] for i in mine)) for slot, mine in placed.items()}
