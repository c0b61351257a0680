"""Pods without nodes: said to run as soon as they are there, and an NPDC among them to train."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import aiohttp

from cluster.ground import Ground
from cluster.scale import IN_FLIGHT
from control_plane.api import MERGE
from control_plane.kubelet import pod_status, running
from elf_operator import names
from elf_worker.contract import Role


class Puppets:
    """Says of every pod that it runs, and of every NPDC that it trains."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Puppets:
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watching.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(self._watching, *self._tasks, return_exceptions=True)

    async def _watch(self) -> None:
        api, path = self._ground.api, f"{self._ground.core}/pods"
        query = {"watch": "true", "labelSelector": names.LABEL_JOB}
        while True:
            with contextlib.suppress(aiohttp.ClientError, ConnectionError, TimeoutError):
                async with api.session.get(f"{api.server}/{path}", params=query) as stream:
                    while line := await stream.content.readline():
                        event = json.loads(line)
                        if event["type"] == "ADDED" and event["object"]["status"].get("phase") == "Pending":
                            self._spawn(event["object"])

    def _spawn(self, pod: dict[str, Any]) -> None:
        task = asyncio.create_task(self._start(pod))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start(self, pod: dict[str, Any]) -> None:
        async with self._room:
            await set_phase(self._ground, pod["metadata"]["name"], "Running", running())
            labels = pod["metadata"]["labels"]
            if labels[names.LABEL_ROLE] == Role.NPDC:
                incarnation = int(labels[names.LABEL_INCARNATION])
                said = {"phase": "Training", "incarnation": incarnation, "round": 1, "metrics": {}}
                body = {"status": {"training": said}}
                path = f"{self._ground.jobs}/{labels[names.LABEL_JOB]}/status"
                await self._ground.api.unless(404, "PATCH", path, body, None, MERGE)


async def set_phase(ground: Ground, pod: str, phase: str, state: dict[str, Any]) -> None:
    """What a kubelet would say. `state`: of the one container."""
    path = f"{ground.core}/pods/{pod}/status"
    body = {"status": pod_status(phase, state)}
    await ground.api.unless((404, 409), "PATCH", path, body, None, MERGE)
