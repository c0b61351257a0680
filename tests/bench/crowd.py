"""Many homes, or many MDCs, in one process: they speak the wire protocol and hold one vector among them all.

Every `--slow-every`th is slow: it lets its weights lie for a while, then dribbles what it has to say.

    python tests/bench/crowd.py homes --address 127.1.2.3:7733 --first 0 --count 512 --bytes 4000000
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket

import numpy as np

from elf_worker import messages
from elf_worker.aggregation import ids
from elf_worker.contract import WIRE_VERSION
from elf_worker.exact import ExactSum
from elf_worker.messages import Assign, Finish, Hello, Message, Offer, Register, Stamp, Submit, Want, Work
from elf_worker.transport import frame

JOB = "bench"
WEIGHT = 32
PIECES, PAUSE_SECONDS = 20, 0.03
"""A slow one sends its payload in so many pieces, so far apart."""
_CHUNK = 1 << 18
_DIAL_SECONDS = 60.0
_NOTHING = memoryview(b"")


class Peer:
    """One end of a connection. Payloads that come are counted and forgotten."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, slow: bool = False
    ) -> None:
        self._reader, self._writer, self._slow = reader, writer, slow

    async def read(self) -> Message | None:
        """The next message; None for a heartbeat. Raises IncompleteReadError at the end."""
        size, payload = frame.parse_header(await self._reader.readexactly(frame.HEADER.size))
        body = await self._reader.readexactly(size)
        if payload and self._slow:
            await asyncio.sleep(PIECES * PAUSE_SECONDS)
        while payload:
            got = len(await self._reader.read(min(payload, _CHUNK)))
            if not got:
                raise asyncio.IncompleteReadError(b"", payload)
            payload -= got
        return messages.decode(body) if body else None

    async def send(self, message: Message, payload: memoryview = _NOTHING) -> None:
        """One frame, of which never more than a piece waits in this process."""
        body = messages.encode(message)
        self._writer.write(frame.header(len(body), payload.nbytes) + body)
        piece = -(-payload.nbytes // PIECES) if self._slow and payload.nbytes else _CHUNK
        for start in range(0, payload.nbytes, piece):
            self._writer.write(payload[start : start + piece])
            await self._writer.drain()
            if self._slow:
                await asyncio.sleep(PAUSE_SECONDS)

    def close(self) -> None:
        self._writer.close()


async def home(peer: Peer, number: int, vector: memoryview) -> None:
    """Offer the vector for each round, and whenever it is asked for again."""
    await peer.send(Hello(WIRE_VERSION, JOB, ids.to_wire(1 << number), -1, None))
    while not isinstance(message := await peer.read(), Finish):
        if isinstance(message, Work | Want):
            await peer.send(Offer(number, message.stamp, WEIGHT), vector)


async def mdc(peer: Peer, number: int, total: memoryview, bound: int) -> None:
    """Submit the sum for each round, as if the one home had been heard."""
    await peer.send(Register(WIRE_VERSION, JOB, number, 0, uid(number), f"127.0.0.1:{number + 1}", None))
    homes, stamps, known = b"", set[Stamp](), None
    while not isinstance(message := await peer.read(), Finish):
        if isinstance(message, Assign):
            homes = message.homes
        elif isinstance(message, Work):
            known = message.stamp
        if known is not None and ids.from_wire(homes) and known not in stamps:
            stamps.add(known)
            await peer.send(Submit(known, homes, b"", WEIGHT, bound, {}, "", {}), total)


def uid(number: int) -> str:
    """UID of the pod that this MDC runs in."""
    return f"mdc-{number}"


async def live(given: argparse.Namespace) -> None:
    """All of them, until the other end has gone."""
    vector = np.random.default_rng(given.first).standard_normal(given.bytes // 4 + 1).astype("<f4")
    total = ExactSum(vector.size)
    total.add(vector)
    host, _, port = given.address.rpartition(":")

    async def one(number: int) -> None:
        async with asyncio.timeout(_DIAL_SECONDS):
            link = await _dial(host, int(port))
        peer = Peer(*link, slow=number % given.slow_every == given.slow_every - 1)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            if given.role == "homes":
                await home(peer, number, memoryview(vector.data).cast("B"))
            else:
                await mdc(peer, number, total.pack(), total.bound)
        peer.close()

    await asyncio.gather(*(one(number) for number in range(given.first, given.first + given.count)))


async def _dial(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    while True:
        with contextlib.suppress(ConnectionError):
            reader, writer = await asyncio.open_connection(host, port)
            # A thousand machines have a thousand kernels. Here they share one, which would run out of memory
            # for what waits in their sockets.
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            return reader, writer
        await asyncio.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("role", choices=("homes", "mdcs"))
    parser.add_argument("--address", required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--bytes", type=int, required=True, help="of a float32 vector")
    parser.add_argument("--slow-every", type=int, default=8)
    asyncio.run(live(parser.parse_args()))


if __name__ == "__main__":
    main()
