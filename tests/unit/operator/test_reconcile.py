"""The loop, once: in which order it writes, and what is left when a write fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from builders import NOW
from elf_operator.assignment import FIRST_START_SECONDS
from elf_operator.builders import Defaults, Manifest
from elf_operator.planner import plan
from elf_operator.plans import Delete
from elf_operator.reconcile import FIRST_BATCH, LARGEST_BATCH, RefusedError
from fakes import CrashError, FakeCluster, World, settle
from pods import AUTHORITY


def settled() -> World:
    world = World()
    settle(world)
    world.train(round=3)
    settle(world)
    world.writes.clear()
    return world


def kill_mdc(world: World) -> None:
    world.become("sleigh-mdc-1-0", phase="Failed", ready=False, exit_code=137)


def lose_npdc(world: World) -> None:
    del world.pods["sleigh-npdc-0"]


def suspend(world: World) -> None:
    world.suspend(True)


def shrink(world: World) -> None:
    world.edit(miniDataCenters={"replicas": 1})


def fail_home(world: World) -> None:
    world.become("sleigh-home-1", phase="Failed", ready=False, exit_code=1)


def never_begun(world: World) -> None:
    """The spec is broken before the first round is done."""
    world.train(round=0)
    world.body["spec"]["rounds"] = 0


async def test_a_job_that_is_gone_is_left_alone() -> None:
    world = World()
    cluster = FakeCluster(world, gone=True)
    assert await cluster.reconcile() is None
    assert world.writes == []


async def test_a_settled_job_gets_no_writes() -> None:
    world = settled()
    assert await FakeCluster(world).reconcile() is None
    assert world.writes == [] and world.events == []


async def test_fences_come_first_and_the_status_last() -> None:
    world = settled()
    kill_mdc(world)
    await FakeCluster(world).reconcile()
    assert world.writes == [
        "apply ConfigMap",
        "delete sleigh-mdc-1-0",
        "create sleigh-mdc-1-1",
        "write status",
    ]
    assert [e.reason for e in world.events] == ["ContainerKilled"]


async def test_the_npdcs_part_of_the_status_is_left_alone() -> None:
    world = settled()
    kill_mdc(world)
    await FakeCluster(world).reconcile()
    assert world.status["training"]["round"] == 3 and world.status["state"] == "Degraded"


async def test_it_says_when_to_look_again() -> None:
    world = World()
    cluster = FakeCluster(world)
    await cluster.reconcile()
    assert await cluster.reconcile() == FIRST_START_SECONDS
    world.now = NOW + 20.0
    assert await cluster.reconcile() == FIRST_START_SECONDS - 20.0


async def test_when_a_fence_cannot_be_written_nothing_else_is() -> None:
    world = settled()
    kill_mdc(world)
    with pytest.raises(CrashError):
        await FakeCluster(world, fail_at=0).reconcile()
    assert world.writes == [] and world.events == []


async def test_one_deletion_that_fails_does_not_hold_up_the_others_but_the_creations() -> None:
    world = settled()
    kill_mdc(world)
    fail_home(world)
    with pytest.raises(CrashError):
        await FakeCluster(world, fail_at=1, dead=False).reconcile()
    assert world.writes == ["apply ConfigMap", "delete sleigh-home-1"]


async def test_what_the_cluster_refuses_is_said_where_people_look() -> None:
    world = World()
    cluster = FakeCluster(world, refuses="Pod sleigh-npdc-0: exceeded quota")
    for _ in range(2):
        with pytest.raises(RefusedError):
            await cluster.reconcile()
    (ready,) = [c for c in world.status["conditions"] if c["type"] == "Ready"]
    assert (ready["reason"], ready["message"]) == ("Refused", "Pod sleigh-npdc-0: exceeded quota")
    assert {(e.reason, e.message) for e in world.events} == {("Refused", "Pod sleigh-npdc-0: exceeded quota")}
    assert world.writes.count("write status") == 1, "it is not written again while nothing has changed"
    cluster.refuses = ""
    await cluster.reconcile()
    (ready,) = [c for c in world.status["conditions"] if c["type"] == "Ready"]
    assert ready["reason"] == "Starting"


SPOILERS = [kill_mdc, lose_npdc, suspend, shrink, fail_home, never_begun]


@pytest.mark.parametrize("dead", [True, False], ids=["the operator dies", "one call fails"])
@pytest.mark.parametrize("after", [False, True], ids=["before it is done", "after it is done"])
@pytest.mark.parametrize("spoil", [None, *SPOILERS], ids=lambda f: f.__name__ if f else "first_start")
async def test_whichever_write_fails_the_end_is_the_same(
    spoil: Callable[[World], None] | None, after: bool, dead: bool
) -> None:
    writes, expected = await end_of(spoil, FakeCluster(World()))
    assert writes > 1
    for number in range(writes):
        _, reached = await end_of(spoil, FakeCluster(World(), fail_at=number, after=after, dead=dead))
        assert reached == expected, f"write {number} failed"


async def end_of(spoil: Callable[[World], None] | None, cluster: FakeCluster) -> tuple[int, dict[str, Any]]:
    """Spoil a settled (None: an empty) world, reconcile once on the bad cluster, settle; what is then."""
    world = cluster.world = settled() if spoil else World()
    if spoil:
        spoil(world)
    try:
        await cluster.reconcile()
    except CrashError:
        assert cluster.fail_at is not None
    settle(world)
    wiring = world.wiring()
    told = {key: world.status[key] for key in ("state", "replaced", "homes", "miniDataCenters", "northPole")}
    homes = wiring.home_of() if wiring else {}
    return cluster.count, {"pods": set(world.pods), "objects": set(world.objects), "homes": homes} | told


async def test_a_failed_status_is_written_by_the_next_pass() -> None:
    world = World()
    reference = World()
    await FakeCluster(reference).reconcile()
    with pytest.raises(CrashError):
        await FakeCluster(world, fail_at=len(reference.writes) - 1).reconcile()
    assert world.status == {}
    await FakeCluster(world).reconcile()
    assert world.status["state"] == "Pending"


@dataclass
class SlowCluster(FakeCluster):
    """Its calls take a while."""

    refuses: bool = False
    tried: int = 0

    async def create_pod(self, manifest: Manifest) -> None:
        self.tried += 1
        await asyncio.sleep(0)
        if self.refuses:
            raise CrashError("no more pods")
        await super().create_pod(manifest)

    async def delete_pod(self, namespace: str, delete: Delete) -> None:
        if delete.name.startswith("sleigh-home"):
            await asyncio.sleep(0.01)
        elif self.refuses:
            raise CrashError("not this one")
        await super().delete_pod(namespace, delete)


@dataclass
class Stepwise(FakeCluster):
    """Its Secrets and pods wait until they are let go; it notes what was begun."""

    begun: list[str] = field(default_factory=list)
    waiting: dict[str, asyncio.Event] = field(default_factory=dict)
    breaks: str = ""
    """The name of what fails, once."""

    async def apply(self, manifest: Manifest) -> None:
        if manifest["kind"] == "Secret":
            await self._pause(manifest["metadata"]["name"])
        await super().apply(manifest)

    async def create_pod(self, manifest: Manifest) -> None:
        await self._pause(manifest["metadata"]["name"])
        await super().create_pod(manifest)

    async def _pause(self, name: str) -> None:
        self.begun.append(name)
        self.waiting[name] = asyncio.Event()
        await self.waiting[name].wait()
        del self.waiting[name]
        if name == self.breaks:
            self.breaks = ""
            raise CrashError(name)

    async def quiet(self) -> list[str]:
        """What is under way when nothing more begins by itself."""
        for _ in range(20):
            await asyncio.sleep(0)
        return list(self.waiting)

    def let_go(self, *which: str) -> None:
        for name in which:
            self.waiting[name].set()

    async def finish(self, work: asyncio.Task[Any]) -> None:
        """Let everything go until it is over. Raises what the work raises."""
        while not work.done():
            self.let_go(*await self.quiet())
        await work


def large() -> World:
    world = World()
    world.edit(homes={"replicas": 200})
    return world


async def test_more_pods_are_under_way_with_each_that_is_there() -> None:
    cluster = Stepwise(large())
    work = asyncio.create_task(cluster.reconcile())
    under_way = []
    while there := await cluster.quiet():
        under_way.append(len(there))
        cluster.let_go(*there)
    await work
    assert under_way == [4, 8, 16, 32, 64, 64, 15]
    assert (FIRST_BATCH, LARGEST_BATCH) == (4, 64)
    assert len(cluster.world.pods) == len(cluster.begun) == 203


async def test_a_pod_that_is_slow_does_not_hold_up_the_others() -> None:
    cluster = Stepwise(large())
    work = asyncio.create_task(cluster.reconcile())
    while others := set(await cluster.quiet()) - {"sleigh-npdc-0"}:
        cluster.let_go(*others)
    assert len(cluster.world.pods) == 202
    await cluster.finish(work)


async def test_a_server_that_refuses_is_asked_for_few_pods() -> None:
    cluster = SlowCluster(large(), refuses=True)
    with pytest.raises(CrashError):
        await cluster.reconcile()
    assert cluster.tried == FIRST_BATCH


async def test_an_error_is_raised_only_when_everything_begun_is_done() -> None:
    """Nothing goes on in the background while the next pass already looks."""
    world = settled()
    kill_mdc(world)
    fail_home(world)
    with pytest.raises(CrashError):
        await SlowCluster(world, refuses=True).reconcile()
    assert world.pods["sleigh-home-1"].deleting


# -- Secrets and the pods that need them --------------------------------------------------------------------

SECURED = Defaults(authority=AUTHORITY)


def crowd() -> World:
    """Its homes' pods share three Secrets."""
    world = World(defaults=SECURED)
    world.edit(homes={"replicas": 130})
    return world


def secret_of(world: World, pod: str) -> str:
    """The Secret with the identity of a pod that the plan creates."""
    [create] = [c for c in plan(world.observe(), NOW, SECURED).create if named(c.manifest) == pod]
    [found] = [v["secret"]["secretName"] for v in create.manifest["spec"]["volumes"] if "secret" in v]
    assert found in create.needs
    return str(found)


def named(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def homes(index: int) -> str:
    return f"sleigh-home-{index}"


async def test_a_pod_is_created_when_its_secret_is_there_and_need_not_wait_for_others() -> None:
    world = crowd()
    first, last = secret_of(world, homes(0)), secret_of(world, homes(129))
    cluster = Stepwise(world)
    work = asyncio.create_task(cluster.reconcile())
    while others := set(await cluster.quiet()) - {first}:
        cluster.let_go(*others)
    there = {pod for pod in world.pods if "home" in pod}
    assert there == set(), "the pods that need it fill all the room"
    assert ("Secret", secret_of(World(defaults=SECURED), "sleigh-mdc-1-0")) in world.objects
    assert "sleigh-npdc-0" in world.pods and "sleigh-mdc-1-0" in world.pods
    cluster.let_go(first)
    while others := set(await cluster.quiet()) - {last}:
        cluster.let_go(*others)
    there = {pod for pod in world.pods if "home" in pod}
    assert there == {homes(i) for i in range(128)}
    await cluster.finish(work)
    assert len(world.pods) == 133


async def test_a_secret_is_made_when_it_is_sent_and_while_earlier_pods_are_under_way() -> None:
    world = crowd()
    cluster = Stepwise(world)
    await cluster.finish(asyncio.create_task(cluster.reconcile()))
    order = cluster.begun
    second, third = (order.index(secret_of(crowd(), homes(i))) for i in (64, 128))
    assert order.index("sleigh-npdc-0") < second, "the first pods do not wait for all Secrets"
    assert second < order.index(homes(0)), "one is ahead"
    assert order.index(homes(63)) < third < order.index(homes(64))


async def test_without_its_secret_a_pod_is_not_tried_and_the_next_pass_makes_both() -> None:
    world = crowd()
    lost = secret_of(world, homes(64))
    cluster = Stepwise(world, breaks=lost)
    work = asyncio.create_task(cluster.reconcile())
    while others := set(await cluster.quiet()) - {lost}:
        cluster.let_go(*others)
    assert homes(63) in world.pods, "those that need it fill all the room"
    with pytest.raises(CrashError, match=lost):
        await cluster.finish(work)
    assert not [name for name in cluster.begun if name in {homes(i) for i in range(64, 128)}]
    assert ("Secret", lost) not in world.objects
    await cluster.finish(asyncio.create_task(cluster.reconcile()))
    assert ("Secret", lost) in world.objects and len(world.pods) == 133


@pytest.mark.parametrize("dead", [True, False], ids=["the operator dies", "one call fails"])
@pytest.mark.parametrize("after", [False, True], ids=["before it is done", "after it is done"])
async def test_between_secrets_and_pods_any_write_may_fail(after: bool, dead: bool) -> None:
    """`World` refuses a pod whose Secret is not there."""
    reference = World(defaults=SECURED)
    await FakeCluster(reference).reconcile()
    for number in range(len(reference.writes)):
        world = World(defaults=SECURED)
        with pytest.raises(CrashError):
            await FakeCluster(world, fail_at=number, after=after, dead=dead).reconcile()
        await FakeCluster(world).reconcile()
        assert (set(world.pods), set(world.objects)) == (set(reference.pods), set(reference.objects))


async def test_a_stop_amid_secrets_leaves_nothing_running() -> None:
    cluster = Stepwise(crowd())
    work = asyncio.create_task(cluster.reconcile())
    await cluster.quiet()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    before = list(cluster.world.writes)
    cluster.let_go(*cluster.waiting)
    await cluster.quiet()
    assert cluster.world.writes == before
