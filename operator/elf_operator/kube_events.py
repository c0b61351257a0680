"""What people are told of jobs: Events, through the Kubernetes API."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from elf_operator import names
from elf_operator.announcements import Announcements, Written
from elf_operator.apiserver import MERGE_PATCH, ApiError, KubeApi, unless_missing
from elf_operator.plans import Event
from elf_operator.spec import Job
from elf_operator.status import rfc3339
from elf_worker.contract import API_GROUP, API_VERSION


class KubeEvents:
    """Says the same thing once, and counts it. `on_dropped` is called for each Event that is one too many."""

    def __init__(self, api: KubeApi, on_dropped: Callable[[], None]) -> None:
        self._api = api
        self._announcements = Announcements(time.time)
        self._on_dropped = on_dropped

    def forget(self, uid: str) -> None:
        """The job is gone."""
        self._announcements.forget(uid)

    async def emit(self, job: Job, event: Event) -> None:
        """One Event; that it could not be written stops nothing."""
        path = f"api/v1/namespaces/{job.namespace}/events"
        if not self._announcements.admit(job.uid):
            self._on_dropped()
            return
        with contextlib.suppress(ApiError):
            known = self._announcements.known(job.uid, event)
            if known is not None:
                known = replace(known, count=known.count + 1)
                again = {"count": known.count, "lastTimestamp": rfc3339(time.time())}
                with unless_missing():
                    await self._api.request("PATCH", f"{path}/{known.name}", again, content=MERGE_PATCH)
                    self._announcements.wrote(job.uid, event, known)
                    return
            made = await self._api.request("POST", path, _event(job, event, rfc3339(time.time())))
            self._announcements.wrote(job.uid, event, Written(made["metadata"]["name"]))


def _event(job: Job, event: Event, now: str) -> dict[str, Any]:
    about = {
        "apiVersion": f"{API_GROUP}/{API_VERSION}",
        "kind": "ElfTrainingJob",
        "name": job.name,
        "namespace": job.namespace,
        "uid": job.uid,
    }
    return {
        "metadata": {"generateName": f"{job.name}.", "namespace": job.namespace},
        "involvedObject": about,
        "type": event.type,
        "reason": event.reason,
        "message": event.message[:1000],
        "source": {"component": names.MANAGER},
        "reportingComponent": names.MANAGER,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
