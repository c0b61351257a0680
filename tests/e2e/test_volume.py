"""A checkpoint volume outlives all data centers at once, and a suspended job; the model lands on it, too."""

from __future__ import annotations

import base64
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from e2e.cluster import Kubectl, bystander, round_of, wait
from e2e.conftest import FEW_PODS, LONG
from e2e.test_training import complete, start
from elf_cli.views import weights

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
Make = Callable[..., dict[str, Any]]
ASK = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}}


@pytest.fixture
def claim(kubectl: Kubectl, default_storage: None) -> Iterator[str]:
    """A PersistentVolumeClaim that is bound, or will be when it is used."""
    made = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "states"}, "spec": ASK}
    assert kubectl.apply(made).returncode == 0
    yield "states"
    kubectl("delete", "pvc", "states", "--wait=false")


READ = """
import base64, json, pathlib
found = pathlib.Path("/kept/result").iterdir()
print(json.dumps({path.name: base64.b64encode(path.read_bytes()).decode() for path in found}))
"""


def files_on(kubectl: Kubectl, claim: str, image: str) -> dict[str, bytes]:
    """Name → content of the files in the folder `result` of a volume, as a pod sees them."""
    with bystander(kubectl, "reader", image, user=10001, claim=claim) as pod:
        said = json.loads(kubectl.python(pod, READ))
    return {name: base64.b64decode(content) for name, content in said.items()}


def first_round_of(kubectl: Kubectl, incarnation: int) -> int | None:
    """The rounds done when this NPDC is first heard of; None while it is not."""
    training = kubectl.job("digits")["status"].get("training", {})
    return round_of(kubectl.job("digits")) if training.get("incarnation") == incarnation else None


def test_the_volume_outlives_all_data_centers_and_a_suspension(
    kubectl: Kubectl,
    sample: Make,
    local_report: Make,
    claim: str,
    images: dict[str, str],
    tmp_path: pathlib.Path,
) -> None:
    """The claim holds both the checkpoint and, in the end, the model."""
    keeps = {"checkpoint": {"everyRounds": 10, "volumeClaim": claim}}
    job = sample(**LONG, homes=FEW_PODS, northPole=keeps, output={"volumeClaim": claim, "path": "result"})
    start(kubectl, job, until_round=40)
    centers = "northpole.dev/role in (npdc,mdc)"
    kubectl("delete", "pod", "--force", "--grace-period=0", "--wait=false", "-l", centers)
    taken_up = wait("a new NPDC trains", lambda: first_round_of(kubectl, 1), 120)
    print(f"all data centers deleted after round 40 or later; heard of again after {taken_up} rounds")
    assert taken_up >= 40

    suspended = json.dumps({"spec": {"suspend": True}})
    kubectl("patch", "etj", "digits", "--type=merge", "-p", suspended)
    wait("no pods", lambda: not kubectl.pods("digits"), 120)
    before = round_of(kubectl.job("digits"))
    assert before < LONG["rounds"], "suspended too late to show anything"
    kubectl("patch", "etj", "digits", "--type=merge", "-p", suspended.replace("true", "false"))
    resumed = wait("it trains again", lambda: first_round_of(kubectl, 2), 120)
    print(f"suspended after {before} rounds; heard of again after {resumed} rounds")
    assert resumed >= before - 10

    done = complete(kubectl, "digits")["status"]["training"]
    assert done["exact"] is True
    assert done["modelDigest"] == local_report(**LONG)["modelDigest"]

    kept = files_on(kubectl, claim, images["worker"])
    (tmp_path / "model").write_bytes(kept["model.safetensors"])
    assert weights.digest(tmp_path / "model") == done["modelDigest"]
    assert json.loads(kept["report.json"])["training"]["modelDigest"] == done["modelDigest"]
