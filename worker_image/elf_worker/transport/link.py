"""One connection: frames in, frames out, heartbeats, limits.

Payloads are received straight into their own room, once, and sent from where they lie. What is not yet a
whole frame is read into one scratch buffer that all connections of the process share, so an idle one costs
next to nothing.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import ssl
import sys
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from elf_worker import messages
from elf_worker.contract import Peer
from elf_worker.messages import Bundle, Discarded, Message, Offer, Work
from elf_worker.transport import frame
from elf_worker.transport.buffers import Buffers
from elf_worker.transport.outbox import Outbox
from elf_worker.transport.security import StrangerError, peer_of

_log = logging.getLogger(__name__)
BACKLOG: Final = 1 << 22
"""Bytes that may wait for a peer that does not read, beside three of its largest payloads."""
HOLD_SECONDS: Final = 0.01
"""How long, at least, a connection that is too fast is not read."""
_READ: Final = 1 << 9
"""Bytes that are read to see what comes. A payload's beginning among them is all of it that waits here."""
_STEP: Final = 1 << 20
"""Bytes of a payload that are read at a time."""
_TURN: Final = 1 << 22
"""Bytes that are read of one connection before the others have their turn."""
_LARGE: Final = 1 << 20
_ROOMS: Final = 4
"""Payloads whose memory is used again: two of each kind, as the next one comes while the last is in use."""
_OURS_ALONE: Final = 3
"""References to one of them: from the list, from who looks, and from who counts."""
_scratch = bytearray(2 * (frame.HEADER.size + frame.MAX_MESSAGE + _READ))


@dataclass
class Limits:
    """What is taken from those who dial in. May change while connections are open."""

    links: int
    """Connections at a time."""
    message: int = frame.MAX_MESSAGE
    """Bytes of a message, without its payload."""
    rate: float = math.inf
    """Messages a second of one connection, heartbeats among them, and how many may come at once. What comes
    faster waits where it is."""
    queued: int = 0
    """Bytes that the kernel may hold of a new connection while nobody reads it; 0: as many as it likes, which
    may be tens of megabytes."""


ANY = Limits(0)


class Events(Protocol):
    """What a link tells its owner."""

    def link_opened(self, link: Link) -> None:
        """The connection is there."""

    def link_room(self, link: Link, message: Message) -> int:
        """Bytes that the payload of this message may have; a larger one is read and forgotten."""

    def link_received(self, link: Link, message: Message, payload: Any) -> None:
        """One frame; `payload` is a bytearray of its own, a `Discarded`, or None."""

    def link_closed(self, link: Link) -> None:
        """The connection is gone; never after `Link.close`."""


class Link:
    """One connection. It sends heartbeats when idle and closes itself when the peer has been silent."""

    __slots__ = (
        "_allowance",
        "_allowed_at",
        "_buffers",
        "_closed",
        "_connection",
        "_discarded",
        "_events",
        "_guests",
        "_heard",
        "_holding",
        "_largest",
        "_limits",
        "_loop",
        "_message",
        "_outbox",
        "_payload",
        "_queueing",
        "_reading",
        "_rest",
        "_rooms",
        "_silence",
        "_size",
        "_skipping",
        "_spoke",
        "_timer",
        "_writing",
        "firm",
        "patient",
        "peer",
        "progress",
        "silent",
    )
    """Without a dictionary for each: a data center has thousands."""

    def __init__(
        self,
        events: Events,
        silence: float,
        guests: set[Link] | None = None,
        limits: Limits = ANY,
        buffers: Buffers | None = None,
    ) -> None:
        self._guests = guests
        self._limits = limits
        self._events = events
        self._silence = silence
        self._buffers = buffers
        self._loop = asyncio.get_running_loop()
        self._connection: socket.socket | None = None
        self._outbox = Outbox()
        self._writing = False
        """Waiting for the connection to take more."""
        self._reading = False
        self._rooms: list[bytearray] = []
        self._rest = b""
        """The beginning of a frame whose rest is still to come."""
        self._message: Message | None = None
        self._size = 0
        self._payload: bytearray | None = None
        self._queueing = False
        """The payload has to wait for room."""
        self._skipping = 0  # bytes of a payload without room that are still to come
        self._discarded = Discarded(0)
        self._allowance = limits.rate
        self._allowed_at = 0.0
        self._holding: asyncio.TimerHandle | None = None
        self._largest = 0
        self._heard = 0.0
        self._spoke = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.progress = 0
        """See `Holder`; so are the next two."""
        self.patient = False
        self.firm = False
        self.silent = False
        """It was closed because nothing came from the peer for too long."""
        self.peer: Peer | None = None
        """Who is there, by its certificate; None without TLS."""

    # -- owner's side -------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Bytes that were sent and that the peer's connection has not taken yet."""
        return self._outbox.waiting

    def send(self, message: Message, payload: Any = None, flush: bool = True) -> None:
        """Queue one frame; unless `flush`, it may wait for the next `flush()`.

        On a closed link nothing happens; a peer that does not read is given up. A `Work` that waits is
        replaced by a newer one. Raises BadFrameError for a message that the peer would not take.
        """
        if not self._alive:
            return
        body = messages.encode(message)
        size = memoryview(payload).nbytes if payload is not None else 0
        frame.check_sizes(len(body), size)
        view = memoryview(payload).cast("B") if size else None
        self._largest = max(self._largest, size)
        head = frame.header(len(body), size) + body
        full = self._outbox.waiting > BACKLOG + 3 * self._largest
        if full or not self._outbox.put(head, view, replaceable=isinstance(message, Work)):
            _log.warning("closing a connection: the peer does not read")
            self._abort()
            return
        self._spoke = self._loop.time()
        if flush or self._outbox.waiting > _TURN:
            self.flush()

    def flush(self) -> None:
        """Send what is queued, as far as the connection takes it."""
        if self._alive and not self._writing:
            self._flush()

    def close(self) -> None:
        """Close after what was sent. The owner hears no `link_closed`."""
        self._closed = True
        self._stop_timers()
        self._leave_buffers()
        if self._connection is None:
            return
        self._read_on(False)
        if not self._writing:
            self._flush()
        if self._connection is None:
            return
        # A peer that does not read would keep what is left, and this link, for ever.
        self._timer = self._loop.call_later(self._silence, self._lost)

    # -- the socket's side --------------------------------------------------------------------------------

    def attach(self, connection: socket.socket) -> None:
        """The connection is there, non-blocking; it is the link's own from now on."""
        if self._closed:  # the owner changed its mind while we dialled
            connection.close()
            return
        try:
            self.peer = peer_of(connection)
        except StrangerError as error:
            _log.warning("closing a connection: %s", error)
            connection.close()
            self._report_lost()
            return
        if self._guests is not None:
            if len(self._guests) >= self._limits.links:
                self._closed = True
                connection.close()
                return
            self._guests.add(self)
        self._connection = connection
        self._heard = self._spoke = self._allowed_at = self._loop.time()
        self._timer = self._loop.call_later(self._silence / 5, self._pulse, self._loop.time())
        self._read_on(True)
        self._events.link_opened(self)

    def _flush(self) -> None:
        assert self._connection is not None
        try:
            done = self._outbox.flush(self._connection)
        except OSError as error:
            _log.debug("a connection broke: %s", error)
            self._abort()
            return
        if done == self._writing:
            self._writing = not done
            if self._writing:
                self._loop.add_writer(self._connection, self._flush)
            else:
                self._loop.remove_writer(self._connection)
        if done and self._closed:
            self._lost()

    def _read_on(self, reading: bool) -> None:
        if self._connection is None or reading == self._reading:
            return
        self._reading = reading
        if reading:
            self._loop.add_reader(self._connection, self._readable)
            if isinstance(self._connection, ssl.SSLSocket):
                self._loop.call_soon(self._readable)  # what is decrypted already wakes nobody
        else:
            self._loop.remove_reader(self._connection)

    def _readable(self) -> None:
        turn = _TURN
        while self._reading and turn > 0:
            assert self._connection is not None
            target = self._target()
            drained = None if isinstance(self._connection, ssl.SSLSocket) else len(target)
            try:
                count = self._connection.recv_into(target)
            except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError as error:
                _log.debug("a connection broke: %s", error)
                self._abort()
                return
            if not count:
                self._abort()
                return
            turn -= count
            self._heard = self._loop.time()
            try:
                self._took(count)
            except BaseException:  # the owner's; where the next frame begins is not known any more
                self._abort()
                raise
            if drained is not None and (count < drained or self._payload is None):
                return  # there is nothing more, or the loop will say so: a look would be a call for nothing
        if self._reading and isinstance(self._connection, ssl.SSLSocket) and self._connection.pending():
            self._loop.call_soon(self._readable)

    def _target(self) -> memoryview:
        if self._payload is not None:
            return memoryview(self._payload)[self.progress : self.progress + _STEP]
        scratch = memoryview(_scratch)
        if self._skipping:
            return scratch[: min(self._skipping, len(scratch))]
        rest = len(self._rest)
        return scratch[rest : rest + max(_READ, rest)]

    def _took(self, count: int) -> None:
        if self._payload is not None:
            self.progress += count
            self._finish_payload()
        elif self._skipping:
            self._skipping -= count
            self._finish_skipping()
        else:
            _scratch[: len(self._rest)] = self._rest
            self._parse(memoryview(_scratch)[: len(self._rest) + count])

    # -- parsing ------------------------------------------------------------------------------------------

    def _parse(self, view: memoryview) -> None:
        try:
            self._parse_frames(view)
        except (frame.BadFrameError, msgspec.MsgspecError) as error:
            _log.warning("closing a connection: %s", error)
            self._abort()

    def _parse_frames(self, view: memoryview) -> None:
        """All frames in `view`, which may lie in the scratch buffer: what is left of it is copied."""
        start = 0
        while self._alive and not self._busy and len(view) - start >= frame.HEADER.size:
            message_size, payload_size = frame.parse_header(view[start : start + frame.HEADER.size])
            if message_size > self._limits.message:
                most = self._limits.message
                raise frame.BadFrameError(f"a message of {message_size} bytes, at most {most} are taken")
            body = start + frame.HEADER.size
            if body + message_size > len(view) or not self._admit():
                break
            start = body + message_size
            if not message_size:
                if payload_size:
                    raise frame.BadFrameError(f"{payload_size} bytes of payload without a message")
                continue  # a heartbeat
            message = messages.decode(view[body:start])
            if payload_size:
                start += self._begin_payload(message, payload_size, view[start:])
            else:
                self._events.link_received(self, message, None)
        self._rest = bytes(view[start:])

    @property
    def _alive(self) -> bool:
        return self._connection is not None and not self._closed

    @property
    def _busy(self) -> bool:
        """The next bytes are of a payload."""
        return self._payload is not None or self._skipping > 0 or self._queueing

    def _begin_payload(self, message: Message, size: int, view: memoryview) -> int:
        """Returns how many of its bytes were in `view`."""
        self._message, self._size, self.progress = message, size, 0
        self.firm = not isinstance(message, Offer | Bundle)  # sums of MDCs are few, and dear
        if size > self._events.link_room(self, message):
            present = min(size, len(view))
            self._skipping, self._discarded = size - present, Discarded(size)
            self._finish_skipping()
            return present
        room = self._buffers.ask(self, size) if self._buffers is not None else self._room_for(size)
        if room is None:
            self._queueing = True
            self._read_on(False)
            return 0
        return self._fill(room, view)

    def _room_for(self, size: int) -> bytearray:
        """Where one of the last payloads was that nobody holds any more, or new.

        Weights come round after round, and the kernel takes longer to hand out new memory than to fill it.
        """
        if size < _LARGE:
            return bytearray(size)
        for room in self._rooms:
            if len(room) == size and sys.getrefcount(room) == _OURS_ALONE:
                return room
        fresh = bytearray(size)
        self._rooms = [fresh, *self._rooms][:_ROOMS]
        return fresh

    def _fill(self, room: bytearray, view: memoryview) -> int:
        present = min(len(room), len(view))
        room[:present] = view[:present]
        self._payload, self.progress = room, present
        self._finish_payload()
        return present

    def _finish_payload(self) -> None:
        if self._payload is not None and self.progress == len(self._payload):
            payload, self._payload = self._payload, None
            self.patient = False
            if self._buffers is not None:
                self._buffers.received(self)
            self._deliver(payload)

    def _finish_skipping(self) -> None:
        if not self._skipping:
            self._deliver(self._discarded)

    def _deliver(self, payload: bytearray | Discarded) -> None:
        message, self._message = self._message, None
        assert message is not None
        if self._alive:
            self._events.link_received(self, message, payload)

    # -- room for payloads: see `Holder` ------------------------------------------------------------------

    def granted(self, room: bytearray) -> None:
        """There is room for the payload that waits."""
        self._queueing = False
        self._heard = self._loop.time()
        rest, self._rest = self._rest, b""
        taken = self._fill(room, memoryview(rest))
        self._parse(memoryview(rest)[taken:])
        self._read_on(not self._queueing and self._holding is None and not self._closed)

    def evicted(self) -> None:
        """Throw the rest of the payload away."""
        self._skipping, self._discarded = self._size - self.progress, Discarded(self._size, crowded=True)
        self._payload = None
        self.patient = True

    def _leave_buffers(self) -> None:
        if self._buffers is not None:
            self._buffers.leave(self)
        self._queueing, self._payload = False, None

    # -- not too fast -------------------------------------------------------------------------------------

    def _admit(self) -> bool:
        """Whether one more message may come now; if not, the connection is not read until it may."""
        rate = self._limits.rate
        if rate == math.inf:
            return True
        now = self._loop.time()
        self._allowance = min(rate, self._allowance + (now - self._allowed_at) * rate)
        self._allowed_at = now
        if self._allowance >= 1:
            self._allowance -= 1
            return True
        if self._holding is None:
            self._read_on(False)
            self._holding = self._loop.call_later(max(HOLD_SECONDS, 1 / rate), self._go_on)
        return False

    def _go_on(self) -> None:
        self._holding = None
        if not self._busy:
            self._parse(memoryview(self._rest))
        self._read_on(self._holding is None and not self._queueing and not self._closed)

    # -- liveness -----------------------------------------------------------------------------------------

    def _pulse(self, due: float) -> None:
        now, step = self._loop.time(), self._silence / 5
        if now - due > 2 * step or not self._reading:
            self._heard = now  # it was us who did not listen: what the peer said meanwhile is still unread
        if now - self._heard >= self._silence:
            self.silent = True
            self._abort()
            return
        if now - self._spoke >= step and not self._outbox.waiting:
            self._outbox.put(frame.HEARTBEAT, None, replaceable=False)
            self._spoke = now
            self._flush()
        wait = min(step, self._heard + self._silence - now)
        if not self._closed:
            self._timer = self._loop.call_later(wait, self._pulse, now + wait)

    def _stop_timers(self) -> None:
        for timer in (self._timer, self._holding):
            if timer is not None:
                timer.cancel()
        self._timer = self._holding = None

    # -- the end ------------------------------------------------------------------------------------------

    def _abort(self) -> None:
        """The connection is of no further use. The owner hears of it in a moment, not within its own call."""
        if self._connection is not None:
            self._close_connection()
            self._loop.call_soon(self._report_lost)

    def _lost(self) -> None:
        self._close_connection()
        self._report_lost()

    def _close_connection(self) -> None:
        self._stop_timers()
        self._leave_buffers()
        self._skipping = 0
        connection, self._connection = self._connection, None
        if connection is not None:
            self._reading = False
            self._loop.remove_reader(connection)
            self._loop.remove_writer(connection)
            connection.close()
        self._outbox.clear()

    def _report_lost(self) -> None:
        if self._guests is not None:
            self._guests.discard(self)
        if not self._closed:
            self._closed = True
            self._events.link_closed(self)
