"""The Lease that several operators vie for, through the Kubernetes API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elf_operator.apiserver import ApiError, KubeApi


class KubeLeases:
    """See `elf_operator.leadership.Leases`."""

    def __init__(self, api: KubeApi, namespace: str, name: str) -> None:
        self._api = api
        self._namespace, self._name = namespace, name
        self._root = f"apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"

    async def get(self) -> dict[str, Any] | None:
        """See `Leases.get`."""
        return await self._api.get(f"{self._root}/{self._name}")

    async def create(self, spec: Mapping[str, Any]) -> bool:
        """See `Leases.create`."""
        kind = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
        meta = {"name": self._name, "namespace": self._namespace}
        return await self._unless_conflict("POST", self._root, {**kind, "metadata": meta, "spec": dict(spec)})

    async def update(self, lease: Mapping[str, Any]) -> bool:
        """See `Leases.update`: the resourceVersion in it is the condition."""
        return await self._unless_conflict("PUT", f"{self._root}/{self._name}", lease)

    async def _unless_conflict(self, method: str, path: str, body: Mapping[str, Any]) -> bool:
        try:
            await self._api.request(method, path, body)
        except ApiError as error:
            if error.status != 409:
                raise
            return False
        return True
