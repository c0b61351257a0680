"""Single machines: what one event leads to."""

from __future__ import annotations

import dataclasses
import math
import struct
from typing import Any
from unittest import mock

import msgspec
import numpy as np
import pytest

from elf_worker.aggregation import ids, precision
from elf_worker.aggregation.datacenter import PARK_SECONDS, DataCenter, Identity
from elf_worker.aggregation.effects import (
    Close,
    Compute,
    Dial,
    Effect,
    Initialise,
    Restore,
    Send,
    Serve,
    Step,
    Stop,
)
from elf_worker.aggregation.household import Answer, Household
from elf_worker.aggregation.northpole import GRACE_SECONDS, NorthPole, Rules, Snapshot
from elf_worker.aggregation.redial import FIRST_SECONDS, LONGEST_SECONDS, Redial
from elf_worker.aggregation.stragglers import ROUNDS, Straggler
from elf_worker.aggregation.tally import PLAIN, Intake
from elf_worker.contract import MAX_PAYLOAD, WIRE_VERSION, Slot, Wiring
from elf_worker.exact import ExactSum, max_packed_bytes
from elf_worker.messages import (
    Accepted,
    Assign,
    Copy,
    Discarded,
    Facts,
    Failed,
    Fetch,
    Finish,
    Flush,
    Hello,
    Keep,
    Locate,
    Located,
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
    Welcome,
    Work,
)

FIRST = Stamp(0, 0)
NEXT = Stamp(1, 0)
WEIGHTS = struct.pack("<3f", 1, 2, 3)
VECTOR = struct.pack("<4f", 0.5, 0.25, 1e-9, 4)
JOB = "job"
ANY_TEXT = mock.ANY


def said(effects: list[Effect], link: int | None = None) -> list[Message]:
    return [e.message for e in effects if isinstance(e, Send) and link in (None, e.link)]


def mask(*homes: int) -> bytes:
    return ids.to_wire(ids.mask_of(homes))


# -- the NPDC ---------------------------------------------------------------------------------------------


def wiring(version: int = 1, **homes: tuple[int, ...]) -> Wiring:
    """`a0=(1, 2)`: the MDC in slot `a` is incarnation 0 and serves homes 1 and 2."""
    slots = {}
    for name, members in homes.items():
        index, incarnation = "abc".index(name[0]), int(name[1:])
        slots[index] = Slot(incarnation, name, frozenset(members))
    return Wiring(version, Slot(0), slots)


def register(name: str, holds: tuple[int, Stamp] | None = None, **other: Any) -> Register:
    fields: dict[str, Any] = {"version": WIRE_VERSION, "job": JOB, "uid": name}
    fields |= {"index": "abc".index(name[0]), "incarnation": int(name[1:])} | other
    return Register(address=f"at-{name}", holds=holds, **fields)


def submit(*homes: int, stamp: Stamp = FIRST) -> tuple[Submit, bytes]:
    total = ExactSum(4)
    for _ in homes:
        total.add(np.frombuffer(VECTOR, "<f4"))
    message = Submit(stamp, mask(*homes), b"", len(homes), total.bound, {}, "", {})
    return message, bytes(total.pack())


def pole(homes: int = 4, quorum: int = 4, epoch: int = 0) -> NorthPole:
    return NorthPole(Rules(JOB, homes, quorum, deadline=10.0, silence=5.0, epoch=epoch))


def training(quorum: int = 4, **homes: tuple[int, ...]) -> NorthPole:
    """An NPDC in its first round; the MDCs of slots a, b, c are on links -1, -2, -3."""
    npdc = pole(quorum=quorum)
    npdc.rewire(wiring(**homes), 0.0)
    for name in homes:
        npdc.received(-1 - "abc".index(name[0]), register(name), None, 0.0)
    npdc.ready(Snapshot(FIRST, WEIGHTS, b"copy"), 0.0)
    return npdc


def tell(machine: Any, link: int, message: Message, payload: Any = None, now: float = 1.0) -> list[Effect]:
    return machine.received(link, message, payload, now)


def test_the_rest_of_a_state_follows_its_weights() -> None:
    """Homes do not wait for it, and who registers meanwhile gets it when it is there."""
    npdc = pole(quorum=4)
    npdc.rewire(wiring(a0=(0, 1), b0=(2, 3)), 0.0)
    npdc.received(-1, register("a0"), None, 0.0)
    first = npdc.ready(Snapshot(FIRST, WEIGHTS), 0.0)
    second = npdc.received(-2, register("b0"), None, 0.1)
    said = [type(e.message) for e in first + second if isinstance(e, Send)]
    assert said.count(Work) == 2 and Keep not in said
    assert npdc.keep(NEXT, b"of another state") == []
    kept = npdc.keep(FIRST, b"rest")
    assert [(e.link, e.message, e.payload) for e in kept if isinstance(e, Send)] == [
        (-1, Keep(0, FIRST), b"rest"),
        (-2, Keep(0, FIRST), b"rest"),
    ]


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        (register("a0"), Welcome),
        (register("a0", uid="other"), Turned),
        (register("a0", job="other"), Turned),
        (register("a0", version=WIRE_VERSION + 1), Turned),
        (register("b0", incarnation=0, uid="old"), Turned),
        (register("a1"), None),
        (register("c0"), None),
    ],
)
def test_who_may_register(message: Register, answer: type | None) -> None:
    """No answer: it was created before the wiring that will name it, and waits."""
    npdc = pole()
    npdc.rewire(wiring(a0=(0, 1), b1=(2, 3)), 0.0)
    answers = said(tell(npdc, -1, message))
    assert type(answers[0]) is answer if answer else not answers


def test_an_mdc_that_waits_is_welcome_once_it_is_named_and_turned_once_it_is_not() -> None:
    npdc = pole()
    tell(npdc, -1, register("a1"))
    tell(npdc, -2, register("b0"))
    answers = npdc.rewire(wiring(a1=(0, 1), b1=(2, 3)), 2.0)
    assert isinstance(said(answers, -1)[0], Welcome)
    assert isinstance(said(answers, -2)[0], Turned)


@pytest.mark.parametrize(
    ("link", "homes", "stamp", "answer"),
    [
        (-1, (0, 1), FIRST, "Accepted"),
        (-1, (0,), FIRST, "Accepted"),
        (-1, (0, 1), NEXT, "StaleRound"),
        (-1, (0, 1), Stamp(0, 1), "StaleRound"),
        (-1, (0, 2), FIRST, "NotYours"),
        (-1, (0, 99), FIRST, "NotYours"),
        (-2, (2, 3), FIRST, "Accepted"),
        (-7, (0, 1), FIRST, "Fenced"),
    ],
)
def test_what_is_taken(link: int, homes: tuple[int, ...], stamp: Stamp, answer: str) -> None:
    npdc = training(a0=(0, 1), b0=(2, 3))
    reply = said(tell(npdc, link, *submit(*homes, stamp=stamp)))[0]
    assert getattr(reply, "reason", type(reply).__name__) == answer


def test_said_twice_is_counted_once_and_partly_known_is_refused_whole() -> None:
    npdc = training(a0=(0, 1, 2), b0=(3,))
    assert said(tell(npdc, -1, *submit(0, 1))) == said(tell(npdc, -1, *submit(0, 1)))
    (refusal,) = said(tell(npdc, -1, *submit(1, 2)))
    assert isinstance(refusal, Rejected)
    assert (refusal.reason, refusal.settled) == ("Overlap", mask(0, 1))
    tell(npdc, -1, *submit(2))
    (step,) = [e for e in tell(npdc, -2, *submit(3)) if isinstance(e, Step)]
    assert step.weight == 4
    assert npdc.last_round is not None
    assert npdc.last_round.by_mdc == {0: 3, 1: 1}


def test_a_replaced_mdc_is_turned_away_and_its_homes_move_at_once() -> None:
    npdc = training(a0=(0, 1), b0=(2, 3))
    effects = npdc.rewire(wiring(2, a1=(), b0=(0, 1, 2, 3)), 1.0)
    assert [type(m) for m in said(effects, -1)] == [Turned]
    assert Close(-1) in effects
    assert said(effects, -2) == [Assign(FIRST, mask(0, 1, 2, 3), b"")]
    assert isinstance(said(tell(npdc, -1, *submit(0, 1)))[0], Turned)
    assert isinstance(said(tell(npdc, -2, *submit(0, 1, 2, 3)))[0], Accepted)


def test_planned_moves_wait_for_the_next_round() -> None:
    npdc = training(a0=(0, 1), b0=(2, 3))
    assert npdc.rewire(wiring(2, a0=(0,), b0=(1, 2, 3)), 1.0) == []
    assert npdc.rewire(wiring(1, a0=(), b0=(0, 1, 2, 3)), 1.0) == []  # an older version says nothing
    effects = npdc.ready(Snapshot(NEXT, WEIGHTS, b""), 2.0)
    assert said(effects, -2)[0] == Assign(NEXT, mask(1, 2, 3), b"")


def test_a_successor_ends_this_incarnation() -> None:
    npdc = training(a0=(0, 1, 2, 3))
    (stop,) = npdc.rewire(Wiring(2, Slot(1), {}), 1.0)
    assert isinstance(stop, Stop)
    assert stop.outcome == "Fenced"


def test_the_deadline_asks_for_what_there_is_of_late_comers_too() -> None:
    npdc = training(quorum=2, a0=(0, 1), b0=(2, 3))
    assert npdc.tick(9.9) == []
    assert said(npdc.tick(10.0)) == [Flush(FIRST), Flush(FIRST)]
    assert npdc.tick(10.1) == []
    npdc.closed(-2, 10.2)
    assert Flush(FIRST) in said(tell(npdc, -4, register("b0"), now=10.3))
    assert any(isinstance(e, Step) for e in tell(npdc, -1, *submit(0, 1), now=10.4))
    assert npdc.last_round is not None
    assert npdc.last_round.missing == [2, 3]


@pytest.mark.parametrize(("silent", "reported"), [(True, True), (False, False)])
def test_an_mdc_that_was_silent_is_reported_at_once(silent: bool, reported: bool) -> None:
    npdc = training(a0=(0, 1), b0=(2, 3))
    npdc.closed(-2, 10.0, silent)
    assert [uid for _, _, uid in npdc.unreachable(10.0)] == ["b0"] * reported
    assert [uid for _, _, uid in npdc.unreachable(10.0 + GRACE_SECONDS)] == ["b0"]


def test_a_quorum_that_cannot_be_had_ends_the_job() -> None:
    npdc = training(quorum=4, a0=(0, 1, 2, 3))
    failure = Submit(FIRST, b"", mask(0), 0, 0, {"TaskFailed": 1}, "home 0: ill", {})
    effects = tell(npdc, -1, failure)
    (finish,) = [m for m in said(effects) if isinstance(m, Finish)]
    assert finish.outcome == "QuorumImpossible"
    assert "ill" in finish.message


def recovering() -> NorthPole:
    """A second NPDC that has asked the MDC on link -1 for its copy."""
    npdc = pole(epoch=1)
    npdc.rewire(wiring(a0=(0, 1), b0=(2, 3)), 0.0)
    tell(npdc, -2, register("b0"))
    effects = tell(npdc, -1, register("a0", holds=(0, NEXT)))
    assert Send(-1, Fetch()) in effects
    return npdc


@pytest.mark.parametrize(
    "event",
    [
        lambda npdc: npdc.closed(-1, 2.0),
        lambda npdc: npdc.rewire(wiring(2, a1=(), b0=(0, 1, 2, 3)), 2.0) + npdc.tick(10.0),
    ],
)
def test_a_copy_that_will_not_come_is_not_waited_for(event: Any) -> None:
    npdc = recovering()
    effects = event(npdc) + npdc.tick(10.0)
    assert any(isinstance(e, Initialise) for e in effects)


def test_a_copy_is_fetched_again_on_a_new_connection() -> None:
    npdc = recovering()
    effects = tell(npdc, -5, register("a0", holds=(0, NEXT)))
    assert Close(-1) in effects
    assert Send(-5, Fetch()) in effects
    assert tell(npdc, -5, Copy(0, NEXT), b"copy") == [Restore(b"copy")]


def test_the_newest_copy_of_the_latest_npdc_wins() -> None:
    npdc = pole(epoch=3)
    npdc.rewire(wiring(a0=(0,), b0=(1,), c0=(2, 3)), 0.0)
    tell(npdc, -1, register("a0", holds=(1, Stamp(9, 1))))
    tell(npdc, -2, register("b0", holds=(2, Stamp(5, 1))))
    assert said(tell(npdc, -3, register("c0", holds=(2, Stamp(4, 1))))).count(Fetch()) == 1
    assert npdc._fetching == -2


SUM = max_packed_bytes(len(WEIGHTS) // 4 + 1)
"""Bytes, at most, of a sum of the weights and the loss."""


@pytest.mark.parametrize(
    ("link", "message", "room"),
    [
        (-1, submit(0)[0], SUM),
        (-2, submit(2, 3)[0], SUM),
        (-2, submit(0)[0], SUM),
        (-1, submit(0, stamp=NEXT)[0], 0),
        (-1, submit(0, stamp=Stamp(0, 1))[0], 0),
        (-3, submit(0)[0], 0),
        (-7, submit(0)[0], 0),
        (5, submit(0)[0], 0),
        (-1, Copy(0, FIRST), 0),
        (-1, register("a0"), 0),
        (-1, Locate(WIRE_VERSION, JOB, mask(0)), 0),
        (-1, Offer(0, FIRST, 1), 0),
        (-1, Work(0, FIRST), 0),
        (-1, Keep(0, FIRST), 0),
        (-1, Fetch(), 0),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, Message) else None,
)
def test_the_room_an_npdc_has_in_a_round(link: int, message: Message, room: int) -> None:
    """Links -1 and -2 are those of current MDCs, -3 is one that registers with a false uid."""
    npdc = training(a0=(0, 1), b0=(2, 3))
    tell(npdc, -3, register("b0", uid="old"))
    assert npdc.room(link, message) == room


@pytest.mark.parametrize(
    ("link", "message", "room"),
    [
        (-1, Copy(0, NEXT), MAX_PAYLOAD),
        (-2, Copy(0, NEXT), 0),
        (-7, Copy(0, NEXT), 0),
        (-1, submit(0, stamp=NEXT)[0], 0),
        (-1, Keep(0, NEXT), 0),
    ],
)
def test_the_room_of_an_npdc_that_waits_for_a_copy(link: int, message: Message, room: int) -> None:
    assert recovering().room(link, message) == room


def test_an_npdc_that_has_its_copy_or_gives_up_on_it_has_no_room_for_another() -> None:
    npdc = recovering()
    tell(npdc, -1, Copy(0, NEXT), b"copy")
    assert npdc.room(-1, Copy(0, NEXT)) == 0
    npdc = recovering()
    npdc.closed(-1, 2.0)
    assert npdc.room(-1, Copy(0, NEXT)) == 0


@pytest.mark.parametrize("event", [lambda npdc: npdc.closed(-1, 2.0), lambda npdc: npdc.end(DONE, 2.0)])
def test_an_mdc_that_is_gone_and_a_job_that_has_ended_need_no_room(event: Any) -> None:
    npdc = training(a0=(0, 1), b0=(2, 3))
    event(npdc)
    assert npdc.room(-1, submit(0)[0]) == 0


DONE = Finish("Complete", "done")


def refusing(message: Submit, **refused: int) -> Submit:
    return msgspec.structs.replace(message, refused=refused)


def test_what_an_mdc_refused_is_told_when_its_submit_is_accepted_and_not_before() -> None:
    npdc = training(a0=(0, 1), b0=(2, 3))
    message, payload = submit(0, 1)
    stale = msgspec.structs.replace(message, stamp=NEXT)
    for link, said_again, reason in (
        (-7, message, "Fenced"),
        (-1, stale, "StaleRound"),
        (-2, message, "NotYours"),
        (-1, msgspec.structs.replace(message, weight=0), "BadWeight"),
    ):
        tell(npdc, link, refusing(said_again, NotMine=5), payload)
        assert npdc.refused.pop(reason) == 1
        assert npdc.refused == {}
    for _ in range(3):  # said again it is not counted again
        reply = said(tell(npdc, -1, refusing(message, NotMine=5, WrongSize=1), payload), -1)
        assert reply == [Accepted(FIRST, mask(0, 1))]
        assert npdc.refused == {"NotMine": 5, "WrongSize": 1}
    tell(npdc, -2, refusing(submit(2)[0], NotMine=2), submit(2)[1])
    assert npdc.refused == {"NotMine": 7, "WrongSize": 1}


@pytest.mark.parametrize("size", [SUM - 1, SUM, SUM + 1, 1 << 33])
def test_a_sum_that_was_thrown_away_is_rejected(size: int) -> None:
    npdc = training(a0=(0, 1), b0=(2, 3))
    (reply,) = said(tell(npdc, -1, submit(0, 1)[0], Discarded(size)))
    assert isinstance(reply, Rejected)
    assert isinstance(said(tell(npdc, -1, *submit(0, 1)))[0], Accepted)


def paced(npdc: NorthPole, homes: dict[str, tuple[int, ...]], now: float, **paces: Pace | None) -> None:
    """One round, and the next one's weights; `a0=Pace(…)` is what that MDC says of itself."""
    stamp = npdc._stamp
    assert stamp is not None
    for name, members in homes.items():
        message, payload = submit(*members, stamp=stamp)
        link = next(m.link for m in npdc._members.values() if m.uid == name)
        tell(npdc, link, msgspec.structs.replace(message, pace=paces.get(name)), payload, now)
    assert npdc.last_round is not None and npdc.last_round.round == stamp.round + 1
    npdc.ready(Snapshot(Stamp(stamp.round + 1, 0), WEIGHTS, b""), now)


THREE = {"a0": (0,), "b0": (1, 2), "c0": (3,)}


def watched(factor: float | None = 5.0) -> NorthPole:
    npdc = NorthPole(Rules(JOB, 4, 4, deadline=1e9, silence=5.0, epoch=0, straggler_factor=factor))
    npdc.rewire(wiring(**THREE), 0.0)
    for name in THREE:
        npdc.received(-1 - "abc".index(name[0]), register(name), None, 0.0)
    npdc.ready(Snapshot(FIRST, WEIGHTS, b"copy"), 0.0)
    return npdc


QUICK, BUSY = Pace(held=2.0), Pace(held=0.5)
"""Of rounds of two seconds: the homes took all of them; the MDC itself took one and a half."""


def slow_rounds(npdc: NorthPole, first: int, count: int, busy: Pace | None = BUSY) -> None:
    for number in range(first, first + count):
        paced(npdc, THREE, 2.0 * number, a0=QUICK, b0=busy, c0=QUICK)


def named(npdc: NorthPole) -> list[tuple[int, int, str]]:
    return [entry[:3] for entry in npdc.stragglers()]


def test_an_mdc_that_is_slow_by_itself_is_named_and_one_with_slow_homes_is_not() -> None:
    npdc = watched()
    slow_rounds(npdc, 1, ROUNDS - 1)
    assert named(npdc) == []
    slow_rounds(npdc, ROUNDS, 1)
    ((index, incarnation, uid, how),) = npdc.stragglers()
    assert (index, incarnation, uid, how) == (1, 0, "b0", Straggler(1.5, 0.0))
    slow_rounds(npdc, ROUNDS + 1, 1, QUICK)
    assert named(npdc) == []


def test_what_vectors_need_on_their_way_is_the_mdcs_own() -> None:
    npdc = watched()
    slow_rounds(npdc, 1, ROUNDS, Pace(held=2.0, way=0.75))
    assert [how.seconds for _, _, _, how in npdc.stragglers()] == [0.75]


@pytest.mark.parametrize(
    "pace", [None, Pace(math.nan), Pace(math.inf), Pace(-math.inf), Pace(2.0, math.inf), Pace(1e300)]
)
def test_a_round_in_which_somebody_says_nothing_of_use_does_not_count(pace: Pace | None) -> None:
    npdc = watched()
    slow_rounds(npdc, 1, ROUNDS - 1)
    slow_rounds(npdc, ROUNDS, 3, pace)
    assert not any(math.isnan(how.seconds) or math.isinf(how.seconds) for *_, how in npdc.stragglers())
    slow_rounds(npdc, ROUNDS + 3, ROUNDS)
    assert named(npdc) == [(1, 0, "b0")]


def test_clocks_that_disagree_are_no_fault_of_the_others() -> None:
    """An MDC that says it held the sum for longer than the round lasted took no time of its own."""
    npdc = watched()
    for number in range(1, ROUNDS + 1):
        paced(npdc, THREE, 2.0 * number, a0=Pace(9.0), b0=QUICK, c0=Pace(9.0))
    assert named(npdc) == []


def moved(npdc: NorthPole, now: float) -> dict[str, tuple[int, ...]]:
    homes: dict[str, tuple[int, ...]] = {"a0": (0, 1), "b0": (2,), "c0": (3,)}
    npdc.rewire(wiring(2, **homes), now)
    return homes


def test_rounds_in_which_homes_moved_or_an_mdc_came_do_not_count() -> None:
    npdc = watched()
    slow_rounds(npdc, 1, ROUNDS - 1)
    again = register("c0")
    tell(npdc, -9, again, now=2.0 * ROUNDS - 1)  # on a new connection, in the middle of the round
    slow_rounds(npdc, ROUNDS, 1)
    assert named(npdc) == [], "an MDC came back in this round"
    homes = moved(npdc, 2.0 * ROUNDS + 1)
    paces = {"a0": QUICK, "b0": QUICK, "c0": QUICK}
    paced(npdc, THREE, 2.0 * (ROUNDS + 1), a0=QUICK, b0=BUSY, c0=QUICK)
    assert named(npdc) == [(1, 0, "b0")], "the homes move when the next round begins"
    paced(npdc, homes, 2.0 * (ROUNDS + 2), **paces)
    assert named(npdc) == [(1, 0, "b0")], "this is the round in which they moved"
    paced(npdc, homes, 2.0 * (ROUNDS + 3), **paces)
    assert named(npdc) == []


def test_a_straggler_that_is_fenced_is_no_longer_named_and_its_successor_begins_anew() -> None:
    npdc = watched()
    slow_rounds(npdc, 1, ROUNDS)
    homes: dict[str, tuple[int, ...]] = {"a0": (0, 1), "b1": (), "c0": (2, 3)}
    npdc.rewire(wiring(2, **homes), 2.0 * ROUNDS)
    assert named(npdc) == []
    tell(npdc, -9, register("b1"), now=2.0 * ROUNDS)
    back: dict[str, tuple[int, ...]] = {"a0": (0,), "b1": (1, 2), "c0": (3,)}
    npdc.rewire(wiring(3, **back), 2.0 * ROUNDS)
    served = {name: members for name, members in homes.items() if members}
    paced(npdc, served, 2.0 * (ROUNDS + 1), a0=QUICK, c0=QUICK)
    for number in range(ROUNDS + 2, 2 * ROUNDS + 2):
        assert named(npdc) == []
        paced(npdc, back, 2.0 * number, a0=QUICK, b1=BUSY, c0=QUICK)
    assert named(npdc) == []
    paced(npdc, back, 2.0 * (2 * ROUNDS + 2), a0=QUICK, b1=BUSY, c0=QUICK)
    assert named(npdc) == [(1, 1, "b1")]


def test_without_a_factor_nobody_is_named() -> None:
    npdc = watched(None)
    slow_rounds(npdc, 1, 2 * ROUNDS)
    assert npdc.stragglers() == []


# -- homes that come and go -------------------------------------------------------------------------------


def population(homes: int, **served: tuple[int, ...]) -> Wiring:
    return dataclasses.replace(wiring(2, **served), homes=homes, quorum=max(1, homes - 1))


def closing(npdc: NorthPole, *homes: int, stamp: Stamp = FIRST, now: float = 1.0) -> list[Effect]:
    return tell(npdc, -1, *submit(*homes, stamp=stamp), now=now)


def test_more_homes_take_part_from_the_next_round_on() -> None:
    npdc = training(a0=(0, 1, 2, 3))
    assert tell(npdc, -9, Locate(WIRE_VERSION, JOB, mask(5))) == []
    assert npdc.rewire(population(6, a0=(0, 1, 2, 3, 4, 5)), 1.0) == [], "this round stays as it is"
    assert npdc.homes == 4
    assert said(closing(npdc, 0, 5)) == [Rejected(FIRST, "NotYours", ANY_TEXT, b"")]
    closing(npdc, 0, 1, 2, 3)
    out = npdc.ready(Snapshot(NEXT, WEIGHTS, b"copy"), 2.0)
    assert said(out, -1)[0] == Assign(NEXT, mask(0, 1, 2, 3, 4, 5), b"")
    assert said(out, -9) == [Located(mask(5), "at-a0", 0, 0)]
    assert npdc.homes == 6 and npdc.last_round is not None and npdc.last_round.homes == 4


def test_fewer_homes_begin_the_round_anew() -> None:
    npdc = training(a0=(0, 1, 2, 3))
    closing(npdc, 0, 3)
    assert said(npdc.rewire(population(3, a0=(0, 1, 2)), 1.0), -1) == [Assign(FIRST, mask(0, 1, 2), b"")]
    assert npdc.homes == 3
    assert said(closing(npdc, 3)) == [Rejected(FIRST, "NotYours", ANY_TEXT, b"")]
    out = closing(npdc, 0, 1, 2)
    (step,) = [e for e in out if isinstance(e, Step)]
    assert step.weight == 3
    log = npdc.last_round
    assert log is not None and (log.homes, log.counted, log.missing) == (3, 3, [])


def test_a_round_that_is_being_stepped_is_not_begun_anew() -> None:
    npdc = training(a0=(0, 1, 2, 3))
    assert [e for e in closing(npdc, 0, 1, 2, 3) if isinstance(e, Step)]
    npdc.rewire(population(3, a0=(0, 1, 2)), 1.0)
    assert npdc.homes == 4
    npdc.ready(Snapshot(NEXT, WEIGHTS, b"copy"), 2.0)
    assert npdc.homes == 3


def test_a_wiring_that_names_no_count_means_the_one_that_was_configured() -> None:
    npdc = training(a0=(0, 1, 2, 3))
    npdc.rewire(wiring(2, a0=(0, 1, 2, 3, 4)), 1.0)
    assert npdc.homes == 4
    assert [e for e in closing(npdc, 0, 1, 2, 3) if isinstance(e, Step)]


def test_a_round_closes_when_it_hears_that_whoever_it_waits_for_is_absent() -> None:
    npdc = training(quorum=3, a0=(0, 1, 2, 3))
    closing(npdc, 0, 1, 3)
    out = npdc.rewire(dataclasses.replace(wiring(2, a0=(0, 1, 2, 3)), absent=frozenset({2})), 1.0)
    assert said(out, -1) == [Assign(FIRST, mask(0, 1, 2, 3), mask(0, 1, 3), mask(2))]
    assert [e for e in out if isinstance(e, Step)]
    log = npdc.last_round
    assert log is not None and (log.missing, log.reasons, log.failed) == ([2], {"Absent": 1}, 0)


def test_a_round_waits_for_the_absent_whom_its_quorum_needs() -> None:
    npdc = training(quorum=4, a0=(0, 1, 2, 3))
    npdc.rewire(dataclasses.replace(wiring(2, a0=(0, 1, 2, 3)), absent=frozenset({2})), 1.0)
    assert not [e for e in closing(npdc, 0, 1, 3) if isinstance(e, Step)]
    assert not [e for e in npdc.tick(100.0) if isinstance(e, Step)]
    assert [e for e in closing(npdc, 2) if isinstance(e, Step)]
    assert npdc.last_round is not None and npdc.last_round.reasons == {}


# -- the MDC ----------------------------------------------------------------------------------------------


def center(*homes: int, stamp: Stamp | None = FIRST, intake: Intake = PLAIN) -> DataCenter:
    """An MDC in touch with the NPDC on link 0, serving these homes, all of them on link -1."""
    mdc = DataCenter(Identity(JOB, 0, 0, "a0", "at-a0"), "npdc", intake)
    assert mdc.tick(0.0) == [Dial(0, "npdc")]
    assert said(mdc.opened(0, 0.0)) == [register("a0")]
    assert mdc.received(0, Welcome(0), None, 0.0) == [Serve()]
    mdc.received(0, Assign(stamp, mask(*homes), b""), None, 0.0)
    if stamp is not None:
        mdc.received(0, Work(0, stamp), WEIGHTS, 0.0)
    mdc.opened(-1, 0.0)
    mdc.received(-1, Hello(WIRE_VERSION, JOB, mask(*homes), -1, None), None, 0.0)
    return mdc


def offer(mdc: DataCenter, home: int, payload: bytes = VECTOR, stamp: Stamp = FIRST) -> list[Message]:
    return said(mdc.received(-1, Offer(home, stamp, 1), payload, 1.0))


def test_a_full_tally_is_sent_once() -> None:
    mdc = center(0, 1)
    assert offer(mdc, 0) == []
    (message,) = offer(mdc, 1)
    assert isinstance(message, Submit)
    assert (message.members, message.weight) == (mask(0, 1), 2)
    assert offer(mdc, 0) == []
    assert tell(mdc, 0, Accepted(FIRST, mask(0, 1))) == []


@pytest.mark.parametrize(
    ("home", "payload", "stamp", "reason"),
    [
        (2, VECTOR, FIRST, "NotMine"),
        (-1, VECTOR, FIRST, "NotMine"),
        (1 << 62, VECTOR, FIRST, "NotMine"),
        (0, VECTOR, NEXT, "StaleRound"),
        (0, VECTOR[:-1], FIRST, "WrongSize"),
        (0, struct.pack("<4f", 0, 0, 0, float("nan")), FIRST, "NonFinite"),
        (0, struct.pack("<4f", 0, 0, 0, 2.0**21), FIRST, "OutOfRange"),
    ],
    ids=lambda x: "" if isinstance(x, bytes) else str(x),
)
def test_what_an_mdc_refuses(home: int, payload: bytes, stamp: Stamp, reason: str) -> None:
    mdc = center(0, 1)
    (refusal,) = offer(mdc, home, payload, stamp)
    assert isinstance(refusal, Refused)
    assert refusal.reason == reason
    (message,) = offer(mdc, 1) + said(tell(mdc, 0, Flush(FIRST)))
    assert isinstance(message, Submit)
    assert message.refused == {reason: 1}


def test_a_bad_vector_counts_as_a_failure_of_its_home_alone() -> None:
    mdc = center(0, 1)
    offer(mdc, 0, struct.pack("<4f", 0, 0, 0, float("inf")))
    (message,) = offer(mdc, 1)
    assert isinstance(message, Submit)
    assert (message.members, message.failed, message.reasons) == (mask(1), mask(0), {"NonFinite": 1})
    assert said(tell(mdc, -1, Failed(1 << 62, FIRST, "TaskFailed", "a false id"))) == []


def reconnected(mdc: DataCenter) -> DataCenter:
    mdc.closed(0, 2.0)
    assert mdc.tick(2.0) == []
    assert mdc.tick(3.0) == [Dial(1, "npdc")]
    mdc.opened(1, 3.0)
    mdc.received(1, Welcome(1), None, 3.0)
    return mdc


@pytest.mark.parametrize(
    ("settled", "homes", "expected"),
    [
        ((), (0, 1), [(1, Submit)]),
        ((0, 1), (0, 1), []),
        ((0,), (0, 1), [(-1, Want)]),
        ((), (0,), [(-1, Moved), (-1, Want)]),
    ],
)
def test_what_was_in_flight_when_the_connection_broke(
    settled: tuple[int, ...], homes: tuple[int, ...], expected: list[tuple[int, type]]
) -> None:
    """Sent again when nobody knows it; begun anew, from the homes, when that would count somebody twice."""
    mdc = center(0, 1)
    offer(mdc, 0)
    offer(mdc, 1)
    effects = tell(reconnected(mdc), 1, Assign(FIRST, mask(*homes), mask(*settled)))
    assert list(dict.fromkeys((e.link, type(e.message)) for e in effects if isinstance(e, Send))) == expected


def test_a_rejected_submit_is_made_up_for_from_the_homes() -> None:
    """Of those that are settled nobody is asked again; of an earlier round nobody at all."""
    mdc = center(0, 1)
    offer(mdc, 0)
    offer(mdc, 1)
    assert tell(mdc, 0, Rejected(NEXT, "StaleRound", "why", b"")) == []
    assert said(tell(mdc, 0, Rejected(FIRST, "Overlap", "why", mask(0)))) == [Want(FIRST, mask(1))]
    (message,) = offer(mdc, 1)
    assert isinstance(message, Submit)
    assert message.members == mask(1)


def test_nothing_is_sent_to_an_npdc_that_is_not_in_this_round() -> None:
    """It would be refused, and asked of the homes and sent again, as fast as the network can carry it."""
    mdc = reconnected(center(0, 1))
    assert said(tell(mdc, 1, Assign(None, mask(0, 1), b""))) == []
    assert offer(mdc, 0) + offer(mdc, 1) == []
    (message,) = said(tell(mdc, 1, Assign(FIRST, mask(0, 1), b"")))
    assert isinstance(message, Submit)


def test_weights_carry_the_epoch_that_published_them() -> None:
    """A home takes the word of a newer NPDC over what it has: this one has not spoken yet."""
    mdc = reconnected(center(0))
    tell(mdc, 1, Assign(None, mask(0), b""))
    mdc.opened(-2, 4.0)
    assert said(tell(mdc, -2, Hello(WIRE_VERSION, JOB, mask(0), 0, None))) == [Work(0, FIRST)]
    tell(mdc, 1, Assign(FIRST, mask(0), b""))
    tell(mdc, 1, Work(1, FIRST), WEIGHTS)
    mdc.opened(-3, 5.0)
    assert said(tell(mdc, -3, Hello(WIRE_VERSION, JOB, mask(0), 0, None))) == [Work(1, FIRST)]


def pods(*homes: int) -> DataCenter:
    """An MDC whose homes are on links -1, -2, …, each in a pod of its own; the weights came at 10 s."""
    mdc = center(*homes, stamp=None)
    mdc.closed(-1, 1.0)
    for home in homes:
        mdc.opened(-1 - home, 1.0)
        tell(mdc, -1 - home, Hello(WIRE_VERSION, JOB, mask(home), -1, None), now=1.0)
    tell(mdc, 0, Assign(FIRST, mask(*homes), b""), now=9.0)
    tell(mdc, 0, Work(0, FIRST), WEIGHTS, now=10.0)
    return mdc


@pytest.mark.parametrize(
    ("answers", "pace"),
    [
        ([(10.5, 0.0, 0.5)], Pace(0.5, 0.0)),
        ([(17.0, 0.0, 0.5)], Pace(7.0, 0.0)),
        ([(10.5, 0.0, 0.5), (17.0, 0.0, 0.5)], Pace(7.0, 0.0)),
        ([(16.5, 0.0, 0.5), (17.0, 0.0, 0.5)], Pace(7.0, 6.0)),
        ([(16.5, 5.0, 0.5), (17.0, 0.0, 0.5), (12.0, 0.0, 1.5)], Pace(7.0, 1.0)),
        ([(12.0, 0.0, 1.0), (13.0, 0.0, 1.0), (14.0, 0.0, 1.0), (15.0, 0.0, 1.0)], Pace(5.0, 2.0)),
        ([(12.0, 0.0, 9.0), (12.0, math.nan, 0.0), (12.0, 0.0, math.inf)], Pace(2.0, 0.0)),
    ],
    ids=[
        "a home alone",
        "a home alone that is slow to reach",
        "one of two is slow to reach",
        "both are",
        "what homes compute and wait is theirs",
        "the lower middle of an even number",
        "lies are no way",
    ],
)
def test_what_an_mdc_says_of_its_own_time(answers: list[tuple[float, float, float]], pace: Pace) -> None:
    """Answers of homes: when, and what they say they waited and computed."""
    mdc = pods(*range(len(answers)))
    found: list[Message] = []
    for home, (when, waiting, computing) in sorted(enumerate(answers), key=lambda item: item[1][0]):
        message = Offer(home, FIRST, 1, facts=Facts(waiting, computing))
        found += said(tell(mdc, -1 - home, message, VECTOR, when), 0)
    (message,) = found
    assert isinstance(message, Submit)
    assert message.pace == pace


def test_a_pod_of_several_homes_has_one_way_and_each_round_its_own() -> None:
    mdc = center(0, 1, 2)
    mdc.opened(-2, 0.0)
    tell(mdc, -2, Hello(WIRE_VERSION, JOB, mask(2), -1, None), now=0.0)
    for home, when in ((0, 0.5), (1, 8.0)):
        tell(mdc, -1, Offer(home, FIRST, 1), VECTOR, when)
    (first,) = said(tell(mdc, -2, Offer(2, FIRST, 1), VECTOR, 9.0), 0)
    assert isinstance(first, Submit) and first.pace == Pace(9.0, 0.5)
    tell(mdc, 0, Accepted(FIRST, mask(0, 1, 2)), now=9.0)
    tell(mdc, 0, Assign(NEXT, mask(0, 1, 2), b""), now=10.0)
    tell(mdc, 0, Work(0, NEXT), WEIGHTS, now=10.0)
    for home in (0, 1):
        tell(mdc, -1, Offer(home, NEXT, 1), VECTOR, 11.0)
    (second,) = said(tell(mdc, -2, Offer(2, NEXT, 1), VECTOR, 12.0), 0)
    assert isinstance(second, Submit) and second.pace == Pace(2.0, 1.0)


def test_a_pod_whose_homes_have_moved_on_has_no_say() -> None:
    mdc = pods(0, 1)
    for home in (0, 1):
        tell(mdc, -1 - home, Offer(home, FIRST, 1), VECTOR, 13.0)
    tell(mdc, 0, Accepted(FIRST, mask(0, 1)), now=13.0)
    tell(mdc, 0, Assign(NEXT, mask(0), b""), now=14.0)
    tell(mdc, 0, Work(0, NEXT), WEIGHTS, now=14.0)
    (message,) = said(tell(mdc, -1, Offer(0, NEXT, 1), VECTOR, 19.0), 0)
    assert isinstance(message, Submit) and message.pace == Pace(5.0, 0.0)


def test_past_the_deadline_everything_is_sent_as_it_comes() -> None:
    mdc = center(0, 1, 2)
    offer(mdc, 0)
    (first,) = said(tell(mdc, 0, Flush(FIRST)))
    assert isinstance(first, Submit)
    assert offer(mdc, 1) == []
    (second,) = said(tell(mdc, 0, Accepted(FIRST, mask(0))))
    assert isinstance(second, Submit)
    assert second.members == mask(1)


def test_a_home_that_is_not_ours_may_wait_a_little() -> None:
    mdc = center(0)
    mdc.opened(-2, 1.0)
    assert tell(mdc, -2, Hello(WIRE_VERSION, JOB, mask(3), -1, None)) == []
    assert mdc.tick(1.0 + PARK_SECONDS) == []
    assert said(mdc.tick(1.1 + PARK_SECONDS), -2) == [Moved(mask(3))]
    assert said(tell(mdc, -2, Hello(WIRE_VERSION, "other", mask(0), -1, None)))[0].reason == "WrongJob"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (Turned("Fenced", "why", True), [Close(0), Stop("Fenced", "why")]),
        (Finish("Complete", "done"), [Send(-1, Finish("Complete", "done")), Stop("Complete", "done")]),
        (Fetch(), []),
        (Locate(1, JOB, b""), []),
    ],
)
def test_other_words_of_the_npdc(message: Message, expected: list[Effect]) -> None:
    assert tell(center(0), 0, message) == expected


def test_a_state_is_kept_and_given_back() -> None:
    """The weights were there already: what came with Keep goes behind them."""
    mdc = center(0)
    assert tell(mdc, 0, Keep(0, FIRST), b"rest") == []
    assert tell(mdc, 0, Fetch()) == [Send(0, Copy(0, FIRST), WEIGHTS + b"rest")]
    assert said(reconnected(mdc).opened(1, 3.0))[0].holds == (0, FIRST)


def test_a_state_is_kept_while_newer_weights_are_worked_at() -> None:
    """Until the newer state is kept too: an NPDC may die between the two."""
    mdc, newer = center(0), struct.pack("<3f", 4, 5, 6)
    tell(mdc, 0, Keep(0, FIRST), b"rest")
    tell(mdc, 0, Work(0, NEXT), newer)
    assert tell(mdc, 0, Fetch()) == [Send(0, Copy(0, FIRST), WEIGHTS + b"rest")]
    tell(mdc, 0, Keep(1, NEXT), None)
    assert tell(mdc, 0, Fetch()) == [Send(0, Copy(1, NEXT), newer)]


@pytest.mark.parametrize("stamp", [NEXT, Stamp(0, 1)])
def test_what_belongs_to_other_weights_is_not_kept(stamp: Stamp) -> None:
    """Weights and the rest of two states would be a model that never was."""
    mdc = center(0)
    assert tell(mdc, 0, Keep(0, stamp), b"rest") == []
    assert tell(mdc, 0, Fetch()) == []
    assert said(reconnected(mdc).opened(1, 3.0))[0].holds is None
    mdc = center(0)
    tell(mdc, 0, Keep(0, FIRST), b"rest")
    assert tell(mdc, 0, Keep(0, stamp), b"other") == []
    assert tell(mdc, 0, Fetch()) == [Send(0, Copy(0, FIRST), WEIGHTS + b"rest")]


def test_an_mdc_without_weights_keeps_nothing() -> None:
    mdc = DataCenter(Identity(JOB, 0, 0, "a0", "at-a0"), "npdc")
    mdc.tick(0.0)
    mdc.opened(0, 0.0)
    tell(mdc, 0, Keep(0, FIRST), b"rest")
    assert tell(mdc, 0, Fetch()) == []


# -- what an MDC has room for -----------------------------------------------------------------------------


def room_of(message: Message, link: int = -1, intake: Intake = PLAIN) -> int:
    """Of an MDC that serves homes 0, 1 and 2: link -1 speaks for them, -2 for 0 and 3, -3 for none."""
    mdc = center(0, 1, 2, intake=intake)
    mdc.opened(-2, 0.0)
    tell(mdc, -2, Hello(WIRE_VERSION, JOB, mask(0, 3), -1, None))
    mdc.opened(-3, 0.0)
    offer(mdc, 1)
    return mdc.room(link, message)


@pytest.mark.parametrize(
    ("link", "message", "room"),
    [
        (-1, Offer(0, FIRST, 1), len(VECTOR)),
        (-1, Offer(2, FIRST, 1), len(VECTOR)),
        (-2, Offer(0, FIRST, 1), len(VECTOR)),
        (-1, Offer(0, FIRST, -7, "float16"), len(VECTOR)),
        (-1, Offer(1, FIRST, 1), 0),
        (-1, Offer(0, NEXT, 1), 0),
        (-1, Offer(0, Stamp(0, 1), 1), 0),
        (-2, Offer(2, FIRST, 1), 0),
        (-2, Offer(3, FIRST, 1), 0),
        (-1, Offer(-1, FIRST, 1), 0),
        (-1, Offer(1 << 62, FIRST, 1), 0),
        (-3, Offer(0, FIRST, 1), 0),
        (-7, Offer(0, FIRST, 1), 0),
        (7, Offer(0, FIRST, 1), 0),
        (-1, Failed(0, FIRST, "TaskFailed", "ill"), 0),
        (-1, Hello(WIRE_VERSION, JOB, mask(0), -1, None), 0),
        (-1, Work(0, FIRST), 0),
        (-1, Keep(0, FIRST), 0),
        (-7, Work(0, FIRST), 0),
        (7, Work(0, FIRST), 0),
        (0, Work(0, NEXT), MAX_PAYLOAD),
        (0, Keep(0, NEXT), MAX_PAYLOAD),
        (0, Offer(0, FIRST, 1), 0),
        (0, Copy(0, FIRST), 0),
        (0, Fetch(), 0),
    ],
    ids=lambda x: f"{type(x).__name__} of {x.home}" if isinstance(x, Offer) else None,
)
def test_the_room_an_mdc_has(link: int, message: Message, room: int) -> None:
    """Only for what it will count: home 1 is counted already, home 3 is another's. 0 is the NPDC's link."""
    assert room_of(message, link) == room


@pytest.mark.parametrize("kind", precision.BYTES)
def test_the_room_is_that_of_a_vector_in_the_job_s_type(kind: str) -> None:
    bytes_ = precision.nbytes(len(WEIGHTS) // 4 + 1, kind)
    mdc = center(0, intake=Intake(precision=kind))
    assert mdc.room(-1, Offer(0, FIRST, 1, kind)) == bytes_


def test_there_is_no_room_before_there_are_weights_or_once_everybody_is_counted() -> None:
    assert center(0, stamp=None).room(-1, Offer(0, FIRST, 1)) == 0
    mdc = center(0, 1)
    offer(mdc, 0)
    offer(mdc, 1)
    assert [mdc.room(-1, Offer(home, FIRST, 1)) for home in (0, 1)] == [0, 0], "in flight"
    tell(mdc, 0, Accepted(FIRST, mask(0, 1)))
    assert [mdc.room(-1, Offer(home, FIRST, 1)) for home in (0, 1)] == [0, 0], "settled"
    tell(mdc, 0, Work(0, NEXT), WEIGHTS)
    assert [mdc.room(-1, Offer(home, NEXT, 1)) for home in (0, 1)] == [len(VECTOR)] * 2


def test_a_home_that_waits_for_its_group_needs_no_room() -> None:
    mdc = center(0, 1, 2, intake=Intake(homes=3, method="median", group_size=3))
    offer(mdc, 1)
    assert [mdc.room(-1, Offer(home, FIRST, 1)) for home in (0, 1, 2)] == [len(VECTOR), 0, len(VECTOR)]


@pytest.mark.parametrize("size", [len(VECTOR) + 1, 3 * len(VECTOR), 1 << 33])
def test_a_vector_too_large_is_refused_and_fails_its_home_alone(size: int) -> None:
    mdc = center(0, 1)
    (refusal,) = said(tell(mdc, -1, Offer(0, FIRST, 1), Discarded(size)))
    assert isinstance(refusal, Refused)
    assert refusal.reason == "WrongSize"
    (message,) = offer(mdc, 1)
    assert isinstance(message, Submit)
    assert (message.members, message.failed, message.refused) == (mask(1), mask(0), {"WrongSize": 1})


@pytest.mark.parametrize(("stamp", "home"), [(NEXT, 0), (Stamp(0, 1), 0), (FIRST, 2), (FIRST, -1)])
def test_a_large_payload_for_nothing_is_refused_and_fails_nobody(stamp: Stamp, home: int) -> None:
    mdc = center(0, 1)
    (refusal,) = said(tell(mdc, -1, Offer(home, stamp, 1), Discarded(1 << 33)))
    assert isinstance(refusal, Refused)
    offer(mdc, 0)
    (message,) = offer(mdc, 1)
    assert isinstance(message, Submit)
    assert (message.members, message.failed) == (mask(0, 1), b"")


def test_a_vector_that_came_before_its_round_is_asked_for_again() -> None:
    """Its first bytes found no room, for the weights were still on their way; the home has done no wrong."""
    mdc = center(0, 1)
    early = Offer(0, NEXT, 1)
    assert mdc.room(-1, early) == 0
    tell(mdc, 0, Assign(NEXT, mask(0, 1), b""))
    tell(mdc, 0, Work(0, NEXT), WEIGHTS)
    tell(mdc, -1, early, Discarded(len(VECTOR)))
    assert mdc.room(-1, early) == len(VECTOR), "home 0 is counted without its vector"
    tell(mdc, -1, early, VECTOR)
    (message,) = said(tell(mdc, -1, Offer(1, NEXT, 1), VECTOR), 0)
    assert isinstance(message, Submit)
    assert (message.members, message.failed) == (mask(0, 1), b"")


def test_a_vector_that_lost_its_room_to_others_is_asked_for_again_at_once() -> None:
    """The home's connection was slow while others waited: nobody did wrong, and nobody has failed."""
    mdc = center(0, 1)
    crowded = Discarded(len(VECTOR), crowded=True)
    for _ in range(2):
        assert tell(mdc, -1, Offer(0, FIRST, 1), crowded) == [Send(-1, Want(FIRST, mask(0)))]
    assert mdc.room(-1, Offer(0, FIRST, 1)) == len(VECTOR)
    assert offer(mdc, 0) == []
    assert tell(mdc, -1, Offer(0, FIRST, 1), crowded) == [], "it is counted"
    (message,) = offer(mdc, 1)
    assert isinstance(message, Submit)
    assert (message.members, message.failed, message.refused) == (mask(0, 1), b"", {})


def test_what_was_refused_before_a_rejected_submit_is_told_with_the_next() -> None:
    """`Submit.refused` counts since the last Submit that was accepted."""
    mdc = center(0, 1)
    offer(mdc, 7)
    offer(mdc, 0)
    (first,) = offer(mdc, 1)
    assert isinstance(first, Submit)
    assert first.refused == {"NotMine": 1}
    tell(mdc, 0, Rejected(FIRST, "Overlap", "why", b""))
    offer(mdc, 7)
    offer(mdc, 0)
    (second,) = offer(mdc, 1)
    assert isinstance(second, Submit)
    assert second.refused == {"NotMine": 2}
    tell(mdc, 0, Accepted(FIRST, mask(0, 1)))
    tell(mdc, 0, Assign(NEXT, mask(0, 1), b""))
    tell(mdc, 0, Work(0, NEXT), WEIGHTS)
    (third,) = offer(mdc, 0, stamp=NEXT) + offer(mdc, 1, stamp=NEXT)
    assert isinstance(third, Submit)
    assert third.refused == {}


def test_what_was_refused_is_kept_over_a_change_of_rounds() -> None:
    mdc = center(0, 1)
    offer(mdc, 7)
    tell(mdc, 0, Assign(NEXT, mask(0, 1), b""))
    tell(mdc, 0, Work(0, NEXT), WEIGHTS)
    (message,) = offer(mdc, 0, stamp=NEXT) + offer(mdc, 1, stamp=NEXT)
    assert isinstance(message, Submit)
    assert message.refused == {"NotMine": 1}


def test_ids_beyond_the_job_s_homes_are_forgotten() -> None:
    """A mask of a million homes in a Hello leaves nothing behind, and nobody is told of it later."""
    mdc = center(0, intake=Intake(homes=2))
    mdc.opened(-2, 1.0)
    tell(mdc, -2, Hello(WIRE_VERSION, JOB, bytes([0b11]) + b"\xff" * 125_000, -1, None))
    assert said(mdc.tick(1.1 + PARK_SECONDS), -2) == [Moved(mask(1))]


def test_who_speaks_for_homes_before_the_assign_that_names_them_is_asked_to_speak_again() -> None:
    """Which homes it spoke for is forgotten, for it might be anything; that it did is not."""
    mdc = center(0, intake=Intake(homes=2))
    for link, homes in ((-2, mask(0, 5)), (-3, mask(0))):
        mdc.opened(link, 1.0)
        tell(mdc, link, Hello(WIRE_VERSION, JOB, homes, -1, None))
    closed = [e for e in tell(mdc, 0, Assign(FIRST, mask(0, 5), b"")) if isinstance(e, Close)]
    assert closed == [Close(-2)]
    mdc.opened(-4, 2.0)
    assert said(tell(mdc, -4, Hello(WIRE_VERSION, JOB, mask(5), -1, None))) == [Work(0, FIRST)]
    again = tell(mdc, 0, Assign(FIRST, mask(0, 1), b""))
    assert not [e for e in again if isinstance(e, Close)], "fewer homes are no news of more"


def test_an_mdc_does_not_wait_for_the_absent_but_counts_what_they_send() -> None:
    mdc = center(0, 1)
    assert offer(mdc, 0) == []
    (first,) = said(tell(mdc, 0, Assign(FIRST, mask(0, 1), b"", mask(1))), 0)
    assert isinstance(first, Submit) and first.members == mask(0)
    tell(mdc, 0, Accepted(FIRST, mask(0)))
    (second,) = offer(mdc, 1)
    assert isinstance(second, Submit) and second.members == mask(1)


def test_an_mdc_waits_again_for_one_that_is_not_absent_any_more() -> None:
    mdc = center(0, 1, 2)
    tell(mdc, 0, Assign(FIRST, mask(0, 1, 2), b"", mask(1)))
    tell(mdc, 0, Assign(FIRST, mask(0, 1, 2), b""))
    assert offer(mdc, 0) + offer(mdc, 2) == []
    (whole,) = offer(mdc, 1)
    assert isinstance(whole, Submit) and whole.members == mask(0, 1, 2)


GROUP = Intake(homes=4, method="median", group_size=4)


def test_past_the_deadline_a_group_that_is_not_whole_stays_until_it_is() -> None:
    mdc = center(*range(7), intake=Intake(homes=7, method="median", group_size=3))
    for home in (0, 1, 2, 4, 5, 6):
        assert offer(mdc, home) == []
    (first,) = said(tell(mdc, 0, Flush(FIRST)))
    assert isinstance(first, Submit)
    assert (first.members, first.failed) == (mask(4, 5, 6), b"")
    assert offer(mdc, 3) == []
    (second,) = said(tell(mdc, 0, Accepted(FIRST, mask(4, 5, 6))))
    assert isinstance(second, Submit)
    assert (second.members, second.failed, second.weight) == (mask(0, 1, 2, 3), b"", 4)


def test_homes_that_wait_in_a_group_are_not_asked_again_unless_they_moved() -> None:
    mdc = center(0, 1, 2, 3, intake=GROUP)
    offer(mdc, 0)
    offer(mdc, 2)
    assert said(tell(mdc, 0, Assign(FIRST, mask(0, 1, 2, 3), b""))) == [Want(FIRST, mask(1, 3))]
    effects = said(tell(mdc, 0, Assign(FIRST, mask(1, 2, 3), b"")))
    assert effects == [Moved(mask(0)), Want(FIRST, mask(1, 2, 3))] or effects[-1] == Want(
        FIRST, mask(1, 2, 3)
    )


# -- the homes --------------------------------------------------------------------------------------------


def settled_home(*homes: int) -> Household:
    """Homes that have found their MDC, on link 1, and have the first weights from epoch 0."""
    home = Household(JOB, homes, "npdc")
    assert home.tick(0.0) == [Dial(0, "npdc")]
    assert said(home.opened(0, 0.0)) == [Locate(WIRE_VERSION, JOB, mask(*homes))]
    assert home.received(0, Located(mask(*homes), "at-a0", 2, 1), None, 0.0) == [
        Dial(1, "at-a0", (2, 1)),
        Close(0),
    ]
    assert said(home.opened(1, 0.0)) == [Hello(WIRE_VERSION, JOB, mask(*homes), -1, None)]
    assert home.received(1, Work(0, NEXT), WEIGHTS, 0.0) == [Compute(h, NEXT, WEIGHTS) for h in homes]
    return home


def test_an_answer_is_kept_and_offered_to_whoever_asks() -> None:
    home = settled_home(0)
    assert home.computed(0, Answer(NEXT, 3, VECTOR)) == [Send(1, Offer(0, NEXT, 3), VECTOR)]
    assert home.closed(1, 1.0) == [Dial(2, "npdc")]
    home.opened(2, 1.0)
    tell(home, 2, Located(mask(0), "at-b0"))
    assert said(home.opened(3, 1.0)) == [Hello(WIRE_VERSION, JOB, mask(0), 0, NEXT)]
    assert tell(home, 3, Want(NEXT, mask(0))) == [Send(3, Offer(0, NEXT, 3), VECTOR)]
    assert tell(home, 3, Work(1, NEXT), WEIGHTS) == [Send(3, Offer(0, NEXT, 3), VECTOR)]


def test_an_answer_that_comes_between_two_mdcs_waits() -> None:
    home = settled_home(0)
    home.closed(1, 1.0)
    assert home.computed(0, Answer(NEXT, 0, None, "TaskFailed", "ill")) == []
    home.opened(2, 1.0)
    tell(home, 2, Located(mask(0), "at-b0"))
    home.opened(3, 1.0)
    assert said(tell(home, 3, Want(NEXT, mask(0)))) == [Failed(0, NEXT, "TaskFailed", "ill")]


@pytest.mark.parametrize(
    ("work", "taken"),
    [
        (Work(0, FIRST), False),
        (Work(0, Stamp(2, 0)), True),
        (Work(1, FIRST), True),
        (Work(1, Stamp(1, 1)), True),
    ],
)
def test_which_weights_are_news(work: Work, taken: bool) -> None:
    """A newer NPDC may have gone back; an MDC that lags behind may not."""
    home = settled_home(0)
    assert tell(home, 1, work, WEIGHTS) == ([Compute(0, work.stamp, WEIGHTS)] if taken else [])
    assert home.computed(0, Answer(NEXT, 1, VECTOR)) == (
        [] if taken else [Send(1, Offer(0, NEXT, 1), VECTOR)]
    )


def test_an_mdc_that_takes_us_for_further_than_we_are_hears_how_far_we_are() -> None:
    home = settled_home(0)
    assert said(tell(home, 1, Want(FIRST, mask(0)))) == [Hello(WIRE_VERSION, JOB, mask(0), 0, NEXT)]
    assert tell(home, 1, Work(1, FIRST), WEIGHTS) == [Compute(0, FIRST, WEIGHTS)]


def test_homes_that_moved_ask_where_to_and_the_others_stay() -> None:
    home = settled_home(0, 1)
    assert tell(home, 1, Moved(mask(1))) == [Dial(2, "npdc")]
    assert tell(home, 1, Want(NEXT, mask(0, 1))) == []
    assert tell(home, 1, Moved(mask(0))) == [Close(1)]
    assert said(home.opened(2, 1.0)) == [Locate(WIRE_VERSION, JOB, mask(0, 1))]


@pytest.mark.parametrize(
    ("message", "stops"),
    [
        (Finish("Complete", "done"), True),
        (Turned("WrongJob", "why", True), True),
        (Turned("Fenced", "why", True), False),
        (Refused(0, NEXT, "StaleRound", "why"), False),
    ],
)
def test_when_a_home_leaves(message: Message, stops: bool) -> None:
    effects = tell(settled_home(0), 1, message)
    assert [type(e) for e in effects] == ([Stop] if stops else [])


@pytest.mark.parametrize(
    ("link", "message", "room"),
    [
        (1, Work(0, FIRST), MAX_PAYLOAD),
        (1, Work(0, Stamp(2, 0)), MAX_PAYLOAD),
        (2, Work(0, NEXT), 0),
        (0, Work(0, NEXT), 0),
        (-1, Work(0, NEXT), 0),
        (7, Work(0, NEXT), 0),
        (1, Want(NEXT, mask(0)), 0),
        (1, Keep(0, NEXT), 0),
        (1, Offer(0, NEXT, 1), 0),
        (1, Finish("Complete", "done"), 0),
    ],
)
def test_the_room_a_home_has(link: int, message: Message, room: int) -> None:
    """Weights from its MDC, on link 1; link 2 leads to the NPDC, which it asks for the home that moved."""
    home = settled_home(0, 1)
    assert tell(home, 1, Moved(mask(1))) == [Dial(2, "npdc")]
    home.opened(2, 1.0)
    assert home.room(link, message) == room


@pytest.mark.parametrize("kind", precision.BYTES)
def test_a_home_says_in_which_type_its_vector_is(kind: str) -> None:
    home = Household(JOB, [0], "npdc", kind)
    home.tick(0.0)
    home.opened(0, 0.0)
    tell(home, 0, Located(mask(0), "at-a0"))
    home.opened(1, 0.0)
    tell(home, 1, Work(0, NEXT), WEIGHTS)
    (message,) = said(home.computed(0, Answer(NEXT, 3, VECTOR)))
    assert isinstance(message, Offer)
    assert (message.home, message.weight, message.precision) == (0, 3, kind)


# -- pauses -----------------------------------------------------------------------------------------------


def test_pauses_double_up_to_a_limit_and_start_afresh() -> None:
    redial = Redial()
    now, pauses = 0.0, []
    for _ in range(7):
        redial.failed(now)
        pause = next(k / 100 for k in range(1, 1000) if redial.due(now + k / 100))
        pauses.append(pause)
        now += pause
    assert pauses[0] == pytest.approx(FIRST_SECONDS, abs=0.02)
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(LONGEST_SECONDS, abs=0.02)
    redial.succeeded()
    assert redial.due(0.0)
