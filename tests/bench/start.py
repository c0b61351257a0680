"""From exec until an MDC serves, and until `elf --help` is there.

    python tests/bench/start.py

An MDC takes children on its wire port as soon as it runs, and says that it is ready (READY_PORT) once the
NPDC has welcomed it. The NPDC is played here, over the real transport, and answers at once: what is measured
is the MDC. CPU time stands beside wall time, because a busy machine stretches the one and hardly the other.
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import time
from typing import Any

import harness
from harness import Row, Table
from processes import cpu_of, environment, memory_of

from elf_worker import contract, transport
from elf_worker.contract import JobConfig
from elf_worker.messages import Message, Register, Welcome

HERE, THERE = (f"127.44.{os.getpid() % 250}.{last}" for last in (1, 2))
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


def main() -> None:
    options = harness.parser(__doc__, rounds=11)
    given = options.parse_args()
    others: dict[str, list[float]] = {"wire": [], "cpu": [], "memory": [], "help": []}

    def mdc() -> float:
        wire, ready, *more = asyncio.run(served())
        for name, value in zip(("wire", "cpu", "memory"), (wire, *more), strict=True):
            others[name].append(value)
        return ready

    def elf() -> float:
        wall, cpu = a_command("-m", "elf_cli", "--help")
        others["help"].append(cpu)
        return wall

    works = {"bare": lambda: a_command("-c", "pass")[0], "mdc": mdc, "elf": elf}
    taken = harness.side_by_side(works, 3 if given.quick else given.rounds)
    table = Table("From exec")
    table.rows = [
        Row("`python -c pass`", "s", taken["bare"]),
        Row("an MDC takes connections", "s", others["wire"], target=MDC_SECONDS),
        Row("an MDC serves: the NPDC has welcomed it", "s", taken["mdc"], target=MDC_SECONDS),
        Row("· CPU until then", "s", others["cpu"]),
        Row("· memory then", "MiB", others["memory"]),
        Row("`elf --help`", "s", taken["elf"], target=HELP_SECONDS),
        Row("· CPU", "s", others["help"]),
    ]
    harness.finish("start", [table], given.quick)


async def served() -> tuple[float, float, float, float]:
    """`an_mdc`, with an NPDC."""
    limits = transport.Limits(64, 1 << 20, 1e6)
    host = await transport.listen(NorthPole(), HERE, contract.WIRE_PORT, 30.0, limits, None)
    try:
        return await an_mdc()
    finally:
        host.close()


async def an_mdc() -> tuple[float, float, float, float]:
    """(seconds to the wire port, to the ready port, CPU seconds until then, MiB) of one MDC."""
    task = "elf_worker.tasks.digits:Digits"
    job = JobConfig(job="bench", uid="bench", homes=12, per_pod=1, rounds=1, seed=0, entrypoint=task)
    env = {**environment(job, "mdc", THERE, HERE), "ELF_LOG_LEVEL": "WARNING"}
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


def a_command(*args: str) -> tuple[float, float]:
    """(wall, CPU) seconds of an interpreter with these arguments."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run([sys.executable, *args], stdout=subprocess.DEVNULL, check=True)
    took = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
