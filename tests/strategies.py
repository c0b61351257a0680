"""Hypothesis strategies shared by tests."""

from __future__ import annotations

import hypothesis.strategies as st

from elf_worker.contract import JobConfig, Loss, Slot, Wiring

ids = st.frozensets(st.integers(0, 200), max_size=40)
names = st.from_regex(r"[a-z]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
finite = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | finite | st.text(max_size=12)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
json_objects = st.dictionaries(st.text(max_size=6), json_values, max_size=4)


@st.composite
def wirings(draw: st.DrawFn) -> Wiring:
    """Any wiring that keeps the law: homes are disjoint."""
    mdcs = draw(st.sets(st.integers(0, 12), max_size=5))
    home_of = draw(st.dictionaries(st.integers(0, 60), st.sampled_from(sorted(mdcs)))) if mdcs else {}
    slots = {i: draw(_slots(frozenset(h for h, m in home_of.items() if m == i))) for i in mdcs}
    counts = st.integers(0, 99)
    return Wiring(
        version=draw(counts),
        npdc=draw(_slots(frozenset())),
        mdcs=slots,
        recipe=draw(json_objects),
        homes=draw(counts),
        quorum=draw(counts),
        expected=draw(counts),
        absent=draw(ids),
        failed_moves=draw(counts),
        move_after=draw(_times),
    )


def _slots(homes: frozenset[int]) -> st.SearchStrategy[Slot]:
    count, uid = st.integers(0, 9), st.sampled_from(["", "uid-1", "uid-2"])
    return st.builds(
        Slot,
        count,
        uid,
        st.just(homes),
        count,
        failures=count,
        not_before=_times,
        nodes=st.lists(names, max_size=3).map(tuple),
        loss=st.none() | st.builds(Loss, names, names, st.text(max_size=12), _times),
        predecessor=uid,
    )


_times = st.floats(0, 4e9)


job_configs = st.builds(
    JobConfig,
    job=names,
    uid=st.uuids().map(str),
    homes=st.integers(1, 1000),
    per_pod=st.integers(1, 10),
    rounds=st.integers(1, 1000),
    seed=st.integers(0, 2**53 - 1),
    entrypoint=st.just("module:Class"),
    task_args=json_objects,
    optimizer_args=json_objects,
    target_metric=st.none() | st.text(min_size=1, max_size=8),
    target_at_least=st.none() | finite,
    deadline_seconds=st.floats(1, 1e6),
)


@st.composite
def assignments(draw: st.DrawFn, most_homes: int = 40, most_mdcs: int = 6) -> tuple[dict, list[int], int]:
    """(current, eligible, homes): some homes wait, some are held by MDCs that are not eligible any more."""
    homes = draw(st.integers(0, most_homes))
    mdcs = range(draw(st.integers(1, most_mdcs)))
    places = draw(st.lists(st.none() | st.sampled_from(mdcs), min_size=homes, max_size=homes))
    current = {m: frozenset(h for h, place in enumerate(places) if place == m) for m in mdcs}
    return current, draw(st.lists(st.sampled_from(mdcs), unique=True)), homes


@st.composite
def zoned_assignments(
    draw: st.DrawFn, most_homes: int = 24, most_mdcs: int = 5
) -> tuple[dict, list[int], int, int | None, tuple[dict[int, str], dict[int, str]]]:
    """(current, eligible, homes, capacity, (zones of homes, zones of MDCs)); of some the zone is unknown."""
    current, eligible, homes = draw(assignments(most_homes, most_mdcs))
    capacity = draw(st.none() | st.integers(1, max(1, homes)))
    zone = st.sampled_from(["east", "west", "north"])
    places = draw(st.tuples(*(st.dictionaries(st.integers(0, n), zone) for n in (homes, most_mdcs))))
    return current, eligible, homes, capacity, places
