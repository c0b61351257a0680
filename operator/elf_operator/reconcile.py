"""Observe, plan, apply: the loop, once. The world is behind the `Cluster` protocol."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Protocol

from elf_operator import status
from elf_operator.builders import Defaults, Manifest
from elf_operator.observation import Observation
from elf_operator.planner import plan
from elf_operator.plans import Delete, Event, Plan

_log = logging.getLogger(__name__)
FIRST_BATCH = 4
LARGEST_BATCH = 64
"""Pods are created and deleted in batches that double while the server does it: 4, 8, … 64; then so many are
always under way."""


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
        if manifest["kind"] != "Secret":
            await cluster.apply(manifest)
    # They come last, and no two have to do with each other.
    await _slow_start([partial(cluster.apply, m) for m in decided.apply if m["kind"] == "Secret"])
    await _slow_start([partial(cluster.delete_pod, seen.job.namespace, d) for d in decided.delete])
    for kind, thing in decided.remove:
        await cluster.remove(seen, kind, thing)
    await _slow_start([partial(cluster.create_pod, c.manifest) for c in decided.create])
    if decided.status != _own(seen):
        await cluster.write_status(seen, dict(decided.status))
    for event in decided.events:
        await cluster.emit(seen, event)


def _own(seen: Observation) -> dict[str, Any]:
    return {key: value for key, value in seen.status.items() if key != "training"}


async def _all(work: Iterable[Awaitable[None]]) -> None:
    """Do all of it, then raise the first error, if any."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


async def _slow_start(work: list[Callable[[], Awaitable[None]]]) -> None:
    """In doubling batches, so that a server that refuses (quota, admission) refuses few; then full width."""
    done, size = 0, FIRST_BATCH
    while done < len(work) and size < LARGEST_BATCH:
        await _all(start() for start in work[done : done + size])
        done, size = done + size, 2 * size
    rest, failed = iter(work[done:]), False

    async def worker() -> None:
        nonlocal failed
        for start in rest:
            if failed:
                return
            try:
                await start()
            except BaseException:
                failed = True
                raise

    await _all(worker() for _ in range(min(size, len(work) - done)))


def _explain(seen: Observation, decided: Plan) -> None:
    job = seen.job.name
    about = {"job": job, "namespace": seen.job.namespace}
    for delete in decided.delete:
        _log.info("%s: deleting %s: %s", job, delete.name, delete.reason, extra={**about, "pod": delete.name})
    for create in decided.create:
        pod = create.manifest["metadata"]["name"]
        _log.info("%s: creating %s: %s", job, pod, create.reason, extra={**about, "pod": pod})
    for event in decided.events:
        _log.info("%s: %s: %s", job, event.reason, event.message, extra={**about, "reason": event.reason})
