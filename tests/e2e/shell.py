"""A shell that a reader types into: one bash, from the first command of a page to its last."""

from __future__ import annotations

import contextlib
import os
import pathlib
import queue
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping


class Shell:
    """A bash in a folder. What it starts in the background ends with it."""

    def __init__(self, folder: pathlib.Path, env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env=dict(env),
            start_new_session=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def __call__(self, command: str, seconds: float = 900) -> str:
        """What the command prints. Raises AssertionError if it fails, or does not end in time."""
        assert self._process.stdin is not None
        mark = uuid.uuid4().hex
        # Nothing to read for the command: it would read the next one.
        self._process.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '\\n{mark} %s\\n' $?\n")
        self._process.stdin.flush()
        said, deadline = "", time.monotonic() + seconds
        while True:
            with contextlib.suppress(queue.Empty):
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
                if line is None:
                    raise AssertionError(f"{command}: the shell has ended\n{said}")
                if line.startswith(mark):
                    status = int(line.split()[1])
                    assert status == 0, f"{command}: exit status {status}\n{said}"
                    return said.strip("\n")
                said += line
                continue
            raise AssertionError(f"{command}: has not ended after {seconds:g} s\n{said}")

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(10)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()
