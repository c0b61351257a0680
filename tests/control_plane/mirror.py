"""What happens in one namespace, told as it happens, to whoever plays or judges there."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import aiohttp

from control_plane.api import JOBS, Api, RefusedError

Body = dict[str, Any]
Listener = Callable[[str, str, Body], None]
"""(kind, type of the event, object)."""
KINDS = {"Pod": "api/v1", "ConfigMap": "api/v1", "ElfTrainingJob": JOBS}
_PLURALS = {"Pod": "pods", "ConfigMap": "configmaps", "ElfTrainingJob": "elftrainingjobs"}


class Mirror:
    """Every version of every pod, ConfigMap and job of a namespace, in the order of their versions a kind."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api, self.namespace = api, namespace
        self.objects: dict[str, dict[str, Body]] = {kind: {} for kind in KINDS}
        self.listeners: list[Listener] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Begin to watch."""
        listed = [asyncio.Event() for _ in KINDS]
        self._tasks = [
            asyncio.create_task(self._follow(kind, event)) for kind, event in zip(KINDS, listed, strict=True)
        ]
        for event in listed:
            await event.wait()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(self, kind: str, listed: asyncio.Event) -> None:
        path = f"{KINDS[kind]}/namespaces/{self.namespace}/{_PLURALS[kind]}"
        while True:
            with contextlib.suppress(aiohttp.ClientError, ConnectionError, RefusedError, TimeoutError):
                now = await self._api.request("GET", path)
                here = {body["metadata"]["name"]: body for body in now["items"]}
                for gone in set(self.objects[kind]) - set(here):
                    self._tell(kind, "DELETED", self.objects[kind][gone])
                for body in here.values():
                    self._tell(kind, "MODIFIED", body)
                listed.set()
                query = {"watch": "true", "resourceVersion": now["metadata"]["resourceVersion"]}
                async with self._api.session.get(f"{self._api.server}/{path}", params=query) as stream:
                    while line := await stream.content.readline():
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            break
                        self._tell(kind, event["type"], event["object"])
            await asyncio.sleep(0.2)

    def _tell(self, kind: str, what: str, body: Body) -> None:
        name, known = body["metadata"]["name"], self.objects[kind]
        before = known.get(name, {}).get("metadata", {})
        if what == "DELETED":
            known.pop(name, None)
        elif before.get("resourceVersion") == body["metadata"]["resourceVersion"]:
            return
        else:
            known[name] = body
        for listener in self.listeners:
            listener(kind, what, body)
