"""Homes that come and go: the trained model is a function of the schedule that is reported with it."""

from __future__ import annotations

import itertools
import random

import hypothesis.strategies as st
import pytest
from hypothesis import given

from elf_worker.aggregation.datacenter import DataCenter
from elf_worker.aggregation.effects import Effect
from elf_worker.aggregation.northpole import NorthPole, RoundLog
from elf_worker.aggregation.population import Schedule, homes_after, noted
from elf_worker.messages import Assign
from simulation.model import START, Model
from simulation.oracle import ViolationError
from simulation.scenario import FAULTS, Scenario
from simulation.world import World

SEEDS = 300
NEVER = 1e6
"""Seconds: later than any run may take."""


# -- the schedule -----------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 5), min_size=1))
def test_a_schedule_holds_the_homes_of_every_round(counts: list[int]) -> None:
    schedule: Schedule = []
    for round_, homes in enumerate(counts):
        before = [list(entry) for entry in schedule]
        grown = noted(schedule, round_, homes)
        assert schedule == before, "what a state copy holds does not change"
        schedule = grown
    assert [homes_after(schedule, round_) for round_ in range(len(counts))] == counts
    assert schedule[0] == [0, counts[0]]
    assert all(a[1] != b[1] and a[0] < b[0] for a, b in itertools.pairwise(schedule))


# -- scaling under faults ---------------------------------------------------------------------------------


def troubled(seed: int) -> Scenario:
    """Up and down, with everything else that can go wrong. All homes of a round are needed."""
    rng = random.Random(f"population {seed}")
    homes = rng.randint(2, 8)
    faults = [(0.5 + 5 * rng.random(), "scale_homes") for _ in range(rng.randint(1, 5))]
    faults += [(6 * rng.random(), kind) for kind in rng.choices(list(FAULTS), k=rng.randint(0, 6))]
    return Scenario(
        seed=seed,
        mdcs=rng.randint(1, 3),
        homes=homes,
        per_pod=rng.choice((1, 1, 2, 3)),
        rounds=rng.randint(6, 10),
        quorum=homes,
        latency=rng.choice((0.004, 0.02, 0.2)),
        compute=rng.choice((0.3, 1.0)),
        volume_every=rng.choice((0, 2)),
        faults=tuple(sorted(faults)),
    )


def naively(scenario: Scenario, schedule: Schedule) -> bytes:
    """The model of a job that had so many homes in each round, without protocol, oracle or memory."""
    model = Model(scenario.seed, scenario.homes, [], "mean")
    weights = START
    for round_ in range(scenario.rounds):
        homes = 0
        for since, count in schedule:
            if since <= round_:
                homes = count
        weights = model.stepped(list(range(homes)), round_, weights)
    return weights


def test_the_model_is_a_function_of_the_reported_schedule() -> None:
    changes = []
    for seed in range(SEEDS):
        world = World(troubled(seed))
        assert world.run() == naively(world.scenario, world.schedule), f"seed {seed}: {world.schedule}"
        changes.append(len(world.schedule) - 1)
    assert sum(count > 0 for count in changes) > SEEDS // 3, (
        "most runs see a change, or this test sees nothing"
    )
    assert max(changes) > 2


@pytest.mark.parametrize("homes", [2, 9])
def test_a_new_number_of_homes_takes_effect(homes: int) -> None:
    world = World(Scenario(seed=5, homes=4, rounds=30, quorum=4, per_pod=2))
    world.at(2.0, world.overseer.scale_homes, homes)
    world.run()
    assert [count for _, count in world.schedule] == [4, homes]


def test_scaling_away_a_home_that_never_comes_lets_the_round_go_on() -> None:
    """Whoever removes a broken home does not want to wait for it first."""
    world = World(Scenario(seed=5, homes=4, rounds=6, quorum=4))
    world.at(1.5, world.overseer.lose_home, 3, NEVER, True)
    world.at(5.0, world.overseer.scale_homes, 3)
    world.run()
    assert [count for _, count in world.schedule] == [4, 3]


# -- absent homes -----------------------------------------------------------------------------------------


class WaitsForAll(NorthPole):
    """Does not know of absence."""

    def _tell_absent(self) -> list[Effect]:
        return []


class HoldsForAll(DataCenter):
    """Keeps its sum until the absent have spoken."""

    def _assign(self, message: Assign) -> list[Effect]:
        return super()._assign(Assign(message.stamp, message.homes, message.settled))


def abandoned(quorum: int, **machines: type) -> tuple[World, list[RoundLog]]:
    """A job that loses a home for good; rounds have no deadline to speak of."""
    logs: dict[int, RoundLog] = {}

    class Noting(machines.pop("northpole", NorthPole)):  # type: ignore[misc]
        def _close(self, now: float) -> list[Effect]:
            out = super()._close(now)
            assert isinstance(self.last_round, RoundLog)
            logs[self.last_round.round] = self.last_round
            return out

    scenario = Scenario(seed=2, homes=4, rounds=12, quorum=quorum, deadline=NEVER)
    world = World(scenario, northpole=Noting, **machines)
    world.at(2.0, world.overseer.lose_home, 1, NEVER, True)
    world.run()
    return world, [logs[round_] for round_ in sorted(logs)]


@pytest.mark.parametrize("machines", [{}, {"northpole": WaitsForAll}, {"datacenter": HoldsForAll}])
def test_nobody_waits_for_an_absent_home_when_the_quorum_is_met(machines: dict[str, type]) -> None:
    if machines:
        with pytest.raises(ViolationError, match="stuck"):
            abandoned(3, **machines)
        return
    world, logs = abandoned(3)
    assert world.now < NEVER
    last = logs[-1]
    assert (last.missing, last.counted, last.failed) == ([1], 3, 0)
    assert last.reasons == {"Absent": 1}
    assert not logs[0].missing


def test_a_quorum_of_everybody_waits_for_an_absent_home() -> None:
    with pytest.raises(ViolationError, match="stuck"):
        abandoned(4)


@pytest.mark.parametrize("dead", [True, False])
def test_a_home_that_is_well_again_is_counted_again(dead: bool) -> None:
    """Which rounds it misses is chance, so several seeds are looked at."""
    without = all_the_same = 0
    for seed in range(8):
        logs, counted = lost_for_a_while(seed, dead)
        assert not logs[-1].missing
        assert not dead or len(counted) <= 1, "only where it had spoken before it died"
        without += sum(bool(log.missing) for log in logs)
        all_the_same += len(counted)
    assert without
    assert dead or all_the_same, "a home that is there counts, whatever is said of it"


def lost_for_a_while(seed: int, dead: bool) -> tuple[list[RoundLog], list[int]]:
    """All rounds, and those in which the home was counted while it was said to be absent."""
    logs: list[RoundLog] = []
    counted: list[int] = []

    class Noting(NorthPole):
        def _close(self, now: float) -> list[Effect]:
            out = super()._close(now)
            assert self.last_round is not None
            logs.append(self.last_round)
            if self._absent and not self.last_round.missing:
                counted.append(self.last_round.round)
            return out

    world = World(Scenario(seed=seed, homes=4, rounds=30, quorum=3, deadline=NEVER), northpole=Noting)
    world.at(2.0, world.overseer.lose_home, 1, 3.0, dead)
    world.run()
    return logs, counted
