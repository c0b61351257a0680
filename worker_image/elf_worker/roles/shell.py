"""Runs a state machine over real connections: performs its effects, feeds it events."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import ssl
from collections.abc import Iterable
from typing import Any, Protocol

from elf_worker import transport
from elf_worker.aggregation.effects import Close, Dial, Effect, LinkId, Send, Serve, Stop
from elf_worker.contract import READY_PORT, WIRE_PORT
from elf_worker.messages import Bundle, Message, Offer, Submit
from elf_worker.roles import gate
from elf_worker.roles.adder import Adder
from elf_worker.roles.environment import Environment
from elf_worker.transport import Host, Limits, Link

_log = logging.getLogger(__name__)
TICK_SECONDS = 0.05
SPARE_LINKS = 256
SPARE_BYTES = 1 << 16
MESSAGE_RATE = 2000.0
"""Messages a second that are taken of one connection for each home of a pod: more than rounds could be."""


class Machine(Protocol):
    """The events every role understands."""

    def opened(self, link: LinkId, now: float) -> list[Effect]:
        """A link is there."""

    def closed(self, link: LinkId, now: float, silent: bool = False) -> list[Effect]:
        """A link is gone; `silent`: given up, because nothing came from its other end for too long."""

    def received(self, link: LinkId, message: Message, payload: Any, now: float) -> list[Effect]:
        """A message has come."""

    def room(self, link: LinkId, message: Message) -> int:
        """Bytes that the payload of this message may have."""

    def tick(self, now: float) -> list[Effect]:
        """Time has passed."""


class Shell:
    """Performs the effects that all roles share; a role adds its own in `perform_own`."""

    def __init__(
        self, machine: Machine, env: Environment, homes: int = 1, adder: Adder | None = None
    ) -> None:
        self._machine = machine
        self._adder = adder or Adder()
        self._address = env.address
        self._silence = env.job.silence_seconds
        self._job, self._per_pod = env.job.uid, env.job.per_pod
        self._figures_tokens = env.figures_tokens
        self._credentials = transport.load(env.identity) if env.identity else None
        self._limits = Limits(0, 0, MESSAGE_RATE * env.job.per_pod)
        self.expect(homes)
        self._links: dict[LinkId, Link] = {}
        self._meant: dict[LinkId, tuple[int, int] | None] = {}
        """Whom we dialled, until it is known who is there; see `Dial.mdc`."""
        self._names: dict[Link, LinkId] = {}
        self._next_incoming = -1
        self._tasks: set[asyncio.Task[Any]] = set()
        self._host: Host | None = None
        self._ready: asyncio.Server | None = None
        self._loop = asyncio.get_running_loop()
        self._stopped: asyncio.Future[Stop] = self._loop.create_future()

    # -- running ------------------------------------------------------------------------------------------

    async def listen(self) -> None:
        """Take children on the wire port."""
        context = self._credentials.accepting if self._credentials else None
        self._host = await transport.listen(
            self, self._address, WIRE_PORT, self._silence, self._limits, context
        )

    @property
    def showing(self) -> ssl.SSLContext | None:
        """TLS settings for figures that need a token, so that it travels unseen; else None."""
        return self._credentials.showing if self._credentials and self._figures_tokens else None

    async def run(self) -> Stop:
        """Until the machine says Stop. Errors of background work end it too."""
        ticker = self.spawn(self._tick())
        try:
            return await self._stopped
        finally:
            ticker.cancel()
            await self._shut()

    def stop(self, stop: Stop) -> None:
        """End `run` with this result, unless it has one."""
        if not self._stopped.done():
            self._stopped.set_result(stop)

    def spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        """Background work whose failure ends the process."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._reap)
        return task

    def expect(self, homes: int) -> None:
        """So many homes may have something to say. Who was let in before is not turned out."""
        # Every child, and its last connection if it dialled anew; messages hold a few sets of homes at most.
        self._limits.links = max(self._limits.links, SPARE_LINKS + 2 * homes)
        self._limits.message = max(self._limits.message, SPARE_BYTES + homes // 2)

    def now(self) -> float:
        """Seconds on the monotonic clock."""
        return self._loop.time()

    # -- effects ------------------------------------------------------------------------------------------

    def perform(self, effects: Iterable[Effect]) -> None:
        """Do what the machine asks, in order. What goes to one peer goes in one piece."""
        talking: dict[Link, None] = {}
        for effect in effects:
            match effect:
                case Send():
                    if (link := self._links.get(effect.link)) is not None:
                        link.send(effect.message, effect.payload, flush=False)
                        talking[link] = None
                case Close():
                    self._forget(effect.link, close=True)
                case Dial():
                    self.spawn(self._dial(effect))
                case Serve():
                    self.spawn(self.open_ready_port())
                case Stop():
                    self.stop(effect)
                case _:
                    self.perform_own(effect)
        for link in list(talking):
            link.flush()

    def perform_own(self, effect: Effect) -> None:
        """Effects of one role only."""
        raise NotImplementedError(effect)

    async def open_ready_port(self) -> None:
        """Let readiness probes connect."""
        if self._ready is None:
            self._ready = await asyncio.start_server(_greet, self._address, READY_PORT, reuse_address=True)
            _log.info("ready to serve at %s", self._address)

    # -- links --------------------------------------------------------------------------------------------

    def link_opened(self, link: Link) -> None:
        """A child has connected, or a link that we dialled is there."""
        dialled = link in self._names
        if link.peer is not None:
            if dialled:
                wrong = gate.wrong_host(link.peer, self._job, self._meant.pop(self._names[link]))
            else:
                wrong = gate.wrong_guest(link.peer, self._job)
            if wrong:
                self._turn_away(link, wrong)
                return
        if not dialled:
            self._name(link, self._next_incoming)
            self._next_incoming -= 1
        self.perform(self._machine.opened(self._names[link], self.now()))

    def link_room(self, link: Link, message: Message) -> int:
        """A message has come whose payload is still on its way."""
        return self._machine.room(self._names[link], message) if link in self._names else 0

    def link_received(self, link: Link, message: Message, payload: Any) -> None:
        """A message has come."""
        try:
            if link not in self._names:
                return
            if link.peer is not None and (wrong := gate.objection(link.peer, message, self._per_pod)):
                self._turn_away(link, wrong)
            else:
                self.perform(self._machine.received(self._names[link], message, payload, self.now()))
        finally:
            self._release(message, payload)

    def _release(self, message: Message, payload: Any) -> None:
        """The room that a payload took: what has been added up needs it no more, other things are kept."""
        if self._host is not None and isinstance(payload, bytearray):
            if isinstance(message, Offer | Bundle | Submit):
                give_back = functools.partial(self._host.buffers.give_back, payload)
                self._adder.after(give_back, self._loop.call_soon_threadsafe)
            else:
                self._host.buffers.keep(payload)

    def link_closed(self, link: Link) -> None:
        """A link is gone."""
        if link in self._names:
            name = self._names[link]
            self._forget(name, close=False)
            self.perform(self._machine.closed(name, self.now(), link.silent))

    def _turn_away(self, link: Link, wrong: str) -> None:
        _log.warning("closing a connection: %s %s", link.peer, wrong)
        link.close()
        self.link_closed(link)

    async def _dial(self, dial: Dial) -> None:
        link = Link(self, self._silence)
        self._name(link, dial.link)
        self._meant[dial.link] = dial.mdc
        context = self._credentials.dialling if self._credentials else None
        try:
            await transport.connect(link, dial.address, self._address, context)
        except (OSError, TimeoutError) as error:
            _log.debug("cannot reach %s: %s", dial.address, error)
            self.link_closed(link)

    def _name(self, link: Link, name: LinkId) -> None:
        self._links[name] = link
        self._names[link] = name

    def _forget(self, name: LinkId, close: bool) -> None:
        link = self._links.pop(name, None)
        self._meant.pop(name, None)
        if link is not None:
            del self._names[link]
            if close:
                link.close()

    # -- background ---------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        while True:
            self.perform(self._machine.tick(self.now()))
            await asyncio.sleep(TICK_SECONDS)

    def _reap(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._stopped.done():
            self._stopped.set_exception(error)

    async def _shut(self) -> None:
        for server in (self._host, self._ready):
            if server is not None:
                server.close()
        for link in list(self._links.values()):
            link.close()
        for task in list(self._tasks):
            task.cancel()
        self._adder.close()
        await asyncio.sleep(0)  # let transports flush their last frames
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)


async def _greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()
