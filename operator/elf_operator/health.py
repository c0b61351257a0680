"""Whether the operator lives and is ready, and its metrics, over HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from elf_operator.metrics import Metrics

SILENCE_SECONDS = 300.0
"""Without one good LIST for so long the operator is stuck, or its credentials are: a restart may help."""


class Health:
    """Judged by the last LIST that the API server answered well."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begun = clock()
        self._listed: float | None = None

    def listed(self) -> None:
        """A LIST was answered well just now."""
        self._listed = self._clock()

    def silence(self) -> float:
        """Seconds since the last good LIST, or since the start."""
        return self._clock() - (self._begun if self._listed is None else self._listed)

    @property
    def ready(self) -> bool:
        """It has seen the cluster."""
        return self._listed is not None

    @property
    def alive(self) -> bool:
        """It has seen the cluster of late."""
        return self.silence() < SILENCE_SECONDS


@contextlib.asynccontextmanager
async def served(health: Health, metrics: Metrics, address: str, port: int) -> AsyncIterator[None]:
    """`/healthz`, `/readyz` and `/metrics`. Raises OSError if the port is taken."""

    async def healthz(request: web.Request) -> web.Response:
        return _said(health.alive, f"last good LIST {health.silence():.0f} s ago")

    async def readyz(request: web.Request) -> web.Response:
        return _said(health.ready, "ready" if health.ready else "the cluster has not been seen yet")

    async def page(request: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=metrics.text(), headers=headers)

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", page)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, address, port).start()
        yield
    finally:
        await runner.cleanup()


def _said(well: bool, text: str) -> web.Response:
    return web.Response(text=text + "\n", status=200 if well else 503)
