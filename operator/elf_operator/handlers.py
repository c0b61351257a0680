"""kopf handlers. They only wake the work queue; what they were told is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from elf_operator import apiserver, health, kube, logging_in, master
from elf_operator.apiserver import OUTAGES, brief
from elf_operator.builders import Defaults
from elf_operator.dashboard.gallery import Gallery, Overseen
from elf_operator.dashboard.server import served
from elf_operator.kube_leases import KubeLeases
from elf_operator.leadership import Election
from elf_operator.logging_in import kopf
from elf_operator.metrics import Metrics
from elf_operator.podwatch import PodWatch
from elf_operator.progress import HEARTBEAT_SLACK_SECONDS, acted_on
from elf_operator.reach import CONNECT_SECONDS
from elf_operator.watchmen import NODE_GRACE_SECONDS, OUTAGE_GRACE_SECONDS, Nodes, Pulse
from elf_operator.workqueue import Queue
from elf_worker.contract import API_GROUP, API_PLURAL, API_VERSION

_log = logging.getLogger(__name__)
LIST_SECONDS = 30.0
"""How often all jobs are listed, to find what no event has told of, and to know that the cluster answers."""
LONGEST_PAUSE = 2.0
"""Between attempts at a watch. Until it is back, what happens to pods is not seen: jobs wait for it."""
GOODBYE_SECONDS = 15.0
"""What kopf may take to stop before the process is ended."""


@dataclass(frozen=True)
class Settings:
    """How this operator was started."""

    defaults: Defaults
    namespaces: Sequence[str] = ()
    """The only ones it looks at; none: all, and nodes too."""
    lease: tuple[str, str] | None = None
    """(namespace, name) of the Lease without which it does nothing but watch; None: it is the only one."""
    listen: tuple[str, int] | None = None
    """(address, port) of its health and metrics."""
    dashboard: tuple[str, int] | None = None
    """(address, port) of its dashboard, which has no login."""
    master_key: tuple[str, str] | None = None
    """(namespace, name) of the Secret that pods' identities come from; None: their links are plain TCP."""


class Endless:
    """Backoffs that never end and can be iterated again: an outage is waited out, however long it takes."""

    def __iter__(self) -> Iterator[float]:
        pause = 0.25
        while True:
            yield pause * random.uniform(0.75, 1.25)
            pause = min(2 * pause, LONGEST_PAUSE)


class Operator:
    """What the handlers share while the operator runs."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = contextlib.AsyncExitStack()
        self._metrics = Metrics()
        self._health = health.Health(time.monotonic)
        self.pulse, self.nodes = Pulse(time.monotonic), Nodes(time.monotonic)
        self.gallery = Gallery(time.time) if settings.dashboard else None
        self._look_again: asyncio.TimerHandle | None = None
        self.queue: Queue
        self.cluster: kube.KubeCluster

    async def start(self, kopfs: kopf.OperatorSettings) -> None:
        """Serve health and metrics, connect, get the master key, stand for election.

        Raises OSError if the port is taken, MasterError without the key that it was told to use.
        """
        settings, metrics = self._settings, self._metrics
        logging.getLogger().addHandler(metrics.counts_errors())
        if settings.listen:
            await self._stack.enter_async_context(health.served(self._health, metrics, *settings.listen))
        way = await self._stack.enter_async_context(logging_in.connect(kopfs))
        bare = apiserver.KubeApi(way)
        defaults = await self._vouching(bare)
        may_write, leading = self._stand(bare)
        api = bare.watched(may_write, self._requested)
        self.cluster = kube.KubeCluster(api, self.pulse, self.nodes, metrics.events_dropped.inc)
        seen = Overseen(self.cluster, self.gallery) if self.gallery else self.cluster
        self.queue = Queue(seen, defaults, self._listen_anew, leading, metrics)
        self._stack.push_async_callback(self.queue.close)
        metrics.show("jobs", "Jobs there are.", lambda: float(len(self.queue)))
        metrics.show_by("state", "jobs_by_state", "Jobs by their state.", self.queue.states)
        metrics.show("leading", "Whether this operator acts.", lambda: float(may_write()))
        metrics.show("list_silence_seconds", "Seconds since the last good LIST.", self._health.silence)
        for namespace in settings.namespaces or (None,):
            self._spawn(self._list_jobs(api, namespace))
            watch = PodWatch(way, namespace, self.queue.wake, self.queue.wake_all)
            self._spawn(watch.run(Endless()))
        if self.gallery and settings.dashboard:
            await self._serve_dashboard(self.gallery, *settings.dashboard)

    async def stop(self) -> None:
        """Leave everything as it is, and the Lease to others."""
        await self._stack.aclose()

    async def _vouching(self, api: apiserver.KubeApi) -> Defaults:
        """The defaults, with the authority for jobs that begin from now on."""
        if self._settings.master_key is None:
            _log.warning("no --master-key: pods of new jobs talk to each other without encryption")
            return self._settings.defaults
        authority = await master.load(api, *self._settings.master_key)
        return replace(self._settings.defaults, authority=authority)

    async def _serve_dashboard(self, gallery: Gallery, address: str, port: int) -> None:
        """Without a free port there is no dashboard; jobs are looked after all the same."""
        try:
            shown = await self._stack.enter_async_context(served(gallery, address, port))
        except OSError as error:
            _log.error("no dashboard (--dashboard %s:%d): %s", address, port, error)
            return
        _log.info("dashboard: %s", shown.url)

    def _stand(self, api: apiserver.KubeApi) -> tuple[Callable[[], bool], asyncio.Event]:
        """(whether a write may begin, set once this operator leads)."""
        if self._settings.lease is None:
            alone = asyncio.Event()
            alone.set()
            return lambda: True, alone
        # Within one pod the name is the same: a container that starts again leads on at once.
        me = os.environ.get("ELF_POD_NAME") or f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        election = Election(KubeLeases(api, *self._settings.lease), me)
        self._stack.push_async_callback(election.resign)
        self._spawn(election.run(_end_at_once))
        return election.entitled, election.leading

    def _spawn(self, work: Any) -> None:
        self._stack.callback(asyncio.get_running_loop().create_task(work).cancel)

    def _requested(self, verb: str, resource: str, code: int, seconds: float) -> None:
        self._metrics.requested(verb, resource, code, seconds)
        if verb == "list" and 200 <= code <= 299:
            self._health.listed()

    def _listen_anew(self) -> None:
        """The API server did not answer: whom it has not heard of may be well."""
        self.pulse.listen_anew()
        self.nodes.listen_anew()
        if self._look_again is not None:
            self._look_again.cancel()
        later = asyncio.get_running_loop().call_later
        self._look_again = later(OUTAGE_GRACE_SECONDS + 0.1, self.queue.wake_all)

    async def _list_jobs(self, api: apiserver.KubeApi, namespace: str | None) -> None:
        away = False
        while True:
            pause = LIST_SECONDS
            try:
                existing = await api.jobs(namespace)
                self.queue.resync(namespace, existing)
                if away:  # those that have failed meanwhile wait for longer than they need to
                    self.queue.wake_all()
                away = False
                if self.gallery:
                    self.gallery.keep(namespace, existing)
            except OUTAGES as error:
                away, pause = True, LONGEST_PAUSE
                self._listen_anew()
                _log.warning("jobs cannot be listed: %s", brief(error))
            await asyncio.sleep(pause)


def registry(settings: Settings) -> kopf.OperatorRegistry:
    """The handlers: start, stop, and a wake for every event of a job or of a node."""
    made = kopf.OperatorRegistry()

    @kopf.on.login(registry=made)
    def log_in(settings: kopf.OperatorSettings, **_: Any) -> kopf.ConnectionInfo | None:
        return logging_in.log_in(settings)

    @kopf.on.startup(registry=made)
    async def start(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
        configure(settings)
        memo.operator = operator
        try:
            await operator.start(settings)
        except master.MasterError as error:
            raise kopf.PermanentError(str(error)) from error

    @kopf.on.cleanup(registry=made)
    async def stop(**_: Any) -> None:
        # A watcher of kopf that is cancelled while it logs in anew swallows that, and kopf waits for it for
        # ever (1.45.2). From here on nobody looks at any job: better no process than such a one.
        asyncio.get_running_loop().call_later(GOODBYE_SECONDS, _end_at_once)
        await operator.stop()

    operator = Operator(settings)
    kopf.on.event(API_GROUP, API_VERSION, API_PLURAL, registry=made)(_job_changed)
    if not settings.namespaces:
        kopf.on.event("v1", "nodes", registry=made)(_node_changed)
    return made


async def _job_changed(type: str | None, body: kopf.Body, memo: Any, **_: Any) -> None:
    operator: Operator = memo.operator
    key = (str(body.metadata.namespace), str(body.metadata.name))
    uid = str(body.metadata.uid)
    if type == "DELETED":
        operator.queue.forget(key)
        operator.cluster.forget(uid)
        if operator.gallery:
            operator.gallery.forget(key)
        return
    if operator.gallery:
        operator.gallery.progress(body)
    operator.queue.wake_if_new(key, mark_of(body))
    operator.pulse.note(uid, body.status.get("training") or {})
    policy = body.spec.get("failurePolicy") or {}
    patience = policy.get("mdcTimeoutSeconds", 5) + HEARTBEAT_SLACK_SECONDS
    operator.queue.wake_unless(key, patience + 0.1)


async def _node_changed(type: str | None, body: kopf.Body, memo: Any, **_: Any) -> None:
    operator: Operator = memo.operator
    if operator.nodes.note(type, body):
        operator.queue.wake_all()
        asyncio.get_running_loop().call_later(NODE_GRACE_SECONDS + 0.1, operator.queue.wake_all)


def _end_at_once() -> None:
    """Not one write more: another operator acts, or should. Kubernetes starts this one again."""
    logging.shutdown()
    os._exit(1)


def mark_of(body: Mapping[str, Any]) -> tuple[Any, ...]:
    """What of a job makes the operator act: its spec, and of its progress what concerns data centers."""
    meta, training = body["metadata"], (body.get("status") or {}).get("training") or {}
    return (meta.get("uid"), meta.get("generation"), *acted_on(training))


class NoDiff(kopf.DiffBaseStorage):
    """kopf compares each object with what it was, for handlers that we have none of."""

    def build(self, *, body: Any, extra_fields: Any = None, ignored_fields: Any = None) -> Any:
        """Nothing of it is kept."""
        return {}

    def fetch(self, *, body: Any) -> None:
        """Nothing was kept."""

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Nothing is kept."""


class NoProgress(kopf.ProgressStorage):
    """Nor do we have handlers that are to be tried again."""

    def fetch(self, *, key: Any, body: Any) -> None:
        """Nothing was kept."""

    def store(self, *, key: Any, record: Any, body: Any, patch: Any) -> None:
        """Nothing is kept."""

    def purge(self, *, key: Any, body: Any, patch: Any) -> None:
        """Nothing was kept."""

    def touch(self, *, body: Any, patch: Any, value: Any) -> None:
        """Nobody is to be woken."""

    def clear(self, *, essence: Any) -> Any:
        """As it is."""
        return essence


def configure(settings: kopf.OperatorSettings) -> None:
    """Nothing of kopf's is written onto objects, and outages are waited out."""
    settings.posting.enabled = False
    settings.persistence.diffbase_storage, settings.persistence.progress_storage = NoDiff(), NoProgress()
    settings.networking.error_backoffs = Endless()
    settings.networking.request_timeout = 20
    settings.networking.connect_timeout = CONNECT_SECONDS
    settings.watching.server_timeout = 120
    settings.watching.client_timeout = 150
    settings.queueing.worker_limit = 200
    settings.scanning.disabled = True
