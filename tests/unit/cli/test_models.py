"""Where a model is, the pod that reads it, and its digest."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import struct
import subprocess
import sys
from typing import Any

import pytest

from builders import DEFAULTS, body
from elf_cli.cluster import reader
from elf_cli.refusal import TroubleError
from elf_cli.views import models, weights
from elf_operator import names
from elf_operator.builders import Defaults
from elf_worker.contract import CHECKPOINT_DIR, OUTPUT_DIR

DIGEST = "sha256:ab"


def job(claim: str | None = "states", state: str = "Complete", **spec: Any) -> dict[str, Any]:
    made = body(**spec)
    if claim:
        made["spec"]["northPole"] = {
            **made["spec"].get("northPole", {}),
            "checkpoint": {"volumeClaim": claim},
        }
    training = {"round": 9} | ({"modelDigest": DIGEST} if state == "Complete" else {})
    made["status"] = {"state": state, "training": training}
    return made


@pytest.mark.parametrize(
    ("claim", "state", "said"),
    [
        ("states", "Complete", ""),
        (None, "Complete", "set spec.output or spec.northPole.checkpoint.volumeClaim; trained again"),
        ("states", "Running", "is Running after 9 rounds: its model is there once it is Complete"),
        (None, "Suspended", "is Suspended after 9 rounds: it has no trained model"),
        ("states", "Failed", "is Failed after 9 rounds: it has no trained model"),
    ],
)
def test_whether_there_is_a_model(claim: str | None, state: str, said: str) -> None:
    kept = models.kept(job(claim, state))
    assert said in kept.why_not and bool(kept.why_not) == bool(said)
    data = kept.as_data()
    assert data["problem"] == (kept.why_not or None)
    assert data["keptOn"] == ({"volumeClaim": claim, "file": "state.safetensors"} if claim else None)


def test_a_bucket_is_read_by_who_has_its_keys() -> None:
    output = {"url": "s3://bucket/night/"}
    kept, place = models.kept(job(None, output=output)), "s3://bucket/night/model.safetensors"
    assert kept.why_not == f"sleigh: its model is where spec.output put it: {place}"
    assert kept.as_data()["output"] == place and kept.as_data()["keptOn"] is None
    assert models.kept(job("states", output=output)).claim == "states", "it can be fetched"


@pytest.mark.parametrize("claim", [None, "states"])
@pytest.mark.parametrize(
    ("path", "file"), [({}, "model.safetensors"), ({"path": "a/b/"}, "a/b/model.safetensors")]
)
def test_what_has_landed_on_a_claim_is_fetched_from_there(
    claim: str | None, path: dict[str, str], file: str
) -> None:
    kept = models.kept(job(claim, output={"volumeClaim": "gifts", **path}))
    assert not kept.why_not
    assert kept.as_data()["keptOn"] == {"volumeClaim": "gifts", "file": file}
    assert kept.as_data()["output"] == f"volume claim gifts, file {file}"


def container(image: str) -> dict[str, Any]:
    return {"name": "elf", "image": image, "imagePullPolicy": "Never"}


def test_the_image_is_that_of_the_jobs_pods() -> None:
    pods = [{"spec": {"containers": [{"name": "sidecar", "image": "no"}, container("trained:1")]}}]
    assert models.image_of(job(), pods, None) == Defaults("trained:1", "Never")
    assert models.image_of(job(), pods, "asked:2").worker_image == "asked:2"
    assert models.image_of(job(image="spec:3"), [], None).worker_image == "spec:3"
    with pytest.raises(TroubleError, match="give --image"):
        models.image_of(job(), [], None)


def test_the_reader_can_do_nothing_but_read() -> None:
    template = {"spec": {"nodeSelector": {"disk": "fast"}, "containers": [{"name": "sidecar", "image": "s"}]}}
    made = models.reader_pod(job(northPole={"template": template}), DEFAULTS, "abc")
    meta, spec = made["metadata"], made["spec"]
    assert meta["name"] == "sleigh-model-abc"
    assert not [key for key in meta["labels"] if key in (names.LABEL_JOB, names.LABEL_ROLE)]
    (owner,) = meta["ownerReferences"]
    assert owner["uid"] == "uid-of-sleigh" and not owner["controller"]
    assert spec["automountServiceAccountToken"] is False and spec["restartPolicy"] == "Never"
    assert spec["activeDeadlineSeconds"] == models.DEADLINE_SECONDS
    assert spec["nodeSelector"] == {"disk": "fast"}, "where the volume can be reached"
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["seccompProfile"]
    (only,) = spec["containers"]
    assert only["name"] == "elf" and only["image"] == DEFAULTS.worker_image and "ports" not in only
    assert only["securityContext"]["readOnlyRootFilesystem"] and only["securityContext"]["capabilities"]
    (mount,) = [m for m in only["volumeMounts"] if m["name"] == "checkpoint"]
    assert mount["readOnly"] is True
    assert {"name": "checkpoint", "persistentVolumeClaim": {"claimName": "states"}} in spec["volumes"]
    assert only["command"][:2] == ["python3", "-c"] and "def export(" in only["command"][2]


OUTPUT = {"volumeClaim": "gifts", "path": "night"}


@pytest.mark.parametrize(
    ("output", "name", "claim", "path"),
    [
        (OUTPUT, "output", "gifts", OUTPUT_DIR),
        ({"volumeClaim": "states"}, "output", "states", OUTPUT_DIR),
        ({"url": "s3://bucket", "secret": "keys"}, "checkpoint", "states", CHECKPOINT_DIR),
    ],
    ids=["output", "one claim", "bucket"],
)
def test_the_reader_has_one_volume_and_no_credentials(
    output: dict[str, Any], name: str, claim: str, path: str
) -> None:
    spec = models.reader_pod(job(output=output), DEFAULTS, "abc")["spec"]
    assert spec["volumes"] == [
        {"name": "tmp", "emptyDir": {}},
        {"name": name, "persistentVolumeClaim": {"claimName": claim}},
    ]
    (only,) = spec["containers"]
    assert only["volumeMounts"] == [
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": name, "mountPath": path, "readOnly": True},
    ]
    assert "envFrom" not in only and spec["automountServiceAccountToken"] is False


def test_an_image_that_is_asked_for_comes_before_that_of_the_spec() -> None:
    made = models.reader_pod(job(image="spec:3"), Defaults("asked:2"), "abc")
    assert made["spec"]["containers"][0]["image"] == "asked:2"


def stored(path: pathlib.Path, tensors: dict[str, tuple[str, list[int], bytes]]) -> pathlib.Path:
    """A safetensors file, by hand."""
    header, data = {"__metadata__": {"a": "b"}}, b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}  # type: ignore[dict-item]
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_the_digest_does_not_depend_on_the_order_in_the_file(tmp_path: pathlib.Path) -> None:
    a, b = ("F32", [2], bytes(8)), ("F32", [1, 1], b"\x00\x00\x80\x3f")
    one = weights.digest(stored(tmp_path / "one", {"a": a, "b": b}))
    assert one == weights.digest(stored(tmp_path / "two", {"b": b, "a": a}))
    assert one != weights.digest(stored(tmp_path / "three", {"a": b, "b": a}))


@pytest.mark.parametrize("raw", [b"", b"\x00" * 8, b"\xff" * 20, struct.pack("<Q", 3) + b"{}x"])
def test_what_is_no_model_file(tmp_path: pathlib.Path, raw: bytes) -> None:
    (tmp_path / "file").write_bytes(raw)
    with pytest.raises(ValueError, match="no safetensors file"):
        weights.digest(tmp_path / "file")


def test_a_file_that_is_cut_short_or_of_another_type(tmp_path: pathlib.Path) -> None:
    path = stored(tmp_path / "cut", {"a": ("F32", [2], bytes(8))})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="cut short"):
        weights.digest(path)
    with pytest.raises(ValueError, match="parameter a is F16"):
        weights.digest(stored(tmp_path / "half", {"a": ("F16", [1], bytes(2))}))


def test_a_checkpoint_becomes_the_model_of_the_digest(tmp_path: pathlib.Path) -> None:
    from elf_operator.podbuilder import job_config
    from elf_operator.spec import parse_job
    from elf_worker.roles.trainer import Trainer

    parsed = parse_job(job())
    assert parsed.spec is not None
    config = job_config(parsed, parsed.spec)
    trainer = Trainer(config, 0, str(tmp_path / "volume"))
    trainer.save_checkpoint(trainer.initialise())
    model, summary = str(tmp_path / "model"), str(tmp_path / "summary")
    reader.export(str(tmp_path / "volume"), config.to_json(), model, summary)
    assert weights.digest(pathlib.Path(model)) == trainer.digest()
    told = json.loads(pathlib.Path(summary).read_text())
    assert told["round"] == 0 and told["bytes"] == pathlib.Path(model).stat().st_size
    other = config.to_json().replace(config.uid, "another")
    with pytest.raises(ValueError, match="state of another job"):
        reader.export(str(tmp_path / "volume"), other, model, summary)
    with pytest.raises(ValueError, match="holds no checkpoint"):
        reader.export(str(tmp_path / "empty"), config.to_json(), model, summary)


def test_what_has_landed_is_told_of_as_it_is(tmp_path: pathlib.Path) -> None:
    (tmp_path / "night").mkdir()
    (tmp_path / "night" / "model.safetensors").write_bytes(b"weights")
    summary = tmp_path / "summary"
    reader.find(str(tmp_path), "night/model.safetensors", str(summary))
    assert json.loads(summary.read_text()) == {
        "file": f"{tmp_path}/night/model.safetensors",
        "bytes": 7,
        "sha256": hashlib.sha256(b"weights").hexdigest(),
    }
    with pytest.raises(ValueError, match=r"^the volume holds no model\.safetensors$"):
        reader.find(str(tmp_path), "model.safetensors", str(summary))


def test_a_reader_of_what_has_landed_runs_by_itself_too() -> None:
    """It looks where the volume is mounted in its pod; here is no such folder."""
    made = models.reader_pod(job(output=OUTPUT), DEFAULTS, "abc")
    (container,) = made["spec"]["containers"]
    assert container["command"][3:] == [OUTPUT_DIR, "night/model.safetensors"]
    # -S: it needs nothing but the standard library.
    command = [sys.executable, "-S", *container["command"][1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (1, "the volume holds no night/model.safetensors\n")


def test_the_reader_runs_by_itself_and_says_in_one_line_why_it_cannot(tmp_path: pathlib.Path) -> None:
    """As its pod runs it: the source alone, given to python3 -c."""
    made = models.reader_pod(job(), DEFAULTS, "abc")
    (container,) = made["spec"]["containers"]
    config = next(entry["value"] for entry in container["env"] if entry["name"] == "ELF_JOB")
    env = {**os.environ, "ELF_JOB": config, "ELF_CHECKPOINT": str(tmp_path)}
    command = [sys.executable, *container["command"][1:]]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr == "the volume holds no checkpoint (state.safetensors)\n"
