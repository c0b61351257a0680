"""A process that has the operator imported and forks: a start costs milliseconds, a SIGKILL is a real one.

`python -m control_plane.zygote FD` speaks lines of JSON over a socket: `{"args", "env", "log"}` in,
`{"pid"}` out, and `{"pid", "code"}` when such a process has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import os
import pathlib
import selectors
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any


class Operator:
    """One process of the operator."""

    def __init__(self, pid: int, log: pathlib.Path) -> None:
        self.pid, self.log = pid, log
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """Its exit code; minus a signal's number, if that ended it."""

    def signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def kill(self) -> None:
        """It gets no time for anything."""
        self.signal(signal.SIGKILL)
        await self.ended


class Zygote:
    """The side of the tests."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._born: asyncio.Queue[int] = asyncio.Queue()
        self._operators: dict[int, Operator] = {}
        self._gone: dict[int, int] = {}
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        ours, theirs = socket.socketpair()
        paths = os.pathsep.join(filter(None, sys.path))
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "control_plane.zygote",
            str(theirs.fileno()),
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": paths},
        )
        theirs.close()
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._reading = asyncio.create_task(self._read(reader))

    async def close(self) -> None:
        """End it, and every operator with it."""
        self._writer.close()
        if self._process is not None:
            await self._process.wait()
        await self._reading

    async def spawn(self, args: Sequence[str], env: Mapping[str, str], log: pathlib.Path) -> Operator:
        """Run `python -m elf_operator` with these arguments."""
        async with self._lock:
            order = {"args": list(args), "env": dict(env), "log": str(log)}
            self._writer.write(json.dumps(order).encode() + b"\n")
            pid = await self._born.get()
        operator = self._operators[pid] = Operator(pid, log)
        if pid in self._gone:
            self._end(pid, self._gone.pop(pid))
        return operator

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            said: dict[str, Any] = json.loads(line)
            if "code" not in said:
                self._born.put_nowait(said["pid"])
            elif said["pid"] in self._operators:
                self._end(said["pid"], said["code"])
            else:
                self._gone[said["pid"]] = said["code"]

    def _end(self, pid: int, code: int) -> None:
        ended = self._operators.pop(pid).ended
        if not ended.done():
            ended.set_result(code)


def _tell_tasks(*_: object) -> None:
    """Where every task of the operator stands, into its log: of one that neither works nor ends."""
    for task in asyncio.all_tasks():
        task.print_stack(limit=8, file=sys.stdout)
    sys.stdout.flush()


def _child(order: Mapping[str, Any]) -> int:
    """What a fresh interpreter would do, with the imports done."""
    os.setsid()
    os.environ.update(order["env"])
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    from elf_operator import __main__ as program

    signal.signal(signal.SIGUSR1, _tell_tasks)
    return program.main(order["args"])


def _fork(order: Mapping[str, Any], ours: Sequence[socket.socket]) -> int:
    if pid := os.fork():
        return pid
    code = 70
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for held in ours:
            held.close()
        code = _child(order)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _reap(out: socket.socket, children: set[int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        children.discard(pid)
        said = {"pid": pid, "code": os.waitstatus_to_exitcode(status)}
        out.sendall(json.dumps(said).encode() + b"\n")


def main() -> None:
    """Until the tests are gone."""
    importlib.import_module("elf_operator.__main__")  # and with it everything a start costs time for
    from elf_operator import schema

    schema.defaulted({})  # reads the CRD
    gc.collect()
    gc.freeze()
    orders = socket.socket(fileno=int(sys.argv[1]))
    woken, waker = socket.socketpair()
    woken.setblocking(False)
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which end this one
    selector = selectors.DefaultSelector()
    selector.register(orders, selectors.EVENT_READ)
    selector.register(woken, selectors.EVENT_READ)
    children: set[int] = set()
    pending = b""
    while True:
        ready = [key.fileobj for key, _ in selector.select()]
        if woken in ready:
            woken.recv(4096)
        if orders in ready:
            data = orders.recv(65536)
            if not data:
                break
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                pid = _fork(json.loads(line), (orders, woken, waker))
                children.add(pid)
                orders.sendall(json.dumps({"pid": pid}).encode() + b"\n")
        _reap(orders, children)
    for pid in children:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
