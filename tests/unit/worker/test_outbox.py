"""What waits to be sent: in order, whole, the newest weights only, and nothing of it copied."""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import tracemalloc
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elf_worker.transport.outbox import JOINED, Outbox


class Narrow:
    """A connection that takes, at each call, as many bytes as `limits` says; none: it would block."""

    def __init__(self, limits: Iterable[int]) -> None:
        self.here, self.there = socket.socketpair()
        self.here.setblocking(False)
        self.there.setblocking(False)
        self._limits = iter(limits)
        self.got = b""

    def __enter__(self) -> socket.socket:
        return cast(socket.socket, self)

    def __exit__(self, *_: object) -> None:
        self.here.close()
        self.there.close()

    def sendmsg(self, pieces: list[memoryview]) -> int:
        left = next(self._limits, 0)
        if not left:
            raise BlockingIOError
        some = []
        for piece in pieces:
            some.append(piece[:left])
            left -= len(some[-1])
        sent = self.here.sendmsg(some)
        self.got += self.there.recv(sent, socket.MSG_WAITALL)
        return sent


class Mirror:
    """What is promised of an `Outbox`, in few words and without its economies."""

    def __init__(self) -> None:
        self.frames: list[tuple[bytes, bool]] = []
        self.done = b""
        self.ahead = 0
        """Bytes of the first frame that are sent."""

    def put(self, data: bytes, replaceable: bool) -> bool:
        begun = 1 if self.ahead else 0
        kept = [f for i, f in enumerate(self.frames) if i < begun or not (f[1] and replaceable)]
        replaced = len(kept) < len(self.frames)
        self.frames = [*kept, (data, replaceable)]
        return not (replaced and begun and self.frames[0][1])

    def took(self, count: int) -> None:
        while count:
            data, _ = self.frames[0]
            step = min(count, len(data) - self.ahead)
            self.done += data[self.ahead : self.ahead + step]
            self.ahead += step
            count -= step
            if self.ahead == len(data):
                del self.frames[0]
                self.ahead = 0

    @property
    def waiting(self) -> int:
        return sum(len(data) for data, _ in self.frames) - self.ahead


NUMBERS = itertools.count()


def filled(size: int) -> bytes:
    """Bytes that are found nowhere else."""
    return (next(NUMBERS).to_bytes(4, "little") * (size // 4 + 1))[:size]


PUT = st.tuples(st.sampled_from([None, 0, 1, 7, 500, JOINED, JOINED + 1]), st.booleans())
SEND = st.lists(st.sampled_from([1, 2, 15, 16, 17, 300, JOINED, 1 << 20]), max_size=4)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(PUT, PUT, SEND), max_size=25))
def test_what_is_sent_is_what_was_put_in_order_but_for_what_was_replaced(steps: list[Any]) -> None:
    """However little the connection takes at a time."""
    outbox, mirror, got = Outbox(), Mirror(), b""
    for step in [*steps, [1 << 30] * 100]:
        if isinstance(step, tuple):
            size, replaceable = step
            head, payload = filled(16), None if size is None else filled(size)
            view = None if payload is None else memoryview(payload)
            assert outbox.put(head, view, replaceable) == mirror.put(head + (payload or b""), replaceable)
        else:
            narrow = Narrow(step)
            with narrow as connection:
                done = outbox.flush(connection)
            mirror.took(len(narrow.got))
            got += narrow.got
            assert got == mirror.done
            assert done == (not mirror.frames)
        assert outbox.waiting == mirror.waiting
    assert not outbox.waiting


def test_forgotten_frames_do_not_wait() -> None:
    outbox = Outbox()
    outbox.put(b"head", memoryview(bytes(100)), replaceable=True)
    outbox.clear()
    assert outbox.waiting == 0
    narrow = Narrow([100])
    with narrow as connection:
        assert outbox.flush(connection)
    assert narrow.got == b""


def test_what_breaks_is_raised() -> None:
    outbox = Outbox()
    outbox.put(b"head", None, replaceable=False)
    here, there = socket.socketpair()
    there.close()
    with here, pytest.raises(OSError):
        outbox.flush(here)


# -- what is held for peers that are slow -------------------------------------------------------------------


class Weights(bytearray):
    """Weights whose end can be observed."""

    __hash__ = object.__hash__


LARGE = 1 << 20


@pytest.fixture
def peers() -> Iterator[list[tuple[Outbox, socket.socket, socket.socket]]]:
    made = []
    for _ in range(50):
        here, there = socket.socketpair()
        here.setblocking(False)
        there.setblocking(False)
        made.append((Outbox(), here, there))
    yield made
    for _, here, there in made:
        here.close()
        there.close()


@pytest.mark.parametrize("seed", range(5))
def test_of_all_weights_three_versions_at_most_are_held(peers: Any, seed: int) -> None:
    """Whatever the peers read; those that are two behind are given up."""
    rng = random.Random(seed)
    held: weakref.WeakSet[Weights] = weakref.WeakSet()
    most = given_up = 0
    room = bytearray(LARGE)
    for _ in range(12):
        version = Weights(LARGE)
        held.add(version)
        for outbox, here, there in list(peers):
            if not outbox.put(b"head", memoryview(version), replaceable=True):
                outbox.clear()
                peers.remove((outbox, here, there))
                given_up += 1
                continue
            for _ in range(rng.choice([0, 1, 5, 50])):
                outbox.flush(here)
                with contextlib.suppress(BlockingIOError):
                    there.recv_into(room)
        del version
        most = max(most, len(held))
    assert given_up, "nobody was slow: nothing was tried"
    assert most <= 3


def test_weights_for_fifty_peers_are_in_memory_once(peers: Any) -> None:
    weights = memoryview(bytearray(8 * LARGE))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for outbox, here, _ in peers:
            outbox.put(b"head", weights, replaceable=True)
            outbox.put(b"head", None, replaceable=False)
            outbox.flush(here)
        for outbox, here, there in peers:
            for _ in range(5):
                assert there.recv(LARGE)
                outbox.flush(here)
        assert all(outbox.waiting > LARGE for outbox, _, _ in peers), "much is still to be sent"
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most - before < 3 * LARGE  # what the test itself reads of one is among it
