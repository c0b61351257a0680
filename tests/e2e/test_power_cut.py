"""The power of a node is cut: how long that costs, and that it costs nothing else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from e2e.cluster import Kubectl, wait
from e2e.faults import Breaker, Patient, replaced, show

pytestmark = [pytest.mark.e2e, pytest.mark.exclusive, pytest.mark.timeout(1500)]


def test_a_node_without_power(
    kubectl: Kubectl,
    operator: Kubectl,
    admit: Callable[..., Patient],
    breaker: Breaker,
    request: pytest.FixtureRequest,
) -> None:
    """The node of an MDC; the homes, the NPDC and the operator are on another one."""
    nodes = sorted(node["metadata"]["name"] for node in kubectl.get("nodes")["items"])
    if len(nodes) < 2:
        pytest.skip("needs a cluster of two nodes or more, such as tests/e2e/kind.yaml makes")
    acting = operator.get("lease", "elf-operator")["spec"]["holderIdentity"]
    stays = operator.get("pod", acting)["spec"]["nodeName"]
    goes = next(node for node in nodes if node != stays)
    here = {"spec": {"nodeSelector": {"kubernetes.io/hostname": stays}}}
    homes, took = {"replicas": 12, "perPod": 6, "template": here}, []
    for _ in range(request.config.getoption("--power-cuts")):
        patient = admit(homes=homes, northPole={"template": here})
        before = patient.homes()
        [index, *_] = wait("an MDC runs on that node", partial(_moved, patient, goes), 300)
        wait("a round is done", lambda: patient.round() > 0, 60)  # noqa: B023
        incarnation, round_ = patient.serving()[index][0], patient.round()
        over = partial(replaced, patient, index, incarnation, round_)
        took.append(patient.timed(partial(breaker, "node-down", goes), over))
        breaker("node-up", goes)
        kubectl("wait", "--for=condition=Ready", f"node/{goes}", "--timeout=120s")
        patient.wait_until_well(300)
        assert patient.homes() == before, "no home was restarted"
    show("power cut of an MDC's node: a successor has served a round", took)


def _moved(patient: Patient, node: str) -> list[int]:
    """MDCs that serve on that node; one of another is deleted if there are none."""
    if not patient.well():
        return []
    there = [i for i in range(3) if patient.pod("mdc", i)["spec"].get("nodeName") == node]
    if not there:
        patient.kubectl("delete", "pod", "--wait=false", patient.pod("mdc", 0)["metadata"]["name"])
    return there
