"""Data centers of the product as processes of this machine, and what they cost."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
from collections.abc import Iterator, Mapping

from elf_worker import contract
from elf_worker.contract import JobConfig

_HERE = pathlib.Path(__file__).resolve().parent


def flat_job(
    name: str, uid: str, homes: int, size: int, rounds: int, patience: float, silence: float
) -> JobConfig:
    """A job with nothing to compute (`flat.py`), vectors of `size` bytes, every home in every round.

    `patience`: seconds after which a round goes on without who is late; `silence`: those after which a peer
    that says nothing is taken for dead.
    """
    return JobConfig(
        job=name,
        uid=uid,
        homes=homes,
        per_pod=1,
        rounds=rounds,
        seed=1,
        entrypoint="flat:Flat",
        task_args={"parameters": size // 4},
        optimizer="SGD",
        optimizer_args={"lr": 1e-3},
        evaluate_every=1_000_000,
        quorum=homes,
        deadline_seconds=patience,
        silence_seconds=silence,
    )


def environment(job: JobConfig, uid: str, address: str, npdc: str, index: int = 0) -> dict[str, str]:
    """What a pod's first incarnation is told, at `address`, of the NPDC at another.

    Settings of whoever runs a benchmark are not among it, but for which loops add.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ELF_") or k == "ELF_KERNEL"}
    return kept | {
        contract.ENV_JOB: job.to_json(),
        contract.ENV_UID: uid,
        contract.ENV_ADDRESS: address,
        contract.ENV_INDEX: str(index),
        contract.ENV_INCARNATION: "0",
        contract.ENV_NPDC: f"{npdc}:{contract.WIRE_PORT}",
    }


def with_flat(env: Mapping[str, str]) -> dict[str, str]:
    """For a pod of a `flat_job`: it finds the task, and does what little there is in one thread."""
    path = os.pathsep.join([str(_HERE), env.get("PYTHONPATH", "")])
    return {**env, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}


@contextlib.contextmanager
def killed(processes: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """In the end all of these, and those that were added meanwhile."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def cpu_of(pid: int) -> float:
    """CPU seconds of a process until now, user and system."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(pid: int, what: str = "VmRSS") -> float:
    """MiB of a process: VmRSS now, VmHWM at its peak. Raises ProcessLookupError where it has ended."""
    _, _, after = pathlib.Path(f"/proc/{pid}/status").read_text().partition(f"{what}:")
    if not after:
        raise ProcessLookupError(f"process {pid} has no {what}: it has ended")
    return int(after.split()[0]) / 1024
