"""`make bench`: from exec until an MDC serves, and until `elf --help` is there. Nothing is asserted.

    python tests/bench/start.py [--times 11] [--json FILE]

An MDC takes children on its wire port as soon as it runs, and says that it is ready (READY_PORT) once the
NPDC has welcomed it. The NPDC is played here, over the real transport, and answers at once: what is measured
is the MDC. CPU time stands beside wall time, because a busy machine stretches the one and hardly the other.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from rows import Row, show

from elf_worker import contract, transport
from elf_worker.contract import JobConfig
from elf_worker.messages import Message, Register, Welcome

HERE, THERE = "127.44.0.1", "127.44.0.2"
"""Addresses of the NPDC that is played, and of the MDC."""
PATIENCE_SECONDS = 60.0
STEP_SECONDS = 0.002
MDC_SECONDS, HELP_SECONDS = 0.7, 0.3


class NorthPole:
    """Welcomes whoever registers."""

    def link_opened(self, link: transport.Link) -> None:
        """See `transport.tcp`."""

    def link_room(self, link: transport.Link, message: Message) -> int:
        """No payload is expected."""
        return 0

    def link_received(self, link: transport.Link, message: Message, payload: Any) -> None:
        """A message has come."""
        if isinstance(message, Register):
            link.send(Welcome(epoch=0))

    def link_closed(self, link: transport.Link) -> None:
        """See `transport.tcp`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print medians of wall and CPU seconds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=11, help="so often each, in turn")
    parser.add_argument("--json", metavar="FILE", help="write the figures here, too")
    args = parser.parse_args(argv)
    show(asyncio.run(measured(args.times)), args.json)
    return 0


async def measured(times: int) -> list[Row]:
    """All figures, taken in turn, so that a noisy moment hits all of them."""
    wire, ready, mdc_cpu, mdc_memory, wall, cpu, bare = ([] for _ in range(7))
    host = await transport.listen(
        NorthPole(), HERE, contract.WIRE_PORT, 30.0, transport.Limits(64, 1 << 20, 1e6), None
    )
    try:
        for _ in range(times):
            took = await an_mdc()
            for samples, value in zip((wire, ready, mdc_cpu, mdc_memory), took, strict=True):
                samples.append(value)
            seconds, burnt = a_command("-m", "elf_cli", "--help")
            wall.append(seconds)
            cpu.append(burnt)
            bare.append(a_command("-c", "pass")[0])
    finally:
        host.close()
    return [
        Row("python -c pass, wall", "s", bare),
        Row("MDC, exec to wire port, wall", "s", wire, MDC_SECONDS),
        Row("MDC, exec to ready port, wall", "s", ready, MDC_SECONDS),
        Row("MDC, exec to ready port, CPU", "s", mdc_cpu),
        Row("MDC, memory when ready", "MiB", mdc_memory),
        Row("elf --help, wall", "s", wall, HELP_SECONDS),
        Row("elf --help, CPU", "s", cpu),
    ]


async def an_mdc() -> tuple[float, float, float, float]:
    """(seconds to the wire port, to the ready port, CPU seconds until then, MiB) of one MDC."""
    task = "elf_worker.tasks.digits:Digits"
    job = JobConfig(job="bench", uid="bench", homes=12, per_pod=1, rounds=1, seed=0, entrypoint=task)
    env = {
        **os.environ,
        contract.ENV_JOB: job.to_json(),
        contract.ENV_UID: "mdc",
        contract.ENV_ADDRESS: THERE,
        contract.ENV_INDEX: "0",
        contract.ENV_INCARNATION: "0",
        contract.ENV_NPDC: f"{HERE}:{contract.WIRE_PORT}",
        "ELF_LOG_LEVEL": "WARNING",
    }
    began = time.perf_counter()
    process = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-m", "elf_worker", "mdc"], env=env, stdout=subprocess.DEVNULL
    )
    try:
        wire = await until_open(contract.WIRE_PORT, began, process)
        ready = await until_open(contract.READY_PORT, began, process)
        return wire, ready, cpu_of(process.pid), memory_of(process.pid)
    finally:
        process.kill()
        process.wait()


async def until_open(port: int, began: float, process: subprocess.Popen[bytes]) -> float:
    """Seconds from `began` until the MDC takes a connection on a port."""
    while True:
        try:
            _, writer = await asyncio.open_connection(THERE, port)
        except OSError:
            if process.poll() is not None or time.perf_counter() - began > PATIENCE_SECONDS:
                raise RuntimeError(f"the MDC does not open port {port}; exit code {process.poll()}") from None
            await asyncio.sleep(STEP_SECONDS)
            continue
        took = time.perf_counter() - began
        writer.close()
        return took


def cpu_of(pid: int) -> float:
    """CPU seconds of a process until now, user and system."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(pid: int, what: str = "VmRSS") -> float:
    """MiB of a process: VmRSS now, VmHWM at its peak."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(f"{what}:")) / 1024


def a_command(*args: str) -> tuple[float, float]:
    """(wall, CPU) seconds of an interpreter with these arguments."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run([sys.executable, *args], stdout=subprocess.DEVNULL, check=True)
    took = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    sys.exit(main())
