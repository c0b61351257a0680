"""Homes a second, and memory, of pods that hold many.

    python tests/bench/homes.py [--million]

Whole local runs of the shipped linear task, in turn: one process per home, many homes in two pods (exact,
fast, and one by one), and one pod of 100, 1,000 and 10,000 homes for its memory; in the end one round of a
million homes. Homes a second are those of the median of rounds 2 to the last but one, by the clock of the
NPDC's record: the first round proves, and the last evaluates.
"""

from __future__ import annotations

import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import harness
import yaml
from harness import Ratio, Row, Table

from elf_cli.figures import read_history
from elf_worker.roles.chronicle import HISTORY_FILE

POLL_SECONDS = 0.1
PATIENCE_SECONDS = 600.0
TIMES, FLAT = 20.0, 1.05
"""Wanted: homes a second over those of a process each, and memory over that of a pod with fewer homes."""
POPULATIONS = (100, 1_000, 10_000)
PROCESSES = 12
MILLION = 1_000_000


def main() -> None:
    options = harness.parser(__doc__, rounds=2)
    options.add_argument("--million", action="store_true", help="only one round of a million homes")
    given = options.parse_args()
    if given.million:
        harness.finish("homes", [million()], quick=True)
        return
    tables = many(1_000 if given.quick else 10_000, 1 if given.quick else given.rounds, given.quick)
    if not given.quick:
        tables.append(million())
    harness.finish("homes", tables, given.quick)


def many(homes: int, rounds: int, quick: bool) -> list[Table]:
    """How fast, and how large, pods with so many homes are."""
    populations = POPULATIONS[: 2 if quick else None]
    each = f"{PROCESSES} homes, a process each"
    speeds = {
        f"{homes:,} homes in 2 pods, exact": job(homes, homes // 2, 12),
        f"{homes:,} homes in 2 pods, fast": job(homes, homes // 2, 12, "fast"),
        f"{homes // 10:,} homes in 2 pods, one by one": job(homes // 10, homes // 20, 6, "off"),
    }
    pods = {f"{count:,} homes in a pod": job(count, count, 5) for count in populations}
    rates: dict[str, list[float]] = {}
    peaks: dict[str, list[float]] = {}

    def work(name: str, spec: dict[str, Any]) -> Callable[[], float]:
        def measure() -> float:
            report = run(spec)
            rates.setdefault(name, []).append(rate(report))
            peaks.setdefault(name, []).append(report["peak"]["home"])
            print(
                f"{name}: {rates[name][-1]:.0f} homes/s, {report['wall']:.0f} s", file=sys.stderr, flush=True
            )
            return float(report["wall"])

        return measure

    jobs = {each: job(PROCESSES, 1, 12 if quick else 40), **speeds, **pods}
    harness.side_by_side({name: work(name, spec) for name, spec in jobs.items()}, rounds)
    speed = Table("Homes a second, linear task")
    speed.rows = [Row(name, "homes/s", rates[name]) for name in (each, *speeds)]
    for name in speeds:
        target = None if "one by one" in name else TIMES
        speed.ratios.append(Ratio.paired(f"{name} / a process each", rates[name], rates[each], target))
    memory = Table("Peak of a pod of homes, batched exactly")
    memory.rows = [Row(name, "MiB", peaks[name]) for name in pods]
    few, *more = pods
    for name in more:
        memory.ratios.append(Ratio.paired(f"{name} / {few}", peaks[name], peaks[few], FLAT, at_least=False))
    return [speed, memory]


def million() -> Table:
    """One round of a million homes in four pods."""
    report = run(job(MILLION, MILLION // 4, 1, mdcs=2))
    peak = ", ".join(f"{role} {mib:.0f}" for role, mib in sorted(report["peak"].items()))
    table = Table("A million homes in 4 pods, 2 MDCs, one round")
    table.rows = [
        Row("the round, with the proof that batches are exact", "s", [report["rounds"][0]["seconds"]]),
        Row("the whole run", "s", [report["wall"]], f"MiB of the largest pod at its peak: {peak}"),
    ]
    return table


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
    """The `rounds` of a local run, its `wall` seconds and `peak` MiB of the largest pod of each role."""
    with tempfile.TemporaryDirectory() as folder:
        file, directory = pathlib.Path(folder, "job.yaml"), pathlib.Path(folder, "run")
        file.write_text(yaml.safe_dump(spec))
        command = [sys.executable, "-m", "elf_cli", "run", str(file), "--plain"]
        command += ["--directory", str(directory)]
        began, peak = time.perf_counter(), dict[str, float]()
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
        try:
            while process.poll() is None:
                if time.perf_counter() - began > PATIENCE_SECONDS:
                    raise TimeoutError(f"a run has not ended after {PATIENCE_SECONDS:.0f} s: {spec}")
                look(folder, peak)
                time.sleep(POLL_SECONDS)
        finally:
            process.terminate()
            process.wait()
        if process.returncode:
            raise RuntimeError(f"a run ended with exit status {process.returncode}: {spec}")
        wall = time.perf_counter() - began
        return {"rounds": read_history(directory / HISTORY_FILE), "wall": wall, "peak": peak}


def look(folder: str, peak: dict[str, float]) -> None:
    """Note the high-water marks of all pods that write their logs below this folder."""
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            log = os.readlink(f"/proc/{entry}/fd/1")
            mark = re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{entry}/status").read_text())
        except OSError:
            continue
        role = re.search(r"many-(home|mdc|npdc)-", pathlib.Path(log).name)
        if log.startswith(folder) and role and mark:
            peak[role[1]] = max(peak.get(role[1], 0.0), int(mark[1]) / 1024)


def rate(report: dict[str, Any]) -> float:
    """Homes a second: all but the first round, which proves, and the last, which evaluates."""
    seconds = [entry["seconds"] for entry in report["rounds"][1:-1]]
    return float(report["rounds"][0]["counted"]) / statistics.median(seconds)


if __name__ == "__main__":
    main()
