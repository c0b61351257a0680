"""CPU of rounds of digits: jobs of twelve homes against one process that computes the same gradients.

A job is `elf run`: homes, MDCs and the NPDC as processes, as on a cluster; one has a pod for each home and
three MDCs, the other all homes in one pod and one MDC. CPU (user and system) is read
from /proc between two rounds, when everything runs: imports and start-up are not in it. The one process
computes the same vectors of the same homes, adds them exactly and steps the same optimizer; both must end
with the same model, bit by bit. Nobody evaluates meanwhile.
"""

from __future__ import annotations

import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping

import harness
from harness import Ratio, Row, Table

TARGET = 1.3
ALONE = "one process"
HOMES = 12
PODS: Mapping[str, tuple[int, int]] = {"12 pods, 3 MDCs": (1, 3), "1 pod, 1 MDC": (HOMES, 1)}
"""Jobs that are measured: homes of a pod, and MDCs."""
FIRST = 40
"""Rounds before CPU is counted: both sides have loaded and touched everything by then."""
PATIENCE_SECONDS = 300.0
_TICKS = os.sysconf("SC_CLK_TCK")
_JOB = """
apiVersion: northpole.dev/v1alpha1
kind: ElfTrainingJob
metadata: {{name: digits}}
spec:
  task: {{entrypoint: "elf_worker.tasks.digits:Digits", args: {{batch_size: 32, alpha: 0.5}}}}
  seed: 7
  rounds: {rounds}
  evaluateEvery: {rounds}
  optimizer: {{name: Adam, args: {{lr: "0.005"}}}}
  homes: {{replicas: {homes}, perPod: {per_pod}}}
  miniDataCenters: {{replicas: {mdcs}}}
"""


def main() -> None:
    options = harness.parser(__doc__, rounds=3)
    options.add_argument("--steps", type=int, default=300, help="rounds of training whose CPU is counted")
    options.add_argument("--alone", type=int, metavar="ROUNDS", help="be the one process")
    options.add_argument("--mtls", action="store_true", help="the job's links are mutual TLS")
    given = options.parse_args()
    if given.alone is not None:
        print(json.dumps(alone(given.alone)))
        return
    steps, rounds = (80, 1) if given.quick else (given.steps, given.rounds)
    roles: dict[tuple[str, str], list[float]] = {}
    digests: set[str] = set()

    def job(name: str) -> float:
        spent, wall, digest = run_job(FIRST + steps, given.mtls, *PODS[name])
        digests.add(digest)
        for role, seconds in {**spent, "wall": wall}.items():
            roles.setdefault((name, role), []).append(seconds * 1e3)
        return sum(seconds for role, seconds in spent.items() if role != "runner") * 1e3

    def one() -> float:
        command = [sys.executable, __file__, "--alone", str(FIRST + steps)]
        found = harness.run_json(
            command, PATIENCE_SECONDS, os.environ | {"OMP_NUM_THREADS": "1"}
        )  # as pods do
        digests.add(found["digest"])
        return float(found["seconds"]) * 1e3

    jobs = {name: functools.partial(job, name) for name in PODS}
    taken = harness.side_by_side({**jobs, ALONE: one}, rounds)
    if len(digests) != 1:
        raise SystemExit(f"they did not compute the same: {digests}")
    unit = "ms of CPU a round"
    rows = [Row(ALONE, unit, taken[ALONE])]
    for name in PODS:
        rows += [
            Row(name, unit, taken[name], "without `elf run` itself"),
            *(Row(f"· {role}", unit, roles[name, role]) for role in ("home", "mdc", "npdc")),
            Row("· `elf run` itself", unit, roles[name, "runner"], "the operator's loop, and the view"),
            Row("· time", "ms a round", roles[name, "wall"]),
        ]
    ratios = [Ratio.paired(f"{name} / {ALONE}", taken[name], taken[ALONE], TARGET, False) for name in PODS]
    links = ", mutual TLS" if given.mtls else ""
    name = "training-mtls" if given.mtls else "training"
    table = Table(f"Digits, 12 homes, {steps} rounds{links}; all end with the same model", rows, ratios)
    harness.finish(name, [table], given.quick)


# -- the job ----------------------------------------------------------------------------------------------


def run_job(rounds: int, mtls: bool, per_pod: int, mdcs: int) -> tuple[dict[str, float], float, str]:
    """(seconds of CPU a round by role, seconds a round, digest of the model)."""
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        job, report = directory / "job.yaml", directory / "report.json"
        job.write_text(_JOB.format(rounds=rounds, homes=HOMES, per_pod=per_pod, mdcs=mdcs))
        command = [sys.executable, "-m", "elf_cli", "run", str(job), "--plain", "--report", str(report)]
        command += ["--directory", str(directory / "run"), *(["--mtls"] if mtls else [])]
        runner = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            first, before, began = _look(runner, directory / "run", FIRST)
            last, after, ended = _look(runner, directory / "run", rounds - FIRST // 2)
            if runner.wait(PATIENCE_SECONDS):
                raise SystemExit(f"the job failed: see {directory}")
        finally:
            runner.terminate()
            runner.wait()
        done = last - first
        return (
            {role: (after[role] - before[role]) / done for role in after},
            (ended - began) / done,
            json.loads(report.read_text())["modelDigest"],
        )


def _look(
    runner: subprocess.Popen[bytes], directory: pathlib.Path, wanted: int
) -> tuple[int, Counter[str], float]:
    """(round, CPU by role, time) in the moment when the job says that a round from `wanted` on is done."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if runner.poll() is not None:
            raise SystemExit(f"the job ended before round {wanted}")
        round_ = _round(directory)
        if round_ >= wanted:
            return round_, _spent(runner.pid, directory), time.monotonic()
        time.sleep(0.01)
    raise SystemExit(f"no round {wanted} after {PATIENCE_SECONDS:.0f} s")


def _round(directory: pathlib.Path) -> int:
    from elf_worker.contract import PROGRESS_FILE

    try:
        return int(json.loads((directory / PROGRESS_FILE).read_text())["round"])
    except (OSError, ValueError, KeyError):
        return -1


def _spent(runner: int, directory: pathlib.Path) -> Counter[str]:
    """Seconds of CPU by role: a pod is known by the log it writes to."""
    spent: Counter[str] = Counter()
    for pid in (runner, *_descendants(runner)):
        role = "runner"
        try:
            output = os.readlink(f"/proc/{pid}/fd/1")
            if match := re.fullmatch(rf"{re.escape(str(directory))}/logs/digits-(home|mdc|npdc)\b.*", output):
                role = match[1]
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        spent[role] += (int(fields[11]) + int(fields[12])) / _TICKS
    return spent


def _descendants(of: int) -> Iterator[int]:
    parents: dict[int, int] = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    return (pid for pid in parents if _is_under(pid, of, parents))


def _is_under(pid: int, ancestor: int, parents: Mapping[int, int]) -> bool:
    while pid in parents:
        pid = parents[pid]
        if pid == ancestor:
            return True
    return False


# -- the one process --------------------------------------------------------------------------------------


def alone(rounds: int) -> dict[str, float | str]:
    """Seconds of CPU a round, and the digest of the model, of the same training in this one process."""
    import torch

    from elf_worker.exact import ExactSum
    from elf_worker.tasks import load, vectors
    from elf_worker.tasks.optimizers import make_optimizer

    vectors.make_deterministic()
    task = load("elf_worker.tasks.digits:Digits", {"batch_size": 32, "alpha": 0.5}, homes=HOMES, seed=7)
    model = vectors.build_model(task)
    optimizer = make_optimizer("optimizer", "Adam", {"lr": 0.005}, model.parameters())
    size = sum(p.numel() for p in model.parameters()) + 1
    began = 0.0
    for round_ in range(rounds):
        if round_ == FIRST:
            began = time.process_time()
        total, weight = ExactSum(size), 0
        for home in range(HOMES):
            vector, examples = vectors.home_vector(task, model, home, round_)
            total.add(vector)
            weight += examples
        mean, start = torch.from_numpy(total.mean(weight)), 0
        for parameter in model.parameters():
            parameter.grad = mean[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()
        optimizer.step()
    return {
        "seconds": (time.process_time() - began) / (rounds - FIRST),
        "digest": vectors.digest(model),
    }


if __name__ == "__main__":
    main()
