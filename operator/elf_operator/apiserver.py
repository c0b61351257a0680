"""Requests to the Kubernetes API: one thin module over `kubernetes.aio`, dicts in and out."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import client, config

from elf_operator.leadership import DURATION_SECONDS, ENTITLED_SECONDS
from elf_worker.contract import API_GROUP, API_PLURAL, API_VERSION

READ_SECONDS = 20.0
WRITE_SECONDS = DURATION_SECONDS - ENTITLED_SECONDS
"""A write that began as long as it may after a renewal of the Lease is over before another may act."""
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
ApiError = client.ApiException
Requested = Callable[[str, str, int, float], None]
"""Is told of every request: verb, resource, HTTP status (0: no answer), seconds."""


class NotLeadingError(Exception):
    """A write was not begun: another operator may act."""


OUTAGES = (ApiError, aiohttp.ClientError, TimeoutError, OSError, NotLeadingError)
"""What the API server and the way to it may do to a request."""


def brief(error: Exception) -> str:
    """An error on one line."""
    if isinstance(error, ApiError):
        return f"HTTP {error.status} {error.reason}: {str(error.body)[:300]}"
    return f"{type(error).__name__} {error}"


class KubeApi:
    """Requests with dict bodies."""

    def __init__(
        self,
        api: client.ApiClient,
        may_write: Callable[[], bool] = lambda: True,
        requested: Requested = lambda verb, resource, code, seconds: None,
    ) -> None:
        self._api = api
        self._may_write = may_write
        self._requested = requested

    def watched(self, may_write: Callable[[], bool], requested: Requested) -> KubeApi:
        """The same connections; writes begin only while they may, and `requested` hears of everything."""
        return KubeApi(self._api, may_write, requested)

    async def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        query: Mapping[str, str] | None = None,
        content: str = "application/json",
        accept: str = "application/json",
    ) -> dict[str, Any]:
        """The answer's JSON. Raises ApiError for anything but 2xx, NotLeadingError for a write too late."""
        reads = method == "GET"
        if not reads and not self._may_write():
            raise NotLeadingError(f"{method} {path}: the Lease was not renewed in time")
        resource = f"/{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": accept, "Content-Type": content}
        prepared = await self._api.param_serialize(
            method, resource, header_params=headers, auth_settings=["BearerToken"]
        )
        began, code = time.monotonic(), 0
        try:
            response = await self._api.call_api(
                method,
                prepared[1],
                prepared[2],
                body=body,
                _request_timeout=READ_SECONDS if reads else WRITE_SECONDS,
            )
            data = await response.read()
            code = response.status
        finally:
            self._requested(verb_of(method, path), resource_of(path), code, time.monotonic() - began)
        if not 200 <= code <= 299:
            raise ApiError(status=code, reason=response.reason, body=data.decode(errors="replace"))
        try:
            return dict(json.loads(data))
        except ValueError as error:
            raise ApiError(status=code, reason=f"the answer is cut short: {error}") from error

    async def get(self, path: str) -> dict[str, Any] | None:
        """One object, or None if it does not exist."""
        with unless_missing():
            return await self.request("GET", path)
        return None

    async def jobs(self, namespace: str | None) -> list[tuple[str, str]]:
        """(namespace, name) of all jobs, of one namespace or of all."""
        where = f"namespaces/{namespace}/" if namespace else ""
        path = f"apis/{API_GROUP}/{API_VERSION}/{where}{API_PLURAL}"
        found = await self.request("GET", path, accept=_METADATA_ONLY)
        metas = [item["metadata"] for item in found["items"] or ()]  # Kubernetes 1.20 says null for none
        return [(meta["namespace"], meta["name"]) for meta in metas]


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


@contextlib.contextmanager
def unless_missing() -> Iterator[None]:
    """A 404 is as good."""
    try:
        yield
    except ApiError as error:
        if error.status != 404:
            raise


def resource_of(path: str) -> str:
    """The resource that a path of the API leads to, such as pods or elftrainingjobs/status."""
    parts = path.split("/")
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    rest = rest[2:] if rest[0] == "namespaces" and len(rest) > 2 else rest
    return "/".join(rest[::2])


def verb_of(method: str, path: str) -> str:
    """As RBAC names it."""
    parts = path.split("/")
    named = len(parts[2:] if parts[0] == "api" else parts[3:]) % 2 == 0
    reads = "get" if named else "list"
    return {"GET": reads, "POST": "create", "PUT": "update"}.get(method, method.lower())
