"""Where the model lands: what a job may say of it, what its NPDC is given, and what is said when it fails."""

from __future__ import annotations

from typing import Any

import pytest

from builders import DEFAULTS, condition, decide, job, settled, valid, with_training, without, written
from elf_operator import destination, podbuilder
from elf_operator.builders import Manifest
from elf_operator.progress import acted_on
from elf_worker import contract
from elf_worker.contract import Role

BUCKET = {"url": "s3://bucket/night", "secret": "keys"}
VOLUME = {"volumeClaim": "models", "path": "night/one/"}


def pod(output: dict[str, Any], role: Role = Role.NPDC) -> Manifest:
    made = job(output=output)
    return podbuilder.pod(made, valid(made), DEFAULTS, role, 0, 0)["spec"]


def environment(spec: Manifest) -> dict[str, Any]:
    return {entry["name"]: entry.get("value") for entry in spec["containers"][0]["env"]}


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ({}, "spec.output: either url or volumeClaim is expected"),
        ({"url": "s3://a", "volumeClaim": "b"}, "spec.output: either url or volumeClaim is expected"),
        ({"volumeClaim": "b", "secret": "c"}, "spec.output.secret: is for spec.output.url"),
        ({"url": "s3://a", "path": "c"}, "spec.output.path: is for spec.output.volumeClaim"),
        ({"volumeClaim": "b", "path": "../c"}, "spec.output.path: leads out of the volume"),
        ({"url": "bucket/night"}, "spec.output.url: 'bucket/night' is malformed; the URL of a folder"),
        ({"ur": "s3://a"}, "spec.output.ur: no such field; did you mean 'url'?"),
        ({"url": "s3://a", "secret": "A B"}, "spec.output.secret: 'A B' is malformed; the name of a Secret"),
    ],
    ids=str,
)
def test_what_cannot_be_is_named(output: dict[str, Any], sentence: str) -> None:
    [error] = job(output=output).errors
    assert error.startswith(sentence)


def test_a_bucket_comes_with_its_credentials() -> None:
    spec = pod(BUCKET)
    assert environment(spec)[contract.ENV_OUTPUT] == "s3://bucket/night"
    assert spec["containers"][0]["envFrom"] == [{"secretRef": {"name": "keys"}}]
    assert [volume["name"] for volume in spec["volumes"]] == ["tmp"]


@pytest.mark.parametrize(
    ("path", "url"),
    [
        (None, "file:///var/elf/output"),
        ("night", "file:///var/elf/output/night"),
        ("night/one/", "file:///var/elf/output/night/one"),
    ],
)
def test_a_volume_is_mounted(path: str | None, url: str) -> None:
    spec = pod({"volumeClaim": "models"} | ({"path": path} if path else {}))
    assert environment(spec)[contract.ENV_OUTPUT] == url
    mounts = {m["name"]: m["mountPath"] for m in spec["containers"][0]["volumeMounts"]}
    assert mounts["output"] == contract.OUTPUT_DIR
    claims = {v["name"]: v.get("persistentVolumeClaim") for v in spec["volumes"]}
    assert claims["output"] == {"claimName": "models"}


def test_one_claim_for_both_is_one_volume() -> None:
    made = job(output={"volumeClaim": "both"}, northPole={"checkpoint": {"volumeClaim": "both"}})
    spec = podbuilder.pod(made, valid(made), DEFAULTS, Role.NPDC, 0, 0)["spec"]
    claims = [v for v in spec["volumes"] if "persistentVolumeClaim" in v]
    assert claims == [{"name": "checkpoint", "persistentVolumeClaim": {"claimName": "both"}}]
    mounts = {m["mountPath"]: m["name"] for m in spec["containers"][0]["volumeMounts"]}
    assert mounts[contract.OUTPUT_DIR] == mounts[contract.CHECKPOINT_DIR] == "checkpoint"


@pytest.mark.parametrize("role", [Role.MDC, Role.HOME])
@pytest.mark.parametrize("output", [BUCKET, VOLUME], ids=["bucket", "volume"])
def test_nobody_but_the_npdc_has_any_of_it(role: Role, output: dict[str, Any]) -> None:
    spec = pod(output, role)
    assert contract.ENV_OUTPUT not in environment(spec)
    assert "envFrom" not in spec["containers"][0]
    assert [volume["name"] for volume in spec["volumes"]] == ["tmp"]


def test_that_it_cannot_be_written_is_said_once_and_while_it_lasts() -> None:
    fine = settled(output=BUCKET)
    bad = with_training(fine, output={"url": BUCKET["url"], "problem": "no such bucket"})
    assert acted_on(fine.training) != acted_on(bad.training), "the operator looks at it"
    decided = decide(bad)
    degraded = condition(decided.status, "Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", "OutputNotWritten")
    assert degraded["message"] == "spec.output cannot be written: no such bucket"
    assert [event.reason for event in decided.events] == ["OutputNotWritten"]
    assert not decide(written(bad, decided)).events
    mended = with_training(written(bad, decided), output={"url": BUCKET["url"], "problem": ""})
    assert decide(mended).status["state"] == "Running"


def test_a_fault_is_said_before_it() -> None:
    bad = with_training(settled(output=BUCKET), output={"problem": "no such bucket"})
    worse = without(bad, "sleigh-mdc-1-0")
    degraded = condition(decide(worse).status, "Degraded")
    assert (degraded["reason"], degraded["message"]) == ("Replacing", "1 of 2 MDCs serve, not MDC 1")


@pytest.mark.parametrize(
    ("output", "url", "place"),
    [
        (None, None, None),
        ({"url": "s3://bucket/night/"}, "s3://bucket/night/", "s3://bucket/night/model.safetensors"),
        (
            {"volumeClaim": "models"},
            f"file://{contract.OUTPUT_DIR}",
            "volume claim models, file model.safetensors",
        ),
        (
            VOLUME,
            f"file://{contract.OUTPUT_DIR}/night/one",
            "volume claim models, file night/one/model.safetensors",
        ),
    ],
    ids=["nowhere", "bucket", "volume", "folder"],
)
def test_pods_and_people_are_told_of_one_place(
    output: dict[str, Any] | None, url: str | None, place: str | None
) -> None:
    found = destination.parse(output)
    assert (found and found.mounted, found and found.place_of("model.safetensors")) == (url, place)
    if found and url and found.claim:
        assert f"file://{found.path_of('model.safetensors')}" == f"{url}/model.safetensors"
