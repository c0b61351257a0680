"""Many who send payloads to one host at a time, some hardly at all: over real loopback TCP, plain and TLS."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from contract.owners import DEADLINE, HOST, LONG, Owner, until
from elf_worker import messages, transport
from elf_worker.contract import Role
from elf_worker.messages import Discarded, Message, Offer, Stamp
from elf_worker.transport import Host, Limits, Link, buffers, connect, frame, listen
from pods import mounted

STAMP = Stamp(3, 1)
SIZE = 1_000_000
"""Bytes of a payload of which four are received at a time."""


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is slow is found out within moments; and so who stands still only is."""
    monkeypatch.setattr(buffers, "REVIEW_SECONDS", 0.3)
    monkeypatch.setattr(buffers, "PACE", 1)
    monkeypatch.setattr(buffers, "FLOOR", 1)


class Mdc(Owner):
    """Uses what it is given at once, and has noted whole payloads and those that were thrown away."""

    host: Host

    def __init__(self) -> None:
        super().__init__(LONG)
        self.whole: list[tuple[int, int]] = []
        """(home, its filling byte)."""
        self.crowded: list[int] = []

    def link_received(self, link: Link, message: Message, payload: Any) -> None:
        assert isinstance(message, Offer)
        if isinstance(payload, Discarded):
            assert payload == Discarded(payload.size, crowded=True)
            self.crowded.append(message.home)
        else:
            assert len(set(payload)) == 1, "mixed with what another has sent"
            self.whole.append((message.home, payload[0]))
            self.host.buffers.give_back(payload)
        super().link_received(link, message, None)

    @property
    def homes(self) -> set[int]:
        return {home for home, _ in self.whole}


class Wire:
    """A peer that says what it is told to, byte by byte if need be."""

    def __init__(self, sock: socket.socket, secure: ssl.SSLSocket | None) -> None:
        self.sock = secure or sock
        self._loop = asyncio.get_running_loop()

    async def write(self, data: bytes) -> None:
        """In a thread: a blocking socket is the same with and without TLS."""
        await self._loop.run_in_executor(None, self.sock.sendall, data)


def offer(home: int, size: int = SIZE) -> bytes:
    body = messages.encode(Offer(home, STAMP, 1))
    return frame.header(len(body), size) + body


Contexts = tuple[ssl.SSLContext | None, ssl.SSLContext | None]


@pytest.fixture(params=["plain", "tls"])
def contexts(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Contexts:
    """(of the host, of those who dial in)."""
    if request.param == "plain":
        return None, None
    accepting = transport.load(mounted(tmp_path, Role.MDC)).accepting
    return accepting, transport.load(mounted(tmp_path, Role.HOME, 7)).dialling


@contextlib.asynccontextmanager
async def serving(contexts: Contexts) -> AsyncIterator[tuple[Mdc, Callable[[], Any], str]]:
    """An MDC, how to call it as a `Wire`, and its address."""
    mdc = Mdc()
    mdc.host = host = await listen(mdc, HOST, 0, LONG, Limits(100), contexts[0])
    async with contextlib.AsyncExitStack() as stack:

        async def call() -> Wire:
            count = len(mdc.opened)
            loop = asyncio.get_running_loop()
            sock = stack.enter_context(socket.create_connection((HOST, host.port), DEADLINE))
            secure = None
            if (context := contexts[1]) is not None:
                sock.settimeout(DEADLINE)
                secure = await loop.run_in_executor(None, context.wrap_socket, sock)
                stack.enter_context(secure)
            await until(lambda: len(mdc.opened) > count)
            return Wire(sock, secure)

        try:
            yield mdc, call, f"{HOST}:{host.port}"
        finally:
            host.close()
            for link in mdc.opened:
                link.close()
            await asyncio.sleep(0)


async def test_those_who_stand_still_keep_nobody_out_and_are_heard_in_the_end(contexts: Contexts) -> None:
    async with serving(contexts) as (mdc, call, address):
        still = [await call() for _ in range(9)]
        for home, wire in enumerate(still):
            await wire.write(offer(home) + bytes([home]) * 1000)
        quick, children = [], Owner(LONG)
        for home in range(10, 20):
            link = Link(children, LONG)
            await connect(link, address, None, contexts[1])
            quick.append(link)
            link.send(Offer(home, STAMP, 1), bytes([home]) * SIZE)
        await until(lambda: mdc.homes >= set(range(10, 20)))
        assert not mdc.crowded, "of them not everything has come"
        for home, wire in enumerate(still):
            await wire.write(bytes([home]) * (SIZE - 1000))
        await until(lambda: len(mdc.messages) == 19)
        lost = sorted(mdc.crowded)
        assert lost and len(set(lost)) == len(lost)
        for home in lost:  # asked again, they are as slow as before, and others wait again
            await still[home].write(offer(home) + bytes([100 + home]) * 1000)
        for home, link in enumerate(quick, 10):
            link.send(Offer(home, STAMP, 1), bytes([100 + home]) * SIZE)
        for home in lost:
            await still[home].write(bytes([100 + home]) * (SIZE - 1000))
        await until(lambda: len(mdc.messages) == 29 + len(lost))
        assert sorted(mdc.crowded) == lost, "nobody's payload is thrown away twice in a row"
        assert mdc.homes == set(range(9)) | set(range(10, 20))
        assert children.closed == mdc.closed == []
        for link in quick:
            link.close()


async def test_what_has_come_already_is_read_when_there_is_room(
    contexts: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing more comes that would wake the link: over TLS all of it is one record, decrypted already."""
    monkeypatch.setattr(buffers, "LEAST", 1)
    size = 4500
    async with serving(contexts) as (mdc, call, _):
        first, second = await call(), await call()
        await first.write(offer(0, size) + bytes([1]) * 10)
        await until(lambda: mdc.host.buffers._lent)
        await second.write(offer(1, size) + bytes([2]) * size + offer(1, size) + bytes([3]) * size)
        await until(lambda: mdc.host.buffers._waiting)
        assert mdc.whole == []
        await first.write(bytes([1]) * (size - 10))
        await until(lambda: len(mdc.whole) == 3)
        assert mdc.whole == [(0, 1), (1, 2), (1, 3)]


async def test_no_more_is_received_than_there_is_room_for(contexts: Contexts) -> None:
    """The rest stays where it is: TCP has those who send it wait."""
    async with serving(contexts) as (mdc, call, _):
        wires = [await call() for _ in range(12)]
        for home, wire in enumerate(wires):
            await wire.write(offer(home) + bytes([home]) * 60_000)
        pool = mdc.host.buffers
        await until(lambda: len(pool._lent) + len(pool._waiting) == 12)
        assert len(pool._lent) == 4
        assert pool._bytes == 4 * SIZE
        for _ in range(20):
            await asyncio.sleep(0)
        assert max(len(link._rest) for link in mdc.opened) < 5000


@pytest.mark.parametrize("waits", [True, False])
async def test_who_goes_while_it_waits_or_sends_leaves_its_room(contexts: Contexts, waits: bool) -> None:
    async with serving(contexts) as (mdc, call, _):
        wires = []
        for home in range(6):
            wires.append(await call())
            await wires[-1].write(offer(home) + bytes([home]) * 5000)
            await until(lambda n=home + 1: len(mdc.host.buffers._lent) + len(mdc.host.buffers._waiting) == n)
        gone = 4 if waits else 0
        mdc.opened[gone].close()
        await wires[5].write(bytes([5]) * (SIZE - 5000))
        for home in {1, 2, 3, 4} - {gone}:
            await wires[home].write(bytes([home]) * (SIZE - 5000))
        left = {0, 1, 2, 3, 4, 5} - {gone}
        if waits:
            await wires[0].write(bytes(SIZE - 5000))
        await until(lambda: set(mdc.homes) | set(mdc.crowded) == left)
        assert mdc.host.buffers._bytes == 0


# -- weights for those who do not read ----------------------------------------------------------------------


async def test_the_newest_weights_replace_those_that_wait(contexts: Contexts) -> None:
    """A peer that reads late gets what it had begun to read, everything else, and the newest weights."""
    async with serving(contexts) as (mdc, call, _):
        wire = await call()
        (link,) = mdc.opened
        link.send(messages.Finish("Complete", "first"))
        link.send(messages.Keep(1, STAMP), bytes(30_000_000))
        for round_ in range(20):
            link.send(messages.Work(1, Stamp(round_, 1)), bytes([round_]) * 100_000)
            link.send(messages.Want(Stamp(round_, 1), b""))
        got = await asyncio.get_running_loop().run_in_executor(None, read_frames, wire.sock, 23)
        said = [message for message, _ in got]
        assert said[:2] == [messages.Finish("Complete", "first"), messages.Keep(1, STAMP)]
        assert [m.stamp.round for m in said if isinstance(m, messages.Want)] == list(range(20))
        assert got[-2] == (messages.Work(1, Stamp(19, 1)), bytes([19]) * 100_000)
        assert mdc.closed == []


def read_frames(sock: socket.socket, count: int) -> list[tuple[Message, bytes]]:
    """So many frames that are not heartbeats."""
    out: list[tuple[Message, bytes]] = []
    with sock.makefile("rb") as file:
        while len(out) < count:
            message, payload = frame.parse_header(file.read(frame.HEADER.size))
            body = file.read(message)
            if body:
                out.append((messages.decode(body), file.read(payload)))
    return out


async def test_a_peer_that_is_two_versions_behind_is_given_up(
    contexts: Contexts, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(contexts) as (mdc, call, _):
        await call()
        (link,) = mdc.opened
        weights = [bytes([n]) * 30_000_000 for n in range(3)]
        for number in range(2):
            link.send(messages.Work(1, Stamp(number, 1)), weights[number])
        await asyncio.sleep(0)
        assert mdc.closed == [] and link.waiting > len(weights[0])
        link.send(messages.Work(1, Stamp(2, 1)), weights[2])
        await until(lambda: mdc.closed)
        assert caplog.text.count("does not read") == 1
        assert link.waiting == 0
