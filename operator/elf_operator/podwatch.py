"""A watch of all pods of jobs that tells which jobs to look at. What it misses, the next unasked look finds.

kopf would do it too, at a millisecond of CPU an event, and all pods in memory at the start. Here a change is
read as `observation.RawPod`, and one that no decision depends on is not told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from urllib.parse import urlencode

import msgspec

from elf_operator import names
from elf_operator.apiserver import OUTAGES, Direct, brief
from elf_operator.observation import RawPod, pod_of

_log = logging.getLogger(__name__)
WATCH_SECONDS = 120
"""A watch ends after so long and goes on where it was: one that has died without a word costs no more."""
SLACK_SECONDS = 30.0
STARTING = ("ContainerCreating", "PodInitializing")
"""Reasons to wait that are none."""
Key = tuple[str, str]


class _Change(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _BrokenError(Exception):
    """The stream cannot go on where it was."""


class PodWatch:
    """Of one namespace, or of all. `wake` hears of a job, `wake_all` that anything may have happened."""

    def __init__(
        self,
        way: Direct,
        namespace: str | None,
        wake: Callable[[Key], None],
        wake_all: Callable[[], None],
    ) -> None:
        self._way, self._wake, self._wake_all = way, wake, wake_all
        where = f"namespaces/{namespace}/" if namespace else ""
        self._path = f"/api/v1/{where}pods"
        self._version = ""
        self._marks: dict[str, int] = {}
        """By UID of the pod: what decisions saw of it last."""
        self._changes = msgspec.json.Decoder(_Change)
        self._pods = msgspec.json.Decoder(RawPod)

    async def run(self, pauses: Iterable[float]) -> None:
        """For ever. `pauses`: seconds to wait before the next attempt, for as long as none gets an answer."""
        waits = iter(pauses)
        while True:
            try:
                stream = self._way.lines(self._resource(), WATCH_SECONDS + SLACK_SECONDS)
                async with contextlib.aclosing(stream) as lines:
                    async for line in lines:
                        self._take(line)
                        waits = iter(pauses)
            except TimeoutError:
                pass  # it was quiet, and goes on where it was
            except (*OUTAGES, _BrokenError, msgspec.MsgspecError, ValueError) as error:
                self._version = ""
                _log.info("the watch of pods begins anew: %s", brief(error))
            await asyncio.sleep(next(waits))

    def _resource(self) -> str:
        """Without a version a watch begins with all pods that there are."""
        asked = {
            "watch": "true",
            "labelSelector": names.LABEL_JOB,
            "timeoutSeconds": str(WATCH_SECONDS),
            "allowWatchBookmarks": "true",
        }
        if self._version:
            return f"{self._path}?{urlencode({**asked, 'resourceVersion': self._version})}"
        if self._marks:  # what was deleted meanwhile is not told
            self._marks.clear()
            self._wake_all()
        return f"{self._path}?{urlencode(asked)}"

    def _take(self, line: bytes) -> None:
        change = self._changes.decode(line)
        if change.type == "ERROR":
            raise _BrokenError(bytes(change.object).decode(errors="replace")[:200])
        raw = self._pods.decode(change.object)
        meta = raw.metadata
        self._version = meta.resource_version
        if change.type == "BOOKMARK":
            return
        job = (meta.labels or {}).get(names.LABEL_JOB, "")
        if change.type == "DELETED":
            self._marks.pop(meta.uid, None)
        elif self._marks.get(meta.uid) == (mark := _mark(raw)):
            return
        else:
            self._marks[meta.uid] = mark
        self._wake((meta.namespace, job))


def _mark(raw: RawPod) -> int:
    """Equal for versions of a pod between which no decision can change."""
    pod = pod_of(raw)
    if pod is None:
        return 0
    waiting = "" if pod.waiting in STARTING else pod.waiting
    lives = (pod.phase, pod.ready, pod.deleting, pod.node, pod.restarts, pod.exit_code)
    return hash((*lives, pod.reason, waiting, pod.unschedulable))
