"""Reading a job from a file: what is wrong is said with the file and, where there is one, the line."""

from __future__ import annotations

import io
import json
import pathlib
import uuid

import pytest

from elf_cli.files import FileError, read_job
from elf_operator.spec import parse_job

JOB = """\
apiVersion: northpole.dev/v1alpha1
kind: ElfTrainingJob
metadata: {name: sleigh}
spec: {task: {entrypoint: "m:C"}}
"""
OTHER = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n"

BAD = {
    "an unclosed brace": (JOB.replace("sleigh}", "sleigh"), r":4: not YAML: "),
    "a tab": (JOB + "more:\n\tless: 1\n", r":6: not YAML: "),
    "a key twice nested wrongly": ("a: b: c\n", r":1: not YAML: mapping values are not allowed here"),
    "nothing": ("", r": holds 0 objects of kind ElfTrainingJob, one is expected"),
    "only comments": ("# later\n---\n# even later\n", r": holds 0 objects of kind ElfTrainingJob"),
    "another kind": (OTHER, r": holds 0 objects of kind ElfTrainingJob"),
    "a list": ("- 1\n- 2\n", r": holds 0 objects of kind ElfTrainingJob"),
    "two jobs": (f"{JOB}---\n{JOB}", r": holds 2 objects of kind ElfTrainingJob, one is expected"),
    "another version": (
        JOB.replace("v1alpha1", "v2"),
        r": apiVersion: is 'northpole.dev/v2', 'northpole.dev/v1alpha1' is expected",
    ),
    "no version": (JOB.split("\n", 1)[1], r": apiVersion: is None, 'northpole.dev/v1alpha1' is expected"),
    "no metadata": (JOB.replace("metadata: {name: sleigh}\n", ""), r": metadata.name: is required"),
    "metadata that is text": (JOB.replace("{name: sleigh}", "sleigh"), r": metadata.name: is required"),
}


@pytest.mark.parametrize("sentence", BAD)
def test_a_file_that_is_of_no_use(tmp_path: pathlib.Path, sentence: str) -> None:
    text, expected = BAD[sentence]
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(FileError, match=expected) as raised:
        read_job(str(path))
    assert str(raised.value).startswith(str(path))


def test_a_missing_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileError, match=r"none\.yaml: No such file or directory"):
        read_job(str(tmp_path / "none.yaml"))


def test_a_folder(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileError, match="Is a directory"):
        read_job(str(tmp_path))


def test_a_file_that_is_no_text(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(FileError, match=r"model\.safetensors: "):
        read_job(str(path))


def test_control_characters_are_no_yaml(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(b"kind: \x00\n")
    with pytest.raises(FileError, match="not YAML"):
        read_job(str(path))


def test_a_job_among_other_objects(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(f"{OTHER}---\n---\n{JOB}")
    body = read_job(str(path))
    assert body["spec"] == {"task": {"entrypoint": "m:C"}}
    assert (body["metadata"]["name"], body["metadata"]["namespace"]) == ("sleigh", "default")
    assert body["metadata"]["generation"] == 1


def test_each_reading_is_another_run(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(JOB.replace("sleigh}", "sleigh, namespace: pole, uid: mine}"))
    first, second = read_job(str(path)), read_job(str(path))
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    assert uuid.UUID(first["metadata"]["uid"])
    assert first["metadata"]["namespace"] == "pole"


def test_a_whole_number_means_what_kubectl_would_send(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "job.yaml"
    numbers = "homes: {replicas: 4.0}, optimizer: {args: {betas: [1.0, 0.5], foreach: true, eps: .inf}}, task"
    path.write_text(JOB.replace("task", numbers))
    job = read_job(str(path))
    assert parse_job(job).errors == ()
    assert json.dumps(job["spec"]["homes"]) == '{"replicas": 4}'
    args = job["spec"]["optimizer"]["args"]
    assert json.dumps(args["betas"]) == "[1, 0.5]" and args["foreach"] is True and args["eps"] == float("inf")


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(JOB))
    assert read_job("-")["metadata"]["name"] == "sleigh"
