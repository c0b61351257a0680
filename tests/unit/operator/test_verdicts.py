"""What is wrong with a pod, from the API's JSON to the verdict."""

from __future__ import annotations

from typing import Any

import pytest

from builders import pod
from elf_operator import names
from elf_operator.observation import Pod, parse_pod, parse_time
from elf_operator.verdicts import CHECKS, NOT_READY_SECONDS, Surroundings, judge
from elf_worker.contract import Role

NAME = "sleigh-mdc-1-0"
ALONE = Surroundings()
ROWS: dict[str, tuple[dict[str, Any], tuple[str, bool, str] | None]] = {
    "it serves": ({}, None),
    "it is starting": ({"phase": "Pending", "ready": False, "waiting": "ContainerCreating"}, None),
    "it is not ready": ({"ready": False}, None),
    "out of memory": (
        {"phase": "Failed", "exit_code": 137, "exit_reason": "OOMKilled"},
        ("OOMKilled", True, f"{NAME} was killed for using more memory than its limit"),
    ),
    "out of memory, and being deleted": (
        {"phase": "Failed", "exit_reason": "OOMKilled", "deleting": True},
        ("OOMKilled", True, f"{NAME} was killed for using more memory than its limit"),
    ),
    "evicted": (
        {"phase": "Failed", "reason": "Evicted", "message": "low on memory"},
        ("Evicted", True, f"{NAME}: low on memory"),
    ),
    "evicted without a word": (
        {"phase": "Failed", "reason": "NodeShutdown"},
        ("NodeShutdown", True, f"{NAME}: NodeShutdown"),
    ),
    "a reason alone is no failure": ({"reason": "NodeLost"}, None),
    "ended with an error": (
        {"phase": "Failed", "exit_code": 1, "exit_message": "Traceback\nValueError: no"},
        ("ContainerFailed", True, f"{NAME} ended with exit code 1: ValueError: no"),
    ),
    "ended with the highest code that is no signal": (
        {"phase": "Failed", "exit_code": 128},
        ("ContainerFailed", True, f"{NAME} ended with exit code 128"),
    ),
    "killed": (
        {"phase": "Failed", "exit_code": 137},
        ("ContainerKilled", True, f"{NAME} was killed by signal 9"),
    ),
    "failed for unknown reasons": ({"phase": "Failed"}, ("ContainerFailed", True, f"{NAME} failed")),
    "left early": (
        {"phase": "Succeeded", "exit_code": 0},
        ("LeftEarly", True, f"{NAME} ended before the job did"),
    ),
    "being deleted": ({"deleting": True}, ("BeingDeleted", True, f"{NAME} is being deleted")),
    "crash looping": (
        {"ready": False, "waiting": "CrashLoopBackOff", "restarts": 4},
        ("CrashLooping", True, f"{NAME} has crashed 4 times"),
    ),
    "configuration is missing": (
        {"ready": False, "waiting": "CreateContainerConfigError", "waiting_message": 'no secret "x"'},
        ("ContainerNotCreated", False, f'{NAME}: no secret "x"'),
    ),
    "no node": (
        {"phase": "Pending", "ready": False, "unschedulable": "0/3 nodes are available"},
        ("Unschedulable", False, f"{NAME}: 0/3 nodes are available"),
    ),
} | {
    f"its image cannot be had: {reason}": (
        {"phase": "Pending", "ready": False, "waiting": reason},
        ("ImageNotPullable", False, f"{NAME}: {reason}"),
    )
    for reason in (
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
    )
}


@pytest.mark.parametrize("sentence", ROWS)
def test_the_verdict_on_a_pod(sentence: str) -> None:
    fields, expected = ROWS[sentence]
    verdict = judge(pod(Role.MDC, 1, **fields), ALONE)
    assert (verdict and (verdict.reason, verdict.replace, verdict.message)) == expected


def test_every_check_has_its_row() -> None:
    """Those that depend on others or on the time have tests of their own."""
    silent = [c for c in CHECKS if not any(c(pod(Role.MDC, 1, **f), ALONE) for f, _ in ROWS.values())]
    assert [c.__name__ for c in silent] == ["_node_lost", "_unreachable", "_not_ready", "_straggler"]


@pytest.mark.parametrize(("ready", "uid", "expected"), [(True, True, True), (True, False, False)])
def test_what_the_npdc_does_not_hear(ready: bool, uid: bool, expected: bool) -> None:
    seen = pod(Role.MDC, 1, ready=ready)
    verdict = judge(seen, Surroundings(unreachable=frozenset({seen.uid if uid else "of-another"})))
    assert (verdict is not None and verdict.reason == "Unreachable" and verdict.replace) == expected


@pytest.mark.parametrize(("lost", "expected"), [("node-a", "NodeLost"), ("node-b", None)])
def test_a_pod_on_a_lost_node(lost: str, expected: str | None) -> None:
    verdict = judge(pod(Role.MDC, 1, node="node-a"), Surroundings(lost_nodes=frozenset({lost})))
    assert (verdict and verdict.reason) == expected


@pytest.mark.parametrize(
    ("own", "others", "factor", "said"),
    [
        (1.8, 0.2, 5.0, "took 1.8 s a round, the others 0.2 s: more than 5 times as long"),
        (123.4, 0.0312, 2.5, "took 123 s a round, the others 0.031 s: more than 2.5 times as long"),
        (0.5, 0.0, 10.0, "took 0.5 s a round, the others 0 s: more than 10 times as long"),
    ],
)
def test_an_mdc_that_is_much_slower_than_the_others(
    own: float, others: float, factor: float, said: str
) -> None:
    seen = pod(Role.MDC, 1)
    around = Surroundings(stragglers={seen.uid: (own, others)}, straggler_factor=factor)
    verdict = judge(seen, around)
    assert verdict is not None
    assert (verdict.reason, verdict.message, verdict.replace) == ("Straggler", f"{NAME} {said}", True)
    assert judge(pod(Role.MDC, 0), around) is None
    failed = judge(pod(Role.MDC, 1, phase="Failed"), around)
    assert failed is not None and failed.reason == "ContainerFailed", "graver reasons speak first"


LONG_AGO = 1000.0


@pytest.mark.parametrize(
    ("fields", "heard", "after", "expected"),
    [
        ({}, False, NOT_READY_SECONDS, "NotReady"),
        ({}, False, NOT_READY_SECONDS - 1, None),
        ({"ready_changed": LONG_AGO + 10}, False, NOT_READY_SECONDS, None),
        ({}, True, NOT_READY_SECONDS, None),
        ({"ready": True}, False, NOT_READY_SECONDS, None),
        ({"phase": "Pending"}, False, NOT_READY_SECONDS, None),
    ],
)
def test_a_pod_that_runs_and_does_not_get_ready(
    fields: dict[str, object], heard: bool, after: float, expected: str | None
) -> None:
    seen = pod(Role.MDC, 1, **{"ready": False, "created": LONG_AGO, **fields})
    around = Surroundings(now=LONG_AGO + after, heard=frozenset({seen.uid} if heard else ()))
    verdict = judge(seen, around)
    assert (verdict and verdict.reason) == expected


def test_a_home_may_take_its_time() -> None:
    seen = pod(Role.HOME, 1, ready=False, created=LONG_AGO)
    assert judge(seen, Surroundings(now=LONG_AGO + 9999)) is None


def test_a_long_last_line_is_cut() -> None:
    verdict = judge(pod(Role.MDC, 1, phase="Failed", exit_code=1, exit_message="x" * 5000), ALONE)
    assert verdict is not None and len(verdict.message) < 400


# -- from the API's JSON ------------------------------------------------------------------------------------


def api_pod(**status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": NAME,
            "uid": "u",
            "labels": names.pod_labels("sleigh", Role.MDC, 1, 0),
            "creationTimestamp": "2023-11-14T22:13:20Z",
        },
        "spec": {"nodeName": "n1"},
        "status": status,
    }


def parsed(body: dict[str, Any]) -> Pod:
    found = parse_pod(body)
    assert found is not None
    return found


def test_a_fresh_pod_is_pending() -> None:
    body = api_pod()
    del body["status"]
    assert parsed(body) == Pod(NAME, "u", Role.MDC, 1, 0, created=1_700_000_000.0, node="n1")


def test_a_running_pod() -> None:
    ready = [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}]
    found = parsed(
        api_pod(phase="Running", conditions=ready, containerStatuses=[{"name": "elf", "restartCount": 3}])
    )
    assert (found.phase, found.ready, found.restarts, found.over) == ("Running", True, 3, False)


def test_a_failed_pod() -> None:
    ended = {"exitCode": 137, "reason": "OOMKilled", "message": " gone \n"}
    status = {"name": "elf", "state": {"terminated": ended}}
    found = parsed(api_pod(phase="Failed", reason="Evicted", message="m", containerStatuses=[status]))
    assert (found.exit_code, found.exit_reason, found.exit_message) == (137, "OOMKilled", "gone")
    assert (found.reason, found.message, found.over, found.ready) == ("Evicted", "m", True, False)


def test_a_waiting_pod_and_one_without_a_node() -> None:
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    found = parsed(api_pod(containerStatuses=[{"name": "elf", "state": waiting}]))
    assert (found.waiting, found.waiting_message) == ("ErrImagePull", "no such image")
    for reason, message in (("Unschedulable", "full"), ("SchedulingGated", "full"), ("Scheduled", "")):
        scheduled = {"type": "PodScheduled", "status": "False", "reason": reason, "message": "full"}
        assert parsed(api_pod(conditions=[scheduled])).unschedulable == message


def test_a_pod_that_is_being_deleted() -> None:
    body = api_pod()
    body["metadata"]["deletionTimestamp"] = "2023-11-14T22:13:25Z"
    assert parsed(body).deleting


def test_the_verdict_is_about_our_container_not_about_a_sidecar() -> None:
    """Kubelets list containers by name; a template may bring one that comes before ours."""
    ours = {"name": "elf", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
    sidecar = {"name": "a-sidecar", "state": {"terminated": {"exitCode": 0}}}
    found = parsed(api_pod(phase="Failed", containerStatuses=[sidecar, ours]))
    assert (found.exit_code, found.exit_reason) == (137, "OOMKilled")


@pytest.mark.parametrize("label", [names.LABEL_ROLE, names.LABEL_INDEX, names.LABEL_INCARNATION])
def test_a_pod_without_our_labels_is_none_of_ours(label: str) -> None:
    body = api_pod()
    del body["metadata"]["labels"][label]
    assert parse_pod(body) is None
    body["metadata"]["labels"][label] = "reindeer"
    assert parse_pod(body) is None


def test_time_that_was_never_written_is_zero() -> None:
    assert parse_time(None) == 0.0
