"""A thread that adds up: in order, whole before anybody looks, and to the same bytes as at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elf_worker.aggregation.lane import INLINE, Lane
from elf_worker.aggregation.tally import Intake, Tally
from elf_worker.messages import Stamp, Submit
from elf_worker.roles.adder import SMALL, Adder
from elf_worker.statistics import ManyHomes, load

PATIENCE = 20.0
"""Seconds until a test gives up on the thread: far more than it takes."""


class Held:
    """Work that does not end before it may."""

    def __init__(self) -> None:
        self.may_end = threading.Event()

    def __call__(self) -> None:
        assert self.may_end.wait(PATIENCE)


@pytest.fixture
def adder() -> Iterator[Adder]:
    made = Adder()
    yield made
    made.close()


def test_work_is_done_in_the_order_it_was_given(adder: Adder) -> None:
    """Also what is small, when something large is before it."""
    done: list[int] = []
    first = Held()
    adder.run(first, SMALL)
    for index in range(50):
        adder.run(lambda index=index: done.append(index), 0 if index % 2 else SMALL)
    assert done == [] and not adder.idle
    first.may_end.set()
    adder.join()
    assert done == list(range(50)) and adder.idle


@pytest.mark.parametrize(("size", "here"), [(0, True), (SMALL - 1, True), (SMALL, False)])
def test_only_small_work_is_done_at_once_and_only_when_nothing_is_before_it(
    adder: Adder, size: int, here: bool
) -> None:
    threads: list[int] = []
    adder.run(lambda: threads.append(threading.get_ident()), size)
    adder.join()
    held = Held()
    adder.run(held, SMALL)
    adder.run(lambda: threads.append(threading.get_ident()), size)
    held.may_end.set()
    adder.join()
    assert [ident == threading.get_ident() for ident in threads] == [here, False]


def test_what_work_raised_is_raised_by_every_join_from_then_on(adder: Adder) -> None:
    """A sum that lacks something is never to be used."""
    done: list[str] = []
    adder.run(lambda: [][0], SMALL)
    adder.run(lambda: done.append("later"), SMALL)
    for _ in range(3):
        with pytest.raises(IndexError):
            adder.join()
    assert done == ["later"]
    adder.run(lambda: {}["second"], SMALL)
    with pytest.raises(IndexError):
        adder.join()


def test_who_waits_for_what_was_given_is_called_when_it_is_done(adder: Adder) -> None:
    called: list[str] = []
    soon: list[Callable[[], None]] = []
    adder.after(lambda: called.append("idle"), soon.append)
    assert (called, soon) == (["idle"], [])
    held = Held()
    adder.run(held, SMALL)
    adder.after(lambda: called.append("busy"), soon.append)
    assert (called, soon) == (["idle"], [])
    held.may_end.set()
    adder.join()
    adder.run(lambda: None, SMALL)
    adder.join()  # the thread has called back by now: it begins nothing before that
    (callback,) = soon
    assert called == ["idle"], "not in the thread, but by way of `soon`"
    callback()
    assert called == ["idle", "busy"]


# -- tallies ------------------------------------------------------------------------------------------------

SIZE = 70_000
"""Elements: a vector is large enough for the thread."""
STAMP = Stamp(3, 0)


def vector(home: int) -> np.ndarray:
    rng = np.random.default_rng(home)
    return (rng.standard_normal(SIZE) * 3.0 ** (home % 7 - 5)).astype("<f4")


VECTORS = [vector(home) for home in range(8)]


def sent(tally: Tally) -> tuple[Submit, bytes]:
    message, payload = tally.submit(STAMP)
    return message, b"" if payload is None else bytes(payload)


PARTS = []
for _first in (100, 102):
    _part = Tally(SIZE, Intake(statistics=load(())))
    for _home in (_first, _first + 1):
        _part.add(_home, 2, VECTORS[_home - 100], round=3, mdc=1)
    PARTS.append(sent(_part))


def told(steps: list[str], lane: Lane) -> list[tuple[Submit, bytes]]:
    """What is submitted after these steps; `rest`: so far, and the next tally has the memory of this one."""
    tally = Tally(SIZE, Intake(statistics=load(()), lane=lane), STAMP.round)
    out = []
    parts = iter(PARTS)
    for home, step in enumerate(steps):
        if step == "add":
            tally.add(home, home + 1, VECTORS[home % 8], round=STAMP.round, mdc=0)
        elif step == "fail":
            tally.fail(home, "TaskFailed", "ill")
        elif step == "many":
            rows = np.stack([VECTORS[home % 8], VECTORS[(home + 1) % 8]])
            homes = np.array([200 + 2 * home, 201 + 2 * home])
            tally.add_many(ManyHomes(homes, STAMP.round, 0, np.ones(2, np.int64), rows))
        elif step == "rest":
            out.append(sent(tally))
            tally = tally.rest()
        elif part := next(parts, None):
            message, payload = part
            total = len(payload) - message.extra
            tally.merge(message, payload[:total])
            tally.note_wire(payload[total:])
    return [*out, sent(tally)]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["add", "add", "fail", "many", "merge", "rest"]), max_size=9))
def test_a_tally_beside_the_loop_submits_the_same_bytes(adder: Adder, steps: list[str]) -> None:
    assert told(steps, adder) == told(steps, INLINE)


class Patient(Adder):
    """Its work goes on only for somebody who waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.held = Held()

    def join(self) -> None:
        self.held.may_end.set()
        super().join()


LOOKS: dict[str, Callable[[Tally], object]] = {
    "total": lambda tally: tally.total.pack(),
    "statistics": lambda tally: tally.statistics,
    "submit": sent,
    "rest": lambda tally: tally.rest(),
    "many at once": lambda tally: tally.add_many(
        ManyHomes(np.array([7]), 0, 0, np.ones(1, np.int64), VECTORS[7][None])
    ),
    "a tally in its memory": lambda tally: Tally(SIZE, tally._intake, 0, tally._total),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_a_tally_that_is_asked_waits_for_what_is_still_being_added(look: Callable[[Tally], object]) -> None:
    adder = Patient()
    tally = Tally(SIZE, Intake(statistics=load(()), lane=adder))
    adder.run(adder.held, SMALL)
    tally.add(0, 1, VECTORS[0], round=0, mdc=0)
    look(tally)
    done = adder.idle
    adder.held.may_end.set()
    adder.close()
    assert done
