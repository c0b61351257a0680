"""One operator as a process of this machine, and what its own metrics and /proc say of it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter

import aiohttp
from processes import cpu_of, memory_of

from cluster.ground import LOG, MASTER_KEY, Ground

WRITES = ("create", "update", "patch", "delete", "deletecollection")


class Operator:
    """One operator process."""

    def __init__(self, ground: Ground) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._session = ground.api.session
        self._log = pathlib.Path(ground.config.parent, LOG).open("ab")
        key = f"{ground.namespace}/{MASTER_KEY}"
        flags = ["--namespace", ground.namespace, "--master-key", key, "--listen", f"127.0.0.1:{self._port}"]
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "elf_operator", *flags],
            env={**os.environ, "KUBECONFIG": str(ground.config)},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    async def __aenter__(self) -> Operator:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._log.close()

    async def _page(self, path: str) -> tuple[int, str]:
        with contextlib.suppress(aiohttp.ClientError):
            async with self._session.get(f"http://127.0.0.1:{self._port}/{path}") as answer:
                return answer.status, await answer.text()
        if self.process.poll() is not None:
            raise RuntimeError(f"the operator has ended, exit code {self.process.returncode}")
        return 0, ""

    async def ready(self) -> bool:
        """Whether it says that it is."""
        return (await self._page("readyz"))[0] == 200

    async def figures(self) -> Counter[str]:
        """Requests by `verb resource code` and looks by `look outcome`."""
        _, text = await self._page("metrics")
        out: Counter[str] = Counter()
        for line in text.splitlines():
            if found := re.match(r"elf_operator_api_requests_total\{(.*)\} (\S+)", line):
                said = dict(re.findall(r'(\w+)="([^"]*)"', found[1]))
                out[f"{said['verb']} {said['resource']} {said['code']}"] = int(float(found[2]))
            elif found := re.match(r'elf_operator_reconciles_total\{outcome="(\w+)"\} (\S+)', line):
                out[f"look {found[1]}"] = int(float(found[2]))
        return out

    @property
    def cpu(self) -> float:
        """CPU seconds until now."""
        return cpu_of(self.process.pid)

    def memory(self, what: str = "VmRSS") -> float:
        """MiB."""
        return memory_of(self.process.pid, what)


def requests(figures: Counter[str]) -> int:
    """All of them."""
    return sum(count for key, count in figures.items() if not key.startswith("look"))


def writes(figures: Counter[str]) -> int:
    """Those that change something."""
    return sum(count for key, count in figures.items() if key.split()[0] in WRITES)


def refusals(figures: Counter[str]) -> int:
    """Answers that are neither 2xx nor `there is none yet`, and looks that failed."""
    codes = {key: count for key, count in figures.items() if not key.startswith("look")}
    bad = sum(n for key, n in codes.items() if key[-3] != "2" and not key.endswith("404"))
    return bad + sum(n for key, n in figures.items() if key.startswith("look") and key != "look done")
