"""A port that takes connections, and how one is made."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import ssl

from elf_worker.transport import sockets
from elf_worker.transport.buffers import Buffers
from elf_worker.transport.link import Events, Limits, Link

_log = logging.getLogger(__name__)
CONNECT_SECONDS = 3.0
ACCEPT_PAUSE_SECONDS = 0.1
HANDSHAKES = 256
"""Connections at a time that have not yet proved who they are. More wait in the socket's queue."""
HANDSHAKE_SECONDS = 0.5
"""After so long one of them makes room if others wait."""


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
        self._guests: set[Link] = set()
        self.buffers = Buffers(asyncio.get_running_loop().call_later)
        """Room for what those who dial in send. Their owner gives it back."""
        self._link = functools.partial(Link, events, silence, self._guests, limits, self.buffers)
        self._context = context
        self._limits = limits
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
            if self._limits.queued:
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._limits.queued)
            async with asyncio.timeout(patience):
                connection = await sockets.prepare(accepted, self._context, serving=True)
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            accepted.close()
            _log.debug("not let in: %s", error)
        else:
            self._link().attach(connection)

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
    async with asyncio.timeout(CONNECT_SECONDS):
        connection = await sockets.dial(address, source, context)
    link.attach(connection)
