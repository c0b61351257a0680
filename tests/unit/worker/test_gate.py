"""A pod speaks for itself alone."""

from __future__ import annotations

import pytest

from elf_worker.aggregation import ids
from elf_worker.contract import WIRE_VERSION, Peer, Role
from elf_worker.messages import Hello, Locate, Message, Offer, Register, Stamp, Welcome
from elf_worker.roles import gate

JOB = "job"
NPDC, MDC, HOME = Peer(JOB, Role.NPDC, 0, 4), Peer(JOB, Role.MDC, 2, 3), Peer(JOB, Role.HOME, 5, 0)
PER_POD = 3


def hello(*homes: int) -> Hello:
    return Hello(WIRE_VERSION, JOB, ids.to_wire(ids.mask_of(homes)), -1, None)


def locate(*homes: int) -> Locate:
    return Locate(WIRE_VERSION, JOB, ids.to_wire(ids.mask_of(homes)))


def register(index: int, incarnation: int) -> Register:
    return Register(WIRE_VERSION, JOB, index, incarnation, "uid", "10.0.0.1:7733", None)


@pytest.mark.parametrize(
    ("peer", "message", "wrong"),
    [
        (MDC, register(2, 3), ""),
        (MDC, register(2, 4), "says it is mdc 2, incarnation 4"),
        (MDC, register(1, 3), "says it is mdc 1, incarnation 3"),
        (HOME, register(5, 0), "says it is mdc 5, incarnation 0"),
        (HOME, hello(15, 16, 17), ""),
        (HOME, hello(16), ""),
        (HOME, hello(14, 15), "speaks for homes of other pods"),
        (HOME, hello(18), "speaks for homes of other pods"),
        (MDC, hello(6), "speaks for homes"),
        (HOME, locate(15, 17), ""),
        (HOME, locate(0), "speaks for homes of other pods"),
        (MDC, locate(0), "speaks for homes"),
        (NPDC, Welcome(4), ""),
        (NPDC, Welcome(5), "says it is npdc 0, incarnation 5"),
        (MDC, Welcome(3), "says it is npdc 0, incarnation 3"),
        (HOME, Offer(0, Stamp(1, 1), 1), ""),
    ],
)
def test_who_may_say_what(peer: Peer, message: Message, wrong: str) -> None:
    assert gate.objection(peer, message, PER_POD) == wrong


@pytest.mark.parametrize(
    ("peer", "mdc", "wrong"),
    [
        (NPDC, None, ""),
        (MDC, None, "is no NPDC"),
        (HOME, None, "is no NPDC"),
        (MDC, (2, 3), ""),
        (MDC, (2, 4), "is not mdc 2, incarnation 4"),
        (MDC, (1, 3), "is not mdc 1, incarnation 3"),
        (NPDC, (0, 4), "is no MDC"),
        (MDC, (-1, -1), "is not mdc -1, incarnation -1"),
        (Peer("other", Role.NPDC, 0, 0), None, "is of job other"),
    ],
)
def test_whom_we_meant_to_reach(peer: Peer, mdc: tuple[int, int] | None, wrong: str) -> None:
    assert gate.wrong_host(peer, JOB, mdc) == wrong


@pytest.mark.parametrize(
    ("peer", "wrong"),
    [
        (HOME, ""),
        (MDC, ""),
        (NPDC, "is an NPDC, which dials nobody"),
        (Peer("other", Role.HOME, 0, 0), "is of job other"),
    ],
)
def test_who_may_come(peer: Peer, wrong: str) -> None:
    assert gate.wrong_guest(peer, JOB) == wrong
