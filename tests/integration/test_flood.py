"""A real MDC process, flooded by peers that mean it no good: it stays small and goes on counting."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import pathlib
import random
import resource
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from elf_worker import contract, messages
from elf_worker.aggregation import ids
from elf_worker.contract import MAX_PAYLOAD, WIRE_PORT, WIRE_VERSION, JobConfig
from elf_worker.exact import ExactSum
from elf_worker.messages import (
    Accepted,
    Assign,
    Hello,
    Keep,
    Message,
    Offer,
    Register,
    Stamp,
    Submit,
    Welcome,
    Work,
)
from elf_worker.roles.shell import SPARE_LINKS
from elf_worker.transport import frame

DEADLINE = 60.0
"""Seconds until a wait is given up."""
MIB = 1 << 20
MOST_GROWTH = 64 * MIB
PARAMETERS = 25_000
WEIGHTS = np.zeros(PARAMETERS, "<f4").tobytes()
GOOD = np.full(PARAMETERS + 1, 0.5, "<f4").tobytes()
STAMP = Stamp(3, 0)
STALE = Stamp(2, 0)
HONEST = 0
VICTIMS = {
    2: (np.full(PARAMETERS + 1, np.nan, "<f4").tobytes(), "float32", "NonFinite"),
    3: (np.full(PARAMETERS + 1, -np.inf, "<f4").tobytes(), "float32", "NonFinite"),
    4: (GOOD + GOOD, "float32", "WrongSize"),
    5: (GOOD[:-4], "float32", "WrongSize"),
    6: (GOOD, "float16", "WrongType"),
    7: (GOOD, "x" * 10_000, "WrongType"),
}
"""Homes for which somebody says nonsense: payload, element type, and the reason to refuse it."""
JOB = JobConfig(
    job="night",
    uid="job-uid",
    homes=8,
    per_pod=8,  # so much is taken of one connection in a second that the deaf are given up soon
    rounds=9,
    seed=0,
    entrypoint="a:B",
    silence_seconds=120.0,
)


def encoded(message: Message, payload: bytes = b"", announced: int | None = None) -> bytes:
    body = messages.encode(message)
    size = len(payload) if announced is None else announced
    return frame.HEADER.pack(b"ELF1", len(body), size) + body + payload


def hello(*homes: int) -> bytes:
    return encoded(Hello(WIRE_VERSION, JOB.uid, ids.to_wire(ids.mask_of(homes)), -1, None))


async def read_frame(reader: asyncio.StreamReader) -> tuple[Message | None, bytes]:
    """The next frame; None for a heartbeat."""
    message, payload = frame.parse_header(await reader.readexactly(frame.HEADER.size))
    body = await reader.readexactly(message)
    return (messages.decode(body) if body else None), await reader.readexactly(payload)


async def read_until(reader: asyncio.StreamReader, kind: type[Message]) -> tuple[Message, bytes]:
    async with asyncio.timeout(DEADLINE):
        while True:
            message, payload = await read_frame(reader)
            if isinstance(message, kind):
                return message, payload


@dataclass
class Mdc:
    """The process under test, and what the NPDC in this process has heard from it."""

    address: str
    process: asyncio.subprocess.Process
    log: pathlib.Path
    homes: tuple[int, ...]
    submits: list[tuple[Submit, bytes]] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    def memory(self, line: str) -> int:
        """Bytes: `VmRSS` now, `VmHWM` at most so far."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition(f"{line}:")[2].split()[0]) * 1024

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The NPDC's side: one round that waits for all homes."""
        try:
            while True:
                message, payload = await read_frame(reader)
                if isinstance(message, Register):
                    writer.write(encoded(Welcome(0)))
                    mask = ids.to_wire(ids.mask_of(self.homes))
                    writer.write(encoded(Assign(STAMP, mask, b"")) + encoded(Work(0, STAMP), WEIGHTS))
                elif isinstance(message, Submit):
                    self.submits.append((message, payload))
                    both = ids.from_wire(message.members) | ids.from_wire(message.failed)
                    writer.write(encoded(Accepted(STAMP, ids.to_wire(both))))
                    self.heard.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.address, WIRE_PORT)

    async def greeted(self, *homes: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection that speaks for these homes and has their weights, once there is room for it."""
        async with asyncio.timeout(DEADLINE):
            while True:
                reader, writer = await self.connect()
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                    writer.write(hello(*homes))
                    _, weights = await read_until(reader, Work)
                    assert weights == WEIGHTS
                    return reader, writer
                writer.close()


@contextlib.asynccontextmanager
async def running(folder: pathlib.Path, *homes: int) -> AsyncIterator[Mdc]:
    """An MDC that serves these homes and has been given weights."""
    pid = os.getpid()
    address = f"127.77.{pid >> 8 & 255}.{pid & 255}"
    server = await asyncio.start_server(lambda r, w: mdc.serve(r, w), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    log = folder / "mdc.log"
    env = os.environ | {
        contract.ENV_JOB: JOB.to_json(),
        contract.ENV_UID: "pod-uid",
        contract.ENV_ADDRESS: address,
        contract.ENV_INDEX: "0",
        contract.ENV_INCARNATION: "0",
        contract.ENV_NPDC: f"127.0.0.1:{port}",
    }
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "elf_worker", "mdc", env=env, stdout=out, stderr=out
        )
    mdc = Mdc(address, process, log, homes)
    try:
        async with asyncio.timeout(DEADLINE):
            while True:
                with contextlib.suppress(ConnectionRefusedError):
                    _, writer = await mdc.greeted(HONEST)
                    writer.close()
                    break
                assert process.returncode is None, log.read_text()
                await asyncio.sleep(0.02)
        yield mdc
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        server.close()


@pytest.fixture(autouse=True)
def _files_for_a_thousand_connections() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], min(before[1], 4096)), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


# -- floods -----------------------------------------------------------------------------------------------

Flood = Callable[[Mdc], Awaitable[None]]


async def pour(mdc: Mdc, *pieces: bytes, receive_buffer: int = 0) -> None:
    """Say all this, the last of it again and again, and read nothing, until the MDC has closed."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock, contextlib.suppress(ConnectionError):
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await loop.sock_connect(sock, (mdc.address, WIRE_PORT))
        async with asyncio.timeout(DEADLINE):
            for piece in itertools.chain(pieces, itertools.repeat(pieces[-1])):
                await loop.sock_sendall(sock, piece)


async def garbage(mdc: Mdc) -> None:
    """Bytes that are no frame, no message, or a message of nobody."""
    rng = random.Random(1)
    for beginning in (
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        frame.HEADER.pack(b"ELF1", frame.MAX_MESSAGE, 0),
        frame.HEADER.pack(b"ELF1", frame.MAX_MESSAGE, MAX_PAYLOAD),
        frame.HEADER.pack(b"ELF1", frame.MAX_MESSAGE + 1, 0),
        frame.HEADER.pack(b"ELF1", 0, MAX_PAYLOAD),
        frame.HEADER.pack(b"ELF1", 5, 0),
    ):
        await pour(mdc, beginning, rng.randbytes(MIB))


async def announced(mdc: Mdc) -> None:
    """Headers that announce 8 GiB, and 200 MB of them: for this round and home, and for others."""
    piece = bytes(MIB)
    kept_open = []
    for greeting, message in (
        (hello(HONEST), Offer(HONEST, STAMP, 1)),
        (hello(HONEST), Offer(HONEST, STALE, 1)),
        (b"", Offer(1, STAMP, 1)),
        (b"", Work(9, Stamp(9, 9))),
        (b"", Keep(9, Stamp(9, 9))),
    ):
        kept_open.append(await mdc.connect())
        kept_open[-1][1].write(greeting + encoded(message, announced=MAX_PAYLOAD))
        for _ in range(40):
            kept_open[-1][1].write(piece)
            await kept_open[-1][1].drain()
    for _, writer in kept_open:
        writer.close()


async def strangers(mdc: Mdc) -> None:
    """Offers for homes that are served elsewhere or nowhere, each with its payload."""
    reader, writer = await mdc.greeted(HONEST)
    for home in (1, 8, -1, 1 << 62, *range(100, 196)):
        writer.write(encoded(Offer(home, STAMP, 1), GOOD))
        answer, _ = await read_until(reader, messages.Refused)
        assert answer.reason == "NotMine"
    writer.close()


async def late(mdc: Mdc) -> None:
    """Offers for rounds of the past and the future, each with its payload."""
    reader, writer = await mdc.greeted(HONEST)
    for k in range(100):
        writer.write(encoded(Offer(HONEST, STAMP._replace(round=k + 10), 1), GOOD))
        answer, _ = await read_until(reader, messages.Refused)
        assert answer.reason == "StaleRound"
    writer.close()


async def nonsense(mdc: Mdc) -> None:
    """For each victim a vector that cannot be counted, said a hundred times."""
    reader, writer = await mdc.greeted(*VICTIMS)
    for home, (payload, kind, reason) in VICTIMS.items():
        for _ in range(100):
            writer.write(encoded(Offer(home, STAMP, 1, kind), payload))
            await writer.drain()
        answer, _ = await read_until(reader, messages.Refused)
        assert (answer.home, answer.reason) == (home, reason)
    writer.close()


async def masks(mdc: Mdc) -> None:
    """Connections that speak for half a million homes each, again and again."""
    everybody = b"\xff" * 60_000
    claim = encoded(Hello(WIRE_VERSION, JOB.uid, everybody, -1, STAMP))
    for _ in range(8):
        reader, writer = await mdc.connect()
        for _ in range(10):
            writer.write(claim)
            await read_until(reader, messages.Want)
        writer.close()


async def deaf(mdc: Mdc) -> None:
    """A peer that asks and asks, and reads no answer: it is closed."""
    question = encoded(Offer(HONEST, Stamp(1 << 60, 1 << 60), 1))
    await pour(mdc, question * 1000, receive_buffer=4096)


async def weights_for_the_deaf(mdc: Mdc) -> None:
    """Peers that want the weights again and again, and never read them."""
    for _ in range(4):
        await pour(mdc, hello(HONEST) * 10, receive_buffer=4096)


async def crowd(mdc: Mdc) -> None:
    """A thousand connections that say nothing. Those beyond what the MDC takes are closed at once."""
    most = SPARE_LINKS + 2 * JOB.homes
    callers = [await mdc.connect() for _ in range(1000)]
    ends = [asyncio.ensure_future(reader.read()) for reader, _ in callers]
    async with asyncio.timeout(DEADLINE):
        while sum(end.done() for end in ends) < len(callers) - most:
            await asyncio.sleep(0.01)
    assert sum(end.done() for end in ends) <= len(callers) - most + 2
    for _, writer in callers:
        writer.close()
    await asyncio.gather(*ends, return_exceptions=True)


async def crowd_of_masks(mdc: Mdc) -> None:
    """As many connections as the MDC takes, each in the middle of the longest message there is."""
    begun = frame.HEADER.pack(b"ELF1", frame.MAX_MESSAGE, 0) + bytes(frame.MAX_MESSAGE - 1)
    writers = []
    for _ in range(SPARE_LINKS):
        _, writer = await mdc.connect()
        writers.append(writer)
        with contextlib.suppress(ConnectionError):
            writer.write(begun)
            await writer.drain()
    for writer in writers:
        writer.close()


async def all_together(mdc: Mdc) -> None:
    await asyncio.gather(*(flood(mdc) for flood in FLOODS if flood not in APART))
    await crowd(mdc)


FLOODS: list[Flood] = [
    garbage, announced, strangers, late, nonsense, masks, deaf, weights_for_the_deaf, crowd, crowd_of_masks,
    all_together,
]  # fmt: skip
APART = (crowd, crowd_of_masks, all_together)
REFUSED: dict[str, dict[str, int]] = {
    "garbage": {},
    "announced": {},
    "strangers": {"NotMine": 100},
    "late": {"StaleRound": 100},
    "nonsense": {"NonFinite": 2, "WrongSize": 2, "WrongType": 2},
}
"""What the NPDC must be told of, by flood."""


SLOW = (deaf, all_together)
"""It takes the deaf a while to ask so much that they are given up: not so fast, they are told."""


@pytest.mark.parametrize(
    "flood",
    [pytest.param(f, marks=[pytest.mark.slow] if f in SLOW else [], id=f.__name__) for f in FLOODS],
)
async def test_a_flood_costs_little_memory_and_no_honest_home(flood: Flood, tmp_path: pathlib.Path) -> None:
    hurt = set(VICTIMS) if flood in (nonsense, all_together) else set()
    async with running(tmp_path, HONEST, *hurt) as mdc:
        before = mdc.memory("VmHWM")
        await flood(mdc)
        _, writer = await mdc.greeted(HONEST)
        writer.write(encoded(Offer(HONEST, STAMP, 3), GOOD))
        async with asyncio.timeout(DEADLINE):
            await mdc.heard.wait()
        growth = mdc.memory("VmHWM") - before
        writer.close()
        assert mdc.process.returncode is None
        assert "Traceback" not in mdc.log.read_text()
    [(submit, payload)] = mdc.submits
    assert ids.ids_of(ids.from_wire(submit.members)) == [HONEST]
    assert set(ids.ids_of(ids.from_wire(submit.failed))) == hurt
    assert (submit.weight, submit.stamp) == (3, STAMP)
    total = ExactSum(PARAMETERS + 1)
    total.add(np.frombuffer(GOOD, "<f4"))
    assert payload[: len(payload) - submit.extra] == bytes(total.pack())
    if flood is all_together:  # where the deaf are heard too, for as long as they are there
        assert submit.refused.items() >= REFUSED["nonsense"].items()
        assert submit.refused["NotMine"] > 100
        assert submit.refused["StaleRound"] == 100
    else:
        assert submit.refused == REFUSED.get(flood.__name__, submit.refused)
    assert growth < MOST_GROWTH, f"{growth / MIB:.0f} MiB more"
