"""Observe, plan, apply: the loop, once. The world is behind the `Cluster` protocol."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Protocol

from elf_operator.builders import Defaults, Manifest
from elf_operator.observation import Observation
from elf_operator.planner import plan
from elf_operator.plans import Delete, Event, Plan

_log = logging.getLogger(__name__)
FIRST_BATCH = 4
LARGEST_BATCH = 64
"""Pods are created in batches that double while the server takes them: 4, 8, … 64 at a time."""


class Cluster(Protocol):
    """Where pods live: a Kubernetes API server, or this machine."""

    async def observe(self, namespace: str, name: str) -> Observation | None:
        """A fresh look at one job; None if it is gone or being deleted."""

    async def apply(self, manifest: Manifest) -> None:
        """Make an object be as it says."""

    async def remove(self, kind: str, namespace: str, name: str) -> None:
        """Delete an object that is not a pod; that it is gone is as good."""

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
) -> float | None:
    """Bring one job closer to what it should be.

    Returns the seconds after which to look again even if nothing happens, or None. Raises whatever the
    cluster raises; whatever was done until then is done, and doing it again does no harm.
    """
    seen = await cluster.observe(namespace, name)
    if seen is None:
        return None
    decided = plan(seen, clock(), defaults)
    _explain(name, decided)
    for manifest in decided.apply:
        await cluster.apply(manifest)
    await _all(cluster.delete_pod(namespace, d) for d in decided.delete)
    for kind, thing in decided.remove:
        await cluster.remove(kind, namespace, thing)
    await _slow_start([partial(cluster.create_pod, c.manifest) for c in decided.create])
    if decided.status != _own(seen):
        await cluster.write_status(seen, dict(decided.status))
    for event in decided.events:
        await cluster.emit(seen, event)
    return decided.again_after


def _own(seen: Observation) -> dict[str, Any]:
    return {key: value for key, value in seen.status.items() if key != "training"}


async def _all(work: Iterable[Awaitable[None]]) -> None:
    """Do all of it, then raise the first error, if any."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


async def _slow_start(work: list[Callable[[], Awaitable[None]]]) -> None:
    """In doubling batches, so that a server that refuses (quota, admission) refuses few."""
    done, size = 0, FIRST_BATCH
    while done < len(work):
        await _all(start() for start in work[done : done + size])
        done, size = done + size, min(2 * size, LARGEST_BATCH)


def _explain(name: str, decided: Plan) -> None:
    for delete in decided.delete:
        _log.info("%s: deleting %s: %s", name, delete.name, delete.reason)
    for create in decided.create:
        _log.info("%s: creating %s: %s", name, create.manifest["metadata"]["name"], create.reason)
    for event in decided.events:
        _log.info("%s: %s: %s", name, event.reason, event.message)
