"""Observe, plan, apply: the loop, once. The world is behind the `Cluster` protocol."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Any, Protocol

from elf_operator import status
from elf_operator.builders import Defaults, Manifest
from elf_operator.observation import Observation
from elf_operator.planner import plan
from elf_operator.plans import Create, Delete, Event, Issue, Plan

_log = logging.getLogger(__name__)
FIRST_BATCH = 4
LARGEST_BATCH = 64
"""Of pods and Secrets 4 are under way at first. Each that the server takes makes room for one more: 8, 16,
… 64 after as many round trips."""
SECRETS_AHEAD = 1
"""So many Secrets are sent before the pods that need only earlier ones."""


class RefusedError(Exception):
    """The cluster will not have it like this, now or later; a person must help. `reason` is in CamelCase."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Cluster(Protocol):
    """Where pods live: a Kubernetes API server, or this machine."""

    async def observe(self, namespace: str, name: str) -> Observation | None:
        """A fresh look at one job; None if it is gone or being deleted."""

    async def apply(self, manifest: Manifest) -> None:
        """Make an object be as it says.

        Raises RefusedError; so does `create_pod`.
        """

    async def remove(self, seen: Observation, kind: str, name: str) -> None:
        """Delete an object of the job that is not a pod; that it is gone is as good."""

    async def create_pod(self, manifest: Manifest) -> None:
        """Create a pod; that it exists already is as good."""

    async def delete_pod(self, namespace: str, delete: Delete) -> None:
        """Delete the pod with this name and UID; that it is gone is as good."""

    async def write_status(self, seen: Observation, status: dict[str, Any]) -> None:
        """Replace the operator's part of the status."""

    async def emit(self, seen: Observation, event: Event) -> None:
        """Tell people."""


async def reconcile(
    cluster: Cluster, namespace: str, name: str, defaults: Defaults, clock: Callable[[], float]
) -> Plan | None:
    """Bring one job closer to what it should be.

    Returns the plan that was carried out, or None if there is no such job. Raises whatever the cluster
    raises; whatever was done until then is done, and doing it again does no harm.
    """
    seen = await cluster.observe(namespace, name)
    if seen is None:
        return None
    decided = plan(seen, clock(), defaults)
    _explain(seen, decided)
    try:
        await _carry_out(cluster, seen, decided)
    except RefusedError as error:
        told = status.blamed(decided.status, error.reason, str(error))
        if told != _own(seen):
            await cluster.write_status(seen, told)
        await cluster.emit(seen, Event("Warning", error.reason, str(error)))
        raise
    return decided


async def _carry_out(cluster: Cluster, seen: Observation, decided: Plan) -> None:
    for manifest in decided.apply:
        await cluster.apply(manifest)
    await _slow_start(partial(cluster.delete_pod, seen.job.namespace, d) for d in decided.delete)
    for kind, thing in decided.remove:
        await cluster.remove(seen, kind, thing)
    await _slow_start(_Births(cluster, seen, decided).work())
    if decided.status != _own(seen):
        await cluster.write_status(seen, dict(decided.status))
    for event in decided.events:
        await cluster.emit(seen, event)


def _own(seen: Observation) -> dict[str, Any]:
    return {key: value for key, value in seen.status.items() if key != "training"}


class _Births:
    """Secrets and pods, each pod after the Secrets that it needs.

    To make a Secret of homes takes as long as many requests, so it is made while pods of the one before are
    on their way.
    """

    def __init__(self, cluster: Cluster, seen: Observation, decided: Plan) -> None:
        self._cluster, self._seen, self._decided = cluster, seen, decided
        self._over = {issue.name: asyncio.Event() for issue in decided.issue}
        self._made: set[str] = set()

    def work(self) -> Iterator[Callable[[], Awaitable[None]]]:
        """In the order of the plan. Whoever waits comes after those it waits for, or all might wait."""
        issues, begun = self._decided.issue, 0
        number = {issue.name: i for i, issue in enumerate(issues, start=1)}
        for create in self._decided.create:
            wanted = max((number[name] for name in create.needs), default=0) + SECRETS_AHEAD
            yield from (partial(self._issue, issue) for issue in issues[begun:wanted])
            begun = max(begun, wanted)
            yield partial(self._create, create)
        yield from (partial(self._issue, issue) for issue in issues[begun:])

    async def _issue(self, issue: Issue) -> None:
        try:
            await self._cluster.apply(issue.make())
            self._made.add(issue.name)
        finally:
            self._over[issue.name].set()

    async def _create(self, create: Create) -> None:
        for name in create.needs:
            await self._over[name].wait()
        if self._made.issuperset(create.needs):  # otherwise the Secret's own error is raised
            job = self._seen.job
            about = {"job": job.name, "namespace": job.namespace, "pod": create.name}
            _log.info("%s: creating %s: %s", job.name, create.name, create.reason, extra=about)
            await self._cluster.create_pod(create.make())


async def _slow_start(work: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Few at first, more with each that is done: a server that refuses (quota, admission) refuses few.

    After an error nothing more begins; it is raised when everything that has begun is done.
    """
    rest, width = iter(work), FIRST_BATCH
    errors: list[Exception] = []

    async def worker() -> None:
        nonlocal width
        for start in rest:
            try:
                await start()
            except Exception as error:
                errors.append(error)
            if errors:
                return
            if width < LARGEST_BATCH:
                width += 1
                group.create_task(worker())

    async with asyncio.TaskGroup() as group:
        for _ in range(FIRST_BATCH):
            group.create_task(worker())
    if errors:
        raise errors[0]


def _explain(seen: Observation, decided: Plan) -> None:
    job = seen.job.name
    about = {"job": job, "namespace": seen.job.namespace}
    for delete in decided.delete:
        _log.info("%s: deleting %s: %s", job, delete.name, delete.reason, extra={**about, "pod": delete.name})
    for event in decided.events:
        _log.info("%s: %s: %s", job, event.reason, event.message, extra={**about, "reason": event.reason})
