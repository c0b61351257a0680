"""No node takes the whole state of a job with it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from e2e.cluster import Kubectl, wait
from e2e.faults import Breaker, Patient, show

pytestmark = [pytest.mark.e2e, pytest.mark.exclusive, pytest.mark.timeout(1500)]


def durable(patient: Patient) -> tuple[str, str]:
    """(reason, message) of the condition that says where the state is."""
    conditions = {c["type"]: c for c in patient.look().get("conditions", ())}
    found = conditions.get("Durable", {})
    return found.get("reason", ""), found.get("message", "")


def on_several_nodes(patient: Patient) -> bool:
    return durable(patient)[0] == "OnSeveralNodes"


def nodes_of(kubectl: Kubectl) -> list[str]:
    nodes = sorted(node["metadata"]["name"] for node in kubectl.get("nodes")["items"])
    if len(nodes) < 2:
        pytest.skip("needs a cluster of two nodes or more, such as tests/e2e/kind.yaml makes")
    return nodes


def test_the_node_of_the_npdc_is_lost_again_and_again(
    kubectl: Kubectl,
    admit: Callable[..., Patient],
    breaker: Breaker,
    request: pytest.FixtureRequest,
) -> None:
    """Training goes on from the newest state each time, on whichever node the NPDC and the operator are."""
    nodes_of(kubectl)
    patient, took = admit(), []
    for _ in range(request.config.getoption("--npdc-nodes")):
        patient.wait_until_well(300)
        wait("the state is on several nodes", partial(on_several_nodes, patient), 300)
        node = patient.pod("npdc")["spec"]["nodeName"]
        before = patient.look()["training"]
        firsts: list[int] = []

        def goes_on(before: dict[str, Any] = before, firsts: list[int] = firsts) -> bool:
            training = patient.look().get("training", {})
            if training.get("incarnation", 0) > before["incarnation"]:
                firsts.append(training["round"])
            return bool(firsts) and training.get("round", 0) > max(firsts[0], before["round"])

        took.append(patient.timed(partial(breaker, "node-down", node), goes_on, 300))
        assert firsts[0] >= before["round"], "rounds that were seen to be done are begun again"
        breaker("node-up", node)
        kubectl("wait", "--for=condition=Ready", f"node/{node}", "--timeout=120s")
    show("power cut of the NPDC's node: the next round is done", took)


@contextlib.contextmanager
def cordoned(kubectl: Kubectl, node: str) -> Iterator[Callable[[], str]]:
    """No new pod gets onto this node, until what is given is called."""
    kubectl("cordon", node)
    try:
        yield partial(kubectl, "uncordon", node)
    finally:
        kubectl("uncordon", node)


def test_where_all_copies_have_come_together_one_mdc_moves(
    kubectl: Kubectl, admit: Callable[..., Patient]
) -> None:
    node = nodes_of(kubectl)[-1]
    with cordoned(kubectl, node) as uncordon:
        patient = admit()
        wait("no other node is found", lambda: "no other node takes pods" in durable(patient)[1], 60)
        assert durable(patient)[0] == "OnOneNode"
        homes, serving = patient.homes(), patient.serving()
        uncordon()
        wait("the state is on several nodes", partial(on_several_nodes, patient), 180)
    patient.wait_until_well()
    now = patient.serving()
    moved = [index for index in serving if now[index][0] != serving[index][0]]
    assert len(moved) == 1 and now[moved[0]][1] == serving[moved[0]][1], "its homes go with it"
    assert patient.pod("mdc", moved[0])["spec"]["nodeName"] == node
    assert patient.look()["replaced"] == 0, "a move is no fault"
    assert patient.homes() == homes, "no home was restarted"
    rounds = patient.round()
    wait("training goes on", lambda: patient.round() > rounds + 2, 60)
    events = kubectl.get("events", "--field-selector=reason=Moved")["items"]
    assert len(events) == 1 and events[0]["type"] == "Normal"
