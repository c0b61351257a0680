"""The MDC: takes the gradients of its homes, adds them up exactly, and sends one sum to the NPDC."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from elf_worker.aggregation import bundles, ids
from elf_worker.aggregation.effects import Close, Dial, Effect, LinkId, Payload, Send, Serve, Stop
from elf_worker.aggregation.redial import Redial
from elf_worker.aggregation.tally import PLAIN, Intake, Tally, count_reasons
from elf_worker.contract import MAX_PAYLOAD, WIRE_VERSION
from elf_worker.exact import NotSummableError
from elf_worker.messages import (
    Accepted,
    Assign,
    Bundle,
    Copy,
    Discarded,
    Failed,
    Fetch,
    Finish,
    Flush,
    Hello,
    Keep,
    Message,
    Moved,
    Offer,
    Pace,
    Refused,
    Register,
    Rejected,
    Stamp,
    Submit,
    Turned,
    Want,
    Watch,
    Welcome,
    Work,
)
from elf_worker.statistics.product import State

MAX_FACTS = 128
"""Classes and batches that a home may tell of, and characters of a class's name."""
PARK_SECONDS = 1.0
"""How long a home that is not (yet) ours may wait: its Hello can overtake the NPDC's Assign."""


@dataclass
class _Child:
    homes: int = 0
    stamp: Stamp | None = None
    """The newest model this connection has been sent or said it has."""
    sent_at: float = 0.0
    """When that model was sent, or else when the connection said that it has it."""
    sent_bytes: int = 0
    way: float | None = None
    """The least that one of its vectors needed in this round beyond the home's own work; None: none came."""
    parked_at: float = 0.0
    ahead: bool = False
    """It spoke for homes that we have not heard of: it lies, or the Assign that names them is on its way."""


@dataclass(frozen=True)
class _Flight:
    """A sum on its way to the NPDC."""

    message: Submit
    payload: Payload
    settled: int
    """Homes that it speaks for."""
    link: LinkId
    """The connection it was sent on: another one has to carry it again."""
    statistics: State


@dataclass(frozen=True)
class Identity:
    """Who this MDC is. `uid` is its fencing token, `address` is where homes reach it."""

    job: str
    index: int
    incarnation: int
    uid: str
    address: str
    node: str = ""
    """The cluster's node that it runs on; empty: unknown."""


class DataCenter:
    """One incarnation of one MDC.

    Invariant: a home is in at most one of `settled` (known to the NPDC), the tally in flight, and the tally
    being filled. Whenever that is in doubt both tallies are thrown away and the homes, which keep their
    vectors until the next round, are asked again.
    """

    def __init__(self, identity: Identity, npdc: str, intake: Intake = PLAIN) -> None:
        self._me = identity
        self._intake = intake
        self._npdc = npdc
        self._now = 0.0
        """When the newest message came, for what is observed of homes."""
        self._next_link = 0
        self._up: LinkId | None = None
        self._welcomed = False
        self._serving = False
        self._redial = Redial()
        self._children: dict[LinkId, _Child] = {}
        self._epoch = -1
        self.stamp: Stamp | None = None
        self._weights: Payload = None
        self._weights_at = 0.0
        self._trace = ""
        self.homes = 0
        self._absent = 0
        self._known = intake.homes
        """Ids from here on are nobody's, as far as we have heard."""
        self._assigned_settled: tuple[Stamp | None, int] = (None, 0)
        self.settled = 0
        self._tally = Tally(0, intake)
        self._flying: _Flight | None = None
        self._eager = False
        self._watch: Watch | None = None
        self._copy: tuple[int, Stamp, Payload, Payload] | None = None
        """(epoch, stamp, weights, what else belongs to the state)."""

    # -- events -------------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Effect]:
        """Time has passed: dial the NPDC if there is no connection, send away homes parked too long."""
        out: list[Effect] = []
        if self._up is None and self._redial.due(now):
            self._up, self._next_link = self._next_link, self._next_link + 1
            out.append(Dial(self._up, self._npdc))
        for link, child in self._children.items():
            strangers = child.homes & ~self.homes
            if strangers and now - child.parked_at > PARK_SECONDS:
                child.homes &= ~strangers
                out.append(Send(link, Moved(ids.to_wire(strangers))))
        return out

    def opened(self, link: LinkId, now: float) -> list[Effect]:
        """A connection is there: ours to the NPDC, or one from a pod of homes."""
        if link != self._up:
            self._children[link] = _Child()
            return []
        holds = self._copy and (self._copy[0], self._copy[1])
        me = self._me
        who = (me.job, me.index, me.incarnation, me.uid, me.address)
        register = Register(WIRE_VERSION, *who, holds, me.node, acted=self._epoch >= 0)
        return [Send(link, register)]

    def closed(self, link: LinkId, now: float, silent: bool = False) -> list[Effect]:
        """A connection is gone, or could not be made."""
        if link == self._up:
            self._up = None
            self._welcomed = False
            self._redial.failed(now)
        self._children.pop(link, None)
        return []

    def received(self, link: LinkId, message: Message, payload: Payload, now: float) -> list[Effect]:
        """A message has come. Unexpected ones are ignored: their sender is confused or of another time."""
        self._now = now
        if link == self._up:
            return self._from_npdc(link, message, payload)
        child = self._children.get(link)
        if child is None:
            return []
        match message:
            case Hello():
                return self._hello(link, child, message, now)
            case Offer():
                return self._offer(link, child, message, payload)
            case Bundle():
                return self._bundle(link, child, message, payload)
            case Failed():
                return self._failed(child, message)
        return []

    def room(self, link: LinkId, message: Message) -> int:
        """Bytes that the payload of this message may have. More is read and forgotten."""
        if link == self._up:
            return MAX_PAYLOAD if isinstance(message, Work | Keep) else 0
        child = self._children.get(link)
        if child is not None and isinstance(message, Bundle):
            return self._bundle_room(child, message)
        if child is None or not isinstance(message, Offer) or message.stamp != self.stamp:
            return 0
        wanted = _mask(message.home, child.homes & self.homes) & ~self._counted()
        return self._tally.room() if wanted else 0

    def figures(self) -> Iterator[tuple[str, Mapping[str, str], float]]:
        """(name, labels, value) for Prometheus: of the round that is being added up."""
        yield "round", {}, float(self.stamp.round if self.stamp else 0)
        yield "incarnation", {}, float(self._me.incarnation)
        yield "homes_assigned", {}, float(self.homes.bit_count())
        yield "homes_counted", {}, float((self._counted() & self.homes).bit_count())
        yield "connections", {}, float(len(self._children))
        for reason, count in self._tally.refused.items():
            yield "refused", {"reason": reason}, float(count)
        if self._intake.statistics is not None:
            of = self._tally if self._tally.members or self._flying is None else self._flying
            yield from self._intake.statistics.metrics(of.statistics)

    def _from_npdc(self, link: LinkId, message: Message, payload: Payload) -> list[Effect]:
        match message:
            case Welcome():
                return self._welcome()
            case Turned(final=True):
                return [Close(link), Stop(message.reason, message.message)]
            case Finish():
                goodbye: list[Effect] = [Send(child, message) for child in self._children]
                return [*goodbye, Stop(message.outcome, message.message)]
            case Keep() | Fetch():
                return self._safekeep(link, message, payload)
            case Watch():
                self._intake.watch(ids.ids_of(ids.from_wire(message.homes)))
                self._watch = message
                return [Send(child, message) for child in self._children]
        return self._of_the_round(message, payload)

    def _of_the_round(self, message: Message, payload: Payload) -> list[Effect]:
        match message:
            case Assign():
                return self._assign(message)
            case Work():
                return self._work(message, payload)
            case Accepted():
                return self._accepted(message)
            case Rejected():
                return self._rejected(message)
            case Flush() if message.stamp == self.stamp:
                self._eager = True
                return self._maybe_submit()
        return []

    def _safekeep(self, link: LinkId, message: Keep | Fetch, payload: Payload) -> list[Effect]:
        if isinstance(message, Keep):
            if message.stamp == self.stamp:  # else its weights have not come, or are gone already
                self._copy = (message.epoch, message.stamp, self._weights, payload)
            return []
        if self._copy is None:
            return []
        epoch, stamp, *parts = self._copy
        return [Send(link, Copy(epoch, stamp), b"".join(part for part in parts if part is not None))]

    # -- the NPDC's word ----------------------------------------------------------------------------------

    def _welcome(self) -> list[Effect]:
        self._welcomed = True
        self._redial.succeeded()
        first, self._serving = not self._serving, True
        return [Serve()] if first else []

    def _assign(self, message: Assign) -> list[Effect]:
        """New homes, or a first word after reconnecting: settle what is in flight against `settled`."""
        homes = ids.from_wire(message.homes)
        gone, self.homes = self.homes & ~homes, homes
        self._absent = ids.from_wire(message.absent)
        self._assigned_settled = (message.stamp, ids.from_wire(message.settled))
        out: list[Effect] = []
        for link, child in self._children.items():
            if lost := child.homes & gone:
                child.homes &= ~lost
                out.append(Send(link, Moved(ids.to_wire(lost))))
        if homes.bit_length() > self._known:
            self._known = homes.bit_length()
            out += self._turn_ahead()
        if message.stamp == self.stamp:
            out += self._reconcile(self._assigned_settled[1])
            out += self._serve_children()
        return out

    def _turn_ahead(self) -> list[Effect]:
        """What they said of homes unknown then is forgotten: have them dial, and say it, again."""
        ahead = [link for link, child in self._children.items() if child.ahead]
        for link in ahead:
            del self._children[link]
        return [Close(link) for link in ahead]

    def _reconcile(self, settled: int) -> list[Effect]:
        self.settled = settled
        flying = self._flying
        if flying is not None and not flying.settled & ~settled:
            self._flying = flying = None
        unsure = (flying.settled if flying else 0) | self._tally.held
        if unsure & settled or unsure & ~self.homes:
            return self._start_over()
        again = self._launch(flying) if flying is not None and flying.link != self._up else []
        return again + self._maybe_submit()

    def _work(self, message: Work, payload: Payload) -> list[Effect]:
        """New weights: pass them down, and begin to count for them."""
        self._epoch = message.epoch
        if message.stamp != self.stamp:
            self.stamp = message.stamp
            self._weights, self._weights_at = payload, self._now
            self._trace = message.trace
            self._tally = self._fresh(memoryview(payload).nbytes // 4 + 1)
            self._flying = None
            self._eager = False
            stamp, settled = self._assigned_settled
            self.settled = settled if stamp == message.stamp else 0
        return self._serve_children()

    def _accepted(self, message: Accepted) -> list[Effect]:
        if self._flying is None or message.stamp != self.stamp:
            return []
        self.settled |= ids.from_wire(message.members)
        self._flying = None
        return self._maybe_submit()

    def _rejected(self, message: Rejected) -> list[Effect]:
        if message.stamp != self.stamp:
            return []
        self.settled = ids.from_wire(message.settled)
        return self._start_over()

    # -- the homes' word ----------------------------------------------------------------------------------

    def _hello(self, link: LinkId, child: _Child, message: Hello, now: float) -> list[Effect]:
        if message.version != WIRE_VERSION or message.job != self._me.job:
            why = f"this is job {self._me.job}, wire version {WIRE_VERSION}"
            return [Send(link, Turned("WrongJob", why, final=True)), Close(link)]
        homes = ids.from_wire(message.homes)
        child.homes |= homes & ids.full(self._known)
        child.ahead |= bool(homes >> self._known)
        child.stamp = message.stamp
        child.parked_at = child.sent_at = now
        child.sent_bytes = 0
        watch: list[Effect] = [Send(link, self._watch)] if self._watch else []
        return watch + self._serve_child(link, child)

    def _serve_children(self) -> list[Effect]:
        out: list[Effect] = []
        for link, child in self._children.items():
            out += self._serve_child(link, child)
        return out

    def _serve_child(self, link: LinkId, child: _Child) -> list[Effect]:
        """Bring one connection up to date: weights if it lacks them, else a reminder of what is missing."""
        ours = child.homes & self.homes
        if not ours or self.stamp is None:
            return []
        if child.stamp != self.stamp:
            child.stamp, child.sent_at, child.way = self.stamp, self._now, None
            child.sent_bytes = memoryview(self._weights).nbytes
            return [Send(link, Work(self._epoch, self.stamp, self._trace), self._weights)]
        wanted = ours & ~self._counted()
        return [Send(link, Want(self.stamp, ids.to_wire(wanted)))] if wanted else []

    def _offer(self, link: LinkId, child: _Child, message: Offer, payload: Payload) -> list[Effect]:
        home = _mask(message.home, child.homes & self.homes)
        if not home:
            return self._refuse(link, message, "NotMine", f"home {message.home} is not served here")
        if message.stamp != self.stamp:
            return self._refuse(link, message, "StaleRound", f"the round is {self.stamp}")
        if home & self._counted():
            return []
        if isinstance(payload, Discarded) and payload.size == self._tally.room():
            # Else it came before its round did, and the home has been asked again since.
            return [Send(link, Want(message.stamp, ids.to_wire(home)))] if payload.crowded else []
        try:
            seen = self._seen(child, message, payload)
            self._tally.add(message.home, message.weight, payload, message.precision, **seen)
        except NotSummableError as error:
            self._tally.fail(message.home, error.reason, str(error))
            return self._refuse(link, message, error.reason, str(error)) + self._maybe_submit()
        way = max(0.0, seen["seconds"] - message.facts.waiting - message.facts.computing)
        child.way = way if child.way is None else min(child.way, way)
        return self._maybe_submit()

    def _seen(self, child: _Child, message: Offer, payload: Payload) -> dict[str, Any]:
        """What is observed of an offer beside its vector."""
        facts = message.facts
        classes = dict(itertools.islice(facts.classes.items(), MAX_FACTS))
        return {
            "round": message.stamp.round,
            "mdc": self._me.index,
            "seconds": self._now - child.sent_at,
            "waiting_seconds": facts.waiting,
            "computing_seconds": facts.computing,
            "batch_sizes": facts.batch_sizes[:MAX_FACTS],
            "classes": {name[:MAX_FACTS]: count for name, count in classes.items()},
            "bytes_up": _size(payload),
            "bytes_down": child.sent_bytes // max(1, (child.homes & self.homes).bit_count()),
        }

    def _bundle_room(self, child: _Child, message: Bundle) -> int:
        said = bundles.homes_of(message, self.homes.bit_length())
        wanted = child.homes & self.homes & ~self._counted()
        if message.sum.stamp != self.stamp or not said or said & ~wanted:
            return 0
        return self._tally.sum_room()

    def _bundle(self, link: LinkId, child: _Child, message: Bundle, payload: Payload) -> list[Effect]:
        """Whole or not at all: if some of its homes are counted, or not ours, the others are asked again."""
        ours, counted = child.homes & self.homes, self._counted()
        said = bundles.homes_of(message, self.homes.bit_length())
        if message.sum.stamp != self.stamp:
            return self._refuse_bundle(link, message, "StaleRound", f"the round is {self.stamp}")
        meant = self._intake.takes_sums and message.mdc == self._me.index
        if not said or not meant or said & ~ours:
            refusal = self._refuse_bundle(link, message, "NotMine", "not all of these homes are served here")
            return refusal + self._want(link, said & ours & ~counted)
        if said & counted:
            return self._want(link, said & ~counted)
        if isinstance(payload, Discarded) and payload.size <= self._bundle_room(child, message):
            # Else it came before its round did, and its homes have been asked again since.
            return self._want(link, said) if payload.crowded else []
        try:
            bundles.take(self._tally, message, payload)
        except NotSummableError as error:
            for home in ids.ids_of(said):
                self._tally.fail(home, error.reason, str(error))
            return self._refuse_bundle(link, message, error.reason, str(error)) + self._maybe_submit()
        way = max(0.0, self._now - child.sent_at - message.held)
        child.way = way if child.way is None else min(child.way, way)
        return self._maybe_submit()

    def _want(self, link: LinkId, homes: int) -> list[Effect]:
        assert self.stamp is not None
        return [Send(link, Want(self.stamp, ids.to_wire(homes)))] if homes else []

    def _refuse_bundle(self, link: LinkId, message: Bundle, reason: str, why: str) -> list[Effect]:
        self._tally.refuse(reason)
        return [Send(link, Refused(message.first, message.sum.stamp, reason, why))]

    def _failed(self, child: _Child, message: Failed) -> list[Effect]:
        home = _mask(message.home, child.homes & self.homes)
        if message.stamp != self.stamp or not home & ~self._counted():
            return []
        self._tally.fail(message.home, message.reason, message.message)
        return self._maybe_submit()

    def _refuse(self, link: LinkId, message: Offer, reason: str, why: str) -> list[Effect]:
        self._tally.refuse(reason)
        return [Send(link, Refused(message.home, message.stamp, reason, why))]

    # -- counting -----------------------------------------------------------------------------------------

    def _counted(self) -> int:
        return self.settled | self._tally.held | (self._flying.settled if self._flying else 0)

    def _maybe_submit(self) -> list[Effect]:
        """Send the tally up when it is complete or, with the deadline past, whenever it holds something."""
        tally = self._tally
        known = self._assigned_settled[0] == self.stamp  # else the NPDC recovers, or is a round ahead
        ready = self._welcomed and known and self._flying is None and tally.settled
        awaited = self.homes & ~self._absent & ~self._counted()
        if not ready or (awaited and not self._eager):
            return []
        assert self.stamp is not None
        message, payload = tally.submit(self.stamp)
        flight = _Flight(message, payload, tally.settled, -1, tally.statistics)
        self._tally = tally.rest()
        return self._launch(flight)

    def _launch(self, flight: _Flight) -> list[Effect]:
        assert self._up is not None
        message = msgspec.structs.replace(flight.message, pace=self._pace())
        self._flying = replace(flight, link=self._up)
        return [Send(self._up, message, flight.payload)]

    def _pace(self) -> Pace:
        """One pod of homes alone, or the slower half of several, cannot make its MDC look slow."""
        ways = sorted(c.way for c in self._children.values() if c.way is not None and c.stamp == self.stamp)
        way = ways[(len(ways) - 1) // 2] if len(ways) > 1 else 0.0
        return Pace(self._now - self._weights_at, way)

    def _start_over(self) -> list[Effect]:
        """Forget both tallies and ask the homes again for what is not settled."""
        self._tally = self._fresh(self._tally.size)
        self._flying = None
        return self._serve_children()

    def _fresh(self, size: int) -> Tally:
        """An empty tally that goes on counting what was refused."""
        round_ = self.stamp.round if self.stamp else 0
        tally = Tally(size, self._intake, round_, self._tally.total)
        tally.refused = dict(self._tally.refused)
        if self._flying is not None:  # its Submit was not accepted
            count_reasons(tally.refused, self._flying.message.refused)
        return tally


def _size(payload: Payload) -> int:
    """Bytes of a payload that was kept."""
    return 0 if payload is None or isinstance(payload, Discarded) else memoryview(payload).nbytes


def _mask(home: int, among: int) -> int:
    """The mask of one home if it is among these, else 0. A false id costs nothing, however large."""
    return 1 << home if home >= 0 and among >> home & 1 else 0
