"""The pictures of all jobs, kept up to date from what the operator sees anyway. Asks nobody for anything.

A bug in here is logged and costs a picture. It never reaches the loop that keeps data centers alive.
"""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec

from elf_operator import names
from elf_operator.builders import Manifest
from elf_operator.dashboard.course import Course
from elf_operator.dashboard.picture import Json, outline, picture, ready_homes, summary, tree
from elf_operator.observation import Observation
from elf_operator.plans import Delete, Event
from elf_operator.reconcile import Cluster
from elf_operator.spec import parse_job
from elf_worker.contract import WIRING_KEY, Role, Wiring

_log = logging.getLogger(__name__)
FRAMES = 24
"""Trees kept of each job, so that who asks once a second misses nothing that was there for a moment."""
JOBS = 500
"""Jobs in the list; more are counted."""
Key = tuple[str, str]
P = ParamSpec("P")


def _harmless(work: Callable[Concatenate[Gallery, P], None]) -> Callable[Concatenate[Gallery, P], None]:
    """Errors end here."""

    @functools.wraps(work)
    def guarded(self: Gallery, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            work(self, *args, **kwargs)
        except Exception:
            _log.exception("the dashboard could not follow; the job itself is not concerned")

    return guarded


class _Exhibit:
    """What is kept of one job."""

    def __init__(self, seen: Observation) -> None:
        self.seen = seen
        """Without the pods of homes: there may be 10,000."""
        self.ready: frozenset[int] | None = None
        self.course = Course()
        self.frames: deque[Json] = deque(maxlen=FRAMES)


class Gallery:
    """Follows jobs; `clock` gives seconds since the epoch."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._jobs: dict[Key, _Exhibit] = {}

    @_harmless
    def look(self, seen: Observation) -> None:
        """A look at one job, as the operator took it."""
        exhibit = self._exhibit(seen)
        exhibit.ready = ready_homes(seen)
        exhibit.seen = replace(seen, pods=tuple(pod for pod in seen.pods if pod.role is not Role.HOME))
        self._redraw(exhibit)

    @_harmless
    def progress(self, body: Mapping[str, Any]) -> None:
        """An event of the job itself: its spec and status. Pods and wiring are as last seen."""
        meta, status = body["metadata"], dict(body.get("status") or {})
        known = self._jobs.get((str(meta.get("namespace", "default")), str(meta["name"])))
        if known is not None and _same(known.seen, meta):
            self._update(known, status)
            return
        job = parse_job({"metadata": dict(meta), "spec": dict(body.get("spec") or {})})
        exhibit = self._exhibit(Observation(job=job))
        exhibit.seen = replace(exhibit.seen, job=job, status=status)
        self._redraw(exhibit)

    @_harmless
    def applied(self, manifest: Manifest) -> None:
        """The operator has written an object; the wiring is the one that matters."""
        meta = manifest["metadata"]
        text = manifest.get("data", {}).get(WIRING_KEY)
        known = self._jobs.get((meta["namespace"], meta["labels"][names.LABEL_JOB]))
        if known is not None and text is not None:
            known.seen = replace(known.seen, wiring=Wiring.from_json(text))
            self._redraw(known)

    @_harmless
    def reported(self, seen: Observation, status: Mapping[str, Any]) -> None:
        """The operator has written its part of the status."""
        if known := self._jobs.get((seen.job.namespace, seen.job.name)):
            training = {"training": known.seen.training} if known.seen.training else {}
            self._update(known, {**status, **training})

    @_harmless
    def forget(self, key: Key) -> None:
        """The job is gone."""
        self._jobs.pop(key, None)

    @_harmless
    def keep(self, namespace: str | None, existing: Iterable[Key]) -> None:
        """All jobs there are in a namespace (None: anywhere); forget the others."""
        there = set(existing)
        for key in [k for k in self._jobs if namespace in (None, k[0]) and k not in there]:
            del self._jobs[key]

    def jobs(self) -> Json:
        """The list of jobs."""
        found = [summary(self._jobs[key].seen) for key in sorted(self._jobs)[:JOBS]]
        return {"now": self._clock(), "count": len(self._jobs), "jobs": found}

    def job(self, key: Key, after: int = 0) -> Json | None:
        """One job's picture, with the trees it had since the frame `after`; None if there is no such job."""
        exhibit = self._jobs.get(key)
        if exhibit is None:
            return None
        frames = list(exhibit.frames)
        newer = [f for f in frames if f["frame"] > after] if after else frames[-1:]
        shown = picture(exhibit.seen, frames[-1]["tree"], exhibit.course.to_json())
        return {**shown, "now": self._clock(), "frame": frames[-1]["frame"], "frames": newer}

    def _exhibit(self, seen: Observation) -> _Exhibit:
        key = (seen.job.namespace, seen.job.name)
        known = self._jobs.get(key)
        if known is None or known.seen.job.uid != seen.job.uid:
            known = self._jobs[key] = _Exhibit(seen)
        return known

    def _update(self, exhibit: _Exhibit, status: dict[str, Any]) -> None:
        """Progress comes twice a second and mostly says nothing of the tree, which is then left as it is."""
        before = exhibit.seen
        exhibit.seen = replace(before, status=status)
        exhibit.course.note(self._clock(), status)
        if before.wiring is None or _without_training(before.status) != _without_training(status):
            self._redraw(exhibit)

    def _redraw(self, exhibit: _Exhibit) -> None:
        now = self._clock()
        exhibit.course.note(now, exhibit.seen.status)
        drawn = tree(exhibit.seen, exhibit.ready, now)
        last = exhibit.frames[-1] if exhibit.frames else None
        if last is not None and last["tree"] == drawn:
            return
        if last is not None and outline(last["tree"]) == outline(drawn):
            exhibit.frames.pop()
        # Numbered by time: they grow over restarts of the operator too.
        number = max(int(now * 1000), last["frame"] + 1 if last else 0)
        exhibit.frames.append({"frame": number, "time": now, "tree": drawn})


class Overseen:
    """A cluster whose looks and writes a gallery sees too. See `elf_operator.reconcile.Cluster`."""

    def __init__(self, cluster: Cluster, gallery: Gallery) -> None:
        self._cluster = cluster
        self._gallery = gallery

    async def observe(self, namespace: str, name: str) -> Observation | None:
        """See `Cluster.observe`."""
        seen = await self._cluster.observe(namespace, name)
        if seen is not None:
            self._gallery.look(seen)
        return seen

    async def apply(self, manifest: Manifest) -> None:
        """See `Cluster.apply`."""
        await self._cluster.apply(manifest)
        self._gallery.applied(manifest)

    async def remove(self, seen: Observation, kind: str, name: str) -> None:
        """See `Cluster.remove`."""
        await self._cluster.remove(seen, kind, name)

    async def create_pod(self, manifest: Manifest) -> None:
        """See `Cluster.create_pod`."""
        await self._cluster.create_pod(manifest)

    async def delete_pod(self, namespace: str, delete: Delete) -> None:
        """See `Cluster.delete_pod`."""
        await self._cluster.delete_pod(namespace, delete)

    async def write_status(self, seen: Observation, status: dict[str, Any]) -> None:
        """See `Cluster.write_status`."""
        await self._cluster.write_status(seen, status)
        self._gallery.reported(seen, status)

    async def emit(self, seen: Observation, event: Event) -> None:
        """See `Cluster.emit`."""
        await self._cluster.emit(seen, event)


def _same(seen: Observation, meta: Mapping[str, Any]) -> bool:
    return (seen.job.uid, seen.job.generation) == (meta.get("uid"), meta.get("generation"))


def _without_training(status: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in status.items() if key != "training"}
