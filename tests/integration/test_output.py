"""A model that has nowhere to go is kept until it has."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import time

import jsonschema
import pytest
import safetensors
import yaml

from elf_operator import schema

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]
DEADLINE = 90.0


def problem(folder: pathlib.Path) -> str:
    """What the NPDC says of its output."""
    [*found] = folder.glob("runs/*/progress.json")
    return str(json.loads(found[0].read_text()).get("output", {}).get("problem", "")) if found else ""


def test_a_job_is_complete_once_its_model_is_where_it_shall_be(tmp_path: pathlib.Path) -> None:
    blocked = tmp_path / "bucket"
    blocked.write_text("a file where a folder should be")
    spec = {
        "rounds": 5,
        "task": {"entrypoint": "elf_worker.tasks.naughty_or_nice:NaughtyOrNice", "args": {"records": 40}},
        "homes": {"replicas": 2},
        "output": {"url": f"{blocked.as_uri()}/night"},
    }
    kind = {"apiVersion": "northpole.dev/v1alpha1", "kind": "ElfTrainingJob", "metadata": {"name": "gift"}}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(kind | {"spec": spec}))
    command = [sys.executable, "-m", "elf_cli", "run", "job.yaml", "--plain", "--report", "run.json"]
    out = tmp_path / "out"
    sentence = f"spec.output cannot be written: {blocked.as_uri()}/night: NotADirectoryError"
    with out.open("wb") as log, subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log) as run:
        try:
            deadline = time.monotonic() + DEADLINE
            while "training is done" not in problem(tmp_path) or sentence not in out.read_text():
                assert run.poll() is None and time.monotonic() < deadline, out.read_text()
                time.sleep(0.05)
            blocked.unlink()
            assert run.wait(DEADLINE) == 0, out.read_text()
        finally:
            run.kill()
    report = json.loads((blocked / "night" / "report.json").read_text())
    outcome = json.loads((tmp_path / "run.json").read_text())
    assert report["training"]["modelDigest"] == outcome["modelDigest"]
    assert (report["training"]["phase"], report["training"]["round"]) == ("Complete", 5)
    described = schema.crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    jsonschema.validate({"training": report["training"]}, described)
    assert report["training"].keys() <= described["properties"]["training"]["properties"].keys()
    assert report["statistics"]["total"]["homes"]["served"] == 10
    with safetensors.safe_open(blocked / "night" / "model.safetensors", "numpy") as model:
        assert model.keys()
    assert f"model and report: {blocked.as_uri()}/night" in out.read_text()
