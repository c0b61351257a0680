"""What a shell tells its machine of links."""

from __future__ import annotations

from unittest import mock

import pytest

from elf_worker.contract import JobConfig
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
