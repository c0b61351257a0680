"""What a person gets wrong: a clear word that names the field, and nothing half-created."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from e2e.cluster import Kubectl, condition, wait

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
Make = Callable[..., dict[str, Any]]
FEW = {"homes": {"replicas": 4, "perPod": 4}, "miniDataCenters": {"replicas": 1}}
RAISES = """
from elf_worker.tasks.digits import Digits

class Raises(Digits):
    def batches(self, home, round):
        raise RuntimeError("the disk is on holiday")
"""

WRONG_SPECS = {
    "no homes": ({"homes": {"replicas": 0}}, ["homes.replicas"]),
    "more MDCs than homes": (
        {"homes": {"replicas": 2}, "miniDataCenters": {"replicas": 3}},
        ["miniDataCenters.replicas", "at most"],
    ),
    "quorum 1.5": ({"round": {"quorum": 1.5}}, ["round.quorum"]),
    "a field that does not exist": ({"homez": {"replicas": 3}}, ["homez"]),
}
WRONG_TASKS = {
    "unknown entrypoint": (
        {"task": {"entrypoint": "elf_worker.tasks.digits:Digit"}},
        ["spec.task.entrypoint", "Digits"],
    ),
    "optimizer that torch does not have": (
        {"optimizer": {"name": "Adan"}},
        ["spec.optimizer.name", "Adam"],
    ),
}


def nothing_stays(kubectl: Kubectl) -> bool:
    """Nothing is left but what is on its way out: how long a kubelet takes for that is its own affair."""
    found = kubectl.get("pods,services,configmaps,roles,rolebindings", "-l", "northpole.dev/job")["items"]
    return all(item["metadata"].get("deletionTimestamp") for item in found)


@pytest.mark.parametrize("case", WRONG_SPECS)
def test_a_wrong_spec_is_refused_by_the_server_or_the_operator(
    kubectl: Kubectl, sample: Make, case: str
) -> None:
    changes, words = WRONG_SPECS[case]
    applied = kubectl.apply(sample(**(FEW | changes)))
    if applied.returncode:
        said = applied.stderr
    else:
        said = wait("the condition", lambda: condition(kubectl.job("digits"), "Failed"), 30)["message"]
        assert kubectl.job("digits")["status"]["state"] == "Failed"
    assert all(word in said for word in words), said
    assert nothing_stays(kubectl)


@pytest.mark.parametrize("case", WRONG_TASKS)
def test_a_task_that_cannot_be_built_fails_the_job(kubectl: Kubectl, sample: Make, case: str) -> None:
    changes, words = WRONG_TASKS[case]
    assert kubectl.apply(sample(**(FEW | changes))).returncode == 0
    failed = wait("the condition", lambda: condition(kubectl.job("digits"), "Failed"), 180)
    assert failed["reason"] == "InvalidSpec"
    assert all(word in failed["message"] for word in words), failed["message"]
    wait("nothing half-created stays", lambda: nothing_stays(kubectl), 120)


def test_a_task_that_raises_is_reported_with_home_and_round(kubectl: Kubectl, sample: Make) -> None:
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "own-task"},
            "data": {"own.py": RAISES},
        }
    )
    template = {
        "spec": {
            "containers": [
                {
                    "name": "elf",
                    "env": [{"name": "PYTHONPATH", "value": "/own"}],
                    "volumeMounts": [{"name": "own", "mountPath": "/own"}],
                }
            ],
            "volumes": [{"name": "own", "configMap": {"name": "own-task"}}],
        }
    }
    homes = {"replicas": 4, "perPod": 4, "template": template}
    own = {"task": {"entrypoint": "own:Raises"}, "homes": homes, "northPole": {"template": template}}
    assert kubectl.apply(sample(**(FEW | own))).returncode == 0
    failed = wait("the condition", lambda: condition(kubectl.job("digits"), "Failed"), 180)
    words = ["spec.task.entrypoint", "batches()", "home", "round 0", "RuntimeError: the disk is on holiday"]
    assert all(word in failed["message"] for word in words), failed["message"]
    wait("nothing half-created stays", lambda: nothing_stays(kubectl), 120)
