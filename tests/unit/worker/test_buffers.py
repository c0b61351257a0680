"""Room for payloads: bounded, first come first served, and nobody slow keeps it from the others for long."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elf_worker.transport.buffers import FLOOR, LEAST, PACE, REVIEW_SECONDS, Buffers

SIZE = FLOOR
"""A payload of which `LEAST` fit."""


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self._numbers = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now + seconds, next(self._numbers), work))

    def step(self) -> bool:
        """On to what is due next, if there is anything."""
        if not self._due:
            return False
        self.now, _, work = heapq.heappop(self._due)
        work()
        return True

    def pass_(self, seconds: float) -> None:
        end = self.now + seconds
        while self._due and self._due[0][0] <= end:
            self.step()
        self.now = end


class Taker:
    """A connection that does nothing by itself."""

    def __init__(self, buffers: Buffers, size: int = SIZE, patient: bool = False) -> None:
        self.buffers, self.size, self.patient, self.firm = buffers, size, patient, False
        self.progress = 0
        self.room: bytearray | None = None
        self.waiting = False
        self.evictions = 0
        self.on_granted: Callable[[], None] = lambda: None

    def ask(self) -> Taker:
        self.progress = 0
        self.room = self.buffers.ask(self, self.size)
        self.waiting = self.room is None
        return self

    def granted(self, room: bytearray) -> None:
        assert self.waiting and len(room) == self.size
        self.room, self.waiting = room, False
        self.on_granted()

    def evicted(self) -> None:
        assert self.room is not None and not self.patient
        self.room, self.patient = None, True
        self.evictions += 1

    def finish(self) -> bytearray:
        """The payload is whole."""
        room, self.room = self.room, None
        assert room is not None
        self.patient = False
        self.buffers.received(self)
        return room


def takers(count: int, size: int = SIZE) -> tuple[Clock, Buffers, list[Taker]]:
    clock = Clock()
    buffers = Buffers(clock.later)
    return clock, buffers, [Taker(buffers, size).ask() for _ in range(count)]


@pytest.mark.parametrize(
    ("size", "count"),
    [(1, FLOOR), (FLOOR // 64, 64), (FLOOR // 5, 5), (FLOOR // 4, 4), (FLOOR // 2, 4), (3 * FLOOR, 4)],
)
def test_how_many_have_room_at_a_time(size: int, count: int) -> None:
    """As many as fit into the floor; of large payloads four."""
    most = min(count, 70)
    _, _, made = takers(most + 2, size)
    assert [taker.waiting for taker in made[:most]] == [False] * most
    assert [taker.waiting for taker in made[most:]] == [count == most] * 2


def test_one_finds_room_however_large() -> None:
    """Also while small ones wait behind it."""
    clock = Clock()
    buffers = Buffers(clock.later)
    small = Taker(buffers, 1).ask()
    large = Taker(buffers, 100 * FLOOR).ask()
    assert not small.waiting and not large.waiting


def test_who_came_first_has_room_first() -> None:
    _, buffers, made = takers(9)
    for done in range(5):
        buffers.give_back(made[done].finish())
        assert [taker.waiting for taker in made[LEAST:]] == [i > done for i in range(5)]


def test_nobody_overtakes_one_that_waits() -> None:
    """Also not where there would be room: of large payloads more bytes may be lent."""
    clock = Clock()
    buffers = Buffers(clock.later)
    first = [Taker(buffers, FLOOR // 2).ask() for _ in range(LEAST)]
    small, large = Taker(buffers, FLOOR // 2).ask(), Taker(buffers, 2 * FLOOR).ask()
    assert small.waiting and large.waiting
    buffers.give_back(first[0].finish())
    assert not small.waiting and not large.waiting


def test_room_is_used_until_it_is_given_back_or_kept() -> None:
    """What is being added up is still there."""
    _, buffers, made = takers(LEAST + 2)
    first, second = made[0].finish(), made[1].finish()
    assert made[LEAST].waiting
    buffers.give_back(first)
    assert not made[LEAST].waiting and made[LEAST].room is first, "the same memory again"
    buffers.keep(second)
    assert not made[LEAST + 1].waiting and made[LEAST + 1].room is not second, "it belongs to somebody else"


def test_room_is_given_back_once() -> None:
    """And what never came from here makes no room."""
    _, buffers, made = takers(LEAST + 3)
    room = made[0].finish()
    for _ in range(2):
        buffers.give_back(room)
        buffers.keep(room)
        buffers.give_back(bytearray(SIZE))
    assert [taker.waiting for taker in made[LEAST:]] == [False, True, True]


def test_who_leaves_makes_room_and_is_not_served() -> None:
    _, buffers, made = takers(LEAST + 3)
    buffers.leave(made[LEAST])
    buffers.leave(made[0])
    assert [taker.waiting for taker in made[LEAST:]] == [True, False, True]
    buffers.leave(made[LEAST + 1])
    assert [taker.waiting for taker in made[LEAST:]] == [True, False, False]
    buffers.leave(made[0])
    assert Taker(buffers).ask().waiting, "twice is once"


# -- those that are slow ------------------------------------------------------------------------------------

SLOW = int(PACE * REVIEW_SECONDS) - 1
ENOUGH = SLOW + 1


def test_without_others_anybody_may_be_slow() -> None:
    clock, _, made = takers(LEAST)
    clock.pass_(100 * REVIEW_SECONDS)
    assert [taker.evictions for taker in made] == [0] * LEAST
    assert not clock.step(), "nobody looks"


@pytest.mark.parametrize(("pace", "evictions"), [(0, 1), (SLOW, 1), (ENOUGH, 0), (SIZE // 10, 0)])
def test_who_is_slow_while_others_wait_loses_its_room(pace: int, evictions: int) -> None:
    clock, _, made = takers(LEAST + 1)
    slow, others, waiting = made[0], made[1:LEAST], made[LEAST]
    for _ in range(3):
        if not slow.evictions:
            slow.progress += pace
        for taker in others:
            taker.progress += ENOUGH
        clock.pass_(REVIEW_SECONDS)
    assert slow.evictions == evictions
    assert waiting.waiting == (not evictions)
    assert [taker.evictions for taker in others] == [0] * (LEAST - 1)


def test_one_that_has_just_begun_is_not_slow_yet() -> None:
    """Between two looks it could not have sent as much."""
    clock, buffers, made = takers(LEAST + 2)
    for taker in made[:LEAST]:
        taker.progress += ENOUGH
    clock.pass_(REVIEW_SECONDS * 0.9)
    buffers.give_back(made[0].finish())
    newcomer = made[LEAST]
    assert not newcomer.waiting
    clock.pass_(REVIEW_SECONDS * 0.2)
    assert newcomer.evictions == 0
    for taker in made[1:LEAST]:
        taker.progress += ENOUGH
    clock.pass_(REVIEW_SECONDS)
    assert newcomer.evictions == 1


def test_one_that_sends_the_next_payload_already_is_not_slow() -> None:
    """At the last look it had more: but that was of the one before."""
    clock, buffers, made = takers(LEAST + 3)
    quick, others = made[0], made[1:LEAST]
    for taker in made[:LEAST]:
        taker.progress += SIZE - 1
    clock.pass_(REVIEW_SECONDS)
    for taker in others:
        taker.progress += ENOUGH
    room = quick.finish()
    for waiting in made[LEAST:]:
        buffers.leave(waiting)
    buffers.give_back(room)
    quick.ask()
    assert quick.room is not None
    Taker(buffers).ask()
    quick.progress += ENOUGH
    clock.pass_(REVIEW_SECONDS)
    assert quick.evictions == 0


def test_nobody_loses_its_room_twice_in_a_row() -> None:
    clock, buffers, made = takers(LEAST + 1)
    slow, others = made[0], made[1:]
    for taker in others[: LEAST - 1]:
        taker.firm = True  # they are not what is looked at
    clock.pass_(2 * REVIEW_SECONDS)
    assert slow.evictions == 1
    slow.ask()
    buffers.give_back(others[-1].finish())
    assert slow.room is not None
    waiting = Taker(buffers).ask()
    clock.pass_(10 * REVIEW_SECONDS)
    assert (slow.evictions, waiting.waiting) == (1, True)
    buffers.give_back(slow.finish())
    slow.ask()
    buffers.give_back(waiting.finish())
    Taker(buffers).ask()
    clock.pass_(3 * REVIEW_SECONDS)
    assert slow.evictions == 2, "it had a payload through meanwhile"


def test_for_those_that_have_lost_their_room_nobody_else_loses_it() -> None:
    """Slow ones would take turns for ever."""
    clock = Clock()
    buffers = Buffers(clock.later)
    made = [Taker(buffers).ask() for _ in range(LEAST)]
    Taker(buffers, patient=True).ask()
    clock.pass_(10 * REVIEW_SECONDS)
    assert [taker.evictions for taker in made] == [0] * LEAST
    Taker(buffers).ask()
    clock.pass_(3 * REVIEW_SECONDS)
    assert sum(taker.evictions for taker in made) > 0


def test_what_is_whole_is_not_taken_away_while_it_is_used() -> None:
    clock, buffers, made = takers(LEAST + 1)
    rooms = [taker.finish() for taker in made[:LEAST]]
    clock.pass_(10 * REVIEW_SECONDS)
    assert made[LEAST].waiting
    buffers.give_back(rooms[0])
    assert not made[LEAST].waiting


@pytest.mark.parametrize("event", ["leave", "finish"])
def test_one_that_goes_or_ends_while_another_loses_its_room(event: str) -> None:
    """Who gets that room may have its owner close another connection, in the middle of the look."""
    clock, buffers, made = takers(LEAST + 2)
    first, second = made[:2]
    act: dict[str, Any] = {"leave": lambda: buffers.leave(second), "finish": lambda: second.finish()}
    made[LEAST].on_granted = act[event]
    clock.pass_(3 * REVIEW_SECONDS)
    assert (first.evictions, second.evictions) == (1, 0)
    assert not made[LEAST].waiting


# -- in the long run ----------------------------------------------------------------------------------------


class Sender(Taker):
    """Sends payloads one after the other at its own pace; what was thrown away, again."""

    def __init__(self, world: Crowd, size: int, pace: float, payloads: int, stays: bool) -> None:
        super().__init__(world.buffers, size)
        self.world, self.pace, self.left, self.stays = world, pace, payloads, stays
        self.gone = False
        self.evicted_since = 0

    def begin(self) -> None:
        if self.gone or not self.left:
            return
        self.world.asked.append(self)
        if self.ask().room is not None:
            assert self.world.asked.pop() is self
            assert all(other.patient for other in self.world.asked), "no quick one was before it"
            self.begin_sending()

    def granted(self, room: bytearray) -> None:
        before = self.world.asked[: self.world.asked.index(self)]
        assert all(other.patient for other in before), "those who ask first have room first"
        self.world.asked.remove(self)
        super().granted(room)
        self.begin_sending()

    def begin_sending(self) -> None:
        self.world.lent += self.size
        self.world.check()
        self.send(self.room)

    def send(self, room: bytearray | None) -> None:
        """A tenth of a second's worth."""
        if self.room is not room or self.room is None or self.gone:
            return
        if self.progress < self.size:
            self.progress = min(self.size, self.progress + max(1, int(self.pace / 10)))
            self.world.clock.later(0.1, lambda: self.send(room))
            return
        whole = self.finish()
        self.evicted_since = 0
        self.left -= 1
        self.world.clock.later(self.world.rng.random() / 10, lambda: self.used(whole))
        self.world.clock.later(self.world.rng.choice([0.0, 0.0, 1.0]), self.begin)

    def used(self, room: bytearray) -> None:
        self.world.lent -= self.size
        (self.buffers.keep if self.world.rng.random() < 0.2 else self.buffers.give_back)(room)

    def evicted(self) -> None:
        assert self.pace / 10 * 6 < PACE * 0.7, "it was quick"
        super().evicted()
        self.evicted_since += 1
        assert self.evicted_since == 1
        self.world.lent -= self.size
        rest = (self.size - self.progress) / self.pace
        self.world.clock.later(rest + self.world.rng.random(), self.begin)

    def go(self) -> None:
        """The connection is gone."""
        if not self.left:
            return
        self.gone = True
        if self in self.world.asked:
            self.world.asked.remove(self)
        if self.room is not None:
            self.world.lent -= self.size
        self.buffers.leave(self)


class Crowd:
    """Connections of all kinds that share one pool."""

    def __init__(self, seed: int, one_size: bool) -> None:
        self.rng = rng = random.Random(seed)
        self.clock = Clock()
        self.buffers = Buffers(self.clock.later)
        self.asked: list[Sender] = []
        self.lent = 0
        sizes = [FLOOR // 2, FLOOR // 3, FLOOR] if not one_size else [rng.choice([FLOOR // 8, FLOOR])]
        self.most = max(LEAST * max(sizes), FLOOR)
        paces = [PACE // 40, PACE // 3, 2 * PACE, 100 * PACE]
        self.senders = [
            Sender(self, rng.choice(sizes), rng.choice(paces), rng.randint(1, 3), rng.random() < 0.8)
            for _ in range(rng.randint(1, 25))
        ]
        for sender in self.senders:
            self.clock.later(5 * rng.random(), sender.begin)
            if not sender.stays:
                self.clock.later(60 * rng.random(), sender.go)

    def check(self) -> None:
        assert 0 <= self.lent <= self.most
        slow = [s.size for s in self.senders if s.room is not None and s.patient and not s.gone]
        assert len(slow) <= 1 or sum(slow) <= self.most // 2

    def run(self) -> None:
        for _ in range(2_000_000):
            if not self.clock.step():
                return
        raise AssertionError("it does not end")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 32), st.booleans())
def test_in_the_end_everybody_has_sent_everything(seed: int, one_size: bool) -> None:
    """Never more than may be lent, in turn, and neither the slow ones nor the quick ones are left over."""
    crowd = Crowd(seed, one_size)
    crowd.run()
    assert [sender.left for sender in crowd.senders if sender.stays] == [0] * sum(
        sender.stays for sender in crowd.senders
    )
    assert crowd.lent == 0
    assert crowd.buffers._bytes == 0
