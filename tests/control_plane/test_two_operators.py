"""Two operators for one job: harmless without a Lease; with one, only its holder writes."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from control_plane.calls import Target
from control_plane.faults import Fault, Schedule
from control_plane.scenarios import fall, fault, grow, resume, shrink, suspend
from control_plane.stage import Lab, Manned, Stage, stage

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900), pytest.mark.asyncio(loop_scope="session")]
TAKEOVER_SECONDS = 60.0


class Closed(Schedule):
    """The API server is out of reach."""

    def __init__(self) -> None:
        super().__init__(0, 0)

    def next(self, target: Target) -> Fault | None:
        return Fault("503")


@pytest.mark.parametrize("seed", range(3))
async def test_two_that_do_not_know_of_each_other(lab: Lab, seed: int) -> None:
    async with stage(lab, f"two operators, seed {seed}") as on:
        for number in range(2):
            await on.operator(schedule=Schedule(1_000_000 + 2 * seed + number, faults=12))
        await on.settle()
        for step in (fault, grow, fall, shrink, suspend, resume):
            await step(on)
            await on.settle()
        await on.rest()


async def elected(on: Stage) -> tuple[Manned, Manned]:
    """The one that leads, and one that waits."""
    lease = ("--lease", f"{on.namespace}/{on.job}")
    first = await on.operator(*lease)
    await on.settle()
    second = await on.operator(*lease)
    await on.until("the second stands for election", lambda: second.door.asked_for("leases"))
    return first, second


async def test_a_leader_that_was_frozen_writes_nothing_when_it_wakes(lab: Lab) -> None:
    async with stage(lab, "a frozen leader") as on:
        first, second = await elected(on)
        first.wanted = False
        assert first.process is not None
        first.process.signal(signal.SIGSTOP)
        stopped = time.monotonic()
        await on.end(on.data_center(1))
        await on.settle()
        assert second.door.mutations, "who has replaced it?"
        first.process.signal(signal.SIGCONT)
        async with asyncio.timeout(TAKEOVER_SECONDS):
            code = await first.process.ended
        assert code > 0, f"the first ended with {code}"
        await on.rest()
        assert not [str(call) for call in first.door.mutations if call.at > stopped]


async def test_a_leader_that_is_cut_off_pauses_and_then_leaves(lab: Lab) -> None:
    async with stage(lab, "a leader without an API server") as on:
        first, second = await elected(on)
        first.wanted = False
        first.door.schedule = Closed()
        cut = time.monotonic()
        await on.end(on.data_center(1))
        await on.settle()
        assert second.door.mutations, "who has replaced it?"
        first.door.schedule = None
        assert first.process is not None
        async with asyncio.timeout(TAKEOVER_SECONDS):
            code = await first.process.ended
        assert code > 0, f"the first ended with {code}"
        await on.rest()
        assert not [str(call) for call in first.door.mutations if call.at > cut and call.committed]


async def test_a_leader_that_dies_is_followed(lab: Lab) -> None:
    async with stage(lab, "a dead leader") as on:
        first, second = await elected(on)
        assert not second.door.mutations, "the second has acted while the first led"
        await on.stop(first)
        await on.end(on.data_center(1))
        await on.settle()
        await on.rest()
