"""Whether the API server can be connected to at all, and a word in the log that says what is in the way.

A NetworkPolicy that keeps the operator in shows as nothing but silence: the requests only say that they wait.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable

from yarl import URL

_log = logging.getLogger(__name__)
CONNECT_SECONDS = 5.0
"""How long one attempt to connect, or to resolve a name, may take."""
QUIET_SECONDS = 30.0
"""Between two words on the same trouble."""
PAUSE_SECONDS = 5.0
"""After a look that found nothing."""
_ENDPOINTS = "kubectl get endpointslices --namespace default --selector kubernetes.io/service-name=kubernetes"


class Reach:
    """Looks when it is started, and whenever a request was not answered.

    `where`: URL of the API server, or of the proxy before it.
    """

    def __init__(self, where: str) -> None:
        url = URL(where)
        self._host, self._port = url.host or "", url.port or 443
        self._doubt = asyncio.Event()
        self._doubt.set()
        self._say: Callable[..., None] = _log.error
        """Until it was reached once; a later outage is waited out."""

    def doubt(self) -> None:
        """A request was not answered."""
        self._doubt.set()

    async def run(self) -> None:
        """For ever: say what is in the way, and that it is out of the way."""
        while True:
            await self._doubt.wait()
            said = False
            while why := await self.obstacle():
                self._say("%s", why)
                said = True
                await asyncio.sleep(QUIET_SECONDS)
            self._say = _log.warning
            if said:
                _log.info("the API server can be connected to: %s:%d", self._host, self._port)
            self._doubt.clear()
            await asyncio.sleep(PAUSE_SECONDS)

    async def obstacle(self) -> str:
        """Why there is no connection; empty if there is one."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                where = " or ".join(await self._addresses())
        except OSError as error:  # TimeoutError is one
            return (
                f"the API server's name {self._host} cannot be resolved: {_cause(error)}. If a NetworkPolicy "
                f"selects the operator, it must let it reach DNS, port 53"
            )
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, writer = await asyncio.open_connection(self._host, self._port)
        except OSError as error:
            return (
                f"the API server {self._host} cannot be connected to at {where}: {_cause(error)}. If a "
                f"NetworkPolicy selects the operator, it must let it reach the port that the server itself "
                f"listens at, which need not be that of its Service: {_ENDPOINTS}"
            )
        writer.close()
        return ""

    async def _addresses(self) -> list[str]:
        found = await asyncio.get_running_loop().getaddrinfo(self._host, self._port, proto=socket.IPPROTO_TCP)
        return list(dict.fromkeys(_joined(str(where[0]), self._port) for *_, where in found))


def _joined(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _cause(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_SECONDS:g} s"
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)
