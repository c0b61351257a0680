"""kopf handlers and the work queue. Handlers only wake the loop; what they were told is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import aiohttp
import kopf

from elf_operator import kube, names
from elf_operator.builders import Defaults
from elf_operator.reconcile import Cluster, reconcile
from elf_operator.running import HEARTBEAT_SLACK_SECONDS
from elf_operator.watchmen import NODE_GRACE_SECONDS, Nodes, Pulse
from elf_worker.contract import API_GROUP, API_PLURAL, API_VERSION

_log = logging.getLogger(__name__)
RESYNC_SECONDS = 60.0
LONGEST_BACKOFF = 30.0
Key = tuple[str, str]
"""(namespace, name) of a job."""


class Endless:
    """Backoffs that never end and can be iterated again: an outage is waited out, however long it takes."""

    def __iter__(self) -> Iterator[float]:
        pause = 0.25
        while True:
            yield pause * random.uniform(0.75, 1.25)
            pause = min(2 * pause, 10.0)


class Queue:
    """One worker a job. Wakes that come while it works are one more pass, not many."""

    def __init__(self, cluster: Cluster, defaults: Defaults, on_outage: Callable[[], None]) -> None:
        self._cluster = cluster
        self._on_outage = on_outage
        self._defaults = defaults
        self._wakes: dict[Key, asyncio.Event] = {}
        self._workers: dict[Key, asyncio.Task[None]] = {}
        self._marks: dict[Key, Any] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}

    def wake_if_new(self, key: Key, mark: Any) -> None:
        """Look at this job soon, unless this mark was the last one seen of it.

        Progress is written twice a second; it must not cost a look at the cluster each time. A mark that
        was missed or lost costs nothing but the wait until the resync.
        """
        if self._marks.get(key) != mark:
            self._marks[key] = mark
            self.wake(key)

    def wake(self, key: Key) -> None:
        """Look at this job soon."""
        if key not in self._workers:
            self._wakes[key] = asyncio.Event()
            self._workers[key] = asyncio.get_running_loop().create_task(self._work(key))
        self._wakes[key].set()

    def wake_unless(self, key: Key, seconds: float) -> None:
        """Look at this job when so much time has passed since this was said last."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self.wake, key)

    def wake_all(self) -> None:
        """Look at every job soon."""
        for wake in self._wakes.values():
            wake.set()

    def forget(self, key: Key) -> None:
        """The job is gone; its objects go by their owner references."""
        if worker := self._workers.pop(key, None):
            worker.cancel()
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._wakes.pop(key, None)
        self._marks.pop(key, None)

    async def close(self) -> None:
        """Stop all workers."""
        for timer in self._timers.values():
            timer.cancel()
        workers = list(self._workers.values())
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, key: Key) -> None:
        failures = 0
        pause: float | None = RESYNC_SECONDS
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wakes[key].wait()
            self._wakes[key].clear()
            try:
                after = await reconcile(self._cluster, *key, self._defaults, time.time)
                failures = 0
                pause = min(RESYNC_SECONDS, after) if after is not None else RESYNC_SECONDS
            except (kube.ApiError, aiohttp.ClientError, TimeoutError, OSError) as error:
                self._on_outage()
                failures += 1
                pause = min(LONGEST_BACKOFF, 0.25 * 2**failures) * random.uniform(0.75, 1.25)
                _log.warning("%s/%s: %s; again in %.1f s", *key, brief(error), pause)
            except Exception:
                failures += 1
                pause = min(LONGEST_BACKOFF, 2.0**failures)
                _log.exception("%s/%s: the plan failed; again in %.1f s", *key, pause)


def brief(error: Exception) -> str:
    """An API error on one line."""
    if isinstance(error, kube.ApiError):
        return f"HTTP {error.status} {error.reason}: {str(error.body)[:300]}"
    return f"{type(error).__name__} {error}"


def registry(defaults: Defaults, nodes: bool = True) -> kopf.OperatorRegistry:
    """The handlers: start, stop, and a wake for every event of a job, of one of its pods, or of a node.

    `nodes`: whether this operator may watch nodes.
    """
    made = kopf.OperatorRegistry()

    @kopf.on.login(registry=made)
    def log_in(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.startup(registry=made)
    async def start(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
        configure(settings)
        memo.stack = contextlib.AsyncExitStack()
        api = await memo.stack.enter_async_context(kube.connect())
        memo.pulse, memo.nodes = Pulse(time.monotonic), Nodes(time.monotonic)
        cluster = kube.KubeCluster(api, memo.pulse, memo.nodes)
        memo.queue = Queue(cluster, defaults, on_outage=memo.pulse.listen_anew)
        memo.stack.push_async_callback(memo.queue.close)

    @kopf.on.cleanup(registry=made)
    async def stop(memo: kopf.Memo, **_: Any) -> None:
        await memo.stack.aclose()

    @kopf.on.event(API_GROUP, API_VERSION, API_PLURAL, registry=made)
    async def job_changed(type: str, body: kopf.Body, memo: Any, **_: Any) -> None:
        key = (str(body.metadata.namespace), str(body.metadata.name))
        uid = str(body.metadata.uid)
        if type == "DELETED":
            memo.queue.forget(key)
            memo.pulse.forget(uid)
        else:
            memo.queue.wake_if_new(key, mark_of(body))
            memo.pulse.note(uid, body.status.get("training") or {})
            policy = body.spec.get("failurePolicy") or {}
            patience = policy.get("mdcTimeoutSeconds", 5) + HEARTBEAT_SLACK_SECONDS
            memo.queue.wake_unless(key, patience + 0.1)

    @kopf.on.event("v1", "pods", labels={names.LABEL_JOB: kopf.PRESENT}, registry=made)
    async def pod_changed(namespace: str | None, labels: Mapping[str, str], memo: Any, **_: Any) -> None:
        memo.queue.wake((str(namespace), labels[names.LABEL_JOB]))

    if nodes:

        @kopf.on.event("v1", "nodes", registry=made)
        async def node_changed(type: str | None, body: kopf.Body, memo: Any, **_: Any) -> None:
            if memo.nodes.note(type, body):
                memo.queue.wake_all()
                asyncio.get_running_loop().call_later(NODE_GRACE_SECONDS + 0.1, memo.queue.wake_all)

    return made


def mark_of(body: Mapping[str, Any]) -> tuple[Any, ...]:
    """What of a job makes the operator act: its spec, and of its progress what concerns data centers."""
    meta, training = body["metadata"], (body.get("status") or {}).get("training") or {}
    acted_on = ("phase", "incarnation", "unreachable")
    slow = tuple(str(entry.get("uid")) for entry in training.get("stragglers") or ())
    return (meta.get("uid"), meta.get("generation"), slow, *(str(training.get(key)) for key in acted_on))


def configure(settings: kopf.OperatorSettings) -> None:
    """Only our own pods are watched, nothing of ours is written onto objects, and outages are waited out."""
    settings.posting.enabled = False
    settings.networking.error_backoffs = Endless()
    settings.networking.request_timeout = 20
    settings.watching.server_timeout = 120
    settings.watching.client_timeout = 150
    settings.watching.label_selectors["v1", "pods"] = names.LABEL_JOB
    settings.queueing.worker_limit = 200
    settings.scanning.disabled = True
