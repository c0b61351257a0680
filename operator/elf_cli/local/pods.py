"""A pod as a local process with its own loopback address."""

from __future__ import annotations

import asyncio
import pathlib
import signal
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from elf_cli.local import processes
from elf_operator import names
from elf_operator.builders import Manifest
from elf_operator.observation import Pod, parse_pod
from elf_operator.status import rfc3339
from elf_worker.contract import ENV_UID, READY_PORT, Role

_READY_POLL_SECONDS = 0.05
_RESTART_SECONDS = 1.0


@dataclass
class LocalPod:
    """What a kubelet would know of a pod. `changed` is called whenever that is more than before."""

    manifest: Manifest
    address: str
    environment: Mapping[str, str]
    log: pathlib.Path
    changed: Callable[[], None]
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))
    created: float = field(default_factory=time.time)
    process: processes.Child | None = None
    phase: str = "Pending"
    ready: bool = False
    deleting: bool = False
    exit_code: int | None = None
    exited: float | None = None
    restarts: int = 0
    _task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The pod's name."""
        return str(self.manifest["metadata"]["name"])

    def start(self) -> None:
        """Run it; what becomes of it shows in `view`."""
        self._task = asyncio.get_running_loop().create_task(self._live())

    def kill(self) -> None:
        """SIGKILL, as a crash would have it."""
        self._signal(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after the grace period; returns when the process is gone."""
        self.deleting = True
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a frozen process could not hear it
        grace = self.manifest["spec"].get("terminationGracePeriodSeconds", 30)
        assert self._task is not None
        _, pending = await asyncio.wait([self._task], timeout=grace)
        if pending:
            self._signal(signal.SIGKILL)
            await asyncio.wait([self._task])

    def view(self) -> Pod:
        """As the operator sees it: by way of the same JSON that an API server would give."""
        state: dict[str, Any] = {"running": {}}
        if self.exit_code is not None:
            state = {"terminated": {"exitCode": self.exit_code, "message": self._last_words()}}
        body = {
            "metadata": {
                **self.manifest["metadata"],
                "uid": self.uid,
                "creationTimestamp": rfc3339(self.created, precise=True),
                "deletionTimestamp": rfc3339(time.time()) if self.deleting else None,
            },
            "spec": self.manifest["spec"],
            "status": {
                "phase": self.phase,
                "podIP": self.address,
                "conditions": [{"type": "Ready", "status": str(self.ready)}],
                "containerStatuses": [
                    {"name": names.CONTAINER, "state": state, "restartCount": self.restarts}
                ],
            },
        }
        pod = parse_pod(body)
        assert pod is not None
        return pod

    async def _live(self) -> None:
        again = True
        while again:
            await self._run_once()
            again = (
                self.exit_code != 0
                and not self.deleting
                and self.manifest["spec"]["restartPolicy"] in ("OnFailure", "Always")
            )
            if again:
                self.restarts += 1
                self.exit_code = None
                self.changed()
                await asyncio.sleep(_RESTART_SECONDS)
        self.phase = "Succeeded" if self.exit_code == 0 else "Failed"
        self.changed()

    async def _run_once(self) -> None:
        container = next(c for c in self.manifest["spec"]["containers"] if c["name"] == names.CONTAINER)
        command = [*container["command"], *container.get("args", [])]
        environment = {**self.environment, ENV_UID: self.uid}
        self.process = await processes.start(command, environment, self.log)
        if self.deleting:  # deleted while it was being started
            self.process.signal(signal.SIGKILL)
        self.exit_code = None
        self.phase = "Running"
        watch = asyncio.get_running_loop().create_task(self._become_ready())
        code = await self.process.wait()
        watch.cancel()
        self.ready = False
        self.exited = time.time()
        self.exit_code = code
        self.process = None

    async def _become_ready(self) -> None:
        if self.manifest["metadata"]["labels"][names.LABEL_ROLE] != Role.HOME:
            while not await _accepts(self.address):
                await asyncio.sleep(_READY_POLL_SECONDS)
        self.ready = True
        self.changed()

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.signal(number)

    def _last_words(self) -> str:
        if not self.log.exists():
            return ""
        lines = self.log.read_bytes()[-2000:].decode(errors="replace").splitlines()
        return "\n".join(lines[-5:])


async def _accepts(address: str) -> bool:
    try:
        _, writer = await asyncio.open_connection(address, READY_PORT)
    except OSError:
        return False
    writer.close()
    return True
