"""What a shell tells its machine of links."""

from __future__ import annotations

import asyncio
import threading
from unittest import mock

import pytest

from elf_worker.aggregation import ids
from elf_worker.aggregation.effects import Dial
from elf_worker.contract import WIRE_VERSION, JobConfig, Peer, Role
from elf_worker.messages import Bundle, Copy, Discarded, Hello, Keep, Message, Offer, Stamp, Submit, Work
from elf_worker.roles.adder import SMALL, Adder
from elf_worker.roles.environment import Environment
from elf_worker.roles.shell import Shell
from elf_worker.transport import Link

JOB = JobConfig(job="night", uid="u", homes=4, per_pod=1, rounds=9, seed=0, entrypoint="a:B")
ENVIRONMENT = Environment(JOB, "uid", "127.0.0.1", 0, 0, "", "", "", "", "")


@pytest.mark.parametrize("silent", [True, False])
async def test_a_machine_hears_whether_a_link_was_given_up_for_its_silence(silent: bool) -> None:
    machine = mock.Mock()
    machine.opened.return_value = machine.closed.return_value = []
    shell = Shell(machine, ENVIRONMENT)
    link = Link(shell, 5.0)
    link.silent = silent
    shell.link_opened(link)
    shell.link_closed(link)
    (name, _, said), _ = machine.closed.call_args
    assert (name, said) == (machine.opened.call_args[0][0], silent)


# -- who is there -------------------------------------------------------------------------------------------


def shell_and_machine() -> tuple[Shell, mock.Mock]:
    machine = mock.Mock()
    machine.opened.return_value = machine.closed.return_value = machine.received.return_value = []
    return Shell(machine, ENVIRONMENT), machine


@pytest.mark.parametrize(
    ("peer", "right"),
    [
        (Peer("u", Role.MDC, 2, 1), True),
        (Peer("u", Role.MDC, 2, 0), False),
        (Peer("u", Role.NPDC, 0, 0), False),
        (Peer("other", Role.MDC, 2, 1), False),
    ],
)
async def test_an_mdc_that_is_another_than_was_dialled_is_as_good_as_none(
    peer: Peer, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell, machine = shell_and_machine()

    async def reach(link: Link, *where: object) -> None:
        link.peer = peer
        shell.link_opened(link)

    monkeypatch.setattr("elf_worker.transport.connect", reach)
    await shell._dial(Dial(0, "10.0.0.1:7733", (2, 1)))
    assert (machine.opened.called, machine.closed.called) == (right, not right)


@pytest.mark.parametrize(
    ("peer", "right"), [(Peer("u", Role.HOME, 3, 0), True), (Peer("u", Role.NPDC, 0, 0), False)]
)
async def test_a_guest_that_has_no_business_here_is_never_heard_of(peer: Peer, right: bool) -> None:
    shell, machine = shell_and_machine()
    link = Link(shell, 5.0)
    link.peer = peer
    shell.link_opened(link)
    assert (machine.opened.called, machine.closed.called) == (right, False)


@pytest.mark.parametrize(("home", "right"), [(3, True), (2, False)])
async def test_who_speaks_for_others_is_not_heard_and_goes(home: int, right: bool) -> None:
    shell, machine = shell_and_machine()
    link = Link(shell, 5.0)
    link.peer = Peer("u", Role.HOME, 3, 0)
    shell.link_opened(link)
    shell.link_received(link, Hello(WIRE_VERSION, "u", ids.to_wire(1 << home), -1, None), None)
    assert (machine.received.called, machine.closed.called) == (right, not right)


# -- the room that payloads took ----------------------------------------------------------------------------

STAMP = Stamp(3, 0)
SUBMIT = Submit(STAMP, b"\x01", b"", 1, 1, {}, "", {})


def hearing(adder: Adder, message: Message, payload: object) -> mock.Mock:
    """The pool of a shell that has heard this, with this adder."""
    _, machine = shell_and_machine()
    shell = Shell(machine, ENVIRONMENT, adder=adder)
    shell._host = host = mock.Mock()
    link = Link(shell, 5.0)
    shell.link_opened(link)
    shell.link_received(link, message, payload)
    assert machine.received.called
    return host.buffers


@pytest.mark.parametrize("message", [Offer(0, STAMP, 1), Bundle(0, SUBMIT, 0, 0.0), SUBMIT])
async def test_what_is_added_up_gives_its_room_back_when_that_is_done(message: Message) -> None:
    """The thread reads it until then; others' bytes in it would be added up instead."""
    adder, may_end = Adder(), threading.Event()
    payload = bytearray(8)
    hearing(adder, message, payload).give_back.assert_called_once_with(payload)
    adder.run(lambda: may_end.wait(20.0), SMALL)
    buffers = hearing(adder, message, payload)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not buffers.method_calls
    may_end.set()
    async with asyncio.timeout(20.0):
        while not buffers.method_calls:
            await asyncio.sleep(0)
    assert buffers.method_calls == [mock.call.give_back(payload)]
    adder.close()


@pytest.mark.parametrize("message", [Keep(0, STAMP), Copy(0, STAMP), Work(0, STAMP)])
async def test_what_the_machine_keeps_is_never_lent_to_another(message: Message) -> None:
    payload = bytearray(8)
    assert hearing(Adder(), message, payload).method_calls == [mock.call.keep(payload)]


@pytest.mark.parametrize("payload", [None, Discarded(8, crowded=True)])
async def test_what_took_no_room_gives_none_back(payload: object) -> None:
    assert hearing(Adder(), Offer(0, STAMP, 1), payload).method_calls == []
