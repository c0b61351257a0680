"""Homes a second, and memory, of pods that hold many: `python tests/bench/homes.py [--million]`.

Whole local runs of the shipped linear task, in the order of the rows: one process per home, many homes in
two pods (exact, fast, and one by one), then pods of 100, 1,000 and 10,000 homes for their memory. Homes a
second are those of rounds 2 to the last but one, by the clock of the NPDC's record. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import yaml

POLL_SECONDS = 0.1


def job(homes: int, per_pod: int, rounds: int, batching: str = "exact", mdcs: int = 1) -> dict[str, Any]:
    """A job of the linear task."""
    return {
        "apiVersion": "northpole.dev/v1alpha1",
        "kind": "ElfTrainingJob",
        "metadata": {"name": "many"},
        "spec": {
            "task": {"entrypoint": "elf_worker.tasks.linear:Linear"},
            "rounds": rounds,
            "evaluateEvery": rounds,
            "optimizer": {"name": "SGD", "args": {"lr": "0.2"}},
            "homes": {"replicas": homes, "perPod": per_pod, "batching": batching},
            "miniDataCenters": {"replicas": mdcs},
            "round": {"deadlineSeconds": 3600},
        },
    }


def run(spec: dict[str, Any]) -> dict[str, Any]:
    """The report of a local run, with `wall` seconds and `peak` MiB of the largest pod of each role."""
    with tempfile.TemporaryDirectory() as folder:
        file, report = pathlib.Path(folder, "job.yaml"), pathlib.Path(folder, "report.json")
        file.write_text(yaml.safe_dump(spec))
        command = [sys.executable, "-m", "elf_cli", "run", str(file), "--report", str(report)]
        began, peak = time.perf_counter(), dict[str, int]()
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None:
                look(folder, peak)
                time.sleep(POLL_SECONDS)
        return {**json.loads(report.read_text()), "wall": time.perf_counter() - began, "peak": peak}


def look(folder: str, peak: dict[str, int]) -> None:
    """Note the high-water marks of all pods that write their logs below this folder."""
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            log = os.readlink(f"/proc/{entry}/fd/1")
            mark = re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{entry}/status").read_text())
        except OSError:
            continue
        role = re.search(r"many-(home|mdc|npdc)-", pathlib.Path(log).name)
        if log.startswith(folder) and role and mark:
            peak[role[1]] = max(peak.get(role[1], 0), int(mark[1]) // 1024)


def rate(report: dict[str, Any]) -> float:
    """Homes a second: all but the first round, which proves, and the last, which evaluates."""
    seconds = [entry["seconds"] for entry in report["perRound"][1:-1]]
    return float(report["perRound"][0]["counted"]) / statistics.median(seconds)


def row(name: str, report: dict[str, Any], base: float | None) -> float:
    """One line of the table; its homes a second."""
    found = rate(report)
    times = f"{found / base:8.1f}" if base else "       1"
    print(f"{name:44} {found:10.0f} {times}   {report['peak']}  {report['modelDigest'][7:19]}", flush=True)
    return found


def main() -> None:
    """Print a table."""
    flags = argparse.ArgumentParser()
    flags.add_argument("--million", action="store_true", help="one round of a million homes instead")
    flags.add_argument("--homes", type=int, default=10_000)
    flags.add_argument("--only", default="", help="rows whose names hold this, beside the first")
    asked = flags.parse_args()
    if asked.million:
        report = run(job(1_000_000, 250_000, 1, mdcs=2))
        seconds = report["perRound"][0]["seconds"]
        print(f"a million homes: round {seconds:.1f} s, all {report['wall']:.1f} s, MiB {report['peak']}")
        return
    print(f"{'':44} {'homes/s':>10} {'times':>8}   peak MiB of a pod, digest")
    base = row("12 homes, a process each", run(job(12, 1, 40)), None)
    half = asked.homes // 2
    rows = {
        f"{asked.homes} homes in 2 pods, exact": job(asked.homes, half, 12),
        f"{asked.homes} homes in 2 pods, fast": job(asked.homes, half, 12, "fast"),
        f"{asked.homes // 10} homes in 2 pods, one by one": job(asked.homes // 10, half // 10, 6, "off"),
    }
    rows |= {f"{homes} homes in a pod, exact": job(homes, homes, 5) for homes in (100, 1_000, 10_000)}
    for name, spec in rows.items():
        if asked.only in name:
            row(name, run(spec), base)


if __name__ == "__main__":
    main()
