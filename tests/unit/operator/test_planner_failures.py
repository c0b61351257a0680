"""Data centers that fail again and again, nodes that are lost, an NPDC that has fallen silent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builders import DEFAULTS, NOW, condition, settled, with_pod
from elf_operator.observation import Observation
from elf_operator.places import LONGEST_BACKOFF_SECONDS, STABLE_SECONDS
from elf_operator.planner import plan
from elf_operator.plans import Plan
from elf_operator.progress import HEARTBEAT_SLACK_SECONDS
from elf_worker.contract import WIRING_KEY, Slot, Wiring

MDC, NPDC = "sleigh-mdc-1-0", "sleigh-npdc-0"
FAILED = {"phase": "Failed", "ready": False, "exit_code": 1}


def decide(seen: Observation, now: float = NOW) -> Plan:
    return plan(seen, now, DEFAULTS)


def wired(decided: Plan) -> Wiring:
    (found,) = (m for m in decided.apply if m["kind"] == "ConfigMap")
    return Wiring.from_json(found["data"][WIRING_KEY])


def created(decided: Plan) -> list[str]:
    return [c.manifest["metadata"]["name"] for c in decided.create]


def after_failures(count: int, **pod: object) -> Observation:
    """MDC 1 has failed now, after so many short lives in a row before."""
    seen = with_pod(settled(), MDC, **{"created": NOW - 1, "node": "node-a", **FAILED, **pod})
    assert seen.wiring is not None
    slot = replace(seen.wiring.mdcs[1], failures=count, nodes=("node-a",) * min(count, 3))
    return replace(seen, wiring=replace(seen.wiring, mdcs={**seen.wiring.mdcs, 1: slot}))


@pytest.mark.parametrize(("before", "wait"), [(0, 0), (1, 0), (2, 2), (3, 4), (4, 8), (7, 60), (500, 60)])
def test_each_short_life_in_a_row_makes_the_next_wait_longer(before: int, wait: float) -> None:
    decided = decide(after_failures(before))
    slot = wired(decided).mdcs[1]
    assert slot.failures == before + 1
    assert slot.not_before == (NOW + wait if wait else 0.0)
    assert created(decided) == ([] if wait else ["sleigh-mdc-1-1"])
    assert wait <= LONGEST_BACKOFF_SECONDS
    if wait:
        assert decided.again_after == pytest.approx(wait)
        assert f"in {wait} s: it is failure {before + 1} in a row" in decided.events[0].message


def test_a_long_life_makes_the_next_failure_the_first() -> None:
    slot = wired(decide(after_failures(9, created=NOW - STABLE_SECONDS))).mdcs[1]
    assert (slot.failures, slot.not_before, slot.nodes) == (1, 0.0, ("node-a",))


def test_a_slot_that_waits_is_filled_when_its_time_has_come() -> None:
    seen = after_failures(4)
    waiting = replace(seen, pods=tuple(p for p in seen.pods if p.name != MDC), wiring=wired(decide(seen)))
    assert created(decide(waiting, NOW + 7.9)) == []
    degraded = condition(decide(waiting, NOW + 7.9).status, "Degraded")
    assert degraded["status"] == "True"
    again = "MDC 1 has failed 5 times in a row and is started again at 2023-11-14T22:13:28Z"
    assert again in degraded["message"], "people want to know what is waited for"
    assert degraded["message"] == condition(decide(waiting, NOW + 1.0).status, "Degraded")["message"]
    assert created(decide(waiting, NOW + 8.0)) == ["sleigh-mdc-1-1"]
    homes = wired(decide(seen)).mdcs[0].homes
    assert homes == frozenset(range(4)), "the others serve its homes meanwhile"


@pytest.mark.parametrize(("nodes", "avoided"), [((), None), (("node-a",), ["node-a"]), (("node-b",), None)])
def test_a_slot_avoids_a_node_on_which_it_has_failed_twice(
    nodes: tuple[str, ...], avoided: list[str] | None
) -> None:
    seen = after_failures(0)
    assert seen.wiring is not None
    slots = {**seen.wiring.mdcs, 1: replace(seen.wiring.mdcs[1], nodes=nodes)}
    (create,) = decide(replace(seen, wiring=replace(seen.wiring, mdcs=slots))).create
    affinity = create.manifest["spec"].get("affinity")
    if avoided is None:
        assert affinity is None
    else:
        (rule,) = affinity["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        (term,) = rule["preference"]["matchExpressions"]
        assert term == {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": avoided}


def test_one_silence_is_enough_to_avoid_a_node() -> None:
    seen = with_pod(settled({"unreachable": [{"uid": f"uid-{MDC}"}]}), MDC, node="node-a")
    (create,) = decide(seen).create
    assert "node-a" in str(create.manifest["spec"]["affinity"])


SLOW = {"mdc": 1, "incarnation": 0, "uid": f"uid-{MDC}", "seconds": "1.800", "median": "0.200"}


def slow(factor: str | None = "5", **entry: str) -> Observation:
    policy = {"stragglerFactor": factor} if factor else {}
    return with_pod(settled({"stragglers": [SLOW | entry]}, failurePolicy=policy), MDC, node="node-a")


def test_a_straggler_is_replaced_elsewhere_and_its_homes_move_at_once() -> None:
    decided = decide(slow())
    assert [d.name for d in decided.delete] == [MDC] and created(decided) == ["sleigh-mdc-1-1"]
    slot = wired(decided).mdcs[1]
    assert (slot.uid, slot.replaced, slot.failures, slot.homes) == ("", 1, 1, frozenset())
    assert wired(decided).mdcs[0].homes == frozenset(range(4))
    assert "node-a" in str(decided.create[0].manifest["spec"]["affinity"])
    (event,) = decided.events
    assert event.reason == decided.status["lastReplacements"][0]["reason"] == "Straggler"
    assert event.message.startswith(f"{MDC} took 1.8 s a round, the others 0.2 s: more than 5 times as long")


def test_a_slot_that_straggles_again_and_again_waits_like_any_other() -> None:
    seen = with_pod(slow(), MDC, created=NOW - 20)
    assert seen.wiring is not None
    slots = {**seen.wiring.mdcs, 1: replace(seen.wiring.mdcs[1], failures=3)}
    decided = decide(replace(seen, wiring=replace(seen.wiring, mdcs=slots)))
    assert created(decided) == [] and wired(decided).mdcs[1].not_before == NOW + 4
    exhausted = replace(seen.wiring.mdcs[1], replaced=100)
    slots = {**seen.wiring.mdcs, 1: exhausted}
    ended = decide(replace(seen, wiring=replace(seen.wiring, mdcs=slots)))
    assert ended.status["state"] == "Failed"


@pytest.mark.parametrize(
    "seen", [slow(None), slow(uid="uid-of-an-earlier-one")], ids=["it is not asked for", "it is gone already"]
)
def test_no_straggler_is_replaced(seen: Observation) -> None:
    assert decide(seen).idle


def test_pods_on_a_lost_node_are_replaced_and_homes_are_made_free_by_force() -> None:
    seen = settled()
    for name in (MDC, NPDC, "sleigh-home-2"):
        seen = with_pod(seen, name, node="node-b")
    decided = decide(replace(seen, lost_nodes=frozenset({"node-b"})))
    assert {d.name: d.force for d in decided.delete} == {MDC: False, NPDC: False, "sleigh-home-2": True}
    assert created(decided) == ["sleigh-npdc-1", "sleigh-mdc-1-1"]
    assert {e.reason for e in decided.events} == {"NodeLost"}
    assert wired(decided).mdcs[0].homes == frozenset(range(4))
    gone = replace(seen, pods=tuple(p for p in seen.pods if p.name != "sleigh-home-2"))
    assert "sleigh-home-2" in created(decide(gone))


SILENT = 5 + HEARTBEAT_SLACK_SECONDS
"""Seconds; mdcTimeoutSeconds is 5."""


@pytest.mark.parametrize(
    ("training", "silence", "replaced"),
    [
        ({}, SILENT, True),
        ({}, SILENT - 0.1, False),
        ({"incarnation": 3}, SILENT, False),
        ({"phase": "Recovering"}, SILENT, False),
    ],
)
def test_an_npdc_that_has_fallen_silent_is_replaced(
    training: dict[str, object], silence: float, replaced: bool
) -> None:
    seen = replace(settled({"heartbeat": 9, **training}), npdc_silence=silence)
    decided = decide(seen)
    assert created(decided) == (["sleigh-npdc-1"] if replaced else [])
    if replaced:
        assert decided.events[0].reason == "Unreachable"
        left = wired(decided).npdc
        assert left == Slot(1, "", frozenset(), 1, 1, 0.0, left.nodes, left.loss)
