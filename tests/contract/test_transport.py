"""What the wire promises, over real loopback TCP.

The peer is another `Link` where the promise is about both ends, and a bare socket where it is about bytes
that no well-behaved link would send.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import time
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.owners import DEADLINE, HOST, LONG, MOST, SHORT, WORK, Owner, until
from elf_worker import messages
from elf_worker.contract import MAX_PAYLOAD
from elf_worker.messages import Discarded, Fetch, Finish, Keep, Message, Stamp, Want, Welcome, Work
from elf_worker.transport import Limits, Link, connect, frame, listen
from elf_worker.transport.link import BACKLOG


@contextlib.asynccontextmanager
async def listening(owner: Owner, most: int = MOST, limits: Limits | None = None) -> AsyncIterator[str]:
    """`host:port` at which `owner` takes connections."""
    server = await listen(owner, HOST, 0, owner.silence, limits or Limits(most))
    try:
        yield f"{HOST}:{server.port}"
    finally:
        server.close()
        for link in owner.opened:
            link.close()
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def pair(silence: float = LONG) -> AsyncIterator[tuple[Owner, Owner]]:
    """(child, parent): the child has dialled and both links are open."""
    child, parent = Owner(silence), Owner(silence)
    async with listening(parent) as address:
        link = Link(child, silence)
        await connect(link, address, None)
        await until(lambda: parent.opened)
        try:
            yield child, parent
        finally:
            link.close()
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def bare_client(owner: Owner) -> AsyncIterator[socket.socket]:
    """A bare socket connected to a link of `owner`."""
    async with listening(owner) as address:
        host, port = address.split(":")
        with socket.create_connection((host, int(port))) as client:
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await until(lambda: owner.opened)
            yield client


@contextlib.asynccontextmanager
async def bare_server(owner: Owner, source: str | None = None) -> AsyncIterator[socket.socket]:
    """A bare socket that a link of `owner` has dialled."""
    with socket.create_server((HOST, 0)) as listener:
        listener.setblocking(False)
        link = Link(owner, owner.silence)
        accepting = asyncio.ensure_future(asyncio.get_running_loop().sock_accept(listener))
        await connect(link, f"{HOST}:{listener.getsockname()[1]}", source)
        accepted, _ = await accepting
        with accepted:
            try:
                yield accepted
            finally:
                link.close()
                await asyncio.sleep(0)


async def write(sock: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, data)


async def read_to_end(sock: socket.socket) -> bytes:
    """All bytes until the other side has closed, orderly or not."""
    loop, out = asyncio.get_running_loop(), b""
    async with asyncio.timeout(DEADLINE):
        with contextlib.suppress(ConnectionResetError):
            while piece := await loop.sock_recv(sock, 1 << 16):
                out += piece
    return out


def encoded(message: Message, payload: bytes = b"") -> bytes:
    """A frame as the module's docstring lays it out, written down here a second time."""
    body = messages.encode(message)
    sizes = len(body).to_bytes(4, "little") + len(payload).to_bytes(8, "little")
    return b"ELF1" + sizes + body + payload


def of_size(size: int) -> Finish:
    """A message of so many bytes, 70,000 at least."""
    short = Finish("Complete", "x" * 66_000)
    return Finish("Complete", short.message + "x" * (size - len(messages.encode(short))))


# -- frames ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        bytearray(b"\x00\x01\xff"),
        b"bytes",
        memoryview(b"a view"),
        np.arange(6, dtype=np.float32).reshape(2, 3),
        memoryview(np.array([math.pi, math.nan, -0.0], np.float32)),
    ],
    ids=["bytearray", "bytes", "memoryview", "matrix", "float view"],
)
async def test_a_payload_arrives_byte_for_byte_in_a_buffer_of_its_own(payload):
    async with pair() as (child, parent):
        child.link.send(WORK, payload)
        child.link.send(WORK, payload)
        await until(lambda: len(parent.received) == 2)
    (first_message, first), (second_message, second) = parent.received
    assert first_message == second_message == WORK
    assert type(first) is bytearray
    assert bytes(first) == bytes(second) == memoryview(payload).tobytes()
    assert first is not second


async def test_memory_of_large_payloads_is_used_again_once_nobody_holds_it():
    sent = [bytes([i]) * 2_000_000 for i in range(12)]
    async with pair() as (child, parent):
        kept: list[memoryview] = []
        seen: set[int] = set()
        for i, payload in enumerate(sent):
            parent.link.send(Keep(1, Stamp(i, 1)), payload)
            await until(lambda: child.received)
            _, found = child.received.pop()
            assert found == payload
            seen.add(id(found))
            if i % 3 == 0:
                kept.append(memoryview(found))  # a view holds it as well as a name
            del found
    assert [bytes(view) for view in kept] == sent[::3]
    assert len(seen) < len(sent)


@pytest.mark.parametrize("payload", [None, b"", np.empty(0, np.float32)], ids=["none", "bytes", "array"])
async def test_a_message_without_payload_bytes_arrives_with_none(payload):
    async with pair() as (child, parent):
        child.link.send(WORK, payload)
        await until(lambda: parent.received)
    assert parent.received == [(WORK, None)]


async def test_both_directions_keep_their_order():
    up = [Want(Stamp(i, 1), bytes([i])) for i in range(50)]
    down = [Finish("Complete", str(i)) for i in range(50)]
    async with pair() as (child, parent):
        for i in range(50):
            child.link.send(up[i], bytes(i))
            parent.link.send(down[i])
        await until(lambda: len(parent.received) == len(child.received) == 50)
    assert parent.messages == up
    assert [len(payload or b"") for _, payload in parent.received] == list(range(50))
    assert child.messages == down


async def test_twenty_megabytes_pass_both_ways_at_once():
    there = np.random.default_rng(1).bytes(20_000_000)
    back = np.random.default_rng(2).bytes(20_000_000)
    async with pair() as (child, parent):
        child.link.send(WORK, there)
        parent.link.send(Keep(1, Stamp(3, 1)), back)
        child.link.send(Fetch())
        await until(lambda: len(parent.received) == 2 and child.received)
    assert parent.messages == [WORK, Fetch()]
    assert parent.received[0][1] == there
    assert child.received == [(Keep(1, Stamp(3, 1)), back)]


async def test_many_small_frames_arrive_once_each_and_in_order():
    """5,000 frames are several read buffers, so some of them straddle the end of one."""
    async with pair() as (child, parent):
        for i in range(5000):
            child.link.send(Welcome(i), str(i).encode() if i % 3 == 0 else None)
        await until(lambda: len(parent.received) >= 5000)
    assert parent.received == [(Welcome(i), str(i).encode() if i % 3 == 0 else None) for i in range(5000)]


async def test_a_message_larger_than_the_read_buffer_arrives_between_small_ones():
    long = Finish("Complete", "x" * (frame.MAX_MESSAGE - 100))
    async with pair() as (child, parent):
        for message in (Fetch(), long, Fetch(), long):
            child.link.send(message, b"tail")
        await until(lambda: len(parent.received) == 4)
    assert parent.received == [(m, b"tail") for m in (Fetch(), long, Fetch(), long)]


async def test_the_bytes_on_the_wire_are_those_of_the_documented_layout():
    owner = Owner()
    async with bare_server(owner) as peer:
        owner.link.send(WORK, b"payload")
        owner.link.send(Fetch())
        owner.link.close()
        assert await read_to_end(peer) == encoded(WORK, b"payload") + encoded(Fetch())


FRAMES = st.lists(
    st.tuples(
        st.one_of(
            st.builds(Welcome, st.integers(0, 2**31)),
            st.builds(Finish, st.just("Complete"), st.text(max_size=40)),
        ),
        st.binary(max_size=60),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(FRAMES, st.data())
async def test_frames_cut_at_any_byte_boundary_arrive_whole(frames, data):
    stream = b"".join(
        encoded(message, payload) + (frame.HEARTBEAT if len(payload) % 2 else b"")
        for message, payload in frames
    )
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=30), label="cuts"))
    owner = Owner()
    async with bare_client(owner) as client:
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            await write(client, stream[start:end])
            for _ in range(2):  # lets the link read this piece before the next one is there
                await asyncio.sleep(0)
        await until(lambda: len(owner.received) >= len(frames))
    assert owner.received == [(message, payload or None) for message, payload in frames]
    assert owner.closed == []


async def test_frames_arrive_when_every_byte_comes_alone():
    stream = encoded(WORK, b"12345") + frame.HEARTBEAT + encoded(Fetch()) + encoded(WORK, b"6")
    owner = Owner()
    async with bare_client(owner) as client:
        for byte in stream:
            await write(client, bytes([byte]))
            for _ in range(2):
                await asyncio.sleep(0)
        await until(lambda: len(owner.received) == 3)
    assert owner.received == [(WORK, b"12345"), (Fetch(), None), (WORK, b"6")]


# -- what is not a frame --------------------------------------------------------------------------------

HEADER = frame.HEADER
UNREADABLE = {
    "garbage": b"GET / HTTP/1.1\r\nHost: elf\r\n\r\n",
    "zeros": bytes(64),
    "other magic": encoded(Fetch()).replace(b"ELF1", b"ELF2"),
    "oversized message": HEADER.pack(b"ELF1", frame.MAX_MESSAGE + 1, 0),
    "oversized payload": HEADER.pack(b"ELF1", len(messages.encode(Fetch())), frame.MAX_PAYLOAD + 1)
    + messages.encode(Fetch()),
    "not MessagePack": HEADER.pack(b"ELF1", 4, 0) + b"\xc1\xc1\xc1\xc1",
    "no message of ours": HEADER.pack(b"ELF1", 8, 0) + b"\x91\xa6Reboot",
    "missing fields": HEADER.pack(b"ELF1", 6, 0) + b"\x91\xa4Work",
    "wrong type of field": HEADER.pack(b"ELF1", 12, 0) + b"\x92\xa7Welcome\xa2no",
    "undecodable message before a payload": HEADER.pack(b"ELF1", 1, 7) + b"\xc1payload",
    "garbage after a heartbeat": frame.HEARTBEAT + b"x" * 16,
    "a payload without a message": HEADER.pack(b"ELF1", 0, len(encoded(Fetch()))) + encoded(Fetch()),
}


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_bytes_that_are_no_frame_close_the_link_and_deliver_nothing(data, caplog):
    owner = Owner()
    async with bare_client(owner) as client:
        await write(client, data + encoded(Fetch()))
        await until(lambda: owner.closed or owner.received)
        assert owner.received == []
        assert owner.closed == [owner.link]
        await read_to_end(client)  # and the peer learns of it
    assert "closing a connection" in caplog.text


async def test_frames_before_the_garbage_are_delivered_and_one_link_s_garbage_is_not_another_s():
    owner = Owner()
    async with listening(owner) as address:
        good, bad = (socket.create_connection(address.split(":")) for _ in range(2))
        with good, bad:
            good.setblocking(False)
            bad.setblocking(False)
            await write(bad, encoded(Fetch()) + b"?" * 16)
            await until(lambda: owner.closed)
            await write(good, encoded(WORK))
            await until(lambda: len(owner.received) == 2)
            await until(lambda: len(owner.opened) == 2)
    assert owner.messages == [Fetch(), WORK]
    assert len(owner.closed) == 1


async def test_a_peer_that_closes_in_the_middle_of_a_payload_leaves_nothing_delivered():
    owner = Owner()
    async with bare_client(owner) as client:
        await write(client, encoded(WORK, b"x" * 100)[:-1])
        client.shutdown(socket.SHUT_WR)
        await until(lambda: owner.closed)
    assert owner.received == []
    assert owner.closed == owner.opened


# -- more than there is room for --------------------------------------------------------------------------


@pytest.mark.parametrize("room", [0, 1, 99, 100, 101, 1 << 16, 3 << 16, MAX_PAYLOAD])
@pytest.mark.parametrize("size", [1, 100, (1 << 16) - 1, 1 << 16, (3 << 16) + 1])
async def test_a_payload_larger_than_the_room_is_but_its_size(size: int, room: int) -> None:
    payload = bytes(k % 251 for k in range(size))
    async with pair() as (child, parent):
        parent.room = lambda message: room
        child.link.send(WORK, payload)
        child.link.send(Fetch())
        child.link.send(Welcome(1), b"")
        await until(lambda: len(parent.received) == 3)
    left = payload if size <= room else Discarded(size)
    assert parent.received == [(WORK, left), (Fetch(), None), (Welcome(1), None)]


async def test_the_room_depends_on_the_message() -> None:
    async with pair() as (child, parent):
        parent.room = lambda message: 4 if isinstance(message, Work) else 2
        for message in (WORK, Welcome(7), Keep(1, Stamp(3, 1)), WORK):
            child.link.send(message, b"1234")
        await until(lambda: len(parent.received) == 4)
    assert [payload for _, payload in parent.received] == [b"1234", Discarded(4), Discarded(4), b"1234"]


async def test_nobody_is_asked_for_room_where_there_is_no_payload() -> None:
    asked: list[Message] = []
    async with pair() as (child, parent):
        parent.room = lambda message: len(asked) if asked.append(message) else 9
        child.link.send(Fetch())
        child.link.send(WORK, b"1")
        await until(lambda: len(parent.received) == 2)
    assert asked == [WORK]


async def test_what_is_not_kept_needs_no_memory() -> None:
    """A hundred megabytes pass through the buffer of a link and are not gathered anywhere."""
    size, piece = 100_000_000, bytes(1_000_000)
    owner = Owner()
    owner.room = lambda message: size - 1
    async with bare_client(owner) as client:
        body = messages.encode(WORK)
        tracemalloc.start()
        try:
            await write(client, HEADER.pack(b"ELF1", len(body), size) + body)
            for _ in range(size // len(piece)):
                await write(client, piece)
            await write(client, encoded(Fetch()))
            await until(lambda: len(owner.received) == 2)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert owner.received == [(WORK, Discarded(size)), (Fetch(), None)]
    assert most < 3_000_000


@settings(max_examples=60, deadline=None)
@given(FRAMES, st.integers(0, 60), st.data())
async def test_frames_cut_anywhere_arrive_whole_around_what_is_not_kept(
    frames: list[tuple[Message, bytes]], room: int, data: st.DataObject
) -> None:
    stream = b"".join(encoded(message, payload) for message, payload in frames) + encoded(Fetch())
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=30), label="cuts"))
    owner = Owner()
    owner.room = lambda message: room
    async with bare_client(owner) as client:
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            await write(client, stream[start:end])
            for _ in range(2):  # lets the link read this piece before the next one is there
                await asyncio.sleep(0)
        await until(lambda: len(owner.received) > len(frames))
    left = [(m, (p or None) if len(p) <= room else Discarded(len(p))) for m, p in frames]
    assert owner.received == [*left, (Fetch(), None)]
    assert owner.closed == []


async def test_what_is_not_kept_may_come_byte_by_byte() -> None:
    stream = encoded(WORK, b"12345") + encoded(WORK, b"123") + frame.HEARTBEAT + encoded(WORK, b"1234")
    owner = Owner()
    owner.room = lambda message: 3
    async with bare_client(owner) as client:
        for byte in stream:
            await write(client, bytes([byte]))
            for _ in range(2):
                await asyncio.sleep(0)
        await until(lambda: len(owner.received) == 3)
    assert owner.received == [(WORK, Discarded(5)), (WORK, b"123"), (WORK, Discarded(4))]


async def test_a_peer_that_closes_in_the_middle_of_what_is_not_kept_leaves_nothing_delivered() -> None:
    owner = Owner()
    owner.room = lambda message: 3
    async with bare_client(owner) as client:
        await write(client, encoded(WORK, b"x" * 100)[:-1])
        client.shutdown(socket.SHUT_WR)
        await until(lambda: owner.closed)
    assert owner.received == []
    assert owner.closed == owner.opened


# -- a peer that does not read ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 100_000, 3_000_000])
async def test_a_peer_that_never_reads_is_given_up_and_little_waits_for_it(
    size: int, caplog: pytest.LogCaptureFixture
) -> None:
    message, payload = (Keep(1, Stamp(3, 1)), bytes(size)) if size else (Finish("Complete", "x" * 1000), None)
    limit = BACKLOG + 3 * size
    one = len(encoded(message)) + size
    owner = Owner()
    async with bare_server(owner) as peer:
        most = 0
        for _ in range(3 * limit // one + 100):  # three times what may wait, and what the sockets hold
            owner.link.send(message, payload)
            if not owner.link.waiting and most > limit:
                break
            most = max(most, owner.link.waiting)
        await until(lambda: owner.closed)
        assert peer.fileno() >= 0, "it was we who closed"
    assert limit < most <= limit + one
    assert owner.closed == owner.opened
    assert caplog.text.count("does not read") == 1


async def test_a_peer_that_reads_late_gets_all_that_may_wait() -> None:
    """Its three largest payloads and the backlog beside them, but for a message."""
    size, small = 2_000_000, of_size(100_000)
    owner = Owner()
    async with bare_server(owner) as peer:
        sent = []
        while owner.link.waiting <= BACKLOG + 3 * size - len(encoded(small)):
            payload = bytes(size) if len(sent) < 3 else b""
            owner.link.send(small, payload)
            sent.append(encoded(small, payload))
        assert owner.closed == []
        owner.link.close()
        assert await read_to_end(peer) == b"".join(sent)


async def test_what_one_peer_does_not_read_keeps_nothing_from_another() -> None:
    owner = Owner()
    async with listening(owner) as address:
        deaf, good = (socket.create_connection(address.split(":")) for _ in range(2))
        with deaf, good:
            good.setblocking(False)
            await until(lambda: len(owner.opened) == 2)
            by_peer = {each._connection.getpeername(): each for each in owner.opened}
            for _ in range(20):
                by_peer[deaf.getsockname()].send(WORK, bytes(1_000_000))
            by_peer[good.getsockname()].send(Fetch())
            await until(lambda: owner.closed)
            assert owner.closed == [by_peer[deaf.getsockname()]]
            by_peer[good.getsockname()].close()
            assert await read_to_end(good) == encoded(Fetch())


# -- too many peers ---------------------------------------------------------------------------------------


async def test_beyond_the_most_connections_newcomers_are_closed_until_one_leaves() -> None:
    owner = Owner()
    async with listening(owner, most=2) as address, contextlib.AsyncExitStack() as guests:

        def call() -> socket.socket:
            caller = guests.enter_context(socket.create_connection(address.split(":")))
            caller.setblocking(False)
            return caller

        first, second = call(), call()
        await until(lambda: len(owner.opened) == 2)
        for _ in range(3):
            turned_away = call()
            assert await read_to_end(turned_away) == b""
        assert (len(owner.opened), owner.closed) == (2, [])
        first.close()
        await until(lambda: owner.closed)
        third = call()
        await until(lambda: len(owner.opened) == 3)
        assert await read_to_end(call()) == b""
        for guest, message in ((second, Fetch()), (third, WORK)):
            await write(guest, encoded(message))
        await until(lambda: len(owner.received) == 2)
    assert sorted(owner.messages, key=str) == sorted([Fetch(), WORK], key=str)
    assert len(owner.closed) == 1


async def test_a_link_that_its_owner_closes_makes_room_for_another() -> None:
    owner = Owner()
    async with listening(owner, most=1) as address:
        for count in (1, 2, 3):
            with socket.create_connection(address.split(":")) as caller:
                caller.setblocking(False)
                await until(lambda count=count: len(owner.opened) == count)
                owner.opened[-1].close()
                assert await read_to_end(caller) == b""
    assert owner.closed == []


@pytest.mark.parametrize("queued", [1 << 16, 1 << 17])
async def test_the_kernel_holds_little_of_a_connection_that_nobody_reads(queued: int) -> None:
    owner = Owner()
    async with listening(owner, limits=Limits(MOST, queued=queued)) as address:
        with socket.create_connection(address.split(":")):
            await until(lambda: owner.opened)
            held = owner.link._connection.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert held == 2 * queued  # Linux counts its own bookkeeping, about as much again


async def test_limits_may_be_raised_while_connections_are_open() -> None:
    owner, limits = Owner(), Limits(1)
    async with listening(owner, limits=limits) as address, contextlib.AsyncExitStack() as guests:
        guests.enter_context(socket.create_connection(address.split(":")))
        await until(lambda: len(owner.opened) == 1)
        with socket.create_connection(address.split(":")) as refused:
            refused.setblocking(False)
            assert await read_to_end(refused) == b""
        limits.links = 2
        guests.enter_context(socket.create_connection(address.split(":")))
        await until(lambda: len(owner.opened) == 2)


async def test_a_closed_link_does_not_wait_for_ever_for_a_peer_that_does_not_read() -> None:
    """What was sent before is for a peer that reads; one that does not may not keep its place for ever."""
    owner = Owner(SHORT)
    async with listening(owner, most=1) as address:
        with socket.create_connection(address.split(":")), contextlib.ExitStack() as others:
            await until(lambda: owner.opened)
            owner.link.send(WORK, bytes(12_000_000))  # more than the sockets hold
            owner.link.close()

            def taken() -> bool:
                others.enter_context(socket.create_connection(address.split(":")))
                return len(owner.opened) == 2

            async with asyncio.timeout(DEADLINE):
                while not taken():
                    await asyncio.sleep(SHORT / 3)


async def test_links_that_were_dialled_take_nobody_s_place() -> None:
    parent = Owner()
    async with listening(parent, most=1) as address, pair() as (child, _):
        assert len(child.opened) == 1
        link = Link(child, LONG)
        await connect(link, address, None)
        await until(lambda: len(parent.opened) == 1)
        link.close()
        await until(lambda: parent.closed)


# -- what the peer would not take -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "payload"),
    [
        (of_size(frame.MAX_MESSAGE + 1), None),
        (of_size(frame.MAX_MESSAGE + 1), b"payload"),
        (of_size(3 * frame.MAX_MESSAGE), None),
        (WORK, np.broadcast_to(np.zeros(1, np.uint8), MAX_PAYLOAD + 1)),
    ],
    ids=["message", "message with a payload", "far too long", "payload"],
)
async def test_more_than_a_frame_holds_is_an_error_of_the_sender(message: Message, payload: Any) -> None:
    async with pair() as (child, parent):
        with pytest.raises(frame.BadFrameError, match="at most"):
            child.link.send(message, payload)
        child.link.send(of_size(frame.MAX_MESSAGE))
        await until(lambda: parent.received)
        assert (child.closed, parent.closed) == ([], [])
    assert parent.received == [(of_size(frame.MAX_MESSAGE), None)]


# -- liveness -------------------------------------------------------------------------------------------


async def test_a_silent_peer_is_closed_after_the_silence_and_not_before():
    owner = Owner(SHORT)
    began = time.monotonic()
    async with bare_server(owner) as peer:
        await until(lambda: owner.closed)
        assert time.monotonic() - began >= SHORT
        assert owner.closed == owner.opened
        assert owner.closed[0].silent
        assert set(await read_to_end(peer)) <= set(frame.HEARTBEAT)
    await asyncio.sleep(2 * SHORT)  # it is said once: no timer is left that could say it again
    assert len(owner.closed) == 1


async def test_talking_to_a_silent_peer_does_not_make_it_alive():
    owner = Owner(SHORT)
    async with bare_server(owner):
        async with asyncio.timeout(DEADLINE):
            while not owner.closed:
                owner.link.send(Fetch())
                await asyncio.sleep(0.02)


async def test_an_idle_link_beats_in_time_and_beats_keep_it_open():
    """Fifteen beats, each answered, are three silences of a link on which nobody has anything to say."""
    owner = Owner(SHORT)
    loop = asyncio.get_running_loop()
    async with bare_server(owner) as peer:
        began, longest = time.monotonic(), 0.0
        for _ in range(15):
            before = time.monotonic()
            async with asyncio.timeout(DEADLINE):
                assert await loop.sock_recv(peer, frame.HEADER.size) == frame.HEARTBEAT
            longest = max(longest, time.monotonic() - before)
            await write(peer, frame.HEARTBEAT)
        assert time.monotonic() - began > 2 * SHORT
        assert longest < SHORT, "a beat must come well before the peer would give up"
        assert owner.closed == []
    assert owner.received == []


async def test_two_idle_links_keep_each_other_open():
    async with pair(SHORT) as (child, parent):
        await asyncio.sleep(4 * SHORT)  # what must not happen has had the time to
        assert (child.closed, parent.closed) == ([], [])
        child.link.send(Fetch())
        await until(lambda: parent.received)
    assert parent.received == [(Fetch(), None)]


async def test_a_busy_link_sends_no_beats():
    owner = Owner(SHORT)
    async with bare_server(owner) as peer:
        for _ in range(30):
            owner.link.send(Fetch())
            await write(peer, frame.HEARTBEAT)
            await asyncio.sleep(SHORT / 30)
        owner.link.close()
        assert await read_to_end(peer) == 30 * encoded(Fetch())


async def test_a_slow_payload_is_no_silence():
    payload = bytes(range(12))
    owner = Owner(SHORT)
    async with bare_client(owner) as client:
        await write(client, encoded(WORK, payload)[: -len(payload)])
        for byte in payload:  # more than two silences from the first byte to the last
            await asyncio.sleep(SHORT / 5)
            await write(client, bytes([byte]))
        await until(lambda: owner.received)
    assert owner.received == [(WORK, payload)]
    assert owner.closed == []


async def test_a_process_that_slept_itself_does_not_blame_its_peer():
    """Stopped by a debugger or starved of CPU, it has to listen again before it judges."""
    async with pair(SHORT) as (child, parent):
        time.sleep(4 * SHORT)  # noqa: ASYNC251 - the loop shall stand still: that is the point
        await asyncio.sleep(SHORT)  # both judge before either has heard anything
        child.link.send(Fetch())
        parent.link.send(Fetch())
        await until(lambda: parent.received and child.received)
        assert (child.closed, parent.closed) == ([], [])


# -- closing --------------------------------------------------------------------------------------------


async def test_the_owner_who_closes_hears_nothing_and_the_peer_hears_it_once():
    async with pair() as (child, parent):
        child.link.close()
        await until(lambda: parent.closed)
        child.link.close()
        await asyncio.sleep(0.05)
        assert parent.closed == [parent.link]
        assert child.closed == []


async def test_closing_comes_after_what_was_sent():
    payload = bytes(8_000_000)  # more than the sockets' buffers hold
    async with pair() as (child, parent):
        child.link.send(WORK, payload)
        child.link.send(Finish("Complete", "done"))
        child.link.close()
        await until(lambda: parent.closed)
    assert parent.messages == [WORK, Finish("Complete", "done")]
    assert parent.received[0][1] == payload


async def test_a_closed_link_swallows_what_is_sent():
    async with pair() as (child, parent):
        child.link.close()
        child.link.send(Fetch())
        await until(lambda: parent.closed)
        parent.link.send(Fetch())
        await asyncio.sleep(0.05)
    assert parent.received == child.received == []


async def test_a_link_closed_while_handling_a_message_delivers_no_more():
    owner = Owner()
    owner.on_message = Link.close
    async with bare_client(owner) as client:
        await write(client, encoded(Fetch()) + encoded(WORK, b"12") + encoded(Fetch()))
        await read_to_end(client)
    assert owner.received == [(Fetch(), None)]
    assert owner.closed == []


async def test_an_owner_that_raises_loses_that_connection_and_no_other():
    """It was in the middle of a frame: what comes next could not be told apart."""
    seen: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: seen.append(str(about["exception"])))

    def fail(link: Link) -> None:
        raise RuntimeError("no memory left")

    async with pair() as (child, parent), pair() as (other, kept):
        parent.on_message = fail
        child.link.send(Fetch())
        child.link.send(WORK, b"payload")
        await until(lambda: child.closed and parent.closed)
        other.link.send(Fetch())
        await until(lambda: kept.received)
    assert seen == ["no memory left"]
    assert parent.messages == [Fetch()]
    assert kept.closed == []


async def test_a_link_closed_while_dialling_never_opens():
    child, parent = Owner(), Owner()
    async with listening(parent) as address:
        link = Link(child, LONG)
        dialling = asyncio.ensure_future(connect(link, address, None))
        await asyncio.sleep(0)
        link.close()
        link.send(Fetch())
        await dialling
        await until(lambda: parent.closed)
    assert parent.received == []
    assert (child.opened, child.closed, child.received) == ([], [], [])


async def test_a_link_without_a_connection_takes_orders_in_silence():
    owner = Owner()
    link = Link(owner, LONG)
    link.send(Fetch(), b"payload")
    link.close()
    link.close()
    assert (owner.opened, owner.closed) == ([], [])


# -- dialling -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [[Fetch()] * 90, [None] * 90, [Fetch(), None] * 45])
async def test_who_talks_too_fast_is_heard_more_slowly_and_loses_nothing(said: list[Message | None]):
    """None: a heartbeat. The first 30 may come at once."""
    parent, rate = Owner(), 30.0
    last = Finish("Complete", "that was all")
    frames = [frame.HEARTBEAT if m is None else encoded(m) for m in [*said, last]]
    async with listening(parent, limits=Limits(MOST, rate=rate)) as address:
        host, port = address.split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        began = asyncio.get_running_loop().time()
        writer.write(b"".join(frames))
        await until(lambda: parent.messages[-1:] == [last])
        took = asyncio.get_running_loop().time() - began
        writer.close()
    assert parent.messages == [m for m in said if m] + [last]
    assert took >= (len(frames) - rate - 1) / rate


async def test_one_that_talks_too_fast_costs_the_others_nothing():
    parent, honest = Owner(), Owner()
    async with listening(parent, limits=Limits(MOST, rate=5.0)) as address:
        host, port = address.split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(frame.HEARTBEAT * 10_000)
        await until(lambda: parent.opened and parent.link._holding)
        link = Link(honest, LONG)
        await connect(link, address, None)
        link.send(WORK, b"w" * 300_000)
        await until(lambda: parent.received)
        assert parent.received == [(WORK, bytearray(b"w" * 300_000))]
        link.close()
        writer.transport.abort()


async def test_a_silence_that_we_made_is_not_held_against_the_peer():
    parent = Owner(silence=SHORT)
    async with listening(parent, limits=Limits(MOST, rate=2.0)) as address:
        host, port = address.split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        last = Finish("Complete", "that was all")
        writer.write(frame.HEARTBEAT * 5 + encoded(last))
        await until(lambda: parent.messages == [last] or parent.closed)
        assert parent.messages == [last]
        writer.close()


async def test_a_refused_connection_is_an_error_and_no_event():
    with socket.create_server((HOST, 0)) as listener:
        address = f"{HOST}:{listener.getsockname()[1]}"
    owner = Owner()
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await connect(Link(owner, LONG), address, None)
    assert (owner.opened, owner.closed) == ([], [])


async def test_a_dial_that_nobody_answers_ends_in_time(monkeypatch):
    """A listener whose queue is full lets the next caller wait for ever."""
    monkeypatch.setattr("elf_worker.transport.host.CONNECT_SECONDS", 0.2)
    owner = Owner()
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind((HOST, 0))
        listener.listen(0)
        for _ in range(3):
            caller = waiting.enter_context(socket.socket())
            caller.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                caller.connect(listener.getsockname())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(DEADLINE):
                began = time.monotonic()
                await connect(Link(owner, LONG), f"{HOST}:{listener.getsockname()[1]}", None)
    assert time.monotonic() - began < DEADLINE / 2, "it was the test's own deadline that ended it"
    assert (owner.opened, owner.closed) == ([], [])


async def test_a_link_dials_from_the_address_it_is_told():
    owner = Owner()
    async with bare_server(owner, source="127.0.0.9") as peer:
        assert peer.getpeername()[0] == "127.0.0.9"


async def test_plain_connections_that_come_in_a_crowd_are_all_taken(monkeypatch):
    monkeypatch.setattr("elf_worker.transport.host.HANDSHAKES", 2)
    monkeypatch.setattr("elf_worker.transport.host.HANDSHAKE_SECONDS", DEADLINE)
    parent = Owner()
    async with listening(parent) as address:
        host, port = address.split(":")
        with contextlib.ExitStack() as callers:
            for _ in range(MOST):
                callers.enter_context(socket.create_connection((host, int(port)), DEADLINE))
            await until(lambda: len(parent.opened) == MOST)
            assert not parent.closed


async def test_a_port_that_is_taken_is_an_error():
    async with listening(Owner()) as address:
        with pytest.raises(OSError, match="in use"):
            await listen(Owner(), HOST, int(address.split(":")[1]), LONG, MOST)
