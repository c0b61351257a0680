"""Local runs of pods that hold many homes: the digest tells who was computed how."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

import pytest
import yaml

DEADLINE = 90.0


def trained(folder: pathlib.Path, task: str, batching: str, per_pod: int, *flags: str, mdcs: int = 2) -> Any:
    """The report of a run with 40 homes."""
    folder.mkdir()
    spec = {
        "task": {"entrypoint": f"elf_worker.tasks.{task}"},
        "rounds": 30,
        "optimizer": {"name": "SGD", "args": {"lr": "0.1"}},
        "homes": {"replicas": 40, "perPod": per_pod, "batching": batching},
        "miniDataCenters": {"replicas": mdcs},
    }
    body = {"apiVersion": "northpole.dev/v1alpha1", "kind": "ElfTrainingJob", "metadata": {"name": "many"}}
    (folder / "job.yaml").write_text(yaml.safe_dump(body | {"spec": spec}))
    command = [sys.executable, "-m", "elf_cli", "run", "job.yaml", "--report", "report.json", *flags]
    subprocess.run(command, cwd=folder, check=True, timeout=DEADLINE, capture_output=True)
    return json.loads((folder / "report.json").read_text())


NICE, LINEAR = "naughty_or_nice:NaughtyOrNice", "linear:Linear"


@pytest.mark.parametrize("task", [LINEAR, NICE])
def test_exact_changes_no_bit(task: str, tmp_path: pathlib.Path) -> None:
    one_by_one = trained(tmp_path / "off", task, "off", 20)
    together = trained(tmp_path / "exact", task, "exact", 14, "--kill", "mdc/1@round:5", mdcs=3)
    assert together["replaced"] == 1
    assert together["exact"] is True
    assert together["modelDigest"] == one_by_one["modelDigest"]
    for name in ("homes", "loss", "gradient_norm", "classes"):
        assert together["statistics"]["lastRound"][name] == one_by_one["statistics"]["lastRound"][name]


def test_fast_is_a_function_of_the_job_alone(tmp_path: pathlib.Path) -> None:
    """Not of pods, data centers or deaths. (Where kernels agree, it may be that of exact, too.)"""
    one = trained(tmp_path / "one", NICE, "fast", 20)
    other = trained(tmp_path / "other", NICE, "fast", 3, "--kill", "mdc/1@round:5", mdcs=3)
    assert other["replaced"] == 1
    assert one["modelDigest"] == other["modelDigest"]
