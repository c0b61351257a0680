"""Leader election: over seeds of delays, freezes and outages there are never two that may write."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Coroutine, Generator, Mapping
from typing import Any

import pytest

from elf_operator import leadership
from elf_operator.apiserver import WRITE_SECONDS
from elf_operator.leadership import DURATION_SECONDS, ENTITLED_SECONDS, RENEW_SECONDS, Election


class Store:
    """One Lease. `pause` is awaited before and after each access: whoever drives says how long it takes."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.versions = 0

    async def get(self) -> dict[str, Any] | None:
        await _Pause()
        found = self.lease
        await _Pause()
        return found

    async def create(self, spec: Mapping[str, Any]) -> bool:
        await _Pause()
        taken = self.lease is None
        if taken:
            self._put(spec)
        await _Pause()
        return taken

    async def update(self, lease: Mapping[str, Any]) -> bool:
        await _Pause()
        same = self.lease is not None and self.lease["metadata"] == lease["metadata"]
        if same:
            self._put(lease["spec"])
        await _Pause()
        return same

    def _put(self, spec: Mapping[str, Any]) -> None:
        self.versions += 1
        self.lease = {"metadata": {"resourceVersion": str(self.versions)}, "spec": dict(spec)}


class _Pause:
    def __await__(self) -> Generator[None, None, None]:
        yield


class Storm:
    """Candidates on one virtual clock; requests take time, are lost, candidates freeze and start anew."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.store = Store()
        self.now = 0.0
        self.elections = [self._candidate(i) for i in range(3)]
        self.agenda: list[tuple[float, int, Coroutine[Any, Any, bool]]] = []
        self.frozen_until = [0.0] * len(self.elections)
        self.last_write_over = (-1, 0.0)
        """(who, when the last write it may have begun is over)."""
        self.writers: set[int] = set()

    def _candidate(self, index: int) -> Election:
        return Election(self.store, f"candidate-{index}", clock=lambda: self.now)

    def play(self, until: float) -> None:
        for index in range(len(self.elections)):
            self._schedule(index, self.random.uniform(0, RENEW_SECONDS))
        while self.agenda and self.now < until:
            when, index, attempt = heapq.heappop(self.agenda)
            self._pass_time(max(when, self.frozen_until[index]))
            if self.random.random() < 0.02:
                self.frozen_until[index] = self.now + self.random.choice((1.0, 5.0, 8.0, 20.0))
            self._step(index, attempt)

    def _step(self, index: int, attempt: Coroutine[Any, Any, bool]) -> None:
        lost = self.random.random() < 0.05
        try:
            if lost:
                attempt.throw(TimeoutError())
            else:
                attempt.send(None)
        except (StopIteration, TimeoutError):
            if self.random.random() < 0.02:
                self.elections[index] = self._candidate(index)  # its container starts again
            self._schedule(index, RENEW_SECONDS)
        else:
            delay = self.random.choice((0.001, 0.01, 0.1, 2.0))
            heapq.heappush(self.agenda, (self.now + delay, index, attempt))

    def _schedule(self, index: int, after: float) -> None:
        heapq.heappush(self.agenda, (self.now + after, index, self.elections[index].attempt()))

    def _pass_time(self, until: float) -> None:
        """In small steps, at each of which whoever may write does; that write takes as long as it may."""
        while self.now < until:
            self.now = min(until, self.now + 0.25)
            for index, election in enumerate(self.elections):
                if self.now >= self.frozen_until[index] and election.entitled():
                    who, over = self.last_write_over
                    assert who == index or self.now >= over, f"{who} and {index} write at {self.now}"
                    self.last_write_over = (index, max(over, self.now + WRITE_SECONDS))
                    self.writers.add(index)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("block", range(10))
def test_never_two_writers(block: int) -> None:
    changes = 0
    for seed in range(block * 30, block * 30 + 30):
        storm = Storm(seed)
        storm.play(until=300.0)
        changes += len(storm.writers) > 1
        for _, _, attempt in storm.agenda:
            attempt.close()
    assert changes, "the storm has moved leadership at least once"


def drive(attempt: Coroutine[Any, Any, bool]) -> bool:
    """Without any delay."""
    while True:
        try:
            attempt.send(None)
        except StopIteration as done:
            return bool(done.value)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_free_lease_is_taken_and_kept_by_renewing(clock: Clock) -> None:
    store = Store()
    election = Election(store, "a", clock)
    assert not election.entitled()
    for _ in range(20):
        assert drive(election.attempt()) and election.entitled()
        clock.now += RENEW_SECONDS
    assert store.lease is not None
    assert store.lease["spec"]["holderIdentity"] == "a"
    assert store.lease["spec"]["leaseTransitions"] == 0


def test_without_a_renewal_nothing_is_written_and_later_another_leads(clock: Clock) -> None:
    store = Store()
    first, second = Election(store, "a", clock), Election(store, "b", clock)
    assert drive(first.attempt())
    assert not drive(second.attempt()), "somebody holds it"
    clock.now += ENTITLED_SECONDS
    assert not first.entitled() and not drive(second.attempt())
    clock.now += DURATION_SECONDS - ENTITLED_SECONDS
    assert drive(second.attempt()) and second.entitled()
    assert not drive(first.attempt()) and not first.entitled()
    assert store.lease is not None and store.lease["spec"]["leaseTransitions"] == 1


def test_one_that_has_renewed_after_all_goes_on(clock: Clock) -> None:
    election = Election(Store(), "a", clock)
    assert drive(election.attempt())
    clock.now += 60.0
    assert not election.entitled()
    assert drive(election.attempt()) and election.entitled()


def test_who_resigns_is_followed_at_once(clock: Clock) -> None:
    store = Store()
    first, second = Election(store, "a", clock), Election(store, "b", clock)
    assert drive(first.attempt()) and not drive(second.attempt())
    asyncio.run(first.resign())
    assert not first.entitled()
    assert drive(second.attempt())


async def test_who_sees_another_leader_after_having_led_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leadership, "RENEW_SECONDS", 0.0)
    store = Store()
    election = Election(store, "a")
    ended: list[bool] = []
    running = asyncio.create_task(election.run(lambda: ended.append(True)))
    async with asyncio.timeout(5):
        await election.leading.wait()
        store._put({"holderIdentity": "b", "renewTime": "now", "leaseDurationSeconds": 10})
        await running
    assert ended == [True]


async def test_a_candidate_outlives_whatever_the_server_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leadership, "RENEW_SECONDS", 0.0)
    store, fails = Store(), iter([OSError("down"), ValueError("odd"), TimeoutError()])
    get = store.get

    async def broken() -> dict[str, Any] | None:
        if error := next(fails, None):
            raise error
        return await get()

    monkeypatch.setattr(store, "get", broken)
    election = Election(store, "a")
    running = asyncio.create_task(election.run(lambda: None))
    async with asyncio.timeout(5):
        await election.leading.wait()
    running.cancel()
