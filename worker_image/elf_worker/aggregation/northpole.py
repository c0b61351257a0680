"""The NPDC: follows the wiring, counts every home once, and publishes the next weights."""

from __future__ import annotations

import functools
import math
from collections import Counter
from dataclasses import dataclass, field, replace

from elf_worker.aggregation import ids
from elf_worker.aggregation.effects import (
    Close,
    Effect,
    Initialise,
    LinkId,
    Payload,
    Restore,
    Send,
    Step,
    Stop,
)
from elf_worker.aggregation.lane import INLINE, Lane
from elf_worker.aggregation.observations import Observations
from elf_worker.aggregation.stragglers import Straggler, Stragglers
from elf_worker.aggregation.tally import Intake, Tally, count_reasons, parted
from elf_worker.contract import MAX_PAYLOAD, WIRE_VERSION, Phase, Slot, Wiring
from elf_worker.exact import NotSummableError, measures_of_packed
from elf_worker.messages import (
    Accepted,
    Assign,
    Copy,
    Fetch,
    Finish,
    Flush,
    Keep,
    Locate,
    Located,
    Message,
    Register,
    Rejected,
    Stamp,
    Submit,
    Turned,
    Watch,
    Welcome,
    Work,
)
from elf_worker.statistics import MdcObservation, Product
from elf_worker.statistics.product import State

KEEPERS = 2
"""MDCs that hold a copy of the newest state."""
RECONNECT_SECONDS = 2.0
"""How long an MDC that lives may take to find the NPDC's successor: it dials once a second."""
GRACE_SECONDS = 1.0
"""How long an MDC may be without a connection before it is reported: it may just be dialling again.

One that was silent has had its time."""
BOOT_SECONDS = 30.0
"""How long an MDC may take from the wiring's first word of it to its registration."""
GOODBYE_SECONDS = 10.0
"""How long the NPDC waits, when the job has ended, for its children to hear of it."""


@dataclass(frozen=True)
class Rules:
    """What a round needs. `quorum` is a count of homes, times are seconds."""

    job: str
    homes: int
    """Of a round for which the wiring names no other count; so is `quorum`."""
    quorum: int
    deadline: float
    silence: float
    epoch: int
    """Incarnation of this NPDC."""
    node: str = ""
    """The cluster's node that this NPDC runs on; empty: unknown."""
    checkpoint_round: int = -1
    """Rounds in the newest checkpoint on the volume; -1 without one."""
    straggler_factor: float | None = None
    """How many times the median of the others an MDC may take; None: as long as it likes."""


@dataclass(frozen=True)
class Snapshot:
    """State after `stamp.round` rounds. `weights` is float32 bytes, `rest` is opaque to the protocol."""

    stamp: Stamp
    weights: Payload
    rest: Payload = None
    """What else belongs to the state: MDCs that keep it have the weights already. None: see `keep`."""


@dataclass(frozen=True)
class _Member:
    """A registered, current MDC."""

    link: LinkId
    uid: str
    incarnation: int
    address: str
    holds: tuple[int, Stamp] | None
    node: str


@dataclass
class RoundLog:
    """What became of one round, for reports."""

    round: int
    seconds: float
    counted: int
    failed: int
    missing: list[int]
    by_mdc: dict[int, int]
    reasons: dict[str, int]
    homes: int = 0
    """How many homes this round had."""
    seen: Observations | None = field(default=None, repr=False, compare=False)

    @functools.cached_property
    def statistics(self) -> State:
        """Of all homes and MDCs together."""
        return self.seen.together() if self.seen is not None else {}

    @functools.cached_property
    def statistics_by_mdc(self) -> dict[int, State]:
        """Of each MDC and its homes."""
        return self.seen.by_mdc() if self.seen is not None else {}


@dataclass
class _Round:
    started: float
    tally: Tally
    homes: int
    """Its homes are `0 .. homes-1`, decided when it begins."""
    quorum: int
    seen: Observations
    by_mdc: dict[int, int] = field(default_factory=dict)
    own: dict[str, float] = field(default_factory=dict)
    """UID of an MDC → seconds of the round that were its own and not its homes'; NaN if it does not say."""
    quiet: bool = True
    """No home has moved, and no MDC has come or come back."""
    down: dict[LinkId, int] = field(default_factory=dict)
    """Bytes of payloads sent on a link."""
    observed: dict[LinkId, int] = field(default_factory=dict)
    """Of these, how many are in the statistics."""
    flushed: bool = False
    stepping: bool = False

    def note_sent(self, link: LinkId, payload: Payload) -> None:
        """Count what an MDC is given."""
        self.down[link] = self.down.get(link, 0) + memoryview(payload).nbytes

    def observe_sent(self, link: LinkId) -> int:
        """Bytes that the statistics do not have yet."""
        before, self.observed[link] = self.observed.get(link, 0), self.down.get(link, 0)
        return self.observed[link] - before


class NorthPole:
    """One incarnation of the NPDC.

    Invariants: a Submit is taken whole or not at all, only from the pod the wiring names for its slot, only
    for the current stamp, only with members that this slot serves and that are not settled yet. So every
    home is counted at most once in a round, whatever was repeated, delayed or said by the dead.
    """

    def __init__(self, rules: Rules, statistics: Product | None = None, lane: Lane = INLINE) -> None:
        self.rules = rules
        self._intake = Intake(lane=lane)
        self._statistics = statistics or Product(())
        self._watched: bytes = b""
        self._trace = ""
        self.phase = Phase.STARTING
        self.wiring: Wiring | None = None
        self._served: dict[int, tuple[str, int]] = {}
        """Slot → (uid, homes in effect). Planned moves wait for the next round; see `_place`."""
        self._members: dict[int, _Member] = {}
        self._waiting: dict[LinkId, Register] = {}
        """MDCs that registered before the wiring spoke of them, or while their predecessors still act."""
        self._succeeded: set[str] = set()
        """UIDs of predecessors whose successors have taken over: nothing is taken from them any more."""
        self._locating: dict[LinkId, int] = {}
        self._missing_since: dict[tuple[int, str], float] = {}
        self._absent = 0
        self._snapshot: Snapshot | None = None
        self._round: _Round | None = None
        self._started: float | None = None
        self._recover_by = 0.0
        self._fetching: LinkId | None = None
        self._loading = False
        self.finish: Finish | None = None
        """How the job ended, once it has."""
        self._leave_at = 0.0
        self.refused: dict[str, int] = {}
        """Messages that were not counted, here or in an MDC, by reason."""
        self.last_round: RoundLog | None = None
        self._watch_pace = Stragglers(rules.straggler_factor) if rules.straggler_factor else None
        self._slow: dict[str, Straggler] = {}

    # -- what the shell reports ---------------------------------------------------------------------------

    @property
    def round(self) -> int:
        """Rounds done so far."""
        return self._snapshot.stamp.round if self._snapshot else 0

    @property
    def round_begun(self) -> bool:
        """Whether this incarnation has begun a round, so that `homes` is the number of a round."""
        return self._round is not None

    @property
    def homes(self) -> int:
        """How many homes the present round has, or the next one; when the job has ended, the last one."""
        if self._round is not None:
            return self._round.homes
        if self.finish is not None and self.last_round is not None:
            return self.last_round.homes
        return self._wanted()[0]

    def awaits_homes(self, stamp: Stamp) -> bool:
        """Whether the round with these weights has begun, and no step has been asked for yet."""
        return self._round is not None and not self._round.stepping and stamp == self._stamp

    @property
    def _stamp(self) -> Stamp | None:
        return self._snapshot.stamp if self._snapshot else None

    def unreachable(self, now: float) -> list[tuple[int, int, str]]:
        """(index, incarnation, uid) of current MDCs that have had no connection for too long."""
        if self.wiring is None or self.finish is not None:
            return []
        return [
            (index, slot.incarnation, slot.uid)
            for index, slot in sorted(self.wiring.mdcs.items())
            if slot.uid and now >= self._missing_since.get((index, slot.uid), now) + GRACE_SECONDS
        ]

    def stragglers(self) -> list[tuple[int, int, str, Straggler]]:
        """(index, incarnation, uid, how slow) of current MDCs that are much slower than the others."""
        slots = self.wiring.mdcs if self.wiring is not None else {}
        return [
            (i, s.incarnation, s.uid, self._slow[s.uid])
            for i, s in sorted(slots.items())
            if s.uid in self._slow
        ]

    def serving(self) -> list[tuple[int, int, int]]:
        """(index, incarnation, homes in effect) of the MDCs that are connected."""
        return [
            (index, member.incarnation, self._served.get(index, ("", 0))[1].bit_count())
            for index, member in sorted(self._members.items())
        ]

    def copies(self) -> list[tuple[int, int]]:
        """(index, incarnation) of the MDCs that hold copies of the states of this incarnation."""
        held = ((i, self._members[i]) for i in self._keepers())
        return [(i, m.incarnation) for i, m in held if m.holds is not None and m.holds[0] == self.rules.epoch]

    # -- events -------------------------------------------------------------------------------------------

    def rewire(self, wiring: Wiring, now: float) -> list[Effect]:
        """The operator has spoken: fence who is replaced, admit who is new, move homes."""
        if self.wiring is not None and wiring.version < self.wiring.version:
            return []
        self.wiring = wiring
        out: list[Effect] = []
        if wiring.npdc.incarnation > self.rules.epoch:
            return [Stop("Fenced", f"incarnation {wiring.npdc.incarnation} has taken over")]
        for index, member in list(self._members.items()):
            slot = wiring.mdcs.get(index)
            if slot is None or member.uid not in (slot.uid, slot.predecessor):
                out += self._dismiss(index, "this incarnation has been replaced")
        self._succeeded &= {slot.predecessor for slot in wiring.mdcs.values()}
        self._watch_for_missing(now)
        if self._round is not None and not self._round.stepping and self._wanted()[0] < self._round.homes:
            out += self._begin_anew(now)
        else:
            out += self._place(boundary=self._round is None)
        out += self._tell_absent()
        for link, register in list(self._waiting.items()):
            out += self._admit(link, register, now)
        if self._started is None:
            self._started = now
            self._recover_by = now + 2 * self.rules.silence
        out += self._keep() + self._recover(now) + self._answer_locating()
        return out + self._maybe_close(now)

    def opened(self, link: LinkId, now: float) -> list[Effect]:
        """A child has connected; it says who it is."""
        return []

    def closed(self, link: LinkId, now: float, silent: bool = False) -> list[Effect]:
        """A child is gone, or silent for so long that its connection was closed."""
        self._waiting.pop(link, None)
        self._locating.pop(link, None)
        for index, member in list(self._members.items()):
            if member.link == link:
                del self._members[index]
                self._missing_since[index, member.uid] = now - GRACE_SECONDS if silent else now
                self._watch_for_missing(now)
        self._give_up_fetching(link)
        return self._take_over(now) + self._recover(now) + self._keep() + self._maybe_leave(now)

    def tick(self, now: float) -> list[Effect]:
        """Time has passed: deadlines of the round, of recovery, of the farewell."""
        return self._recover(now) + self._maybe_close(now) + self._maybe_leave(now)

    def received(self, link: LinkId, message: Message, payload: Payload, now: float) -> list[Effect]:
        """A message has come. Unexpected ones are ignored."""
        match message:
            case Register():
                return self._register(link, message, now)
            case Locate():
                return self._locate(link, message)
            case Submit():
                return self._submit(link, message, payload, now)
            case Copy() if link == self._fetching and self._snapshot is None:
                self._fetching, self._loading = None, True
                return [Restore(payload)]
        return []

    def room(self, link: LinkId, message: Message) -> int:
        """Bytes that the payload of this message may have. More is read and forgotten."""
        match message:
            case Copy() if link == self._fetching:
                return MAX_PAYLOAD
            case Submit() if self._round is not None and message.stamp == self._stamp:
                known = any(member.link == link for member in self._members.values())
                room = self._round.tally.sum_room() + self._statistics.max_bytes()
                return min(room, MAX_PAYLOAD) if known else 0
        return 0

    def ready(
        self, snapshot: Snapshot, now: float, finish: Finish | None = None, trace: str = ""
    ) -> list[Effect]:
        """The shell has initialised, restored or stepped the model: publish it, or end the job.

        `trace` is the context that the round's work belongs to.
        """
        self._trace = trace
        self._snapshot = snapshot
        if finish is not None:
            return self.end(finish, now)
        self.phase = Phase.TRAINING
        out = self._hand_over()
        self._round = self._new_round(now)
        self._place(boundary=True)  # `_publish` says so to everyone
        for index in sorted(self._members):
            out += self._publish(index)
        return out + self._keep(everyone=True) + self._answer_locating()

    def keep(self, stamp: Stamp, rest: Payload) -> list[Effect]:
        """The rest of the state that `ready` has published: give it to the keepers."""
        if self._snapshot is None or stamp != self._stamp:
            return []
        self._snapshot = replace(self._snapshot, rest=rest)
        return self._keep(everyone=True)

    def watch(self, homes: list[int]) -> list[Effect]:
        """Have the paths of these homes in the statistics from now on."""
        self._watched = ids.to_wire(ids.mask_of(homes))
        return [Send(member.link, Watch(self._watched)) for member in self._members.values()]

    def restore_failed(self, now: float) -> list[Effect]:
        """The copy was of no use: do without copies."""
        self._loading = False
        self._recover_by = now
        for index, member in self._members.items():
            self._members[index] = replace(member, holds=None)
        return self._recover(now)

    def end(self, finish: Finish, now: float) -> list[Effect]:
        """The job has ended, well or not: tell everybody, leave when they are gone."""
        self.phase = Phase.COMPLETE if finish.outcome == Phase.COMPLETE else Phase.FAILED
        self.finish = finish
        self._round = None
        self._leave_at = now + GOODBYE_SECONDS
        links = [m.link for m in self._members.values()] + list(self._locating) + list(self._waiting)
        return [*(Send(link, finish) for link in links), *self._maybe_leave(now)]

    # -- children -----------------------------------------------------------------------------------------

    def _register(self, link: LinkId, message: Register, now: float) -> list[Effect]:
        if message.version != WIRE_VERSION or message.job != self.rules.job:
            return self._turn(link, "WrongJob", f"this is {self.rules.job}, wire version {WIRE_VERSION}")
        return self._admit(link, message, now)

    def _admit(self, link: LinkId, message: Register, now: float) -> list[Effect]:
        self._waiting.pop(link, None)
        if self.finish is not None:
            return [Send(link, self.finish)]
        slot = self.wiring.mdcs.get(message.index) if self.wiring else None
        if self.wiring is None or slot is None or slot.incarnation < message.incarnation:
            self._waiting[link] = message  # created before the wiring that will name it
            return []
        acting = self._members.get(message.index)
        if message.uid not in (slot.uid, slot.predecessor) or not message.uid:
            if slot.incarnation == message.incarnation and not slot.uid:
                self._waiting[link] = message
                return []
            return self._turn(link, "Fenced", f"incarnation {slot.incarnation} is current")
        if message.uid in self._succeeded:
            return self._turn(link, "Fenced", f"incarnation {slot.incarnation} has taken over")
        if message.uid == slot.uid and not message.acted and self._has_predecessor(slot, acting):
            self._waiting[link] = message
            return []
        out = self._enrol(link, message, slot)
        if slot.predecessor:  # homes move to another pod of the same slot
            out += self._place(boundary=self._round is None)
        if self._round is None:
            out += self._assign(message.index)
        else:
            out += self._publish(message.index)
            out += self._keep()
        return out + self._recover(now) + self._answer_locating()

    def _enrol(self, link: LinkId, message: Register, slot: Slot) -> list[Effect]:
        """This pod acts for its slot from now on, and no pod before it."""
        out: list[Effect] = []
        if slot.predecessor and message.uid == slot.uid:
            self._succeeded.add(slot.predecessor)
        acting = self._members.get(message.index)
        if acting is not None and acting.uid != message.uid:
            out += self._dismiss(message.index, f"incarnation {slot.incarnation} has taken over")
        elif acting is not None:  # the same pod dials again before the old connection is known dead
            out.append(Close(acting.link))
            self._give_up_fetching(acting.link)
        self._members[message.index] = _Member(
            link, message.uid, message.incarnation, message.address, message.holds, message.node
        )
        self._missing_since.pop((message.index, message.uid), None)
        if self._round is not None:
            self._round.quiet = False
        out.append(Send(link, Welcome(self.rules.epoch)))
        if self._watched:
            out.append(Send(link, Watch(self._watched)))
        return out

    def _dismiss(self, index: int, why: str) -> list[Effect]:
        """Nothing is taken from the pod that has acted for this slot any more."""
        member = self._members.pop(index)
        self._give_up_fetching(member.link)
        return self._turn(member.link, "Fenced", why)

    def _has_predecessor(self, slot: Slot, acting: _Member | None) -> bool:
        """Whether the pod that is to take the slot over has to wait for that.

        Before the first round a predecessor that is not here yet is waited for, like all that may hold a copy
        of the state.
        """
        if acting is not None:
            return acting.uid == slot.predecessor
        return slot.predecessor not in ("", *self._succeeded) and self._snapshot is None

    def _hand_over(self) -> list[Effect]:
        """Between two rounds: pods that wait for their predecessors take over."""
        out: list[Effect] = []
        for link, register, slot in self._heirs():
            del self._waiting[link]
            out += self._enrol(link, register, slot)
        return out

    def _take_over(self, now: float) -> list[Effect]:
        """In mid-round, or before the first one: those whose predecessors are gone need not wait."""
        heirs = self._heirs()
        return [effect for link, register, _ in heirs for effect in self._admit(link, register, now)]

    def _heirs(self) -> list[tuple[LinkId, Register, Slot]]:
        """The pods that wait for their predecessors, and their slots."""
        slots = self.wiring.mdcs if self.wiring is not None else {}
        named = ((link, register, slots.get(register.index)) for link, register in self._waiting.items())
        return [
            (link, register, slot)
            for link, register, slot in named
            if slot is not None and slot.predecessor and slot.uid == register.uid
        ]

    def _turn(self, link: LinkId, reason: str, why: str) -> list[Effect]:
        self.refused[reason] = self.refused.get(reason, 0) + 1
        return [Send(link, Turned(reason, why, final=True)), Close(link)]

    def _locate(self, link: LinkId, message: Locate) -> list[Effect]:
        if message.version != WIRE_VERSION or message.job != self.rules.job:
            return self._turn(link, "WrongJob", f"this is {self.rules.job}, wire version {WIRE_VERSION}")
        if self.finish is not None:
            return [Send(link, self.finish)]
        self._locating[link] = ids.from_wire(message.homes)  # those of no round yet wait for theirs
        return self._answer_locating()

    def _answer_locating(self) -> list[Effect]:
        out: list[Effect] = []
        for link, homes in list(self._locating.items()):
            for index, member in self._members.items():
                served = homes & self._served.get(index, ("", 0))[1]
                if served:
                    where = (member.address, index, member.incarnation)
                    out.append(Send(link, Located(ids.to_wire(served), *where)))
                    homes &= ~served
            self._locating[link] = homes
            if not homes:
                del self._locating[link]
        return out

    # -- who serves whom ----------------------------------------------------------------------------------

    def _place(self, boundary: bool) -> list[Effect]:
        """Bring the homes in effect up to the wiring.

        Between rounds, everything; within one, a home stays with an MDC that is still current (its gradient
        may be there already) and moves at once from one that is not, or from nowhere. Homes that are not in
        this round are served by nobody: no MDC waits for them.
        """
        if self.wiring is None:
            return []
        before, everyone = self._served, ids.full(self.homes)
        wanted = {
            i: (self._actor(i, slot), ids.mask_of(slot.homes) & everyone)
            for i, slot in self.wiring.mdcs.items()
        }
        if boundary:
            self._served = wanted
        else:
            kept = {
                i: mask for i, (uid, mask) in before.items() if i in wanted and wanted[i][0] == uid and uid
            }
            placed = 0
            for mask in kept.values():
                placed |= mask
            self._served = {i: (uid, kept.get(i, 0) | (mask & ~placed)) for i, (uid, mask) in wanted.items()}
        if self._round is not None and self._served != before:
            self._round.quiet = False
        out: list[Effect] = []
        for index in self._members:
            if before.get(index) != self._served.get(index):
                out += self._assign(index)
        return out

    def _actor(self, index: int, slot: Slot) -> str:
        """UID of the pod that acts for a slot now, or shall as soon as it is here."""
        member = self._members.get(index)
        return member.uid if member is not None and member.uid == slot.predecessor else slot.uid

    def _assign(self, index: int) -> list[Effect]:
        homes = self._served.get(index, ("", 0))[1]
        settled = self._round.tally.settled if self._round else 0
        masks = map(ids.to_wire, (homes, settled, self._absent))
        return [Send(self._members[index].link, Assign(self._stamp, *masks))]

    def _tell_absent(self) -> list[Effect]:
        """Have the MDCs know for whom not to wait."""
        assert self.wiring is not None
        absent = ids.mask_of(self.wiring.absent)
        if absent == self._absent:
            return []
        self._absent = absent
        return [effect for index in self._members for effect in self._assign(index)]

    def _watch_for_missing(self, now: float) -> None:
        if self.wiring is None:
            return
        connected = {(i, m.uid) for i, m in self._members.items()}
        current = {(i, self._actor(i, slot)) for i, slot in self.wiring.mdcs.items() if slot.uid}
        self._missing_since = {k: t for k, t in self._missing_since.items() if k in current}
        for key in current - connected:
            self._missing_since.setdefault(key, now + BOOT_SECONDS)

    # -- rounds -------------------------------------------------------------------------------------------

    def _wanted(self) -> tuple[int, int]:
        """(homes, quorum) of a round that begins now: the wiring's, or as configured."""
        wiring, rules = self.wiring, self.rules
        if wiring is None or not wiring.homes:
            return rules.homes, rules.quorum
        return wiring.homes, min(wiring.quorum or rules.quorum, wiring.homes)

    def _new_round(self, now: float) -> _Round:
        assert self._snapshot is not None
        size = memoryview(self._snapshot.weights).nbytes // 4 + 1
        spent = self._round.tally.total if self._round is not None else None
        tally = Tally(size, self._intake, total=spent)
        return _Round(now, tally, *self._wanted(), Observations(self._statistics))

    def _begin_anew(self, now: float) -> list[Effect]:
        """There are fewer homes now: begin the round once more, with those who remain.

        Whoever left may be in the sum already, or may never come to be. The others still have their vectors:
        it is as if a successor of this NPDC had taken the state up.
        """
        assert self._round is not None
        sent, self._round = self._round.down, self._new_round(now)
        self._round.down = sent  # the weights are there already
        self._place(boundary=True)
        return [effect for index in self._members for effect in self._assign(index)]

    def _publish(self, index: int) -> list[Effect]:
        """Homes and settled homes first: an MDC that has these weights knows then what to say again."""
        assert self._snapshot is not None
        link, stamp = self._members[index].link, self._snapshot.stamp
        out = [
            *self._assign(index),
            Send(link, Work(self.rules.epoch, stamp, self._trace), self._snapshot.weights),
        ]
        if self._round is not None:
            self._round.note_sent(link, self._snapshot.weights)
            if self._round.flushed:
                out.append(Send(link, Flush(stamp)))
        return out

    def _submit(self, link: LinkId, message: Submit, payload: Payload, now: float) -> list[Effect]:
        index = next((i for i, m in self._members.items() if m.link == link), None)
        if index is None:
            return self._turn(link, "Fenced", "not a current MDC of this job")
        if self._round is None or self._round.stepping or message.stamp != self._stamp:
            return self._reject(link, message, "StaleRound", f"rounds done: {self.round}")
        members = ids.from_wire(message.members) | ids.from_wire(message.failed)
        tally = self._round.tally
        if members and not members & ~tally.settled:
            return [Send(link, Accepted(message.stamp, ids.to_wire(members)))]  # said twice
        if members & ~self._served[index][1]:
            return self._reject(link, message, "NotYours", "homes that another MDC serves")
        total, extra = parted(payload, message.extra)
        try:
            tally.merge(message, total)
        except NotSummableError as error:
            if (
                error.reason == "Overflow"
            ):  # each sum is good, together they do not fit: asking again is no help
                return self.end(Finish("SumTooLarge", f"the gradients are too large: {error}"), now)
            return self._reject(link, message, error.reason, str(error))
        count_reasons(self.refused, message.refused)
        counted = ids.from_wire(message.members).bit_count()
        self._round.by_mdc[index] = self._round.by_mdc.get(index, 0) + counted
        self._observe(index, message, total, extra, now)
        accepted = Send(link, Accepted(message.stamp, ids.to_wire(members)))
        return [accepted, *self._maybe_close(now)]

    def _observe(self, index: int, message: Submit, total: Payload, extra: Payload, now: float) -> None:
        """Note what the MDC's homes did, and what the MDC itself did."""
        round_, product = self._round, self._statistics
        assert round_ is not None
        pace = message.pace
        own = now - round_.started - pace.held + pace.way if pace is not None else math.nan
        round_.own[self._members[index].uid] = own if pace is None else max(0.0, own)
        if not product.statistics:
            return
        wire = bytes(extra)
        homes = ids.from_wire(message.members).bit_count()
        if not homes:
            round_.seen.note(index, wire, None)
            return
        nbytes, sent = memoryview(total).nbytes, round_.observe_sent(self._members[index].link)

        def look() -> None:
            norm, loss = measures_of_packed(round_.tally.size, total, message.weight)
            seen = MdcObservation(
                mdc=index,
                round=message.stamp.round,
                seconds=now - round_.started,
                homes=homes,
                weight=message.weight,
                loss=loss,
                gradient_norm=norm,
                bytes_up=nbytes + len(wire),
                bytes_down=sent,
            )
            round_.seen.note(index, wire, seen)

        self._intake.lane.run(look, nbytes)

    def _reject(self, link: LinkId, message: Submit, reason: str, why: str) -> list[Effect]:
        self.refused[reason] = self.refused.get(reason, 0) + 1
        settled = self._round.tally.settled if self._round else 0
        return [Send(link, Rejected(message.stamp, reason, why, ids.to_wire(settled)))]

    def _maybe_close(self, now: float) -> list[Effect]:
        """Step when everybody is settled, or when the deadline is past and the quorum is in."""
        if self._round is None or self._round.stepping:
            return []
        tally, homes, quorum = self._round.tally, self._round.homes, self._round.quorum
        failed = tally.failed.bit_count()
        if homes - failed < quorum:
            why = f"{failed} of {homes} homes failed, the quorum is {quorum}: {tally.sample}"
            return self.end(Finish("QuorumImpossible", why), now)
        late = now >= self._round.started + self.rules.deadline
        awaited = ids.full(homes) & ~self._absent & ~tally.settled
        if (late or not awaited) and tally.members.bit_count() >= quorum:
            return self._close(now)
        if late and quorum < homes and not self._round.flushed:
            self._round.flushed = True
            assert self._snapshot is not None
            return [Send(m.link, Flush(self._snapshot.stamp)) for m in self._members.values()]
        return []

    def _close(self, now: float) -> list[Effect]:
        assert self._round is not None and self._snapshot is not None
        tally, everyone = self._round.tally, ids.full(self._round.homes)
        self._round.stepping = True
        if self._watch_pace and self._round.quiet and all(map(math.isfinite, self._round.own.values())):
            self._slow = self._watch_pace.note(self._round.own)
        total, reasons = tally.total, dict(tally.reasons)
        if absent := (self._absent & everyone & ~tally.settled).bit_count():
            count_reasons(reasons, {"Absent": absent})
        self.last_round = RoundLog(
            round=self._snapshot.stamp.round + 1,
            seconds=now - self._round.started,
            counted=tally.members.bit_count(),
            failed=tally.failed.bit_count(),
            missing=ids.ids_of(everyone & ~tally.members),
            by_mdc=dict(sorted(self._round.by_mdc.items())),
            reasons=reasons,
            homes=self._round.homes,
            seen=self._round.seen,
        )
        return [Step(self._snapshot.stamp, total, tally.weight)]

    # -- state that outlives this process -----------------------------------------------------------------

    def _keep(self, everyone: bool = False) -> list[Effect]:
        """Give the newest state to the keepers that lack it (`everyone`: it is new, all of them lack it)."""
        snapshot = self._snapshot
        if snapshot is None or snapshot.rest is None or self.finish is not None or self._round is None:
            return []
        mark = (self.rules.epoch, snapshot.stamp)
        out: list[Effect] = []
        for index in self._keepers():
            member = self._members[index]
            if everyone or member.holds != mark:
                self._members[index] = replace(member, holds=mark)
                out.append(Send(member.link, Keep(*mark), snapshot.rest))
                self._round.note_sent(member.link, snapshot.rest)
        return out

    def _keepers(self) -> list[int]:
        """The MDCs that hold copies: on nodes that have none yet if there are such, or else the first ones.

        The NPDC has a copy itself: on its own node there are others only if there is no other node.
        """
        copies = Counter({self.rules.node: KEEPERS})
        copies[""] = -1  # unknown nodes: as if each were another one
        chosen: list[int] = []
        while len(chosen) < min(KEEPERS, len(self._members)):
            there = (i for i in self._members if i not in chosen)
            best = min(there, key=lambda i: (copies[self._members[i].node], i))
            chosen.append(best)
            if self._members[best].node:
                copies[self._members[best].node] += 1
        return sorted(chosen)

    def _recover(self, now: float) -> list[Effect]:
        """Before the first round: take up the newest state there is, or begin."""
        idle = self._snapshot is None and self._fetching is None and not self._loading and not self.finish
        if not idle or self._started is None or self.wiring is None:
            return []
        self.phase = Phase.RECOVERING
        expected = {i for i, slot in self.wiring.mdcs.items() if slot.uid}
        complete = bool(expected) and expected <= set(self._members)
        held = [(m.holds, m.link) for m in self._members.values() if m.holds is not None]
        if self.rules.epoch > 0 and not complete and not self._has_all_copies(now) and now < self._recover_by:
            return []
        if held:
            (_, stamp), link = max(held)
            if stamp.round > self.rules.checkpoint_round:
                self._fetching = link
                return [Send(link, Fetch())]
        self._loading = True
        return [Initialise()]

    def _has_all_copies(self, now: float) -> bool:
        """Whether as many MDCs as hold copies are here: those that are still away need not be waited for.

        Some may have been given copies before others were, and hold old ones; so who lives has time to come.
        """
        epochs = [m.holds[0] for m in self._members.values() if m.holds is not None]
        enough = epochs.count(max(epochs, default=0)) >= KEEPERS
        return enough and self._started is not None and now >= self._started + RECONNECT_SECONDS

    def _give_up_fetching(self, link: LinkId) -> None:
        """Nothing will come from this link any more (one that we close ourselves raises no `closed`)."""
        if link == self._fetching:
            self._fetching = None

    def _maybe_leave(self, now: float) -> list[Effect]:
        if self.finish is None:
            return []
        if self._members and now < self._leave_at:
            return []
        return [Stop(self.finish.outcome, self.finish.message)]
