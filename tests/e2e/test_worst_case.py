"""One run, many faults, the same bits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from e2e.cluster import Kubectl, wait
from e2e.conftest import FEW_PODS
from e2e.faults import Breaker

pytestmark = [pytest.mark.e2e, pytest.mark.exclusive, pytest.mark.timeout(1500)]
Make = Callable[..., dict[str, Any]]
RUN: dict[str, Any] = {"rounds": 4000, "target": None, "evaluateEvery": 500}
"""More rounds than a machine with time to spare does while all of it happens."""
AWAY_SECONDS = 20


class Story:
    """Does things to a running job, and notes how long the next completed round takes."""

    def __init__(self, kubectl: Kubectl, job: str) -> None:
        self.kubectl, self.job = kubectl, job
        self.account: list[tuple[str, int, float]] = []

    def after(self, what: str, fault: Callable[[], None]) -> None:
        """Two rounds later the one that was under way and a whole new one are done."""
        before, began = self.round(), time.monotonic()
        fault()
        wait(f"a whole round after {what}", lambda: self.round() >= before + 2, 300)
        self.account.append((what, before, time.monotonic() - began))

    def round(self) -> int:
        status = self.kubectl.status(self.job)  # the API server may be away
        return int(status.get("training", {}).get("round", 0)) if status else -1

    def kill(self, role: str, index: int = 0) -> Callable[[], None]:
        def fault() -> None:
            self.kubectl(
                "delete", "pod", "--force", "--grace-period=0", "--wait=false", self.newest(role, index)
            )

        return fault

    def newest(self, role: str, index: int = 0) -> str:
        """The pod that fills the slot, once it serves: otherwise the fault before is still being mended."""

        def serving() -> str:
            pods = [
                pod
                for pod in self.kubectl.pods(self.job, role)
                if pod["metadata"]["labels"]["northpole.dev/index"] == str(index)
                and any(
                    c["type"] == "Ready" and c["status"] == "True"
                    for c in pod["status"].get("conditions", [])
                )
            ]
            return str(pods[-1]["metadata"]["name"]) if pods else ""

        return str(wait(f"{role} {index} serves", serving, 300))


def test_thirteen_faults_in_one_run(
    kubectl: Kubectl, operator: Kubectl, sample: Make, local_report: Make, breaker: Breaker
) -> None:
    assert kubectl.apply(sample(**RUN, homes=FEW_PODS)).returncode == 0
    story = Story(kubectl, "digits")
    wait("training", lambda: story.round() >= 20, 300)
    for index in (0, 1, 2):
        story.after(f"MDC {index} killed", story.kill("mdc", index))
    story.after("NPDC killed", story.kill("npdc"))
    story.after("partition of MDC 1", lambda: _partition(story, breaker))
    force = ["delete", "pod", "--force", "--grace-period=0", "--wait=false"]
    story.after(
        "operator killed", lambda: operator(*force, "-l", "app.kubernetes.io/name=elf-operator") and None
    )
    story.after("NPDC killed again", story.kill("npdc"))
    story.after("API server down", lambda: _api_outage(breaker))
    for index in (0, 1, 2):
        story.after(f"MDC {index} killed again", story.kill("mdc", index))
    story.after("node down and up", lambda: _node_outage(story, breaker))
    story.after("NPDC killed for the third time", story.kill("npdc"))
    for what, round_, seconds in story.account:
        print(f"round {round_:5}  {what:32} next whole round done after {seconds:5.1f} s")
    kubectl("wait", "--for=condition=Complete", "etj/digits", "--timeout=400s")
    training = kubectl.job("digits")["status"]["training"]
    assert training["exact"] is True
    assert training["modelDigest"] == local_report(**RUN)["modelDigest"]


def _partition(story: Story, breaker: Breaker) -> None:
    address = story.kubectl.get("pod", story.newest("mdc", 1))["status"]["podIP"]
    breaker("partition", address)
    _stay_away()
    breaker("heal", address)


def _api_outage(breaker: Breaker) -> None:
    breaker("api-down")
    _stay_away()
    breaker("api-up")


def _node_outage(story: Story, breaker: Breaker) -> None:
    node = story.kubectl.get("pod", story.newest("mdc", 0))["spec"]["nodeName"]
    breaker("node-down", node)
    _stay_away()
    breaker("node-up", node)


def _stay_away() -> None:
    """The length of the outage is what is tested, so this is no wait for a condition."""
    time.sleep(AWAY_SECONDS)
