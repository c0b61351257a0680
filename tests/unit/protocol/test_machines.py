"""Single machines: what one event leads to."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from elf_worker.aggregation import ids
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
from elf_worker.aggregation.northpole import NorthPole, Rules, Snapshot
from elf_worker.aggregation.redial import FIRST_SECONDS, LONGEST_SECONDS, Redial
from elf_worker.contract import WIRE_VERSION, Slot, Wiring
from elf_worker.exact import ExactSum
from elf_worker.messages import (
    Accepted,
    Assign,
    Copy,
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
    message = Submit(stamp, mask(*homes), b"", len(homes), total.bound, {}, "")
    return message, bytes(total.to_bytes())


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


def test_a_quorum_that_cannot_be_had_ends_the_job() -> None:
    npdc = training(quorum=4, a0=(0, 1, 2, 3))
    failure = Submit(FIRST, b"", mask(0), 0, 0, {"TaskFailed": 1}, "home 0: ill")
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


# -- the MDC ----------------------------------------------------------------------------------------------


def center(*homes: int, stamp: Stamp | None = FIRST) -> DataCenter:
    """An MDC in touch with the NPDC on link 0, serving these homes, all of them on link -1."""
    mdc = DataCenter(Identity(JOB, 0, 0, "a0", "at-a0"), "npdc")
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
    assert mdc.refused == {reason: 1}


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


def test_a_copy_is_kept_and_given_back() -> None:
    mdc = center(0)
    assert tell(mdc, 0, Keep(0, NEXT), b"copy") == []
    assert tell(mdc, 0, Fetch()) == [Send(0, Copy(0, NEXT), b"copy")]
    assert said(reconnected(mdc).opened(1, 3.0))[0].holds == (0, NEXT)


# -- the homes --------------------------------------------------------------------------------------------


def settled_home(*homes: int) -> Household:
    """Homes that have found their MDC, on link 1, and have the first weights from epoch 0."""
    home = Household(JOB, homes, "npdc")
    assert home.tick(0.0) == [Dial(0, "npdc")]
    assert said(home.opened(0, 0.0)) == [Locate(WIRE_VERSION, JOB, mask(*homes))]
    assert home.received(0, Located(mask(*homes), "at-a0"), None, 0.0) == [Dial(1, "at-a0"), Close(0)]
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
