"""The dashboard's server: one page, its files, and JSON. Reading only, and nothing from elsewhere.

It has no login. It belongs on a loopback address, behind `kubectl port-forward` or a proxy that knows people.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from importlib import resources

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from elf_operator.dashboard.gallery import Gallery

TYPES = {
    "index.html": "text/html",
    "style.css": "text/css",
    "dashboard.js": "text/javascript",
    "tree.js": "text/javascript",
    "charts.js": "text/javascript",
    "elements.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
"""The page's files. Nothing else is served from the disk."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass
class Dashboard:
    """A server that runs. `url` is where."""

    url: str
    asked: float = field(default=-1e9)
    """When somebody asked for a job last, on the monotonic clock."""
    _answered: asyncio.Event = field(default_factory=asyncio.Event)

    async def farewell(self, seconds: float) -> None:
        """Who looks on now shall see how it ended: wait for the next question, so long at most."""
        if time.monotonic() - self.asked < 2 * seconds:
            self._answered = asyncio.Event()  # answers that are still on their way set the one before
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._answered.wait()

    def note(self) -> None:
        """Somebody has asked for a job."""
        self.asked = time.monotonic()
        asyncio.get_running_loop().call_later(0.1, self._answered.set)  # when the answer has left


@contextlib.asynccontextmanager
async def served(gallery: Gallery, address: str, port: int) -> AsyncIterator[Dashboard]:
    """The page and its data. Port 0: any that is free. Raises OSError if the port is taken."""
    board = Dashboard("")
    app = web.Application(middlewares=[_guard(_is_loopback(address))])
    app.add_routes(_pages(_files()) + _data(gallery, board))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, address, port)
        await site.start()
        real = runner.addresses[0][1]
        board.url = f"http://{f'[{address}]' if ':' in address else address}:{real}/"
        yield board
    finally:
        await runner.cleanup()


def _files() -> dict[str, bytes]:
    folder = resources.files("elf_operator.dashboard") / "static"
    return {name: (folder / name).read_bytes() for name in TYPES}


def _pages(files: dict[str, bytes]) -> list[web.RouteDef]:
    async def page(request: web.Request) -> web.Response:
        name = request.match_info.get("name", "index.html")
        if name not in files:
            raise web.HTTPNotFound
        return web.Response(body=files[name], content_type=TYPES[name], charset="utf-8")

    return [web.get("/", page), web.get("/static/{name}", page)]


def _data(gallery: Gallery, board: Dashboard) -> list[web.RouteDef]:
    async def jobs(request: web.Request) -> web.Response:
        return web.json_response(gallery.jobs())

    async def job(request: web.Request) -> web.Response:
        after = request.query.get("after", "0")
        if not (after.isascii() and after.isdecimal() and len(after) <= 16):
            return _error(400, "after: the number of a frame is expected")
        key = (request.match_info["namespace"], request.match_info["name"])
        found = gallery.job(key, int(after))
        if found is None:
            return _error(404, f"there is no job {key[1][:64]} in namespace {key[0][:64]}")
        board.note()
        return web.json_response(found)

    return [web.get("/api/jobs", jobs), web.get("/api/jobs/{namespace}/{name}", job)]


def _guard(loopback: bool) -> Middleware:
    """GET only, errors as JSON, and the headers on every answer."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await _answer(request, handler)
        answer.headers.update(HEADERS)
        return answer

    async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method != "GET":
            refusal = _error(405, "GET only")
            refusal.headers["Allow"] = "GET"
            return refusal
        # A page of a stranger can give its own name our loopback address, and read as if we were its server.
        if loopback and not _is_loopback(_host(request.host)):
            return _error(421, "asked for under a name that is not this machine's")
        try:
            return await handler(request)
        except web.HTTPException as error:
            return _error(error.status, error.reason)

    return guard


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)


def _host(header: str) -> str:
    """The Host header without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
