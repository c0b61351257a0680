"""An MDC that another one follows between two rounds, and on which nodes copies of the state are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from elf_worker.aggregation import ids
from elf_worker.aggregation.effects import Close, Effect, Initialise, LinkId, Send
from elf_worker.aggregation.northpole import (
    BOOT_SECONDS,
    GRACE_SECONDS,
    RECONNECT_SECONDS,
    NorthPole,
    Rules,
    Snapshot,
)
from elf_worker.contract import WIRE_VERSION, Slot, Wiring
from elf_worker.exact import ExactSum
from elf_worker.messages import Accepted, Fetch, Keep, Message, Register, Stamp, Submit, Turned, Welcome, Work

OLD, HEIR, OTHER = -1, -2, -3
"""Links: of the pod that acts for slot 0, of the one that is to follow it, of the MDC in slot 1."""
FIRST, NEXT = Stamp(0, 0), Stamp(1, 0)
WEIGHTS = np.ones(3, "<f4").tobytes()
BEFORE = Wiring(1, Slot(0), {0: Slot(0, "old", frozenset({0, 1})), 1: Slot(0, "other", frozenset({2, 3}))})
HANDED = replace(
    BEFORE, version=2, mdcs={**BEFORE.mdcs, 0: Slot(1, "heir", frozenset({0, 1}), predecessor="old")}
)


def register(uid: str, node: str = "", acted: bool = False, holds: Any = None) -> Register:
    index, incarnation = {"old": (0, 0), "heir": (0, 1), "other": (1, 0)}[uid]
    return Register(WIRE_VERSION, "job", index, incarnation, uid, f"at-{uid}", holds, node, acted)


def submit(*homes: int, stamp: Stamp = FIRST) -> tuple[Submit, bytes]:
    total = ExactSum(4)
    for _ in homes:
        total.add(np.ones(4, "<f4"))
    members = ids.to_wire(ids.mask_of(homes))
    return Submit(stamp, members, b"", len(homes), total.bound, {}, "", {}), bytes(total.pack())


def said(effects: list[Effect], link: LinkId) -> list[type[Message]]:
    return [type(e.message) for e in effects if isinstance(e, Send) and e.link == link]


def training(node: str = "", epoch: int = 0) -> NorthPole:
    """An NPDC in its first round, and two MDCs."""
    pole = NorthPole(Rules("job", 4, 4, deadline=10.0, silence=5.0, epoch=epoch, node=node))
    pole.rewire(BEFORE, 0.0)
    pole.received(OLD, register("old"), None, 0.0)
    pole.received(OTHER, register("other"), None, 0.0)
    pole.ready(Snapshot(FIRST, WEIGHTS, b"rest"), 0.0)
    return pole


def handing_over() -> NorthPole:
    """As `training`; the heir is named, and waits."""
    pole = training()
    assert pole.rewire(HANDED, 1.0) == []
    assert pole.received(HEIR, register("heir"), None, 1.0) == []
    return pole


def test_the_round_under_way_is_done_with_the_predecessor() -> None:
    pole = handing_over()
    assert pole.serving() == [(0, 0, 2), (1, 0, 2)]
    assert said(pole.received(OLD, *submit(0, 1), 1.0), OLD) == [Accepted]
    pole.received(OTHER, *submit(2, 3), 1.0)
    out = pole.ready(Snapshot(NEXT, WEIGHTS, b"rest"), 2.0)
    assert said(out, OLD) == [Turned] and Close(OLD) in out
    assert said(out, HEIR)[0] is Welcome and Work in said(out, HEIR) and Keep in said(out, HEIR)
    assert pole.serving() == [(0, 1, 2), (1, 0, 2)]
    assert said(pole.received(HEIR, *submit(0, 1, stamp=NEXT), 3.0), HEIR) == [Accepted]


def test_a_predecessor_goes_on_for_as_long_as_its_heir_is_not_here() -> None:
    pole = training()
    pole.rewire(HANDED, 1.0)
    pole.received(OLD, *submit(0, 1), 1.0)
    pole.received(OTHER, *submit(2, 3), 1.0)
    assert Work in said(pole.ready(Snapshot(NEXT, WEIGHTS, b"rest"), 2.0), OLD)
    assert pole.unreachable(1.0 + BOOT_SECONDS + GRACE_SECONDS) == []


def test_an_heir_takes_over_at_once_when_its_predecessor_is_gone() -> None:
    pole = handing_over()
    out = pole.closed(OLD, 2.0)
    assert said(out, HEIR)[0] is Welcome and Work in said(out, HEIR)
    assert said(pole.received(HEIR, *submit(0, 1), 3.0), HEIR) == [Accepted]


def test_an_heir_that_does_not_come_is_missed_once_its_predecessor_is_gone() -> None:
    pole = training()
    pole.rewire(HANDED, 1.0)
    pole.closed(OLD, 2.0)
    late = 2.0 + BOOT_SECONDS + GRACE_SECONDS
    assert pole.unreachable(late - 0.1) == []
    assert pole.unreachable(late) == [(0, 1, "heir")]


def test_who_has_been_followed_is_never_heard_again() -> None:
    pole = handing_over()
    pole.closed(OLD, 2.0)
    pole.closed(HEIR, 3.0)
    assert said(pole.received(OLD, register("old", acted=True), None, 3.1), OLD) == [Turned]
    assert Welcome in said(pole.received(HEIR, register("heir", acted=True), None, 3.2), HEIR)


def test_an_heir_that_homes_may_be_with_does_not_wait() -> None:
    """Its predecessor may be heard by the next NPDC first: the homes would wait for what never comes."""
    pole = training(epoch=1)
    pole.rewire(HANDED, 1.0)
    out = pole.received(HEIR, register("heir", acted=True), None, 2.0)
    assert said(out, OLD) == [Turned] and said(out, HEIR)[0] is Welcome


def test_a_wiring_that_names_no_predecessor_ends_its_time() -> None:
    pole = handing_over()
    alone = replace(HANDED, version=3, mdcs={**HANDED.mdcs, 0: replace(HANDED.mdcs[0], predecessor="")})
    out = pole.rewire(alone, 2.0)
    assert said(out, OLD) == [Turned] and said(out, HEIR)[0] is Welcome


def test_before_the_first_round_a_predecessor_that_may_hold_a_copy_is_waited_for() -> None:
    pole = NorthPole(Rules("job", 4, 4, deadline=10.0, silence=5.0, epoch=1))
    pole.rewire(HANDED, 0.0)
    pole.received(OTHER, register("other"), None, 0.1)
    assert pole.received(HEIR, register("heir"), None, 0.2) == []
    out = pole.received(OLD, register("old", holds=(0, Stamp(7, 0))), None, 0.3)
    assert said(out, OLD)[0] is Welcome and said(out, OLD)[-1] is Fetch


def test_before_the_first_round_nobody_is_waited_for_for_ever() -> None:
    pole = NorthPole(Rules("job", 4, 4, deadline=10.0, silence=5.0, epoch=1))
    pole.rewire(HANDED, 0.0)
    pole.received(OTHER, register("other"), None, 0.1)
    pole.received(HEIR, register("heir"), None, 0.2)
    assert Initialise() in pole.tick(10.0)
    assert said(pole.ready(Snapshot(FIRST, WEIGHTS, b"rest"), 11.0), HEIR)[0] is Welcome


@pytest.mark.parametrize(
    ("own", "nodes", "keepers"),
    [
        ("", ["", "", ""], [0, 1]),
        ("a", ["a", "a", "a"], [0, 1]),
        ("a", ["a", "a", "b"], [0, 2]),
        ("a", ["a", "b", "b"], [1, 2]),
        ("a", ["b", "b", "c"], [0, 2]),
        ("a", ["b", "b", "b"], [0, 1]),
        ("a", ["b", "a", "c"], [0, 2]),
        ("a", ["a", "c", "b"], [1, 2]),
        ("a", ["b"], [0]),
    ],
)
def test_copies_are_on_as_many_nodes_as_there_are(own: str, nodes: list[str], keepers: list[int]) -> None:
    pole = NorthPole(Rules("job", 4, 4, deadline=10.0, silence=5.0, epoch=0, node=own))
    slots = {i: Slot(0, f"u{i}", frozenset({i})) for i in range(len(nodes))}
    pole.rewire(Wiring(1, Slot(0), slots, homes=4, quorum=4), 0.0)
    for i, node in enumerate(nodes):
        pole.received(-1 - i, Register(WIRE_VERSION, "job", i, 0, f"u{i}", "at", None, node), None, 0.0)
    assert pole.copies() == []
    out = pole.ready(Snapshot(FIRST, WEIGHTS, b"rest"), 1.0)
    sent = [-1 - e.link for e in out if isinstance(e, Send) and isinstance(e.message, Keep)]
    assert sorted(sent) == keepers
    assert pole.copies() == [(i, 0) for i in keepers]


@pytest.mark.parametrize(
    ("epochs", "first", "seconds"),
    [
        ([3, 3, None], "copy", RECONNECT_SECONDS),
        ([3, None, None], "copy", 10.0),
        ([3, 2, None], "copy", 10.0),
        ([None, None, None], "start", 10.0),
    ],
    ids=str,
)
def test_who_is_away_is_not_waited_for_once_all_copies_are_here(
    epochs: list[int | None], first: str, seconds: float
) -> None:
    """The fourth MDC is on a node that is gone, and nobody has said so yet."""
    pole = NorthPole(Rules("job", 4, 4, deadline=10.0, silence=5.0, epoch=4))
    slots = {i: Slot(0, f"u{i}", frozenset({i})) for i in range(4)}
    pole.rewire(Wiring(1, Slot(4), slots, homes=4, quorum=4), 0.0)
    for i, epoch in enumerate(epochs):
        holds = None if epoch is None else (epoch, Stamp(7 + i, epoch))
        pole.received(-1 - i, Register(WIRE_VERSION, "job", i, 0, f"u{i}", "at", holds), None, 0.5)
    assert pole.tick(seconds - 0.1) == []
    [effect] = pole.tick(seconds)
    assert isinstance(effect, Initialise) == (first == "start")
    if isinstance(effect, Send):
        newest = max((e, i) for i, e in enumerate(epochs) if e is not None)[1]
        assert (effect.link, type(effect.message)) == (-1 - newest, Fetch)
