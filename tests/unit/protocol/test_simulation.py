"""Thousands of whole jobs in virtual time, each with its own faults, judged by the oracle.

`ELF_SIM_SEEDS` says how many seeds to run (3,000 by default; `make slow` runs 10,000). A seed that fails
prints its number, its scenario and the end of its trace;
`ELF_SIM_SEED=123 python -m pytest tests/unit/protocol/test_simulation.py` runs that one alone, the same to
the last event.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from simulation.check import run_seed
from simulation.model import Model
from simulation.scenario import FAULTS, Scenario, draw
from simulation.world import World

CHUNKS = 40
SEEDS = int(os.environ.get("ELF_SIM_SEEDS", "3000"))
ONLY = os.environ.get("ELF_SIM_SEED")


def _chunks() -> list[range]:
    """Ranges of seeds: many, so that several test processes share them evenly."""
    if ONLY is not None:
        return [range(int(ONLY), int(ONLY) + 1)]
    count = min(CHUNKS, SEEDS)
    return [range(SEEDS * k // count, SEEDS * (k + 1) // count) for k in range(count)]


@pytest.mark.parametrize("seeds", _chunks(), ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_every_seed_ends_with_every_home_counted_once(seeds: range) -> None:
    for seed in seeds:
        run_seed(seed)


@pytest.mark.parametrize("seed", range(5))
def test_a_seed_is_one_run(seed: int) -> None:
    """Replaying a seed would be of no use otherwise."""
    first, second = (World(draw(seed), tracing=True) for _ in range(2))
    assert first.run() == second.run()
    assert first.tail() == second.tail()
    assert first.events == second.events


@pytest.mark.parametrize("method", ["mean", "median", "trimmedMean"])
@pytest.mark.parametrize("mdcs", [1, 2, 4])
def test_the_number_of_mdcs_changes_no_bit(mdcs: int, method: str) -> None:
    group = 0 if method == "mean" else 3
    scenario = Scenario(seed=7, mdcs=mdcs, homes=7, quorum=7, group=group, method=method)
    groups = [[0, 1, 2, 3], [4, 5, 6]] if group else []
    assert World(scenario).run() == Model(7, 7, groups, method).undisturbed(scenario.rounds)[-1]


SLOW = Scenario(seed=5, mdcs=3, homes=6, quorum=6, rounds=12, straggler_factor=5.0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("changes", "stragglers"),
    [
        ({"slow_mdc": 1}, {"mdc-1-0"}),
        ({"slow_home": 2}, set()),
        ({"slow_mdc": 1, "straggler_factor": None}, set()),
        ({"slow_mdc": 1, "mdcs": 1}, set()),
        ({"slow_mdc": 1, "mdcs": 2, "slow_home": 0}, {"mdc-1-0"}),
    ],
    ids=["a slow MDC", "a slow home", "unless it is asked for", "there is no other", "both"],
)
def test_stragglers_are_replaced_and_no_bit_changes(
    changes: dict[str, Any], stragglers: set[str], seed: int
) -> None:
    world = World(replace(SLOW, seed=seed, **changes))
    assert world.run() == World(replace(SLOW, seed=seed, straggler_factor=None)).run()
    assert world.overseer.stragglers == stragglers


@pytest.mark.parametrize("kind", FAULTS)
def test_each_kind_of_fault_strikes_and_changes_no_bit(kind: str) -> None:
    """A kind that never did anything would make the seeds above worth less than they seem."""
    plain = Scenario(seed=3, mdcs=3, homes=6, quorum=6, rounds=4)
    undisturbed = World(plain)
    bits = undisturbed.run()
    struck = False
    for at in (0.4, 0.9, 1.3, 1.8):
        world = World(Scenario(seed=3, mdcs=3, homes=6, quorum=6, rounds=4, faults=((at, kind),)))
        assert world.run() == (bits if kind != "scale_homes" else world.oracle.trained(world.schedule, 4))
        struck |= world.events != undisturbed.events
    assert struck


def test_the_seeds_see_all_there_is() -> None:
    """Over the first seeds: full and partial quorums, every kind of fault, ailing homes, volumes, repeats."""
    scenarios = [draw(seed) for seed in range(300)]
    assert {kind for s in scenarios for _, kind in s.faults} == set(FAULTS)
    for interesting in ("sick", "replay", "volume_every", "reuse_addresses"):
        assert len({bool(getattr(s, interesting)) for s in scenarios}) == 2
    assert {s.quorum == s.homes for s in scenarios} == {True, False}
    assert {s.mdcs for s in scenarios} == {1, 2, 3, 4}
