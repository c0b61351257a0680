"""From `kubectl apply` to a trained model, with and without faults on the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from e2e.cluster import Kubectl, condition, round_of, wait
from e2e.conftest import FEW_PODS, LONG, MANIFESTS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]
Make = Callable[..., dict[str, Any]]


def complete(kubectl: Kubectl, name: str, seconds: int = 300) -> dict[str, Any]:
    kubectl("wait", "--for=condition=Complete", f"etj/{name}", f"--timeout={seconds}s")
    return kubectl.job(name)


def home_uids(kubectl: Kubectl, job: str) -> dict[str, tuple[str, int]]:
    return {
        pod["metadata"]["name"]: (
            pod["metadata"]["uid"],
            pod["status"]["containerStatuses"][0]["restartCount"],
        )
        for pod in kubectl.pods(job, "home")
    }


def start(kubectl: Kubectl, job: dict[str, Any], until_round: int) -> None:
    applied = kubectl.apply(job)
    assert applied.returncode == 0, applied.stderr
    name = job["metadata"]["name"]
    wait(f"{until_round} rounds done", lambda: round_of(kubectl.job(name)) >= until_round, 300)


def test_the_sample_trains_and_leaves_nothing_behind(kubectl: Kubectl, local_report: Make) -> None:
    kubectl("apply", "-f", str(MANIFESTS / "samples" / "digits.yaml"))
    done = complete(kubectl, "digits")
    training = done["status"]["training"]
    assert float(training["metrics"]["f1"]) >= 0.95
    assert training["modelDigest"] == local_report()["modelDigest"]
    row = kubectl("get", "etj", "digits", "--no-headers").split()
    assert row[:2] == ["digits", "Complete"]
    assert row[5:8] == ["12/12", "3/3", "0"], row
    wait("pods have left by themselves", lambda: _all_over(kubectl, "digits"), 120)
    kubectl("delete", "etj", "digits")
    kinds = "pods,services,configmaps,serviceaccounts,roles,rolebindings,secrets,endpoints"
    ours = lambda: kubectl.get(kinds, "-l", "northpole.dev/job=digits")["items"]  # noqa: E731
    wait("nothing is left of the job", lambda: not ours(), 240)


def _all_over(kubectl: Kubectl, job: str) -> bool:
    return all(pod["status"]["phase"] == "Succeeded" for pod in kubectl.pods(job))


@pytest.mark.parametrize("victim", ["mdc", "npdc", pytest.param("operator", marks=pytest.mark.exclusive)])
def test_a_death_in_mid_run_changes_nothing(
    kubectl: Kubectl, operator: Kubectl, sample: Make, local_report: Make, victim: str
) -> None:
    start(kubectl, sample(**LONG, homes=FEW_PODS), until_round=30)
    before = home_uids(kubectl, "digits")
    force = ["delete", "pod", "--force", "--grace-period=0", "--wait=false"]
    killed_at, killed_in = time.monotonic(), round_of(kubectl.job("digits"))
    if victim == "operator":
        operator(*force, "-l", "app.kubernetes.io/name=elf-operator")
    else:
        kubectl(*force, f"digits-{victim}-{'1-0' if victim == 'mdc' else '0'}")
    wait("the next round", lambda: round_of(kubectl.job("digits")) > killed_in + 1, 60)
    print(
        f"{victim} deleted in round {killed_in}; two rounds later {time.monotonic() - killed_at:.1f} s after"
    )
    done = complete(kubectl, "digits")
    assert home_uids(kubectl, "digits") == before, "a home was restarted or made anew"
    assert done["status"]["training"]["exact"] is True
    assert done["status"]["training"]["modelDigest"] == local_report(**LONG)["modelDigest"]
    assert done["status"]["replaced"] == (0 if victim == "operator" else 1)
    if victim != "operator":
        [last] = done["status"]["lastReplacements"]
        assert last["reason"] in ("PodGone", "BeingDeleted")
        assert float(last["recoverySeconds"]) < 60


@pytest.mark.parametrize("mdcs", [1, 2, 5])
def test_the_number_of_mdcs_does_not_change_the_model(
    kubectl: Kubectl, sample: Make, local_report: Make, mdcs: int
) -> None:
    job = sample(miniDataCenters={"replicas": mdcs}, homes=FEW_PODS)
    assert kubectl.apply(job).returncode == 0
    done = complete(kubectl, "digits")
    assert done["status"]["training"]["modelDigest"] == local_report()["modelDigest"]


def test_a_suspended_job_has_no_pods_and_ends_with_the_same_bits(
    kubectl: Kubectl, sample: Make, local_report: Make
) -> None:
    start(kubectl, sample(**LONG, homes=FEW_PODS), until_round=20)
    kubectl("patch", "etj", "digits", "--type=merge", "-p", '{"spec": {"suspend": true}}')
    wait("no pods", lambda: not kubectl.pods("digits"), 120)
    held = wait("the condition", lambda: condition(kubectl.job("digits"), "Suspended"), 10)
    assert "starts over" in held["message"]
    kubectl("patch", "etj", "digits", "--type=merge", "-p", '{"spec": {"suspend": false}}')
    done = complete(kubectl, "digits")
    assert done["status"]["training"]["modelDigest"] == local_report(**LONG)["modelDigest"]
    assert done["status"]["replaced"] == 0, "a resumed job is not a fault"
