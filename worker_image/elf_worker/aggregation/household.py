"""The homes of one pod: find their MDC, compute what it asks, keep the answer until the next round."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from elf_worker.aggregation import ids
from elf_worker.aggregation.effects import (
    Close,
    Compute,
    ComputeMany,
    Dial,
    Effect,
    LinkId,
    Payload,
    Send,
    Stop,
)
from elf_worker.aggregation.precision import FLOAT32
from elf_worker.aggregation.redial import Redial
from elf_worker.contract import MAX_PAYLOAD, WIRE_VERSION
from elf_worker.messages import (
    Bundle,
    Facts,
    Failed,
    Finish,
    Hello,
    Locate,
    Located,
    Message,
    Moved,
    Offer,
    Refused,
    Stamp,
    Turned,
    Want,
    Watch,
    Work,
)

KEPT_BYTES = 16 << 20
"""Of bundles that are kept until the next round. What is not kept is computed again when it is asked for."""


class Answer(NamedTuple):
    """What a home has for one stamp: a vector with its weight, or (payload None) a reason for having none."""

    stamp: Stamp
    weight: int
    payload: Payload
    reason: str = ""
    message: str = ""
    facts: Facts = Facts()


@dataclass
class _Mdc:
    address: str
    homes: int
    index: int = 0
    open: bool = False


class Household:
    """All homes of one pod.

    Each home is either waiting to be located or has one MDC. Its answer for the newest stamp is kept until
    a newer stamp arrives, and is offered to whichever MDC asks.

    With `together`, homes are computed and added up with their neighbours, so many at most, and go to their
    MDC in bundles. Of those a few MiB are kept; what is asked for and not kept is computed again.
    """

    def __init__(
        self, job: str, homes: Iterable[int], npdc: str, precision: str = FLOAT32, together: int = 0
    ) -> None:
        self._together = together
        self._busy = 0
        """Homes of bundles that are being computed."""
        self._bundles: dict[tuple[int, int], Send] = {}
        """(homes, index of their MDC) → what was said of them."""
        self._bundle_bytes = 0
        self.watched = 0
        """Homes that somebody asks about."""
        self._precision = precision
        self._job = job
        self._npdc = npdc
        self._next_link = 0
        self._asking: LinkId | None = None
        self._asking_open = False
        self._redial = Redial()
        self._waiting = ids.mask_of(homes)
        self._mdcs: dict[LinkId, _Mdc] = {}
        self._epoch = -1
        self.stamp: Stamp | None = None
        self._weights: Payload = None
        self._trace = ""
        self._answers: dict[int, Answer] = {}
        self._computing: set[int] = set()
        self.refused: dict[str, int] = {}
        """Offers of ours that an MDC refused, by reason."""

    # -- events -------------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Effect]:
        """Time has passed: ask the NPDC for homes that have no MDC."""
        if not self._waiting or self._asking is not None or not self._redial.due(now):
            return []
        self._asking = self._new_link()
        return [Dial(self._asking, self._npdc)]

    def opened(self, link: LinkId, now: float) -> list[Effect]:
        """A connection of ours is there."""
        if link == self._asking:
            self._asking_open = True
            return self._ask()
        mdc = self._mdcs.get(link)
        if mdc is None:
            return [Close(link)]
        mdc.open = True
        self._redial.succeeded()
        return self._hello(link, mdc.homes)

    def closed(self, link: LinkId, now: float, silent: bool = False) -> list[Effect]:
        """A connection of ours is gone, or could not be made."""
        if link == self._asking:
            self._asking, self._asking_open = None, False
            self._redial.failed(now)
            return []
        mdc = self._mdcs.pop(link, None)
        if mdc is None:
            return []
        if not mdc.open:
            self._redial.failed(now)
        return self._lose(mdc.homes, now)

    def received(self, link: LinkId, message: Message, payload: Payload, now: float) -> list[Effect]:
        """A message has come. Unexpected ones are ignored."""
        match message:
            case Finish():
                return [Stop(message.outcome, message.message)]
            case Turned(final=True) if message.reason == "WrongJob":
                return [Stop(message.reason, message.message)]
            case Located() if link == self._asking:
                return self._located(message)
        mdc = self._mdcs.get(link)
        if mdc is None:
            return []
        match message:
            case Work():
                return self._work(link, mdc, message, payload)
            case Want():
                return self._want(link, mdc, message)
            case Moved():
                lost = mdc.homes & ids.from_wire(message.homes)
                mdc.homes &= ~lost
                return self._drop_if_empty(link, mdc) + self._lose(lost, now)
            case Watch():
                self.watched = ids.from_wire(message.homes)
            case Refused():
                self.refused[message.reason] = self.refused.get(message.reason, 0) + 1
        return []

    def computed(self, home: int, answer: Answer) -> list[Effect]:
        """The shell has an answer, or knows why there is none."""
        if answer.stamp != self.stamp:
            return []  # a newer model came meanwhile, and with it another Compute
        self._computing.discard(home)
        self._answers[home] = answer
        link = next((k for k, m in self._mdcs.items() if m.open and m.homes >> home & 1), None)
        return [] if link is None else [self._offer(link, home)]

    def bundled(self, work: ComputeMany, homes: int, bundle: Bundle, payload: Payload) -> list[Effect]:
        """The shell has added up these homes of the work; the others may follow, or never."""
        if work.stamp != self.stamp:
            return []
        self._busy &= ~homes
        size = 0 if payload is None else memoryview(payload).nbytes
        if self._bundle_bytes + size <= KEPT_BYTES:
            self._bundle_bytes += size
            self._bundles[homes, work.mdc] = Send(-1, bundle, payload)
        out: list[Effect] = []
        for link, mdc in self._mdcs.items():
            if mdc.open and not homes & ~mdc.homes and mdc.index == work.mdc:
                return [Send(link, bundle, payload)]
            if mdc.open:  # they have moved meanwhile: a bundle for each of their MDCs
                out += self._compute_bundles(link, mdc, homes & mdc.homes)
        return out

    def room(self, link: LinkId, message: Message) -> int:
        """Bytes that the payload of this message may have: only an MDC has anything to give."""
        return MAX_PAYLOAD if link in self._mdcs and isinstance(message, Work) else 0

    # -- finding the MDC ----------------------------------------------------------------------------------

    def _lose(self, homes: int, now: float) -> list[Effect]:
        self._waiting |= homes
        if self._asking_open:
            return self._ask()
        return self.tick(now)

    def _ask(self) -> list[Effect]:
        assert self._asking is not None
        if self._waiting:
            return [Send(self._asking, Locate(WIRE_VERSION, self._job, ids.to_wire(self._waiting)))]
        link, self._asking, self._asking_open = self._asking, None, False
        return [Close(link)]

    def _located(self, message: Located) -> list[Effect]:
        homes = ids.from_wire(message.homes) & self._waiting
        if not homes:
            return []
        self._waiting &= ~homes
        out: list[Effect] = []
        known = next((k for k, m in self._mdcs.items() if m.address == message.address), None)
        if known is None:
            known = self._new_link()
            self._mdcs[known] = _Mdc(message.address, homes, message.index)
            out.append(Dial(known, message.address, (message.index, message.incarnation)))
        else:
            self._mdcs[known].homes |= homes
            if self._mdcs[known].open:
                out += self._hello(known, homes)
        if not self._waiting:
            out += self._ask()
        return out

    def _hello(self, link: LinkId, homes: int) -> list[Effect]:
        hello = Hello(WIRE_VERSION, self._job, ids.to_wire(homes), self._epoch, self.stamp)
        return [Send(link, hello)]

    def _drop_if_empty(self, link: LinkId, mdc: _Mdc) -> list[Effect]:
        if mdc.homes:
            return []
        del self._mdcs[link]
        return [Close(link)]

    def _new_link(self) -> LinkId:
        link, self._next_link = self._next_link, self._next_link + 1
        return link

    # -- rounds -------------------------------------------------------------------------------------------

    def _work(self, link: LinkId, mdc: _Mdc, message: Work, payload: Payload) -> list[Effect]:
        if (message.epoch, message.stamp.round) < (self._epoch, self.stamp.round if self.stamp else -1):
            return []  # from an MDC that lags behind
        self._epoch = message.epoch
        if message.stamp != self.stamp:
            self.stamp = message.stamp
            self._weights = payload
            self._trace = message.trace
            self._answers.clear()
            self._computing.clear()
            self._busy = self._bundle_bytes = 0
            self._bundles.clear()
        return self._offer_or_compute(link, mdc.homes)

    def _want(self, link: LinkId, mdc: _Mdc, message: Want) -> list[Effect]:
        if message.stamp != self.stamp:  # it takes us for up to date; its Work came before one of a new epoch
            return self._hello(link, mdc.homes)
        return self._offer_or_compute(link, ids.from_wire(message.homes) & mdc.homes)

    def _offer_or_compute(self, link: LinkId, homes: int) -> list[Effect]:
        assert self.stamp is not None
        out: list[Effect] = []
        if self._together:
            return self._compute_bundles(link, self._mdcs[link], homes)
        for home in ids.ids_of(homes):
            if home in self._answers:
                out.append(self._offer(link, home))
            elif home not in self._computing:
                self._computing.add(home)
                out.append(Compute(home, self.stamp, self._weights, self._trace))
        return out

    def _compute_bundles(self, link: LinkId, mdc: _Mdc, homes: int) -> list[Effect]:
        """What is kept is said again; the rest is computed again, with the same bits."""
        assert self.stamp is not None
        out: list[Effect] = []
        for part in ids.windows(homes & ~self._busy, self._together):
            kept = self._bundles.get((part, mdc.index))
            if kept is not None:
                out.append(Send(link, kept.message, kept.payload))
                continue
            self._busy |= part
            out.append(ComputeMany(part, self.stamp, self._weights, self._trace, mdc.index))
        return out

    def _offer(self, link: LinkId, home: int) -> Effect:
        answer = self._answers[home]
        if answer.payload is None:
            return Send(link, Failed(home, answer.stamp, answer.reason, answer.message))
        return Send(
            link, Offer(home, answer.stamp, answer.weight, self._precision, answer.facts), answer.payload
        )
