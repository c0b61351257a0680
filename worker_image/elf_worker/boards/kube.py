"""The board on a cluster: one ConfigMap to watch, one status to patch, and no other right."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from kubernetes.aio import client, config, watch

from elf_worker.boards import BoardError
from elf_worker.contract import API_GROUP, API_PLURAL, API_VERSION, FIELD_MANAGER_NPDC, WIRING_KEY, Wiring

_log = logging.getLogger(__name__)
WATCH_SECONDS = 60
"""A watch is begun anew this often: one that has gone quiet without a word costs no more than that."""
RETRY_SECONDS = 0.5
REQUEST_SECONDS = 10


class KubeBoard:
    """Uses the pod's service account."""

    interval = 0.5

    def __init__(self, api: client.ApiClient, namespace: str, job: str, config_map: str) -> None:
        self._core = client.CoreV1Api(api)
        self._objects = client.CustomObjectsApi(api)
        self._namespace, self._job, self._config_map = namespace, job, config_map
        self._complaints: dict[str, str] = {}

    async def watch(self) -> AsyncIterator[Wiring]:
        """See `Board.watch`. A watch without a resource version begins with the object as it is."""
        seen = ""
        while True:
            stream = watch.Watch().stream(
                self._core.list_namespaced_config_map,
                self._namespace,
                field_selector=f"metadata.name={self._config_map}",
                timeout_seconds=WATCH_SECONDS,
                _request_timeout=WATCH_SECONDS + REQUEST_SECONDS,
            )
            try:
                async for event in stream:
                    self._complaints.pop("watching the wiring", None)
                    if not isinstance(event, dict):
                        raise ValueError(f"not an event: {str(event)[:100]!r}")
                    text = (event["object"].data or {}).get(WIRING_KEY, "")
                    if event["type"] in ("ADDED", "MODIFIED") and text and text != seen:
                        seen = text
                        yield Wiring.from_json(text)
                await asyncio.sleep(RETRY_SECONDS)  # a stream that ends at once must not be a hot loop
            except Exception as error:  # the client raises bare ones for lines it does not understand
                self._complain("watching the wiring", error)
                await asyncio.sleep(RETRY_SECONDS)

    async def publish(self, progress: dict[str, Any]) -> None:
        """See `Board.publish`. Server-side apply: what is left out is removed."""
        body = {
            "apiVersion": f"{API_GROUP}/{API_VERSION}",
            "kind": "ElfTrainingJob",
            "metadata": {"name": self._job},
            "status": {"training": progress},
        }
        try:
            await self._objects.patch_namespaced_custom_object_status(
                API_GROUP,
                API_VERSION,
                self._namespace,
                API_PLURAL,
                self._job,
                body,
                field_manager=FIELD_MANAGER_NPDC,
                force=True,
                _content_type="application/apply-patch+yaml",
                _request_timeout=REQUEST_SECONDS,
            )
        except (client.ApiException, aiohttp.ClientError, TimeoutError, OSError) as error:
            self._complain("writing the progress", error)
            raise BoardError(_brief(error)) from error
        self._complaints.pop("writing the progress", None)

    def _complain(self, doing: str, error: Exception) -> None:
        """Once, not twice a second for as long as the API server is away."""
        said = _brief(error)
        if self._complaints.get(doing) != said:
            self._complaints[doing] = said
            _log.warning("%s: %s; trying again", doing, said)


@contextlib.asynccontextmanager
async def open_kube_board(namespace: str, job: str, config_map: str) -> AsyncIterator[KubeBoard]:
    """With the service account of this pod."""
    config.load_incluster_config()
    async with client.ApiClient() as api:
        yield KubeBoard(api, namespace, job, config_map)


def _brief(error: Exception) -> str:
    if isinstance(error, client.ApiException):
        return f"HTTP {error.status} {error.reason}"
    return f"{type(error).__name__} {error}"
