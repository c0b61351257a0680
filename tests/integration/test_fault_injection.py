"""Rehearsed faults: as many failures as were injected, and training goes on."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

import pytest
import yaml

from elf_worker.contract import injected

pytestmark = pytest.mark.slow
HOMES, ROUNDS, SEED = 6, 12, 3


def trained(folder: pathlib.Path, **changes: Any) -> dict[str, Any]:
    """The report of a short run."""
    spec = {
        "rounds": ROUNDS,
        "evaluateEvery": ROUNDS,
        "task": {"entrypoint": "elf_worker.tasks.naughty_or_nice:NaughtyOrNice", "args": {"records": 40}},
        "homes": {"replicas": HOMES, "perPod": 3},
        "miniDataCenters": {"replicas": 2},
        **changes,
    }
    kind = {"apiVersion": "northpole.dev/v1alpha1", "kind": "ElfTrainingJob", "metadata": {"name": "drill"}}
    folder.mkdir(exist_ok=True)
    (folder / "job.yaml").write_text(yaml.safe_dump(kind | {"spec": spec}))
    command = [sys.executable, "-m", "elf_cli", "run", "job.yaml", "--plain", "--report", "report.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads((folder / "report.json").read_text()))


@pytest.mark.timeout(200)
@pytest.mark.parametrize("probability", [0, 0.1, 0.5])
def test_as_many_homes_fail_as_were_made_to(tmp_path: pathlib.Path, probability: float) -> None:
    report = trained(
        tmp_path,
        round={"quorum": 1},
        faultInjection={"homeFailureProbability": probability, "seed": SEED},
    )
    struck = [
        injected(probability, SEED, "home", home, round_) for home in range(HOMES) for round_ in range(ROUNDS)
    ]
    homes = report["statistics"]["total"]["homes"]
    assert homes["served"] == struck.count(False)
    assert homes["failed"] == ({"Injected": sum(struck)} if any(struck) else {})
    assert report["rounds"] == ROUNDS
    assert report["exact"] is not any(struck)


@pytest.mark.timeout(200)
def test_mdcs_that_are_made_to_die_change_no_bit(tmp_path: pathlib.Path) -> None:
    plain = trained(tmp_path / "plain")
    drilled = trained(tmp_path / "drilled", faultInjection={"mdcFailureProbability": 0.1, "seed": SEED})
    assert drilled["replaced"] >= 1
    assert drilled["modelDigest"] == plain["modelDigest"]
    assert drilled["exact"] is True
    assert drilled["statistics"]["total"]["homes"] == {"served": HOMES * ROUNDS, "failed": {}}
