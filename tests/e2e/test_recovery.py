"""How long faults cost: figures, printed as medians. What is asserted is that they cost nothing else."""

from __future__ import annotations

import signal
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from e2e.cluster import Kubectl, wait
from e2e.faults import OPEN, Breaker, Patient

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]
Make = Callable[..., dict[str, Any]]
ENDLESS: dict[str, Any] = {
    "rounds": 1000000,
    "target": None,
    "evaluateEvery": 1000,
    "homes": {"replicas": 12, "perPod": 3, "template": OPEN},
    "miniDataCenters": {"replicas": 3, "template": OPEN},
    "northPole": {"template": OPEN},
    "failurePolicy": {"maxReplacements": 10000},
}


@pytest.fixture
def patient(kubectl: Kubectl, sample: Make) -> Patient:
    """An endless job that is well."""
    applied = kubectl.apply(sample("endless", **ENDLESS))
    assert applied.returncode == 0, applied.stderr
    made = Patient(kubectl, "endless")
    made.wait_until_well(300)
    return made


def show(what: str, took: list[float]) -> None:
    row = " ".join(f"{seconds:5.1f}" for seconds in took)
    print(f"\n{what:46} median {statistics.median(took):5.1f} s of {row}")


def replaced(patient: Patient, index: int, incarnation: int, round_: int) -> bool:
    """A later incarnation serves homes, and a whole round has been done since."""
    now, homes = patient.serving().get(index, (-1, 0))
    return now > incarnation and homes > 0 and patient.round() >= round_ + 2


@pytest.mark.parametrize(
    ("what", "number"),
    [("MDC killed", signal.SIGKILL), ("MDC frozen", signal.SIGSTOP)],
    ids=["killed", "frozen"],
)
def test_a_faulty_mdc(patient: Patient, request: pytest.FixtureRequest, what: str, number: int) -> None:
    before, took = patient.homes(), []
    for turn in range(request.config.getoption("--repeat")):
        index = turn % 3
        incarnation, round_ = patient.serving()[index][0], patient.round()
        over = partial(replaced, patient, index, incarnation, round_)
        took.append(patient.timed(partial(patient.signal, "mdc", index, number), over))
        patient.wait_until_well()
    show(f"{what}: its successor has served a round", took)
    assert patient.homes() == before, "no home was restarted"


def test_a_partitioned_mdc(patient: Patient, breaker: Breaker, request: pytest.FixtureRequest) -> None:
    before, took = patient.homes(), []
    for turn in range(request.config.getoption("--repeat")):
        index = turn % 3
        incarnation, round_ = patient.serving()[index][0], patient.round()
        address = patient.pod("mdc", index)["status"]["podIP"]
        over = partial(replaced, patient, index, incarnation, round_)
        took.append(patient.timed(partial(breaker, "partition", address), over))
        breaker("heal", address)
        patient.wait_until_well()
    show("MDC partitioned: its successor has served a round", took)
    assert patient.homes() == before, "no home was restarted"


def test_a_killed_npdc(patient: Patient, request: pytest.FixtureRequest) -> None:
    before, took = patient.homes(), []

    def goes_on(incarnation: int, round_: int) -> bool:
        training = patient.look().get("training", {})
        return training.get("incarnation", 0) > incarnation and training["round"] > round_

    for _ in range(request.config.getoption("--repeat")):
        training = patient.look()["training"]
        over = partial(goes_on, training["incarnation"], training["round"])
        took.append(patient.timed(partial(patient.signal, "npdc", 0, signal.SIGKILL), over))
        patient.wait_until_well()
    show("NPDC killed: the next round is done", took)
    assert patient.homes() == before, "no home was restarted"


def test_a_node_without_power(
    kubectl: Kubectl, sample: Make, breaker: Breaker, request: pytest.FixtureRequest
) -> None:
    """The node of an MDC; the homes and the NPDC are on another one."""
    nodes = sorted(node["metadata"]["name"] for node in kubectl.get("nodes")["items"])
    if len(nodes) < 2:
        pytest.skip("needs a cluster of two nodes or more")
    stays, goes = nodes[0], nodes[-1]
    here = {"spec": {"nodeSelector": {"kubernetes.io/hostname": stays}}}
    job = {
        **ENDLESS,
        "homes": {"replicas": 12, "perPod": 3, "template": here},
        "northPole": {"template": here},
    }
    assert kubectl.apply(sample("endless", **job)).returncode == 0
    patient, took = Patient(kubectl, "endless"), []
    patient.wait_until_well(300)
    before = patient.homes()
    for _ in range(request.config.getoption("--power-cuts")):
        [index, *_] = wait("an MDC runs on that node", partial(_moved, patient, goes), 300)
        incarnation, round_ = patient.serving()[index][0], patient.round()
        over = partial(replaced, patient, index, incarnation, round_)
        took.append(patient.timed(partial(breaker, "node-down", goes), over))
        breaker("node-up", goes)
        kubectl("wait", "--for=condition=Ready", f"node/{goes}", "--timeout=120s")
        patient.wait_until_well(300)
    show("power cut of an MDC's node: a successor has served a round", took)
    assert patient.homes() == before, "no home was restarted"


def _moved(patient: Patient, node: str) -> list[int]:
    """MDCs that serve on that node; one of another is deleted if there are none."""
    if not patient.well():
        return []
    there = [i for i in range(3) if patient.pod("mdc", i)["spec"].get("nodeName") == node]
    if not there:
        patient.kubectl("delete", "pod", "--wait=false", patient.pod("mdc", 0)["metadata"]["name"])
    return there
