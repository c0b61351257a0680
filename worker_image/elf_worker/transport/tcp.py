"""TCP links on asyncio. Payloads are received straight into their own buffer, once.

`BufferedProtocol` because streams copy every byte twice more; see docs/adr/0002-wire.md.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import socket
import ssl
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from elf_worker import messages
from elf_worker.contract import Peer
from elf_worker.messages import Discarded, Message
from elf_worker.transport import frame
from elf_worker.transport.security import StrangerError, peer_of

_log = logging.getLogger(__name__)
_BUFFER = 1 << 16
BACKLOG = 1 << 22
"""Bytes that may wait for a peer that does not read, beside three of its largest payloads."""
CONNECT_SECONDS = 3.0
ACCEPT_PAUSE_SECONDS = 0.1
HOLD_SECONDS = 0.01
"""How long, at least, a connection that is too fast is not read."""
HANDSHAKES = 256
"""Connections at a time that have not yet proved who they are. More wait in the socket's queue."""
HANDSHAKE_SECONDS = 0.5
"""After so long one of them makes room if others wait."""


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


class Link(asyncio.BufferedProtocol):
    """One connection. It sends heartbeats when idle and closes itself when the peer has been silent."""

    def __init__(
        self, events: Events, silence: float, guests: set[Link] | None = None, limits: Limits = ANY
    ) -> None:
        self._guests = guests
        self._limits = limits
        self._events = events
        self._silence = silence
        self._transport: asyncio.Transport | None = None
        self._read = bytearray(_BUFFER)
        self._filled = 0
        self._message: Message | None = None
        self._payload: bytearray | None = None
        self._got = 0  # bytes of the payload that are there
        self._skipping = 0  # bytes of a payload too large that are still to come
        self._allowance = limits.rate
        self._allowed_at = 0.0
        self._holding: asyncio.TimerHandle | None = None
        self._discarded = Discarded(0)
        self._largest = 0
        self._heard = 0.0
        self._spoke = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.silent = False
        """It was closed because nothing came from the peer for too long."""
        self.peer: Peer | None = None
        """Who is there, by its certificate; None without TLS."""

    # -- owner's side -------------------------------------------------------------------------------------

    def send(self, message: Message, payload: Any = None) -> None:
        """Queue one frame. On a closed link nothing happens; a peer that does not read is given up.

        Raises BadFrameError for a message that the peer would not take.
        """
        if self._transport is None or self._closed:
            return
        body = messages.encode(message)
        size = memoryview(payload).nbytes if payload is not None else 0
        frame.check_sizes(len(body), size)
        self._largest = max(self._largest, size)
        if self._transport.get_write_buffer_size() > BACKLOG + 3 * self._largest:
            _log.warning("closing a connection: the peer does not read")
            self._abort()
            return
        self._transport.write(frame.header(len(body), size) + body)
        if size:
            self._transport.write(memoryview(payload).cast("B"))
        self._spoke = asyncio.get_running_loop().time()

    def close(self) -> None:
        """Close after what was sent. The owner hears no `link_closed`."""
        self._closed = True
        self._stop_timers()
        if self._transport is not None:
            self._transport.close()
            # A peer that does not read would keep what is left, and this link, for ever.
            asyncio.get_running_loop().call_later(self._silence, self._transport.abort)

    # -- asyncio's side -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the socket is connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._closed:  # the owner changed its mind while we dialled
            transport.abort()
            return
        try:
            self.peer = peer_of(transport)
        except StrangerError as error:
            _log.warning("closing a connection: %s", error)
            transport.abort()
            return
        if self._guests is not None:
            if len(self._guests) >= self._limits.links:
                self._closed = True
                transport.abort()
                return
            self._guests.add(self)
        loop = asyncio.get_running_loop()
        self._heard = self._spoke = self._allowed_at = loop.time()
        self._timer = loop.call_later(self._silence / 5, self._pulse, loop.time())
        self._events.link_opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the socket is closed."""
        self._stop_timers()
        if self._guests is not None:
            self._guests.discard(self)
        if not self._closed:
            self._closed = True
            self._events.link_closed(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """asyncio: where the next bytes shall go."""
        if self._payload is not None:
            return memoryview(self._payload)[self._got :]
        if self._skipping:
            return memoryview(self._read)[: self._skipping]
        return memoryview(self._read)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """asyncio: that many bytes have come."""
        self._heard = asyncio.get_running_loop().time()
        if self._payload is not None:
            self._got += nbytes
            self._finish_payload()
            return
        if self._skipping:
            self._skipping -= nbytes
            self._finish_skipping()
            return
        self._filled += nbytes
        self._parse()

    # -- parsing ------------------------------------------------------------------------------------------

    def _parse(self) -> None:
        try:
            self._parse_frames()
        except (frame.BadFrameError, msgspec.MsgspecError) as error:
            _log.warning("closing a connection: %s", error)
            self._abort()

    def _parse_frames(self) -> None:
        start = 0
        while not self._closed and self._filled - start >= frame.HEADER.size and self._admit():
            view = memoryview(self._read)
            message_size, payload_size = frame.parse_header(view[start : start + frame.HEADER.size])
            if message_size > self._limits.message:
                most = self._limits.message
                raise frame.BadFrameError(f"a message of {message_size} bytes, at most {most} are taken")
            body = start + frame.HEADER.size
            if body + message_size > self._filled:
                self._make_room(frame.HEADER.size + message_size)
                break
            start = body + message_size
            if not message_size:
                if payload_size:
                    raise frame.BadFrameError(f"{payload_size} bytes of payload without a message")
                continue  # a heartbeat
            message = messages.decode(view[body:start])
            if not payload_size:
                self._events.link_received(self, message, None)
                continue
            present = min(payload_size, self._filled - start)
            self._message = message
            if payload_size > self._events.link_room(self, message):
                self._skipping, self._discarded = payload_size - present, Discarded(payload_size)
                self._finish_skipping()
            else:
                self._payload, self._got = bytearray(payload_size), present
                self._payload[:present] = view[start : start + present]
                self._finish_payload()
            start += present
            if self._payload is not None or self._skipping:
                break
        rest = self._filled - start
        if len(self._read) > _BUFFER and not rest:
            self._read = bytearray(_BUFFER)  # large messages are rare
        self._read[:rest] = self._read[start : self._filled]
        self._filled = rest

    def _make_room(self, size: int) -> None:
        if size > len(self._read):
            self._read = self._read + bytearray(size - len(self._read))

    def _finish_payload(self) -> None:
        if self._payload is not None and self._got == len(self._payload):
            payload, self._payload = self._payload, None
            self._deliver(payload)

    def _finish_skipping(self) -> None:
        if not self._skipping:
            self._deliver(self._discarded)

    def _deliver(self, payload: bytearray | Discarded) -> None:
        message, self._message = self._message, None
        assert message is not None
        if not self._closed:
            self._events.link_received(self, message, payload)

    # -- not too fast -------------------------------------------------------------------------------------

    def _admit(self) -> bool:
        """Whether one more message may come now; if not, the connection is not read until it may."""
        rate = self._limits.rate
        if rate == math.inf:
            return True
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._allowance = min(rate, self._allowance + (now - self._allowed_at) * rate)
        self._allowed_at = now
        if self._allowance >= 1:
            self._allowance -= 1
            return True
        if self._holding is None and self._transport is not None:
            self._transport.pause_reading()
            self._holding = loop.call_later(max(HOLD_SECONDS, 1 / rate), self._go_on)
        return False

    def _go_on(self) -> None:
        self._holding = None
        if self._payload is None and not self._skipping:
            self._parse()
        if self._holding is None and self._transport is not None and not self._closed:
            self._transport.resume_reading()

    # -- liveness -----------------------------------------------------------------------------------------

    def _pulse(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        now, step = loop.time(), self._silence / 5
        if now - due > 2 * step or self._holding is not None:
            self._heard = now  # it was us who did not listen: what the peer said meanwhile is still unread
        if now - self._heard >= self._silence:
            self.silent = True
            self._abort()
            return
        if now - self._spoke >= step and self._transport is not None:
            self._transport.write(frame.HEARTBEAT)
            self._spoke = now
        wait = min(step, self._heard + self._silence - now)
        self._timer = loop.call_later(wait, self._pulse, now + wait)

    def _stop_timers(self) -> None:
        for timer in (self._timer, self._holding):
            if timer is not None:
                timer.cancel()
        self._timer = self._holding = None

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Host:
    """A port that takes connections, each a new `Link`, until it is closed. Made by `listen`."""

    def __init__(
        self,
        events: Events,
        listening: socket.socket,
        silence: float,
        limits: Limits,
        context: ssl.SSLContext | None,
    ) -> None:
        self._link = lambda: Link(events, silence, self._guests, limits)
        self._context = context
        self._guests: set[Link] = set()
        self._socket = listening
        self._arriving: dict[asyncio.Task[None], float] = {}
        """Those that are not let in yet, and since when, the oldest first."""
        self._room = asyncio.Event()
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    @property
    def port(self) -> int:
        """The port itself, also where any free one was asked for."""
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Take no more connections; those that are there stay."""
        for task in (self._accepting, *self._arriving):
            task.cancel()
        self._socket.close()

    # asyncio's own server would shake hands with any number of strangers at a time, for as long as they like.

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(self._socket)
            except OSError as error:  # it has gone again, or this process has too many files open
                _log.warning("a connection could not be taken: %s", error)
                await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            while len(self._arriving) >= HANDSHAKES:
                await self._make_room()
            task = loop.create_task(self._let_in(accepted))
            self._arriving[task] = loop.time()
            task.add_done_callback(functools.partial(self._arrived, accepted))

    async def _make_room(self) -> None:
        """Wait until one has arrived; one that takes too long has to go."""
        oldest, since = next(iter(self._arriving.items()))
        self._room.clear()
        try:
            async with asyncio.timeout_at(since + HANDSHAKE_SECONDS):
                await self._room.wait()
        except TimeoutError:
            if self._arriving.pop(oldest, None) is not None:
                oldest.cancel()

    async def _let_in(self, accepted: socket.socket) -> None:
        patience = CONNECT_SECONDS if self._context else None
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._link, accepted, ssl=self._context, ssl_handshake_timeout=patience
            )
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            _log.debug("not let in: %s", error)

    def _arrived(self, accepted: socket.socket, task: asyncio.Task[None]) -> None:
        self._arriving.pop(task, None)
        self._room.set()
        if task.cancelled():
            accepted.close()  # it may have ended before it began


async def listen(
    events: Events,
    host: str,
    port: int,
    silence: float,
    limits: Limits,
    context: ssl.SSLContext | None = None,
) -> Host:
    """Take connections on `host:port` within these limits. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=4096)
    listening.setblocking(False)
    return Host(events, listening, silence, limits, context)


async def connect(
    link: Link, address: str, source: str | None, context: ssl.SSLContext | None = None
) -> None:
    """Connect a new link to `host:port`, from the address `source`. Raises OSError or TimeoutError."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    local = (source, 0) if source else None
    name = "" if context else None  # the names of pods prove nothing: neither sent nor checked
    async with asyncio.timeout(CONNECT_SECONDS):
        await loop.create_connection(
            lambda: link, host, int(port), local_addr=local, ssl=context, server_hostname=name
        )
