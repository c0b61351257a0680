"""Peak memory of data centers: an MDC with 8 and with 1,024 homes, an NPDC with 2 and with 32 MDCs.

The data center is the product's own process; the others are played by `crowd.py`, each with a connection of
its own, every eighth of them slow: it dribbles its vector. The figure is the process's peak (VmHWM); what the
kernel holds for sockets is not in it. Memory should be of the model, not of the crowd: within 5 %.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import crowd
import harness
import processes
from harness import Ratio, Row, Table

from elf_worker import contract
from elf_worker.aggregation import ids
from elf_worker.contract import JobConfig, Role, Slot, Wiring
from elf_worker.messages import Accepted, Assign, Register, Stamp, Submit, Welcome, Work

HOMES, MDCS = (8, 1024), (2, 32)
TARGET = 1.05
BYTES, QUICK_BYTES = 4_000_000, 400_000
STEPS = 3
"""Rounds of training: in the second and third, everything that is kept from round to round is there."""
PER_PROCESS = 512
PATIENCE_SECONDS = 400.0
_POLL_SECONDS = 0.05


def main() -> None:
    options = harness.parser(__doc__, rounds=2)
    options.add_argument("--bytes", type=int, help=f"of a vector ({BYTES:,}; quick: {QUICK_BYTES:,})")
    options.add_argument("--only", choices=(Role.MDC, Role.NPDC), help="only one of the two")
    given = options.parse_args()
    size = given.bytes or (QUICK_BYTES if given.quick else BYTES)
    rounds = 1 if given.quick else given.rounds
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # as in pods; a shell's is often 1,024
    tables = []
    for role, counts, what in ((Role.MDC, HOMES, "homes"), (Role.NPDC, MDCS, "MDCs")):
        if given.only in (None, role):
            tables.append(_table(role, counts, what, size, rounds))
    harness.finish("memory", tables, given.quick or given.only is not None)


def _table(role: Role, counts: tuple[int, int], what: str, size: int, rounds: int) -> Table:
    peak = mdc_peak if role is Role.MDC else npdc_peak
    few, many = (f"{count:,} {what}" for count in counts)
    works = {
        name: _measured(peak, name, count, size) for name, count in zip((few, many), counts, strict=True)
    }
    taken = harness.side_by_side(works, rounds)
    table = Table(f"Peak of an {role.upper()}, vectors of {size / 1e6:g} MB, every eighth peer slow")
    table.rows = [Row(name, "MiB", samples) for name, samples in taken.items()]
    table.ratios = [Ratio.paired(f"{many} / {few}", taken[many], taken[few], TARGET, at_least=False)]
    return table


def _measured(
    peak: Callable[[int, int], Coroutine[Any, Any, float]], name: str, count: int, size: int
) -> Callable[[], float]:
    def measure() -> float:
        found = asyncio.run(peak(count, size))
        print(f"{name}: {found:.0f} MiB", file=sys.stderr, flush=True)
        return found

    return measure


# -- an MDC -----------------------------------------------------------------------------------------------


async def mdc_peak(homes: int, size: int) -> float:
    """MiB at the peak of an MDC that serves so many homes for some rounds."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        directory = pathlib.Path(name)
        address, done = _address(2), asyncio.get_running_loop().create_future()
        pole = _Pole(homes, bytes(size), done)
        server = await asyncio.start_server(pole.serve, _address(1), contract.WIRE_PORT)
        job = _job(homes, size)
        process = stack.enter_context(_pod(Role.MDC, job, address, directory, crowd.uid(0)))
        stack.enter_context(_crowd("homes", f"{address}:{contract.WIRE_PORT}", homes, size))
        try:
            await _until(done, process, directory)
            return _peak(process.pid)
        finally:
            server.close()


class _Pole:
    """The NPDC's side of one MDC's connection: some rounds that wait for every home."""

    def __init__(self, homes: int, weights: bytes, done: asyncio.Future[None]) -> None:
        self._everyone = ids.full(homes)
        self._weights, self._done = memoryview(weights), done

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = crowd.Peer(reader, writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while not isinstance(await peer.read(), Register):
                pass
            await peer.send(Welcome(0))
            for round_ in range(STEPS):
                await self._round(peer, Stamp(round_, 0))
            if not self._done.done():
                self._done.set_result(None)
        writer.close()

    async def _round(self, peer: crowd.Peer, stamp: Stamp) -> None:
        await peer.send(Assign(stamp, ids.to_wire(self._everyone), b""))
        await peer.send(Work(0, stamp), self._weights)
        settled = 0
        while settled != self._everyone:
            message = await peer.read()
            if isinstance(message, Submit):
                settled |= ids.from_wire(message.members) | ids.from_wire(message.failed)
                if message.failed:
                    raise RuntimeError(f"homes failed: {message.reasons}")
                await peer.send(Accepted(message.stamp, message.members))


# -- an NPDC ----------------------------------------------------------------------------------------------


async def npdc_peak(mdcs: int, size: int) -> float:
    """MiB at the peak of an NPDC that adds up so many MDCs' sums for some rounds."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        directory = pathlib.Path(name)
        slots = {index: Slot(0, crowd.uid(index), frozenset({index})) for index in range(mdcs)}
        wiring = Wiring(version=1, npdc=Slot(0, "npdc"), mdcs=slots, homes=mdcs, quorum=mdcs)
        (directory / contract.WIRING_KEY).write_text(wiring.to_json())
        process = stack.enter_context(_pod(Role.NPDC, _job(mdcs, size), _address(1), directory, "npdc"))
        stack.enter_context(_crowd("mdcs", f"{_address(1)}:{contract.WIRE_PORT}", mdcs, size))
        peak, deadline = 0.0, asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while process.poll() is None and asyncio.get_running_loop().time() < deadline:
            with contextlib.suppress(OSError):  # it may have ended just now
                peak = max(peak, _peak(process.pid))
            await asyncio.sleep(_POLL_SECONDS)
        if process.returncode != 0:
            raise RuntimeError(_said(directory))
        return peak


# -- both -------------------------------------------------------------------------------------------------


def _job(homes: int, size: int) -> JobConfig:
    return processes.flat_job(crowd.JOB, crowd.JOB, homes, size, STEPS, PATIENCE_SECONDS, PATIENCE_SECONDS)


def _address(last: int) -> str:
    """Addresses of the loopback that no other run of this has."""
    return f"127.{10 + os.getpid() // 250 % 240}.{os.getpid() % 250}.{last}"


@contextlib.contextmanager
def _pod(
    role: Role, job: JobConfig, address: str, directory: pathlib.Path, uid: str
) -> Iterator[subprocess.Popen[bytes]]:
    env = processes.with_flat(processes.environment(job, uid, address, _address(1)))
    env[contract.ENV_BOARD] = f"file:{directory}"
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "elf_worker", role], env=env, stdout=log, stderr=subprocess.STDOUT
        )
    with processes.killed([process]):
        yield process


@contextlib.contextmanager
def _crowd(role: str, address: str, count: int, size: int) -> Iterator[None]:
    me = [sys.executable, str(pathlib.Path(crowd.__file__)), role, "--address", address, "--bytes", str(size)]
    crowds = [
        subprocess.Popen([*me, "--first", str(first), "--count", str(min(PER_PROCESS, count - first))])
        for first in range(0, count, PER_PROCESS)
    ]
    with processes.killed(crowds):
        yield


async def _until(
    done: asyncio.Future[None], process: subprocess.Popen[bytes], directory: pathlib.Path
) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not done.done():
            if process.poll() is not None:
                raise RuntimeError(_said(directory))
            await asyncio.wait([done], timeout=_POLL_SECONDS)
    done.result()


def _said(directory: pathlib.Path) -> str:
    return f"it ended early: {(directory / 'log').read_text()[-2000:]}"


def _peak(pid: int) -> float:
    return processes.memory_of(pid, "VmHWM")


if __name__ == "__main__":
    main()
