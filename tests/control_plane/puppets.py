"""Plays scheduler, kubelet and NPDC for the pods of one job: what the operator sees, without a container."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from typing import Any

import aiohttp

from control_plane.api import APPLY, JOBS, MERGE, Api, RefusedError
from control_plane.kubelet import condition, now, pod_status, running
from control_plane.mirror import Body, Mirror
from elf_operator import names
from elf_worker.contract import FIELD_MANAGER_NPDC, WIRING_KEY, Phase, Role, Wiring

HEARTBEAT_SECONDS = 0.6
GRACE_SECONDS = 0.1
"""What a stopped container takes to leave."""


def is_ready(pod: Body) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


class Puppets:
    """One job's pods. They start at once and live until they are told to fail."""

    def __init__(self, api: Api, mirror: Mirror, job: str, uid: str, nodes: Sequence[str]) -> None:
        self._api, self._mirror, self._nodes = api, mirror, nodes
        self.job, self.uid = job, uid
        self.namespace = mirror.namespace
        self.unreachable: set[str] = set()
        """UIDs of MDCs from which the NPDC hears nothing."""
        self.round = 0
        self.finished: dict[str, Any] | None = None
        """Last words of the NPDC, once training has ended."""
        self._busy: set[tuple[str, str]] = set()
        self._errands: set[asyncio.Task[None]] = set()
        self._speaking: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to play."""
        self._mirror.listeners.append(self._saw)
        for body in list(self._mirror.objects["Pod"].values()):
            self._saw("Pod", "MODIFIED", body)
        self._speaking = asyncio.create_task(self._speak())

    async def close(self) -> None:
        self._mirror.listeners.remove(self._saw)
        tasks = [*self._errands, *([self._speaking] if self._speaking else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- what a test asks for -----------------------------------------------------------------------------

    def pods(self, role: Role | None = None) -> list[Body]:
        """The job's pods as last seen, those on their way out too."""
        found = [body for body in self._mirror.objects["Pod"].values() if self._ours(body)]
        return [b for b in found if role is None or b["metadata"]["labels"][names.LABEL_ROLE] == role]

    def pod(self, name: str) -> Body:
        """One of them."""
        return self._mirror.objects["Pod"][name]

    def wiring(self) -> Wiring | None:
        """As last seen."""
        body = self._mirror.objects["ConfigMap"].get(names.wiring(self.job))
        if body is None or not self._ours(body):
            return None
        return Wiring.from_json(body["data"][WIRING_KEY])

    async def end(self, name: str, phase: str = "Failed", code: int = 137) -> None:
        """A container ends."""
        pod = self.pod(name)
        ended = {"exitCode": code, "finishedAt": now(), "reason": "Error" if code else "Completed"}
        await self._write(pod, phase, {"terminated": ended})

    async def finish(self, phase: Phase = Phase.COMPLETE) -> None:
        """Training ends, and with it every pod."""
        self.finished = {"phase": str(phase), "reason": str(phase), "message": "trained by puppets"}
        await self._say()
        for pod in self.pods():
            if pod.get("status", {}).get("phase") in ("Running", "Pending"):
                await self.end(pod["metadata"]["name"], "Succeeded", 0)

    # -- scheduler and kubelet ----------------------------------------------------------------------------

    def _ours(self, body: Body) -> bool:
        meta = body["metadata"]
        labelled = (meta.get("labels") or {}).get(names.LABEL_JOB) == self.job
        return labelled and any(ref["uid"] == self.uid for ref in meta.get("ownerReferences") or ())

    def _saw(self, kind: str, what: str, body: Body) -> None:
        if kind != "Pod" or what == "DELETED" or not self._ours(body):
            return
        meta, phase = body["metadata"], (body.get("status") or {}).get("phase")
        if meta.get("deletionTimestamp"):
            self._run((meta["uid"], "leave"), self._leave(body))
        elif phase == "Pending":
            self._run((meta["uid"], "start"), self._start(body))
        elif phase == "Running" and not is_ready(body):
            # On a busy machine the node may be taken for lost for a moment; a kubelet would say so, too.
            self._run((meta["uid"], meta["resourceVersion"]), self._start(body))

    def _run(self, key: tuple[str, str], work: Coroutine[Any, Any, None]) -> None:
        """Once for each pod."""
        if key in self._busy:
            work.close()
            return
        self._busy.add(key)
        task = asyncio.create_task(work)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def _start(self, body: Body) -> None:
        meta = body["metadata"]
        if not body["spec"].get("nodeName"):
            node = self._nodes[sum(map(ord, meta["name"])) % len(self._nodes)]
            binding = {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": meta["name"], "uid": meta["uid"]},
                "target": {"apiVersion": "v1", "kind": "Node", "name": node},
            }
            path = f"api/v1/namespaces/{self.namespace}/pods/{meta['name']}/binding"
            await self._api.unless((404, 409), "POST", path, binding)
        await self._write(body, "Running", running())

    async def _write(self, pod: Body, phase: str, state: dict[str, Any]) -> None:
        meta, status = pod["metadata"], pod_status(phase, state)
        status["conditions"] = [condition("PodScheduled", True), *status["conditions"]]
        path = f"api/v1/namespaces/{self.namespace}/pods/{meta['name']}/status"
        body = {"metadata": {"uid": meta["uid"]}, "status": status}  # 409, should it be another pod by now
        await self._api.unless((404, 409, 422), "PATCH", path, body, None, MERGE)

    async def _leave(self, body: Body) -> None:
        await asyncio.sleep(GRACE_SECONDS)
        await self.remove(body)

    async def remove(self, body: Body) -> None:
        """At once and for good, as a kubelet reports the end of a pod."""
        meta = body["metadata"]
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
        path = f"api/v1/namespaces/{self.namespace}/pods/{meta['name']}"
        await self._api.unless((404, 409), "DELETE", path, options)

    # -- the NPDC -----------------------------------------------------------------------------------------

    async def _speak(self) -> None:
        while True:
            with contextlib.suppress(RefusedError, aiohttp.ClientError, ConnectionError, TimeoutError):
                await self._say()
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _say(self) -> None:
        """What `elf_worker.roles.npdc` says, if the pod that the wiring names runs."""
        wiring = self.wiring()
        if wiring is None or not wiring.npdc.uid:
            return
        running = {
            p["metadata"]["uid"]: p for p in self.pods() if p.get("status", {}).get("phase") == "Running"
        }
        if wiring.npdc.uid not in running:
            return
        if self.finished is None:
            self.round += 1
        slots = {i: slot for i, slot in sorted(wiring.mdcs.items()) if slot.uid in running}
        heard = {i: slot for i, slot in slots.items() if slot.uid not in self.unreachable}
        lost = {i: slot for i, slot in slots.items() if slot.uid in self.unreachable}
        incarnation = running[wiring.npdc.uid]["metadata"]["labels"][names.LABEL_INCARNATION]
        training = {
            "phase": str(Phase.TRAINING),
            "incarnation": int(incarnation),
            "heartbeat": self.round,
            "round": self.round,
            "metrics": {},
            "exact": True,
            "serving": [
                {"mdc": i, "incarnation": slot.incarnation, "homes": len(slot.homes)}
                for i, slot in heard.items()
            ],
            "unreachable": [
                {"mdc": i, "incarnation": slot.incarnation, "uid": slot.uid} for i, slot in lost.items()
            ],
            "refused": [],
            **(self.finished or {}),
        }
        body = {
            "apiVersion": "northpole.dev/v1alpha1",
            "kind": "ElfTrainingJob",
            "metadata": {"name": self.job},
            "status": {"training": training},
        }
        path = f"{JOBS}/namespaces/{self.namespace}/elftrainingjobs/{self.job}/status"
        query = {"fieldManager": FIELD_MANAGER_NPDC, "force": "true"}
        await self._api.unless(404, "PATCH", path, body, query, APPLY)
