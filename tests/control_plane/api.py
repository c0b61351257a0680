"""The API server itself, for everybody but the operators: plain JSON with one context's credentials."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from kubernetes.aio import client, config
from yarl import URL

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JOBS = "apis/northpole.dev/v1alpha1"


class RefusedError(Exception):
    """An answer that is not 2xx."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"HTTP {status}: {said[:500]}")
        self.status, self.said = status, said


class Api:
    """Requests with dict bodies."""

    def __init__(self, server: str, session: aiohttp.ClientSession) -> None:
        self.server, self.session = server, session

    def url(self, raw_path: str) -> URL:
        """The address of a path that is quoted already."""
        return URL(self.server + raw_path, encoded=True)

    async def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        content: str = "application/json",
    ) -> dict[str, Any]:
        """The answer's JSON. Raises RefusedError for anything but 2xx."""
        headers = {"Content-Type": content, "Accept": "application/json"}
        async with self.session.request(
            method, f"{self.server}/{path}", json=body, params=query, headers=headers
        ) as response:
            if not 200 <= response.status <= 299:
                raise RefusedError(response.status, await response.text())
            return dict(await response.json())

    async def get(self, path: str) -> dict[str, Any] | None:
        """One object, or None if it does not exist."""
        return await self.unless(404, "GET", path)

    async def unless(self, status: int | tuple[int, ...], *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        """`request`, or None if it is refused with one of these."""
        try:
            return await self.request(*args, **kwargs)
        except RefusedError as error:
            if error.status in ((status,) if isinstance(status, int) else status):
                return None
            raise


@asynccontextmanager
async def connect(context: str) -> AsyncIterator[Api]:
    """With the credentials of a context of the kubeconfig."""
    made = await config.new_client_from_config(context=context)
    settings: client.Configuration = made.configuration
    await made.close()
    secure = ssl.create_default_context(cafile=settings.ssl_ca_cert)
    if not settings.verify_ssl:
        secure.check_hostname, secure.verify_mode = False, ssl.CERT_NONE
    if settings.cert_file:
        secure.load_cert_chain(settings.cert_file, settings.key_file)
    token = settings.api_key.get("BearerToken")
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=secure, limit=0),
        headers={"Authorization": token} if token else {},
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=20),
        read_bufsize=1 << 21,
    ) as session:
        yield Api(settings.host.rstrip("/"), session)
