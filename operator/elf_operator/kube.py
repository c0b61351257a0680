"""Jobs, and what they own, as seen through the Kubernetes API."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from elf_operator import lifetimes, names
from elf_operator.apiserver import MERGE_PATCH, ApiError, KubeApi, unless_missing
from elf_operator.builders import Manifest
from elf_operator.expectations import Expectations
from elf_operator.kube_events import KubeEvents
from elf_operator.observation import Observation, PodList, pod_of
from elf_operator.plans import Delete, Event
from elf_operator.reconcile import RefusedError
from elf_operator.spec import Job, parse_job
from elf_operator.watchmen import Nodes, Pulse
from elf_worker.contract import API_GROUP, API_PLURAL, API_VERSION, WIRING_KEY, Wiring

_ROOTS = {
    "ConfigMap": ("api/v1", "configmaps"),
    "Secret": ("api/v1", "secrets"),
    "NetworkPolicy": ("apis/networking.k8s.io/v1", "networkpolicies"),
    "Service": ("api/v1", "services"),
    "ServiceAccount": ("api/v1", "serviceaccounts"),
    "Role": ("apis/rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": ("apis/rbac.authorization.k8s.io/v1", "rolebindings"),
}
_APPLY = "application/apply-patch+yaml"
_JSON_PATCH = "application/json-patch+json"
_OVER = ("Succeeded", "Failed")
KNOWN_SECONDS = 50.0
"""How long a Service that was seen is not asked for again: nobody but us has to do with it. A job is looked
at unasked less often than that, so each such look asks."""


class KubeCluster:
    """See `elf_operator.reconcile.Cluster`."""

    def __init__(
        self,
        api: KubeApi,
        pulse: Pulse,
        nodes: Nodes,
        on_dropped_event: Callable[[], None] = lambda: None,
    ) -> None:
        self._api = api
        self._pulse = pulse
        self._nodes = nodes
        self._expectations = Expectations(time.monotonic)
        self._events = KubeEvents(api, on_dropped_event)
        self._services: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}
        self._jobs: dict[str, tuple[tuple[Any, ...], Job]] = {}
        """By UID: of what it was made, and the job."""

    def forget(self, uid: str) -> None:
        """The job is gone."""
        for memory in (self._pulse, self._expectations, self._events):
            memory.forget(uid)
        self._jobs.pop(uid, None)
        for key in [key for key, (_, found) in self._services.items() if _owned(found, uid)]:
            del self._services[key]

    async def observe(self, namespace: str, name: str) -> Observation | None:
        """Four reads at once, or three; the job's comes first to the server, so it is never the newest."""
        job, pods, wiring, service = await asyncio.gather(
            self._api.get(_job_path(namespace, name)),
            self._api.read(
                PodList, f"api/v1/namespaces/{namespace}/pods", {"labelSelector": names.selector(name)}
            ),
            self._api.get(_path("ConfigMap", namespace, names.wiring(name))),
            self._service(namespace, names.npdc(name)),
        )
        there = pods.items or ()
        if any(raw.status is not None and raw.status.phase in _OVER for raw in there):
            # The NPDC says how training ended before any pod leaves: who sees the one has to see the other.
            job = await self._api.get(_job_path(namespace, name))
        if job is None or job["metadata"].get("deletionTimestamp"):
            return None
        uid = job["metadata"]["uid"]
        owned = [raw for raw in there if raw.owned(uid)]
        wired = wiring is not None and _owned(wiring, uid)
        seen = tuple(pod for raw in owned if (pod := pod_of(raw)) is not None)
        status = job.get("status") or {}
        known = Wiring.from_json(wiring["data"][WIRING_KEY]) if wiring is not None and wired else None
        self._expectations.check(uid, job["metadata"]["generation"], known.version if known else 0)
        nodes = {pod.node for pod in seen}
        return Observation(
            job=self._parsed(job),
            pods=seen,
            taken=frozenset(raw.metadata.name for raw in there if not raw.owned(uid)),
            lost_nodes=self._nodes.lost() & nodes,
            zones=self._nodes.zones(nodes),
            open_nodes=self._nodes.open(),
            npdc_silence=self._pulse.note(uid, status.get("training") or {}),
            wiring=known,
            wiring_resource=wiring["metadata"]["resourceVersion"] if wiring is not None and wired else "",
            status=status,
            service=service if service is not None and _owned(service, uid) else None,
        )

    def _parsed(self, body: Mapping[str, Any]) -> Job:
        """The job; to check it against the schema costs a millisecond, and it seldom changes."""
        meta = body["metadata"]
        made_of = (meta["generation"], meta.get("labels"))
        known = self._jobs.get(meta["uid"])
        if known is None or known[0] != made_of:
            known = self._jobs[meta["uid"]] = (made_of, parse_job(body))
        return known[1]

    async def _service(self, namespace: str, name: str) -> dict[str, Any] | None:
        """As it is, or was of late."""
        known = self._services.get((namespace, name))
        if known is not None and time.monotonic() - known[0] < KNOWN_SECONDS:
            return known[1]
        self._services.pop((namespace, name), None)
        found = await self._api.get(_path("Service", namespace, name))
        if found is not None:
            self._services[(namespace, name)] = (time.monotonic(), found)
        return found

    async def apply(self, manifest: Manifest) -> None:
        """Server-side apply under our own name; with a resource version only to what is still of that one."""
        meta = manifest["metadata"]
        path = _path(manifest["kind"], meta["namespace"], meta["name"])
        if manifest["kind"] == "Service":
            self._services.pop((meta["namespace"], meta["name"]), None)
        if manifest["kind"] == "Secret":
            await self._create_secret(path.rpartition("/")[0], manifest)
            return
        if meta.get("resourceVersion") == "":  # it was not there, and must not have come since
            meta = {key: value for key, value in meta.items() if key != "resourceVersion"}
            body = {**manifest, "metadata": meta}
            query = {"fieldManager": names.FIELD_MANAGER}
            if not await self._create(path.rpartition("/")[0], body, query):
                raise ApiError(status=409, reason=f"{manifest['kind']} {meta['name']} has come meanwhile")
        else:
            if "resourceVersion" not in meta:
                _refuse_stranger(manifest["kind"], await self._api.get(path), meta)
            query = {"fieldManager": names.FIELD_MANAGER, "force": "true"}
            with _refusing(manifest):
                await self._api.request("PATCH", path, manifest, query, _APPLY)
        if manifest["kind"] == "ConfigMap":
            written = Wiring.from_json(manifest["data"][WIRING_KEY])
            self._expectations.wrote(_owner(meta), written.version)

    async def remove(self, seen: Observation, kind: str, name: str) -> None:
        """See `Cluster.remove`."""
        if kind == lifetimes.JOB:
            with unless_missing():
                path = _job_path(seen.job.namespace, name)
                await self._api.request("DELETE", path, {"preconditions": {"uid": seen.job.uid}})
            return
        path = _path(kind, seen.job.namespace, name)
        self._services.pop((seen.job.namespace, name), None)
        if kind == "Secret":  # its name is of no other job, and we may not look
            with unless_missing():
                await self._api.request("DELETE", path)
            return
        found = await self._api.get(path)
        if found is not None and _owned(found, seen.job.uid):
            if kind == "ConfigMap":
                self._expectations.removing(seen.job.uid)
            with unless_missing():
                await self._api.request("DELETE", path, {"preconditions": {"uid": found["metadata"]["uid"]}})

    async def _create_secret(self, path: str, manifest: Manifest) -> None:
        """What is there under this name says the same: it is immutable, and follows from its name."""
        try:
            with _refusing(manifest):
                await self._api.create(path, manifest)
        except ApiError as error:
            if error.status != 409:
                raise

    async def create_pod(self, manifest: Manifest) -> None:
        """See `Cluster.create_pod`. A field that no pod has (a template's, misspelt) is refused."""
        path = f"api/v1/namespaces/{manifest['metadata']['namespace']}/pods"
        await self._create(path, manifest, {"fieldValidation": "Strict"})

    async def _create(self, path: str, manifest: Manifest, query: Mapping[str, str] | None = None) -> bool:
        """A plain POST; False: it is there already, of this job or an earlier one of its name.

        Raises RefusedError also when the name is a stranger's. A 409 without anything of that name is a lost
        race for something else, such as a quota: nothing was created.
        """
        meta = manifest["metadata"]
        try:
            with _refusing(manifest):
                await self._api.create(path, manifest, query)
            return True
        except ApiError as error:
            if error.status != 409 or (found := await self._api.get(f"{path}/{meta['name']}")) is None:
                raise
        _refuse_stranger(manifest["kind"], found, meta)
        return False

    async def delete_pod(self, namespace: str, delete: Delete) -> None:
        """With the UID as a precondition: a later pod of the same name is not touched."""
        path = f"api/v1/namespaces/{namespace}/pods/{delete.name}"
        try:
            options: dict[str, Any] = {"preconditions": {"uid": delete.uid}}
            if delete.force:
                options["gracePeriodSeconds"] = 0
            await self._api.request("DELETE", path, options)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    async def write_status(self, seen: Observation, status: dict[str, Any]) -> None:
        """A patch that leaves `training`, the NPDC's part, alone.

        Onto a status that is there, only while the spec is the one that was seen: never of an older one. An
        ApiError with 409 says that it was not.
        """
        path = f"{_job_path(seen.job.namespace, seen.job.name)}/status"
        with unless_missing():
            if not seen.status:
                await self._api.request("PATCH", path, {"status": status}, content=MERGE_PATCH)
                return
            gone = [key for key in seen.status if key != "training" and key not in status]
            steps: list[dict[str, Any]] = [
                {"op": "test", "path": "/metadata/generation", "value": seen.job.generation},
                *({"op": "add", "path": f"/status/{key}", "value": value} for key, value in status.items()),
                *({"op": "remove", "path": f"/status/{key}"} for key in gone),
            ]
            try:
                await self._api.request("PATCH", path, steps, content=_JSON_PATCH)
            except ApiError as error:
                if error.status != 422 or not await self._edited(seen):
                    raise
                raise ApiError(status=409, reason="the spec has been edited meanwhile") from error

    async def _edited(self, seen: Observation) -> bool:
        """A test that fails and a status that is against the schema get the same answer."""
        here = await self._api.get(_job_path(seen.job.namespace, seen.job.name))
        return here is not None and here["metadata"]["generation"] != seen.job.generation

    async def emit(self, seen: Observation, event: Event) -> None:
        """See `KubeEvents.emit`."""
        await self._events.emit(seen.job, event)


@contextlib.contextmanager
def _refusing(manifest: Manifest) -> Iterator[None]:
    """The server's verdicts on what a manifest says, such as those of quota or Pod Security, in its words."""
    try:
        yield
    except ApiError as error:
        if error.status not in (400, 403, 422):
            raise
        try:
            why = json.loads(error.body)["message"]
        except (ValueError, TypeError, KeyError):
            why = f"HTTP {error.status} {error.reason}"
        what = f"{manifest['kind']} {manifest['metadata']['name']}"
        raise RefusedError("Refused", f"{what}: {why}") from error


def _owned(body: Mapping[str, Any], uid: str) -> bool:
    """Whether an object is of this very job, not of an earlier one of the same name."""
    return any(ref.get("uid") == uid for ref in body["metadata"].get("ownerReferences") or ())


def _owner(meta: Mapping[str, Any]) -> str:
    """UID of the job that a manifest of ours is for."""
    return str(meta["ownerReferences"][0]["uid"])


def _refuse_stranger(kind: str, found: Mapping[str, Any] | None, meta: Mapping[str, Any]) -> None:
    """Whether a name we need is held by something that has nothing to do with us.

    What an earlier job of this name left is ours too: it goes by its owner reference.
    """
    if found is None or _owned(found, _owner(meta)):
        return
    if names.LABEL_JOB not in (found["metadata"].get("labels") or {}):
        what = f"{kind} {meta['name']} exists and is not of this job"
        raise RefusedError("NameTaken", f"{what}; delete it, or give the job another name")


def _path(kind: str, namespace: str, name: str) -> str:
    root, plural = _ROOTS[kind]
    return f"{root}/namespaces/{namespace}/{plural}/{name}"


def _job_path(namespace: str, name: str) -> str:
    return f"apis/{API_GROUP}/{API_VERSION}/namespaces/{namespace}/{API_PLURAL}/{name}"
