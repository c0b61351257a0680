"""Where all copies of the state are on one node: a sentence a row, a whole move, an attempt that fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from builders import (
    NOW,
    actions,
    condition,
    decide,
    pod,
    settled,
    valid,
    wiring_of,
    with_pod,
    with_spec,
    with_training,
    without,
    written,
)
from elf_operator.assignment import zones_of
from elf_operator.observation import Observation
from elf_operator.progress import acted_on
from elf_operator.spreading import LONGEST_WAIT_SECONDS, START_SECONDS
from elf_worker.contract import Role, Wiring
from fakes import World, carry_out, settle

MDC, HEIR, NPDC = "sleigh-mdc-1-0", "sleigh-mdc-1-1", "sleigh-npdc-0"
START, STOP = [f"create {HEIR}"], ["apply ConfigMap", f"delete {HEIR}"]
HEIR_POD = pod(Role.MDC, 1, 1)
DEAD = {"phase": "Failed", "ready": False, "exit_code": 1}


def copies(*held: tuple[int, int]) -> dict[str, Any]:
    """What the NPDC says of MDCs, (index, incarnation), that hold copies."""
    return {"copies": [{"mdc": index, "incarnation": number} for index, number in held]}


def alone(**training: Any) -> Observation:
    """Everything is on n1, and there is a node n2 that takes pods."""
    seen = settled(copies((0, 0), (1, 0)) | training)
    seen = replace(seen, open_nodes=frozenset({"n1", "n2"}))
    return written(seen, decide(replace(seen, open_nodes=frozenset({"n1"}))))


def trying(**heir: Any) -> Observation:
    """A successor of MDC 1 has been created a moment ago."""
    usual = {"phase": "Pending", "ready": False, "node": "", "created": NOW - 1}
    return replace(alone(), pods=(*alone().pods, pod(Role.MDC, 1, 1, **usual | heir)))


def moving(**heir: Any) -> Observation:
    """The successor is named and may take over."""
    seen = trying(**{"phase": "Running", "node": "n2"} | heir)
    wiring = wiring_of(decide(trying(phase="Running", node="n2")))
    return replace(seen, wiring=wiring)


def tried(count: int, after: float = 0.0) -> Callable[[], Observation]:
    """So many attempts have failed."""
    return lambda: rewired(trying(phase="Pending", unschedulable="no room"), count, after)


def rewired(seen: Observation, count: int, after: float) -> Observation:
    assert seen.wiring is not None
    return replace(seen, wiring=replace(seen.wiring, failed_moves=count, move_after=after))


ROWS: dict[str, tuple[Callable[[], Observation], list[str], str]] = {
    "all is on one node: a successor is created": (alone, START, "a successor of MDC 1 is started"),
    "nodes are not watched: it is tried": (lambda: replace(alone(), open_nodes=None), START, ""),
    "no other node takes pods": (
        lambda: replace(alone(), open_nodes=frozenset({"n1"})),
        [],
        "no other node takes pods",
    ),
    "a copy is elsewhere": (lambda: with_pod(alone(), MDC, node="n2"), [], "the state is on nodes n1, n2"),
    "an MDC is elsewhere and gets its copy soon": (
        lambda: with_training(with_pod(alone(), MDC, node="n2"), **copies((0, 0))),
        [],
        f"{MDC} on node n2 is to get a copy",
    ),
    "an attempt has failed a moment ago": (
        lambda: rewired(alone(), 1, NOW + 5),
        [],
        "no other node had room; tried again at 2023-11-14T22:13:25Z",
    ),
    "an attempt has failed long ago": (lambda: rewired(alone(), 1, NOW), START, ""),
    "another MDC does not serve": (
        lambda: with_pod(alone(), "sleigh-mdc-0-0", ready=False, created=NOW - 1),
        [],
        "other data centers are being replaced",
    ),
    "the successor has no node yet": (trying, [], f"{HEIR} starts on another node"),
    "the successor is being pulled": (lambda: trying(node="n2"), [], f"{HEIR} starts on n2"),
    "the successor is on the same node": (lambda: trying(node="n1"), STOP, f"{HEIR} got no other node"),
    "the successor finds no node": (lambda: trying(unschedulable="full"), STOP, f"{HEIR}: full"),
    "the successor has failed": (lambda: trying(**DEAD, node="n2"), STOP, f"{HEIR} ended with exit code 1"),
    "the successor does not get to run": (
        lambda: trying(node="n2", created=NOW - START_SECONDS),
        STOP,
        f"{HEIR} got no other node",
    ),
    "the successor's node is lost: that is no lack of room": (
        lambda: replace(trying(node="n2", deleting=True), lost_nodes=frozenset({"n2"})),
        [f"delete {HEIR}"],
        "node n2 is lost",
    ),
    "the successor goes already": (lambda: trying(deleting=True), [], f"{HEIR} is being deleted"),
    "the successor runs: the wiring names it": (
        lambda: trying(phase="Running", node="n2"),
        ["apply ConfigMap"],
        f"{HEIR} starts on n2",
    ),
    "the successor runs, and the operator was away for an hour": (
        lambda: trying(phase="Running", node="n2", created=NOW - 3600.0, ready_changed=NOW - 9),
        ["apply ConfigMap"],
        "",
    ),
    "the state is on several nodes again": (
        lambda: with_pod(trying(), "sleigh-mdc-0-0", node="n3"),
        [f"delete {HEIR}"],
        "the state is on nodes n1, n3",
    ),
    "it has not taken over": (moving, [], "an MDC is about to take over on another node"),
    "it has taken over, as the NPDC says": (
        lambda: with_training(moving(), serving=[{"mdc": 1, "incarnation": 1}], **copies((0, 0), (1, 1))),
        ["apply ConfigMap", f"delete {MDC}"],
        "the state is on nodes n1, n2",
    ),
    "it has taken over, as its probe says": (
        lambda: moving(ready=True),
        ["apply ConfigMap", f"delete {MDC}"],
        "",
    ),
    "its predecessor dies before it has taken over": (
        lambda: with_pod(moving(), MDC, **DEAD),
        ["apply ConfigMap", f"delete {MDC}"],
        "",
    ),
    "the MDC fails while its successor starts: that is its successor": (
        lambda: with_pod(trying(node="n2"), MDC, **DEAD),
        ["apply ConfigMap", f"delete {MDC}"],
        "",
    ),
    "the MDC is gone while its successor starts": (lambda: without(trying(), MDC), ["apply ConfigMap"], ""),
    "the MDC fails, and its successor has failed too": (
        lambda: with_pod(with_pod(trying(node="n2"), MDC, **DEAD), HEIR, **DEAD),
        ["apply ConfigMap", f"delete {MDC}", f"delete {HEIR}", "create sleigh-mdc-1-2"],
        "",
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_what_is_done(row: str) -> None:
    seen, expected, said = ROWS[row]
    decided = decide(seen())
    assert actions(decided) == expected
    if said:
        assert said in condition(decided.status, "Durable")["message"]
    # A failure of what acts counts; a move, or an attempt at one, does not. A named heir takes over alone.
    assert len(decided.replaced) == ("MDC fails" in row or "MDC is gone" in row)


@pytest.mark.parametrize(
    "training",
    [{}, {"incarnation": 3, **copies((0, 0))}, copies((1, 7))],
    ids=["no word", "another's word", "of the dead"],
)
def test_where_the_state_is_not_known_nothing_is_said(training: Mapping[str, Any]) -> None:
    seen = replace(settled(training), open_nodes=frozenset({"n1", "n2"}))
    assert actions(decide(seen)) == []
    assert "Durable" not in [c["type"] for c in decide(seen).status["conditions"]]


def test_a_successor_would_rather_not_be_where_the_state_is() -> None:
    (create,) = decide(alone()).create
    preferred = create.manifest["spec"]["affinity"]["nodeAffinity"]
    (term,) = preferred["preferredDuringSchedulingIgnoredDuringExecution"]
    assert term["preference"]["matchExpressions"][0]["values"] == ["n1"]


@pytest.mark.parametrize(
    ("before", "wait"), [(0, 60.0), (1, 120.0), (5, 1920.0), (6, LONGEST_WAIT_SECONDS), (5000, 3600.0)]
)
def test_each_attempt_that_fails_makes_the_next_wait_longer(before: int, wait: float) -> None:
    decided = decide(tried(before)())
    wiring = wiring_of(decided)
    assert wiring is not None
    assert (wiring.failed_moves, wiring.move_after) == (before + 1, NOW + wait)
    assert not decided.replaced and decided.again_after is not None and decided.again_after <= wait


def test_what_a_slot_keeps_when_it_is_handed_over() -> None:
    before, after = alone().wiring, moving().wiring
    assert isinstance(before, Wiring) and isinstance(after, Wiring)
    old, new = before.mdcs[1], after.mdcs[1]
    assert (new.incarnation, new.uid, new.predecessor) == (1, f"uid-{HEIR}", f"uid-{MDC}")
    assert (new.homes, new.replaced, new.failures) == (old.homes, old.replaced, old.failures)
    assert after.mdcs[0] == before.mdcs[0]


def test_an_mdc_that_moves_is_ready_all_the_time() -> None:
    told = decide(moving()).status
    assert told["miniDataCenters"]["summary"] == "2/2" and condition(told, "Ready")["status"] == "True"
    heard = with_training(moving(), serving=[{"mdc": i, "incarnation": 0} for i in (0, 1)])
    assert condition(decide(heard).status, "Ready")["status"] == "True"
    neither = with_training(moving(), serving=[{"mdc": 0, "incarnation": 0}])
    assert "no connection to MDC 1" in condition(decide(neither).status, "Ready")["message"]


def test_a_failure_while_a_successor_starts_makes_it_the_pod_of_the_slot_at_once() -> None:
    seen = with_pod(trying(node="n2"), MDC, **DEAD, created=NOW - 5)
    assert seen.wiring is not None
    often = replace(seen.wiring.mdcs[1], failures=9)
    seen = replace(seen, wiring=replace(seen.wiring, mdcs={**seen.wiring.mdcs, 1: often}))
    wiring = wiring_of(decide(seen))
    assert wiring is not None
    slot = wiring.mdcs[1]
    assert (slot.incarnation, slot.uid, slot.not_before, slot.replaced) == (1, f"uid-{HEIR}", 0.0, 1)


def test_a_successor_that_is_tried_changes_no_zone() -> None:
    seen = replace(trying(node="n2"), zones={"n1": "east", "n2": "west"})
    assert actions(decide(seen)) == []
    assert zones_of(seen, valid(seen.job)).mdcs == {0: "east", 1: "east"}
    named = replace(seen, wiring=moving().wiring)
    assert zones_of(named, valid(seen.job)).mdcs == {0: "east", 1: "west"}


@pytest.mark.parametrize("homes", [{0, 1, 4}, {1, 3, 4}, {2, 3}])
def test_homes_stay_with_a_slot_that_is_handed_over(homes: set[int]) -> None:
    seen = settled(copies((0, 0), (1, 0)), homes={"replicas": 5})
    seen = replace(seen, pods=(*seen.pods, replace(HEIR_POD, ready=False, created=NOW - 1, node="n2")))
    assert seen.wiring is not None
    shares = {0: frozenset(range(5)) - homes, 1: frozenset(homes)}
    slots = {i: replace(s, homes=shares[i]) for i, s in seen.wiring.mdcs.items()}
    wiring = wiring_of(decide(replace(seen, wiring=replace(seen.wiring, mdcs=slots))))
    assert wiring is not None and {i: s.homes for i, s in wiring.mdcs.items()} == shares
    assert wiring.mdcs[1].uid == HEIR_POD.uid


@pytest.mark.parametrize("spec", [{"suspend": True}, {"miniDataCenters": {"replicas": 1}}], ids=str)
def test_who_is_not_wanted_any_more_has_no_predecessor_either(spec: dict[str, Any]) -> None:
    decided = decide(with_spec(moving(), **spec))
    wiring = wiring_of(decided)
    assert wiring is not None
    assert (wiring.mdcs[1].uid, wiring.mdcs[1].predecessor, wiring.mdcs[1].incarnation) == ("", "", 2)
    assert {MDC, HEIR} <= {d.name for d in decided.delete}


def test_where_copies_are_is_worth_a_look() -> None:
    assert acted_on(copies((0, 0))) != acted_on(copies((0, 0), (1, 0))) != acted_on(copies((1, 0)))


def test_a_whole_move() -> None:
    world = World(nodes=("n1",))
    settle(world)
    world.train(round=3)
    settle(world)
    assert condition(world.status, "Durable")["reason"] == "OnOneNode"
    before = world.wiring()
    assert before is not None
    world.nodes = ("n1", "n2")

    def step() -> list[str]:
        decided = decide(world.observe(), world.now)
        carry_out(world, decided)
        assert not decided.replaced and world.status["replaced"] == 0
        return actions(decided)

    assert step() == START
    assert step() == []
    world.run(HEIR)
    assert step() == ["apply ConfigMap"]
    assert step() == [], "it has not taken over"
    world.run(HEIR)
    world.hear()
    assert step() == ["apply ConfigMap", f"delete {MDC}"]
    world.vanish()
    assert step() == [] and decide(world.observe(), world.now).idle
    after = world.wiring()
    assert after is not None and after.home_of() == before.home_of()
    assert after.mdcs[1].predecessor == "" and after.mdcs[1].incarnation == 1
    assert condition(world.status, "Durable")["reason"] == "OnSeveralNodes"


def test_a_successor_on_a_lost_node_is_gone_at_once() -> None:
    """Its kubelet cannot give the name free, and the next attempt needs it."""
    seen = replace(trying(node="n2", deleting=True), lost_nodes=frozenset({"n2"}))
    [gone] = decide(seen).delete
    assert (gone.name, gone.force) == (HEIR, True)
    wiring = wiring_of(decide(seen)) if decide(seen).apply else seen.wiring
    assert wiring is not None and (wiring.failed_moves, wiring.move_after) == (0, 0.0)
