"""The cluster as seen through the Kubernetes API: one thin module over `kubernetes.aio`, dicts in and out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlencode

from kubernetes.aio import client, config

from elf_operator import names
from elf_operator.builders import Manifest
from elf_operator.observation import Observation, parse_pod
from elf_operator.plans import Delete, Event
from elf_operator.spec import parse_job
from elf_operator.status import rfc3339
from elf_operator.watchmen import Nodes, Pulse
from elf_worker.contract import API_GROUP, API_PLURAL, API_VERSION, WIRING_KEY, Wiring

REQUEST_SECONDS = 20
_ROOTS = {
    "ConfigMap": ("api/v1", "configmaps"),
    "Service": ("api/v1", "services"),
    "ServiceAccount": ("api/v1", "serviceaccounts"),
    "Role": ("apis/rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": ("apis/rbac.authorization.k8s.io/v1", "rolebindings"),
}
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
ApiError = client.ApiException


class KubeApi:
    """Requests with dict bodies."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    async def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        content: str = "application/json",
    ) -> dict[str, Any]:
        """The answer's JSON. Raises ApiError for anything but 2xx."""
        resource = f"/{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": "application/json", "Content-Type": content}
        prepared = await self._api.param_serialize(
            method, resource, header_params=headers, auth_settings=["BearerToken"]
        )
        method, url, header_params = prepared[0], prepared[1], prepared[2]
        response = await self._api.call_api(
            method, url, header_params, body=body, _request_timeout=REQUEST_SECONDS
        )
        data = await response.read()
        if not 200 <= response.status <= 299:
            raise ApiError(status=response.status, reason=response.reason, body=data.decode(errors="replace"))
        return dict(json.loads(data))

    async def get(self, path: str) -> dict[str, Any] | None:
        """One object, or None if it does not exist."""
        with _unless_missing():
            return await self.request("GET", path)
        return None


class KubeCluster:
    """See `elf_operator.reconcile.Cluster`."""

    def __init__(self, api: KubeApi, pulse: Pulse, nodes: Nodes) -> None:
        self._api = api
        self._pulse = pulse
        self._nodes = nodes

    async def observe(self, namespace: str, name: str) -> Observation | None:
        """Four reads at once; the job's own comes first to the server, so it is never the newest."""
        job, pods, wiring, service = await asyncio.gather(
            self._api.get(_job_path(namespace, name)),
            self._api.request(
                "GET", f"api/v1/namespaces/{namespace}/pods", query={"labelSelector": names.selector(name)}
            ),
            self._api.get(_path("ConfigMap", namespace, names.wiring(name))),
            self._api.get(_path("Service", namespace, names.npdc(name))),
        )
        if job is None or job["metadata"].get("deletionTimestamp"):
            return None
        uid = job["metadata"]["uid"]
        owned = [body for body in pods["items"] if _owned(body, uid)]
        wired = wiring is not None and _owned(wiring, uid)
        seen = tuple(pod for body in owned if (pod := parse_pod(body)) is not None)
        status = job.get("status") or {}
        nodes = {pod.node for pod in seen}
        return Observation(
            job=parse_job(job),
            pods=seen,
            lost_nodes=self._nodes.lost() & nodes,
            zones=self._nodes.zones(nodes),
            npdc_silence=self._pulse.note(uid, status.get("training") or {}),
            wiring=Wiring.from_json(wiring["data"][WIRING_KEY]) if wiring is not None and wired else None,
            status=status,
            service=service if service is not None and _owned(service, uid) else None,
        )

    async def apply(self, manifest: Manifest) -> None:
        """Server-side apply under our own name."""
        meta = manifest["metadata"]
        query = {"fieldManager": names.FIELD_MANAGER, "force": "true"}
        path = _path(manifest["kind"], meta["namespace"], meta["name"])
        await self._api.request("PATCH", path, manifest, query, _APPLY)

    async def remove(self, kind: str, namespace: str, name: str) -> None:
        """See `Cluster.remove`."""
        with _unless_missing():
            await self._api.request("DELETE", _path(kind, namespace, name))

    async def create_pod(self, manifest: Manifest) -> None:
        """A plain POST: a duplicate shows as 409, and the next look says whose it is."""
        path = f"api/v1/namespaces/{manifest['metadata']['namespace']}/pods"
        try:
            await self._api.request("POST", path, manifest)
        except ApiError as error:
            if error.status != 409:
                raise

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
        """A merge patch that leaves `training`, the NPDC's part, alone."""
        gone = {key: None for key in seen.status if key != "training" and key not in status}
        path = f"{_job_path(seen.job.namespace, seen.job.name)}/status"
        with _unless_missing():
            await self._api.request("PATCH", path, {"status": {**gone, **status}}, content=_MERGE)

    async def emit(self, seen: Observation, event: Event) -> None:
        """One Event; that it could not be written stops nothing."""
        now = rfc3339(time.time())
        job = seen.job
        about = {
            "apiVersion": f"{API_GROUP}/{API_VERSION}",
            "kind": "ElfTrainingJob",
            "name": job.name,
            "namespace": job.namespace,
            "uid": job.uid,
        }
        body = {
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
        with contextlib.suppress(ApiError):
            await self._api.request("POST", f"api/v1/namespaces/{job.namespace}/events", body)


@contextlib.asynccontextmanager
async def connect(context: str | None = None) -> AsyncIterator[KubeApi]:
    """With the pod's service account, or the kubeconfig outside a cluster (always, if a context is given)."""
    try:
        if context:
            raise config.ConfigException("a context of the kubeconfig is asked for")
        config.load_incluster_config()
    except config.ConfigException:
        await config.load_kube_config(context=context)
    async with client.ApiClient() as api:
        yield KubeApi(api)


async def current_namespace(context: str | None) -> str:
    """That of a context of the kubeconfig, of the current one by default."""
    known, active = config.list_kube_config_contexts()
    chosen = next((c for c in known if c["name"] == context), active)
    return str(chosen["context"].get("namespace") or "default")


@contextlib.contextmanager
def _unless_missing() -> Any:
    try:
        yield
    except ApiError as error:
        if error.status != 404:
            raise


def _owned(body: Mapping[str, Any], uid: str) -> bool:
    """Whether an object is of this very job, not of an earlier one of the same name."""
    return any(ref.get("uid") == uid for ref in body["metadata"].get("ownerReferences") or ())


def _path(kind: str, namespace: str, name: str) -> str:
    root, plural = _ROOTS[kind]
    return f"{root}/namespaces/{namespace}/{plural}/{name}"


def _job_path(namespace: str, name: str) -> str:
    return f"apis/{API_GROUP}/{API_VERSION}/namespaces/{namespace}/{API_PLURAL}/{name}"
