"""Jobs that end by the clock, go by themselves, and put their model where they were told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from e2e.cluster import Kubectl, condition, wait
from e2e.faults import ENDLESS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
Make = Callable[..., dict[str, Any]]
FEW: dict[str, Any] = {"homes": {"replicas": 2, "perPod": 2}, "miniDataCenters": {"replicas": 1}}
SMALL: dict[str, Any] = {"rounds": 5, "target": None, **FEW}


def failed(kubectl: Kubectl, name: str) -> dict[str, Any]:
    kubectl("wait", "--for=condition=Failed", f"etj/{name}", "--timeout=120s")
    found = condition(kubectl.job(name), "Failed")
    assert found is not None
    return found


def test_a_job_that_takes_too_long_fails_and_its_pods_go(kubectl: Kubectl, sample: Make) -> None:
    job = sample(**(ENDLESS | FEW | {"activeDeadlineSeconds": 20}))
    assert kubectl.apply(job).returncode == 0
    said = failed(kubectl, "digits")
    assert said["reason"] == "DeadlineExceeded"
    assert "spec.activeDeadlineSeconds (20)" in said["message"]
    wait("its pods leave", lambda: not kubectl.staying("digits"), 60)


def test_an_ended_job_goes_by_itself_with_all_that_is_its_own(kubectl: Kubectl, sample: Make) -> None:
    assert kubectl.apply(sample(**SMALL, ttlSecondsAfterFinished=5)).returncode == 0
    kubectl("wait", "--for=condition=Complete", "etj/digits", "--timeout=120s")
    kubectl("wait", "--for=delete", "etj/digits", "--timeout=60s")
    kinds = "pods,services,configmaps,serviceaccounts,roles,rolebindings"
    ours = lambda: kubectl.get(kinds, "-l", "northpole.dev/job=digits")["items"]  # noqa: E731
    wait("nothing is left of it", lambda: not ours(), 240)


def test_an_output_that_cannot_be_written_is_said_at_once(kubectl: Kubectl, sample: Make) -> None:
    job = sample(**(ENDLESS | FEW | {"output": {"url": "nowhere://bucket/night"}}))
    assert kubectl.apply(job).returncode == 0
    reason = lambda: (condition(kubectl.job("digits"), "Degraded") or {}).get("reason")  # noqa: E731
    wait("the condition", lambda: reason() == "OutputNotWritten", 120)
    said = condition(kubectl.job("digits"), "Degraded")
    assert said is not None and "nowhere://bucket/night: ValueError: Protocol not known" in said["message"]


def test_a_misspelt_field_of_a_template_is_named(kubectl: Kubectl, sample: Make) -> None:
    template = {"spec": {"nodeSelektor": {"pool": "edge"}}}
    assert (
        kubectl.apply(sample(**SMALL | {"homes": {**SMALL["homes"], "template": template}})).returncode == 0
    )

    def refused() -> bool:
        conditions = kubectl.status("digits").get("conditions", ())  # until the operator has looked: none
        ready = [c for c in conditions if c["type"] == "Ready"]
        return any(c["reason"] == "Refused" and "nodeSelektor" in c["message"] for c in ready)

    wait("the field is named", refused, 60)
