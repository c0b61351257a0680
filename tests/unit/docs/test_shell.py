"""The shell that walks through the docs."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import pytest

from e2e.shell import Shell


@pytest.fixture
def shell(tmp_path: pathlib.Path) -> Iterator[Shell]:
    made = Shell(tmp_path, {"PATH": os.environ["PATH"]})
    yield made
    made.close()


def test_it_is_one_shell(shell: Shell, tmp_path: pathlib.Path) -> None:
    assert shell("export A=b    # as a reader does") == ""
    assert shell('echo "$A"; pwd') == f"b\n{tmp_path}"


def test_a_command_that_fails_says_why(shell: Shell) -> None:
    with pytest.raises(AssertionError, match=r"exit status 3\nno such luck"):
        shell("echo no such luck >&2; (exit 3)")


def test_a_command_reads_nothing_of_what_comes_next(shell: Shell) -> None:
    assert shell("cat") == ""
    assert shell("echo next") == "next"


def test_what_runs_in_the_background_can_be_ended(shell: Shell) -> None:
    shell("sleep 1000 &")
    assert shell("jobs -r | grep -c sleep") == "1"
    shell("kill %1")
    shell("wait %1 || true")
    assert shell("jobs -r") == ""


def test_a_command_that_does_not_end_is_told(shell: Shell) -> None:
    with pytest.raises(AssertionError, match=r"has not ended after 0.2 s\nhere"):
        shell("echo here; cat /dev/zero >/dev/null", 0.2)


def test_a_shell_that_has_ended_is_told(shell: Shell) -> None:
    with pytest.raises(AssertionError, match="the shell has ended"):
        shell("exit")
