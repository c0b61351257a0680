"""Every verb that looks at a job or touches it, as the command that a person types."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from e2e.cluster import Kubectl, wait
from e2e.conftest import FEW_PODS, LONG
from e2e.faults import Patient, replaced
from e2e.test_training import complete, start
from e2e.test_volume import claim  # noqa: F401

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
Make = Callable[..., dict[str, Any]]


def command(kubectl: Kubectl, *args: str) -> list[str]:
    where = ["--context", kubectl.context, "--namespace", kubectl.namespace]
    return [sys.executable, "-m", "elf_cli", *args, *where]


def elf(kubectl: Kubectl, *args: str, status: int = 0) -> str:
    """What the command prints; of one that refuses, why."""
    done = subprocess.run(
        command(kubectl, *args), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stderr


def test_verbs_that_look(onlooked: Patient) -> None:
    kubectl, job = onlooked.kubectl, onlooked.job
    shown = elf(kubectl, "status", job)
    assert shown.startswith(f"{job}  Running  round ") and shown.count("4 homes: 4 ready") == 3
    data = json.loads(elf(kubectl, "status", job, "-o", "json"))
    assert data["tree"]["health"] == "serves"
    assert [mdc["health"] for mdc in data["tree"]["mdcs"]] == ["serves"] * 3
    assert sum(mdc["homes"]["ready"] for mdc in data["tree"]["mdcs"]) == 12
    assert [row.split()[0] for row in elf(kubectl, "status").splitlines()] == ["NAME", job]

    npdc = onlooked.pod("npdc")["metadata"]["name"]
    last = partial(elf, kubectl, "logs", job, "--role", "npdc", "--tail", "5")
    # A node may have thrown away what was said at the start; the NPDC says how it goes again and again.
    lines = wait("the NPDC's log has lines", last, 60).splitlines()
    assert all(line.startswith(npdc) for line in lines)
    writers = {line.split()[0] for line in elf(kubectl, "logs", job, "--tail", "3").splitlines()}
    assert writers <= {pod["metadata"]["name"] for pod in kubectl.pods(job)}

    found = json.loads(elf(kubectl, "events", job, "-o", "json"))
    assert {"Scheduled", "Started"} <= {event["reason"] for event in found}
    assert [e["lastSeen"][:19] for e in found] == sorted(e["lastSeen"][:19] for e in found)


def test_errors_say_what_to_do(onlooked: Patient) -> None:
    kubectl, job = onlooked.kubectl, onlooked.job
    assert f"did you mean {job}?" in elf(kubectl, "status", job[:-1], status=1)
    assert "there is no mdc 9, they are numbered 0 to 2" in elf(
        kubectl, "kill", job, "mdc/9", "--yes", status=2
    )
    assert "give --yes" in elf(kubectl, "kill", job, "mdc/1", status=2)
    assert "is Running after" in elf(kubectl, "model", job, status=1)


def test_a_killed_mdc_heals_before_the_eyes_of_who_watches(patient: Patient, tmp_path: pathlib.Path) -> None:
    kubectl, job, before = patient.kubectl, patient.job, patient.homes()
    victim = patient.pod("mdc", 1)["metadata"]["name"]
    incarnation, round_ = patient.serving()[1][0], patient.round()
    said = tmp_path / "watched"
    with said.open("w") as file, (tmp_path / "logs").open("w") as logged:
        watcher = subprocess.Popen(command(kubectl, "status", job, "--watch"), stdout=file)
        follower = subprocess.Popen(
            command(kubectl, "logs", job, "--role", "mdc", "-f", "--tail", "1"),
            stdout=logged,
        )
        try:
            wait("the job is shown", lambda: f"{job}  Running" in said.read_text(), 60)
            assert f"{victim} is dead" in elf(kubectl, "kill", job, "mdc/1", "--yes")
            wait("its successor serves", partial(replaced, patient, 1, incarnation, round_), 180)
            patient.wait_until_well()
            wait("it was told", lambda: f"{victim} was replaced" in said.read_text(), 30)
            wait("that it is healed, too", lambda: f"{victim}: healed in" in said.read_text(), 30)
            heir = patient.pod("mdc", 1)["metadata"]["name"]
            wait("its successor's log", lambda: heir in (tmp_path / "logs").read_text(), 60)
        finally:
            for process in (watcher, follower):
                process.terminate()
                process.wait(30)
    assert patient.homes() == before, "no home was restarted"
    told = [e["message"] for e in json.loads(elf(kubectl, "events", job, "-o", "json"))]
    assert any(victim in message and "replaced by" in message for message in told)


def test_suspend_and_resume(patient: Patient) -> None:
    kubectl, job = patient.kubectl, patient.job
    wait("a round is done", lambda: patient.round() > 0, 60)
    assert "is not suspended" in elf(kubectl, "resume", job)
    assert "start over from round 0" in elf(kubectl, "suspend", job)
    wait("no pods", lambda: not kubectl.pods(job), 120)
    wait("it says so", lambda: patient.look().get("state") == "Suspended", 30)
    assert f"{job}  Suspended" in elf(kubectl, "status", job)
    assert "is suspended already" in elf(kubectl, "suspend", job)
    assert "is resumed" in elf(kubectl, "resume", job)
    patient.wait_until_well(300)


def test_the_model_of_a_job_with_a_volume(
    kubectl: Kubectl,
    sample: Make,
    claim: str,  # noqa: F811
    tmp_path: pathlib.Path,
) -> None:
    checkpoint = {"checkpoint": {"everyRounds": 10, "volumeClaim": claim}}
    start(kubectl, sample(homes=FEW_PODS, northPole=checkpoint), until_round=5)
    training = complete(kubectl, "digits")["status"]["training"]
    place = json.loads(elf(kubectl, "model", "digits", "-o", "json"))
    assert (place["modelDigest"], place["problem"]) == (training["modelDigest"], None)
    told = json.loads(elf(kubectl, "model", "digits", "--output", str(tmp_path), "-o", "json"))
    assert told["verified"] is True and told["round"] == training["round"]

    from safetensors.numpy import load_file

    tensors = load_file(tmp_path / "digits.safetensors")
    assert sum(tensor.size for tensor in tensors.values()) > 0
    readers = lambda: kubectl.get("pods", "-l", "northpole.dev/model-reader=digits")["items"]  # noqa: E731
    wait("nothing is left of the pod that read it", lambda: not readers(), 60)


def test_a_job_without_a_volume_keeps_no_model(kubectl: Kubectl, sample: Make) -> None:
    start(kubectl, sample(homes=FEW_PODS, rounds=LONG["rounds"] // 20, target=None), until_round=1)
    complete(kubectl, "digits")
    assert "set spec.output or spec.northPole.checkpoint.volumeClaim" in elf(
        kubectl, "model", "digits", status=1
    )


def test_kubectl_finds_the_plugin(onlooked: Patient) -> None:
    """Where the console scripts are installed beside this Python."""
    scripts = pathlib.Path(sys.executable).parent
    if not (scripts / "kubectl-elf").exists():
        pytest.skip("kubectl-elf is not installed beside this Python: pip install -e .")
    where = [f"--context={onlooked.kubectl.context}", f"--namespace={onlooked.kubectl.namespace}"]
    done = subprocess.run(
        ["kubectl", "elf", "status", onlooked.job, *where],
        env={"PATH": f"{scripts}:/usr/local/bin:/usr/bin:/bin", **_home()},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0 and onlooked.job in done.stdout, done.stderr


def _home() -> dict[str, str]:
    return {key: os.environ[key] for key in ("HOME", "KUBECONFIG") if key in os.environ}
