"""What the operator remembers between looks: silences, and lost nodes."""

from __future__ import annotations

from typing import Any

import pytest

from elf_operator.watchmen import (
    FORGET_SECONDS,
    NODE_GRACE_SECONDS,
    OUTAGE_GRACE_SECONDS,
    ZONE_LABEL,
    Nodes,
    Pulse,
)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def beat(count: int, **more: Any) -> dict[str, Any]:
    return {"heartbeat": count, "incarnation": 0, "round": 3, **more}


def test_silence_begins_with_the_first_look_and_ends_with_any_change(clock: Clock) -> None:
    pulse = Pulse(clock)
    assert pulse.note("job", beat(1)) == 0.0
    clock.now += 4
    assert pulse.note("job", beat(1)) == 4.0
    assert pulse.note("other", beat(1)) == 0.0
    for changed in (beat(2), beat(2, round=4), beat(2, round=4, incarnation=1)):
        clock.now += 4
        assert pulse.note("job", changed) == 0.0


def test_a_job_without_a_heartbeat_is_not_silent(clock: Clock) -> None:
    pulse = Pulse(clock)
    pulse.note("job", beat(1))
    clock.now += 9
    assert pulse.note("job", {}) == 0.0
    assert pulse.note("job", beat(1)) == 0.0, "heard anew"


@pytest.mark.parametrize("how", ["forget", "listen_anew"])
def test_after_an_outage_or_a_new_job_the_silence_begins_anew(clock: Clock, how: str) -> None:
    pulse = Pulse(clock)
    pulse.note("job", beat(1))
    clock.now += 9
    pulse.forget("job") if how == "forget" else pulse.listen_anew()
    assert pulse.note("job", beat(1)) == 0.0


def node(name: str, ready: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


@pytest.mark.parametrize(
    ("event", "ready"), [("MODIFIED", "False"), ("MODIFIED", "Unknown"), ("DELETED", "True")]
)
def test_a_node_is_lost_when_it_is_not_ready_for_long_enough(clock: Clock, event: str, ready: str) -> None:
    nodes = Nodes(clock)
    assert not nodes.note(None, node("a", "True")), "nothing has changed"
    nodes.note(None, node("b", "True"))
    assert nodes.note(event, node("b", ready))
    assert not nodes.note(event, node("b", ready)), "said once more"
    assert nodes.lost() == frozenset()
    clock.now += NODE_GRACE_SECONDS
    assert nodes.lost() == {"b"}
    assert nodes.note("MODIFIED", node("b", "True"))
    assert nodes.lost() == frozenset()


def test_after_an_outage_of_the_api_server_no_node_is_lost_for_a_while(clock: Clock) -> None:
    """Kubelets could not say that they live: all nodes are not ready, and some come back late."""
    nodes = Nodes(clock)
    nodes.note(None, node("a", "True"))
    nodes.note("MODIFIED", node("b", "Unknown"))
    clock.now += NODE_GRACE_SECONDS
    nodes.listen_anew()
    assert nodes.lost() == frozenset()
    clock.now += OUTAGE_GRACE_SECONDS - 0.1
    assert nodes.lost() == frozenset()
    clock.now += 0.2
    assert nodes.lost() == {"b"}


def test_without_a_node_that_is_ready_none_is_lost(clock: Clock) -> None:
    nodes = Nodes(clock)
    for name in "ab":
        nodes.note(None, node(name, "True"))
        nodes.note("MODIFIED", node(name, "Unknown"))
    clock.now += 60
    assert nodes.lost() == frozenset()
    nodes.note("MODIFIED", node("a", "True"))
    assert nodes.lost() == {"b"}


def in_zone(name: str, zone: str | None) -> dict[str, Any]:
    body = node(name, "True")
    body["metadata"]["labels"] = {"kubernetes.io/hostname": name} | ({ZONE_LABEL: zone} if zone else {})
    return body


def test_zones_are_those_of_the_labels_as_last_seen(clock: Clock) -> None:
    nodes = Nodes(clock)
    for name, zone in (("a", "east"), ("b", "west"), ("c", None)):
        nodes.note(None, in_zone(name, zone))
    nodes.note(None, node("d", "True"))
    assert nodes.zones(["a", "c", "d", "", "unknown"]) == {"a": "east"}
    nodes.note("MODIFIED", in_zone("a", None))
    nodes.note("MODIFIED", in_zone("b", "east"))
    assert nodes.zones("ab") == {"b": "east"}


def test_a_deleted_node_stays_lost_until_nothing_can_be_bound_to_it(clock: Clock) -> None:
    nodes = Nodes(clock)
    for name in "abc":
        nodes.note(None, in_zone(name, "east"))
    nodes.note("MODIFIED", node("c", "Unknown"))
    clock.now += FORGET_SECONDS
    nodes.note("DELETED", in_zone("b", "east"))
    clock.now += FORGET_SECONDS - 1
    nodes.note("MODIFIED", in_zone("a", "east"))
    assert nodes.lost() == {"b", "c"} and nodes.zones("b") == {"b": "east"}
    clock.now += 1
    nodes.note("MODIFIED", in_zone("a", "east"))
    assert nodes.lost() == {"c"}, "it is there, and still not ready"
    assert nodes.zones("ab") == {"a": "east"}


def test_a_node_that_comes_back_under_its_name_is_not_forgotten(clock: Clock) -> None:
    nodes = Nodes(clock)
    for event in (None, "DELETED", "ADDED"):
        nodes.note(event, in_zone("b", "east"))
    nodes.note("MODIFIED", in_zone("a", "east"))
    clock.now += FORGET_SECONDS
    nodes.note("MODIFIED", in_zone("a", "east"))
    assert nodes.zones("ab") == {"a": "east", "b": "east"} and nodes.lost() == frozenset()


def closed(name: str, **spec: Any) -> dict[str, Any]:
    return {**node(name, "True"), "spec": spec}


OPEN = {
    "nothing is said": {},
    "it would rather not": {"taints": [{"key": "a", "effect": "PreferNoSchedule"}]},
    "no taints": {"unschedulable": False, "taints": None},
}
CLOSED = {
    "cordoned": {"unschedulable": True},
    "tainted": {"taints": [{"key": "a", "effect": "NoSchedule"}]},
    "emptied": {"taints": [{"key": "b", "effect": "PreferNoSchedule"}, {"key": "a", "effect": "NoExecute"}]},
}


@pytest.mark.parametrize("spec", OPEN.values(), ids=OPEN)
def test_a_node_takes_pods(clock: Clock, spec: dict[str, Any]) -> None:
    nodes = Nodes(clock)
    nodes.note(None, closed("a", **spec))
    assert nodes.open() == {"a"}


@pytest.mark.parametrize("spec", CLOSED.values(), ids=CLOSED)
def test_a_node_takes_no_pods_and_that_it_does_again_is_news(clock: Clock, spec: dict[str, Any]) -> None:
    nodes = Nodes(clock)
    nodes.note(None, node("a", "True"))
    assert not nodes.note("MODIFIED", closed("a", **spec)), "nothing can be done because of it"
    assert nodes.open() == frozenset() and nodes.lost() == frozenset()
    assert nodes.note("MODIFIED", node("a", "True"))
    assert nodes.open() == {"a"}


@pytest.mark.parametrize(("event", "ready"), [("MODIFIED", "False"), ("DELETED", "True")])
def test_a_node_that_is_not_ready_or_gone_takes_no_pods(clock: Clock, event: str, ready: str) -> None:
    nodes = Nodes(clock)
    assert nodes.open() is None, "nodes are not watched"
    for name in "ab":
        nodes.note(None, node(name, "True"))
    nodes.note(event, node("b", ready))
    assert nodes.open() == {"a"}
