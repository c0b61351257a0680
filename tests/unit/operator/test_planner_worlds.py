"""The planner in simulated worlds: wherever the operator dies and whatever happens, the end is the same."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from builders import decide
from elf_operator.observation import Observation, Pod
from elf_operator.plans import Plan
from elf_operator.situation import ALL_SERVE
from elf_worker.contract import Role, parse_ids
from fakes import World, carry_out, settle

# -- no fault, no replacement -------------------------------------------------------------------------------


def started_unseen() -> World:
    """All pods exist, but no plan has seen them yet."""
    world = World()
    carry_out(world, decide(world.observe(), world.now))
    return world


def test_suspend_and_resume_is_no_replacement() -> None:
    world = World()
    settle(world)
    world.suspend(True)
    settle(world)
    assert world.pods == {}
    world.suspend(False)
    settle(world)
    assert world.status["replaced"] == 0 and world.status["lastReplacements"] == []
    assert {"sleigh-npdc-1", "sleigh-mdc-0-1", "sleigh-mdc-1-1"} < set(world.pods)


def test_suspend_right_after_the_start_and_resume_at_once_is_no_replacement() -> None:
    world = started_unseen()
    world.suspend(True)
    carry_out(world, decide(world.observe(), world.now))
    world.suspend(False)
    settle(world)
    assert world.status["replaced"] == 0


def test_fewer_mdcs_right_after_the_start_and_more_again_at_once_is_no_replacement() -> None:
    world = started_unseen()
    world.edit(miniDataCenters={"replicas": 1})
    carry_out(world, decide(world.observe(), world.now))
    world.edit(miniDataCenters={"replicas": 2})
    settle(world)
    assert world.status["replaced"] == 0


# -- every place where the operator may die -----------------------------------------------------------------


def spoil_nothing(world: World) -> None:
    pass


def kill_mdc(world: World) -> None:
    world.become("sleigh-mdc-1-0", phase="Failed", ready=False, exit_code=137)


def lose_npdc(world: World) -> None:
    del world.pods["sleigh-npdc-0"]


def lose_all(world: World) -> None:
    world.pods.clear()


def suspend(world: World) -> None:
    world.suspend(True)


def grow(world: World) -> None:
    world.edit(miniDataCenters={"replicas": 3})


def shrink(world: World) -> None:
    world.edit(miniDataCenters={"replicas": 1})


def more_homes(world: World) -> None:
    world.edit(homes={"replicas": 7})


def fewer_homes(world: World) -> None:
    world.edit(homes={"replicas": 2})


def fail_home(world: World) -> None:
    world.become("sleigh-home-1", phase="Failed", ready=False, exit_code=1)


SPOILERS = [spoil_nothing, kill_mdc, lose_npdc, lose_all, suspend, grow, shrink, fail_home]
SPOILERS += [more_homes, fewer_homes]


def end_of(spoil: Callable[[World], None] | None, calls: int | None) -> tuple[bool, dict[str, object]]:
    """Spoil a settled (None: an empty) world, plan once, die after so many calls, settle; what is then."""
    world = World()
    if spoil is not None:
        settle(world)
        world.train(round=3)
        spoil(world)
    whole = carry_out(world, decide(world.observe(), world.now), calls)
    settle(world)
    wiring = world.wiring()
    told = {k: world.status[k] for k in ("state", "homes", "miniDataCenters", "northPole", "assignments")}
    return whole, {"pods": set(world.pods), "npdc": wiring.npdc.replaced, "homes": wiring.home_of()} | told


@pytest.mark.parametrize("spoil", [None, *SPOILERS], ids=lambda f: f.__name__ if f else "first_start")
def test_wherever_the_operator_dies_the_end_is_the_same(spoil: Callable[[World], None] | None) -> None:
    _, expected = end_of(spoil, calls=None)
    whole, calls = False, 0
    while not whole:
        whole, reached = end_of(spoil, calls)
        assert reached == expected, f"died after {calls} calls"
        calls += 1


# -- whatever happens, in any order -------------------------------------------------------------------------


class AnyWorld(RuleBasedStateMachine):
    """Faults, edits and an operator that dies anywhere. `World` holds the oracle over every single write."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.world.edit(failurePolicy={"maxReplacements": 1000})

    @initialize(
        homes=st.integers(3, 7), per_pod=st.integers(1, 2), mdcs=st.integers(1, 3), nodes=st.integers(0, 3)
    )
    def begin(self, homes: int, per_pod: int, mdcs: int, nodes: int) -> None:
        self.world.nodes = tuple(f"node-{i}" for i in range(nodes))
        self.world.edit(homes={"replicas": homes, "perPod": per_pod}, miniDataCenters={"replicas": mdcs})

    @rule(calls=st.none() | st.integers(0, 12))
    def operate(self, calls: int | None) -> None:
        """One pass of the operator, which may die after so many calls."""
        seen = self.world.observe()
        decided = decide(seen, self.world.now)
        self.check_words(seen, decided)
        carry_out(self.world, decided, calls)

    @rule(seconds=st.sampled_from([0.5, 10.0, 70.0]))
    def wait(self, seconds: float) -> None:
        self.world.now += seconds

    @rule(data=st.data())
    def serve(self, data: st.DataObject) -> None:
        pods = [p.name for p in self.world.pods.values() if not p.over and not p.deleting]
        if pods:
            self.world.run(data.draw(st.sampled_from(sorted(pods))))

    @precondition(lambda self: self.world.nodes)
    @rule(data=st.data())
    def bind(self, data: st.DataObject) -> None:
        """The scheduler heeds no wish."""
        pods = [p for p in self.world.pods.values() if not p.node]
        self.happen(data, pods, node=data.draw(st.sampled_from(self.world.nodes)), phase="Running")

    @precondition(lambda self: self.world.nodes)
    @rule(data=st.data())
    def cordon(self, data: st.DataObject) -> None:
        *most, _ = self.world.nodes
        self.world.cordoned = data.draw(st.frozensets(st.sampled_from(most))) if most else frozenset()

    @precondition(lambda self: self.world.nodes and self.world.wiring())
    @rule()
    def report(self) -> None:
        """The NPDC says who serves, and who has copies; by now it may have taken heirs over."""
        wiring = self.world.wiring()
        assert wiring is not None
        self.world.train(phase="Training", round=3, incarnation=wiring.npdc.incarnation)
        self.world.hear()

    @precondition(lambda self: self.world.nodes)
    @rule(data=st.data())
    def copy(self, data: st.DataObject) -> None:
        """Some MDCs hold copies, whatever the NPDC may have been thinking."""
        mdcs = sorted({(p.index, p.incarnation) for p in self.world.pods.values() if p.role is Role.MDC})
        held = data.draw(st.sets(st.sampled_from(mdcs))) if mdcs else set()
        self.world.train(copies=[{"mdc": index, "incarnation": number} for index, number in sorted(held)])

    @rule(data=st.data(), fate=st.sampled_from(["failed", "oom", "left", "waiting", "not ready", "deleted"]))
    def suffer(self, data: st.DataObject, fate: str) -> None:
        fields = {
            "failed": {"phase": "Failed", "ready": False, "exit_code": 1},
            "oom": {"phase": "Failed", "ready": False, "exit_code": 137, "exit_reason": "OOMKilled"},
            "left": {"phase": "Succeeded", "ready": False, "exit_code": 0},
            "waiting": {"ready": False, "waiting": "ImagePullBackOff"},
            "not ready": {"ready": False},
            "deleted": {"deleting": True, "ready": False},
        }[fate]
        self.happen(data, [p for p in self.world.pods.values() if not p.over], **fields)

    @rule(data=st.data())
    def vanish_one(self, data: st.DataObject) -> None:
        if self.world.pods:
            del self.world.pods[data.draw(st.sampled_from(sorted(self.world.pods)))]

    @rule()
    def vanish_deleted(self) -> None:
        self.world.vanish()

    @rule()
    def vanish_all(self) -> None:
        self.world.pods.clear()

    @rule(data=st.data())
    def unreachable(self, data: st.DataObject) -> None:
        """The NPDC hears nothing from an MDC, or from one that is gone already."""
        uids = sorted([p.uid for p in self.world.pods.values() if p.role is Role.MDC] + ["uid-long-gone"])
        self.world.train(phase="Training", round=3, unreachable=[{"uid": data.draw(st.sampled_from(uids))}])

    @rule(on=st.booleans())
    def suspend(self, on: bool) -> None:
        self.world.suspend(on)

    @rule(mdcs=st.integers(1, 3))
    def scale(self, mdcs: int) -> None:
        self.world.edit(miniDataCenters={"replicas": mdcs})

    @rule(homes=st.integers(3, 9))
    def scale_homes(self, homes: int) -> None:
        self.world.edit(homes={"replicas": homes})

    @rule(homes=st.integers(3, 9))
    def begin_round(self, homes: int) -> None:
        """The NPDC says how many homes its round has: those of some wiring, perhaps an old one."""
        self.world.train(homes=homes)

    @rule()
    def lose_service(self) -> None:
        self.world.objects.pop(("Service", "sleigh-npdc"), None)

    @precondition(lambda self: self.world.writes)
    @rule()
    def come_to_rest(self) -> None:
        settle(self.world)
        if self.world.body["spec"].get("suspend"):
            assert not self.world.pods
        else:
            self.check_served()
            self.check_spread()
        decided = decide(self.world.observe(), self.world.now)
        assert decided.idle and not decided.events
        assert decided.status == {k: v for k, v in self.world.status.items() if k != "training"}

    def check_served(self) -> None:
        """Each pod that should be there is there once and is current; each home has its MDC."""
        spec, wiring = self.world.body["spec"], self.world.wiring()
        assert wiring is not None
        homes, mdcs = spec["homes"]["replicas"], spec["miniDataCenters"]["replicas"]
        assert sorted(wiring.home_of()) == list(range(homes))
        loads = [len(wiring.mdcs[i].homes) for i in range(mdcs)]
        assert max(loads) - min(loads) <= 1
        current = {wiring.npdc.uid, *(wiring.mdcs[i].uid for i in range(mdcs))}
        centers = [p for p in self.world.pods.values() if p.role is not Role.HOME]
        assert {p.uid for p in centers} == current and len(centers) == mdcs + 1
        holders = sorted((p.index, p.homes) for p in self.world.pods.values() if p.role is Role.HOME)
        assert [index for index, _ in holders] == list(range(-(-homes // spec["homes"]["perPod"])))
        assert [h for _, held in holders for h in sorted(parse_ids(held))] == list(range(homes))
        assert (wiring.homes, wiring.quorum, wiring.expected) == (homes, homes, homes)
        assert self.world.status["state"] in ("Running", "Pending")
        selector = self.world.objects["Service", "sleigh-npdc"]["spec"]["selector"]
        assert selector["northpole.dev/incarnation"] == str(wiring.npdc.incarnation)

    def check_spread(self) -> None:
        """The state is on several nodes, or there is no other that takes pods."""
        nodes = self.world.state_nodes()
        assert len(nodes) != 1 or set(self.world.nodes) - self.world.cordoned <= nodes
        assert len(nodes) > 0 or not self.world.nodes

    def check_words(self, seen: Observation, decided: Plan) -> None:
        """An MDC that does not serve is passed over in no condition."""
        serve = {p.index for p in seen.of(Role.MDC) if p.ready and not p.deleting and not p.over}
        if not serve >= set(range(self.world.body["spec"]["miniDataCenters"]["replicas"])):
            assert ALL_SERVE not in str(decided.status["conditions"])

    @invariant()
    def generations_are_not_overstated(self) -> None:
        seen = self.world.status.get("observedGeneration", 0)
        assert seen <= self.world.body["metadata"]["generation"]

    def happen(self, data: st.DataObject, pods: list[Pod], **fields: object) -> None:
        if pods:
            names = sorted(pod.name for pod in pods)
            self.world.become(data.draw(st.sampled_from(names)), **fields)


TestAnyWorld = AnyWorld.TestCase
TestAnyWorld.settings = settings(max_examples=100, stateful_step_count=50, deadline=None, derandomize=True)
