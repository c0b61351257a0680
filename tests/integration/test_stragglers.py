"""Stragglers among real processes: an MDC that hardly gets to run is one, an MDC with a slow home is none."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow
DEADLINE = 120.0
STOPPED_SECONDS, RUNNING_SECONDS = 0.5, 0.005
GRADIENT_SECONDS = 0.05
"""More than a turn of the stopped MDC: gradients come in another turn than their weights left in, so that
each round costs it a stop, however quick it is."""
DAWDLER = '''
import time
from elf_worker.tasks.naughty_or_nice import NaughtyOrNice

class Dawdler(NaughtyOrNice):
    """The first homes take their time."""
    def __init__(self, pause=0.0, dawdlers=1, **kwargs):
        super().__init__(**kwargs)
        self.pause, self.dawdlers = pause, dawdlers

    def batches(self, home, round):
        if home < self.dawdlers:
            time.sleep(self.pause)
        yield from super().batches(home, round)
'''


def begin(
    folder: pathlib.Path, pause: float = 0.0, dawdlers: int = 1, rounds: int = 40, per_pod: int = 1
) -> subprocess.Popen[str]:
    """A run of four homes, each a process unless there are more per pod, and two MDCs."""
    task = {"records": 40, "pause": pause, "dawdlers": dawdlers}
    job = {
        "apiVersion": "northpole.dev/v1alpha1",
        "kind": "ElfTrainingJob",
        "metadata": {"name": "race"},
        "spec": {
            "rounds": rounds,
            "evaluateEvery": rounds,
            "task": {"entrypoint": "dawdler:Dawdler", "args": task},
            "homes": {"replicas": 4, "perPod": per_pod},
            "miniDataCenters": {"replicas": 2},
            "failurePolicy": {"stragglerFactor": "5"},
        },
    }
    folder.mkdir()
    (folder / "dawdler.py").write_text(DAWDLER)
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    flags = ["--plain", "--directory", "run", "--report", "report.json"]
    return subprocess.Popen(
        [sys.executable, "-m", "elf_cli", "run", "job.yaml", *flags],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(run: subprocess.Popen[str], folder: pathlib.Path) -> dict[str, Any]:
    """The report, and under `said` what was printed."""
    said, _ = run.communicate(timeout=DEADLINE)
    assert run.returncode == 0, said
    return dict(json.loads((folder / "report.json").read_text())) | {"said": said}


def rounds_of(folder: pathlib.Path) -> int:
    try:
        return int(json.loads((folder / "run" / "progress.json").read_text())["round"])
    except FileNotFoundError:
        return 0


def process_of(folder: pathlib.Path, pod: str) -> int:
    """Who writes this pod's log."""
    log = folder / "run" / "logs" / f"{pod}.log"
    for process in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit() and (process / "fd" / "1").readlink() == log:
                return int(process.name)
    raise AssertionError(f"{pod} does not run")


def trained(folder: pathlib.Path, **how: Any) -> dict[str, Any]:
    return finished(begin(folder, **how), folder)


@pytest.mark.timeout(300)
def test_an_mdc_that_hardly_gets_to_run_is_replaced_and_no_bit_changes(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "slow"
    run = begin(folder, pause=GRADIENT_SECONDS, dawdlers=4)
    deadline = time.monotonic() + DEADLINE
    while rounds_of(folder) < 2:
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    pid = process_of(folder, "race-mdc-1-0")
    with contextlib.suppress(ProcessLookupError):  # it is replaced
        while run.poll() is None:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(STOPPED_SECONDS)
            os.kill(pid, signal.SIGCONT)
            time.sleep(RUNNING_SECONDS)
    report = finished(run, folder)
    verdict = r"race-mdc-1-0 took \d\S* s a round, the others \d\S* s: more than 5 times as long"
    assert re.search(verdict + "; replaced by race-mdc-1-1", report["said"]), report["said"]
    assert (report["replaced"], report["exact"]) == (1, True)
    assert report["modelDigest"] == trained(tmp_path / "plain", per_pod=4)["modelDigest"]


@pytest.mark.timeout(300)
def test_a_home_that_dawdles_costs_no_mdc_its_place(tmp_path: pathlib.Path) -> None:
    report = trained(tmp_path / "slow", pause=0.3, rounds=12)
    assert report["replaced"] == 0
    assert min(record["seconds"] for record in report["perRound"]) >= 0.3, "it did dawdle in every round"
    assert report["modelDigest"] == trained(tmp_path / "plain", rounds=12, per_pod=4)["modelDigest"]
