"""Processes of pods, forked from one that has PyTorch loaded already.

Importing PyTorch takes seconds of CPU; a dozen pods would take half a minute on a small machine. The standard
library's fork server imports it once and forks each pod from there. A pod whose template brings a command of
its own is simply executed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import multiprocessing
import multiprocessing.forkserver
import os
import pathlib
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Protocol

_PRELOAD = [
    "elf_worker.__main__",
    "elf_worker.roles.npdc",
    "elf_worker.roles.trainer",
    "elf_worker.roles.home",
]
_PRELOAD += ["elf_worker.roles.computer", "elf_worker.roles.mdc", "elf_worker.boards.files"]
_PRELOAD += ["torch._dynamo"]  # torch's optimizers import it when they are made, and so does vmap: a second
_OURS = ["python3", "-m", "elf_worker"]
_PR_SET_PDEATHSIG = 1


class Child(Protocol):
    """A running process."""

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; that the process is gone is as good."""

    async def wait(self) -> int:
        """Its exit status, once; 128 plus the number for one that died of a signal."""


async def start(command: Sequence[str], environment: Mapping[str, str], log: pathlib.Path) -> Child:
    """Run a pod's command in a session of its own, output to the log. It is killed when this process dies."""
    if list(command[:3]) == _OURS:
        return await _fork(list(command[3:]), environment, log)
    return await _execute(command, environment, log)


async def preload() -> None:
    """Have the fork server ready; returns when it has loaded everything."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(_PRELOAD)
    await asyncio.to_thread(multiprocessing.forkserver.ensure_running)


class _Forked:
    def __init__(self, process: multiprocessing.process.BaseProcess) -> None:
        self._process = process
        self._gone = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(process.sentinel, self._finish)

    def signal(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        if not self._gone.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    async def wait(self) -> int:
        return await asyncio.shield(self._gone)

    def _finish(self) -> None:
        asyncio.get_running_loop().remove_reader(self._process.sentinel)
        self._process.join()
        code = self._process.exitcode
        self._gone.set_result(_status(1 if code is None else code))


async def _fork(args: list[str], environment: Mapping[str, str], log: pathlib.Path) -> Child:
    server = multiprocessing.get_context("forkserver")
    work = (args, dict(environment), str(log), os.getcwd())
    process = server.Process(target=_become_pod, args=work, daemon=False)
    await asyncio.to_thread(process.start)  # the first one waits for the fork server
    return _Forked(process)


def _become_pod(args: list[str], environment: dict[str, str], log: str, directory: str) -> None:
    """In the forked process: what a container runtime would set up, then the worker's own entry point."""
    die_with(os.getppid())
    # The fork server ends when the last copy of this descriptor is closed, and each process has one:
    # with ours open, neither it nor we would end when the runner is killed.
    os.close(multiprocessing.forkserver._forkserver._forkserver_alive_fd)  # type: ignore[attr-defined]
    os.setsid()  # Ctrl-C is for the runner, not for pods
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, directory)  # as `python3 -m` does: tasks may lie where the job is run
    from elf_worker.__main__ import main

    sys.exit(main(args))


class _Executed:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def wait(self) -> int:
        return _status(await self._process.wait())


async def _execute(command: Sequence[str], environment: Mapping[str, str], log: pathlib.Path) -> Child:
    parent = os.getpid()
    program = sys.executable if command[0] == "python3" else command[0]
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            program,
            *command[1:],
            env=dict(environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: die_with(parent),
        )
    return _Executed(process)


def die_with(parent: int) -> None:
    """Have this process killed when its parent is gone, however it went (prctl(2), Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(137)


def _status(code: int) -> int:
    return code if code >= 0 else 128 - code
