"""How many may connect follows how many homes there are: strangers are as few as ever."""

from __future__ import annotations

from typing import Any

import pytest

from elf_worker.aggregation import ids
from elf_worker.contract import JobConfig, Slot, Wiring
from elf_worker.messages import Assign, Hello, Message
from elf_worker.roles.environment import Environment
from elf_worker.roles.mdc import LEAST_QUEUED, QUEUED_BYTES, MdcShell
from elf_worker.roles.npdc import NpdcShell
from elf_worker.roles.shell import SPARE_BYTES, SPARE_LINKS, Shell

JOB = JobConfig(job="night", uid="u", homes=4, per_pod=1, rounds=9, seed=0, entrypoint="a:B")
ENVIRONMENT = Environment(JOB, "uid", "127.0.0.1", 0, 0, "", "", "", "", "")
NPDC, STRANGER = 0, -1


class Named:
    """Stands for a link."""

    peer = None

    def send(self, message: Message, payload: Any = None, flush: bool = True) -> None:
        """Nobody hears it."""

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing to close."""


def limits(shell: Shell) -> tuple[int, int]:
    return shell._limits.links, shell._limits.message


async def test_what_may_be_expected_grows_and_does_not_shrink() -> None:
    shell = MdcShell(ENVIRONMENT)
    assert limits(shell) == (SPARE_LINKS + 8, SPARE_BYTES + 2)
    shell.expect(1000)
    assert limits(shell) == (SPARE_LINKS + 2000, SPARE_BYTES + 500)
    shell.expect(5)
    assert limits(shell) == (SPARE_LINKS + 2000, SPARE_BYTES + 500)


async def test_many_connections_share_what_the_kernel_may_hold() -> None:
    shell = MdcShell(ENVIRONMENT)
    assert shell._limits.queued == 0
    shell.expect(128)
    assert shell._limits.queued == QUEUED_BYTES // 128
    shell.expect(1_000_000)
    assert shell._limits.queued == LEAST_QUEUED


@pytest.mark.parametrize(("link", "homes"), [(NPDC, 900), (STRANGER, 4)])
async def test_an_mdc_expects_the_homes_that_its_npdc_names(link: int, homes: int) -> None:
    shell = MdcShell(ENVIRONMENT)
    shell._center._up = NPDC
    caller: Any = Named()
    shell._name(caller, link)
    if link == STRANGER:
        shell.link_opened(caller)
    mask = ids.to_wire(1 << 899)
    shell.link_received(caller, Assign(None, mask, b""), None)
    shell.link_received(caller, Hello(2, "u", mask, -1, None), None)
    assert limits(shell)[0] == SPARE_LINKS + 2 * homes


class OneWiring:
    """A board with one wiring on it."""

    interval = 1.0

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    async def watch(self) -> Any:
        yield self._wiring


@pytest.mark.parametrize(("homes", "expected", "most"), [(0, 0, 4), (3, 3, 4), (9, 9, 9), (4, 12, 12)])
async def test_an_npdc_expects_the_homes_whose_pods_are_being_made(
    homes: int, expected: int, most: int
) -> None:
    """They ask for their MDC before they take part, and must not keep MDCs from being heard meanwhile."""
    wiring = Wiring(1, Slot(0), {}, homes=homes, quorum=homes, expected=expected)
    shell = NpdcShell(ENVIRONMENT, OneWiring(wiring))  # type: ignore[arg-type]
    await shell._follow_wiring()
    assert limits(shell)[0] == SPARE_LINKS + 2 * most
