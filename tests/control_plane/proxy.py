"""An HTTP proxy between one operator and the API server: it records, disturbs, stops and delays its calls."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

from control_plane.api import Api
from control_plane.calls import Call, Target, parsed, target
from control_plane.faults import Fault, Schedule, refusal

_HOP = frozenset(
    {"connection", "host", "content-length", "transfer-encoding", "authorization", "accept-encoding"}
)
_REFUSALS = {"403": 403, "409": 409, "422": 422, "429": 429, "500": 500, "503": 503}


@dataclass
class Trap:
    """Springs at the `index`-th mutating call from when it was set: before it is forwarded, or once it is
    committed and before the operator hears of it. The call is never answered."""

    index: int
    after: bool
    spring: Callable[[], None]
    sprung: Target | None = None


class Frozen:
    """What the API server said at one moment, said again and again. Watches keep silent."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes]] = {}


class Door:
    """One operator's way to the API server. Everybody else goes to the server itself."""

    def __init__(self, name: str, api: Api) -> None:
        self.name = name
        self.schedule: Schedule | None = None
        self.trap: Trap | None = None
        self.calls: list[Call] = []
        self.listeners: list[Callable[[Call], None]] = []
        self.faults: list[str] = []
        self.mute = False
        """Nothing that happens is told: watches keep silent for as long as this is so."""
        self.looks = 0
        """How often a job was looked at."""
        self._api = api
        self._frozen: Frozen | None = None
        self._reads: dict[str, URL] = {}
        self._cut = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def mutations(self) -> list[Call]:
        """The calls that change what a run leads to, in the order of their coming."""
        return [call for call in self.calls if call.target.mutating]

    def asked_for(self, resource: str) -> bool:
        """Whether this operator has read any of these."""
        return any(f"/{resource}" in key for key in self._reads)

    async def open(self) -> None:
        """Listen on a free port of this machine."""
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Close every connection."""
        if self._runner is not None:
            await self._runner.cleanup()

    def kubeconfig(self, path: pathlib.Path, namespace: str) -> pathlib.Path:
        """A file that leads an operator here. It holds no credentials: those stay in this process."""
        entry = {"cluster": {"server": f"http://127.0.0.1:{self.port}"}, "name": "proxy"}
        context = {"cluster": "proxy", "user": "proxy", "namespace": namespace}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [entry],
            "users": [{"name": "proxy", "user": {"token": "none"}}],
            "contexts": [{"name": "proxy", "context": context}],
            "current-context": "proxy",
        }
        path.write_text(yaml.safe_dump(document))
        return path

    async def freeze(self) -> None:
        """From now on every question that was asked before is answered as of now; see `Frozen`."""
        frozen = Frozen()
        for key, url in self._reads.items():
            async with self._api.session.get(url) as response:
                frozen.answers[key] = (response.status, await response.read())
        self._frozen = frozen
        self.cut()

    def heal(self) -> None:
        """Tell the truth again, to new connections."""
        self._frozen, self.mute = None, False
        self.cut()

    def cut(self) -> None:
        """End every watch that is open."""
        self._cut.set()
        self._cut = asyncio.Event()

    # -- one call -----------------------------------------------------------------------------------------

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        aim = target(request.method, request.path, request.query)
        body = await request.read()
        fault = self.schedule.next(aim) if self.schedule else None
        if fault is not None:
            self.faults.append(f"{fault.kind} on {aim}")
        if aim.verb == "watch":
            return await self._watch(request, aim, fault)
        call = Call(self.name, aim, time.monotonic(), parsed(body), fault=fault.kind if fault else "")
        if aim.verb not in ("get", "list"):
            self.calls.append(call)
        try:
            return await self._answer(request, call, body, fault)
        finally:
            if aim.verb not in ("get", "list"):
                for listener in self.listeners:
                    listener(call)

    async def _answer(
        self, request: web.Request, call: Call, body: bytes, fault: Fault | None
    ) -> web.StreamResponse:
        if fault is not None:
            if (code := _REFUSALS.get(fault.kind)) is not None:
                headers = {"Retry-After": "1"} if code == 429 else {}
                call.status = code
                return web.json_response(refusal(code, call.target), status=code, headers=headers)
            await asyncio.sleep(fault.seconds if fault.kind in ("delay", "hang") else 0)
            if fault.kind in ("drop request", "hang"):
                return _drop(request)
        caught = self._caught(call)
        if caught is not None and not caught.after:
            caught.spring()
            return _drop(request)
        status, data, headers = await self._forward(request, call.target, body)
        if call.target.verb not in ("get", "list"):
            call.status, call.answer = status, parsed(data)
        if caught is not None:
            caught.spring()
            return _drop(request)
        if fault is not None and fault.kind == "drop answer":
            return _drop(request)
        return web.Response(body=data, status=status, headers=headers)

    def _caught(self, call: Call) -> Trap | None:
        if self.trap is None or not call.target.mutating or self.trap.sprung is not None:
            return None
        if self.trap.index > 0:
            self.trap.index -= 1
            return None
        self.trap.sprung = call.target
        return self.trap

    async def _forward(
        self, request: web.Request, aim: Target, body: bytes
    ) -> tuple[int, bytes, dict[str, str]]:
        url, plain = self._api.url(request.raw_path), {"Content-Type": "application/json"}
        if request.method == "GET":
            self.looks += aim.resource == "elftrainingjobs" and bool(aim.name)
            key = _read_key(request)
            self._reads[key] = url
            if self._frozen is not None and key in self._frozen.answers:
                status, data = self._frozen.answers[key]
                return status, data, plain
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
        async with self._api.session.request(request.method, url, data=body or None, headers=headers) as got:
            data = await got.read()
            kept = {k: v for k, v in got.headers.items() if k.lower() in ("content-type", "retry-after")}
            return got.status, data, kept

    # -- watches ------------------------------------------------------------------------------------------

    async def _watch(self, request: web.Request, aim: Target, fault: Fault | None) -> web.StreamResponse:
        if fault is not None and fault.kind not in _STREAM:
            if fault.kind != "delay":
                return await self._answer(request, Call(self.name, aim, 0.0), b"", fault)
            await asyncio.sleep(fault.seconds)
            fault = None
        url = self._api.url(request.raw_path)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
        try:
            async with self._api.session.get(url, headers=headers) as got:
                if got.status != 200:
                    return web.Response(body=await got.read(), status=got.status)
                return await self._stream(request, aim, fault, got.content)
        except (aiohttp.ClientError, ConnectionError):
            return _drop(request)

    async def _stream(
        self, request: web.Request, aim: Target, fault: Fault | None, lines: aiohttp.StreamReader
    ) -> web.StreamResponse:
        out = web.StreamResponse(headers={"Content-Type": "application/json"})
        await out.prepare(request)
        cut, number = self._cut, 0
        due = time.monotonic() + fault.seconds if fault else None
        while True:
            line = await _line(lines, cut, due)
            if fault is not None and line != b"" and (line is None or number >= fault.lines):
                return await self._break(request, out, aim, fault, line or _BOOKMARK)
            while (self.mute or self._frozen is not None) and not cut.is_set():
                await asyncio.sleep(0.05)
            if not line or cut.is_set():
                return _drop(request)
            await out.write(line)
            number += 1

    async def _break(
        self, request: web.Request, out: web.StreamResponse, aim: Target, fault: Fault, line: bytes
    ) -> web.StreamResponse:
        if fault.kind == "truncated line":
            await out.write(line[: len(line) // 2])
            return _drop(request)
        if fault.kind == "silence":
            await asyncio.sleep(fault.seconds)
            return _drop(request)
        if fault.kind.startswith("in-stream"):
            code = int(fault.kind.split()[1])
            await out.write(json.dumps({"type": "ERROR", "object": refusal(code, aim)}).encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await out.write_eof()
        return out


_BOOKMARK = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"1"}}}\n'
"""Only ever sent in part."""
_STREAM = ("truncated line", "end of stream", "silence", "in-stream 410", "in-stream 500")


def _drop(request: web.Request) -> web.StreamResponse:
    """The connection ends without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=502)


async def _line(lines: aiohttp.StreamReader, cut: asyncio.Event, due: float | None) -> bytes | None:
    """The next line; empty at the end, or when all watches are cut; None when it is too late."""
    reading = asyncio.ensure_future(lines.readline())
    cutting = asyncio.ensure_future(cut.wait())
    patience = None if due is None else max(0.01, due - time.monotonic())
    try:
        done, _ = await asyncio.wait(
            {reading, cutting}, timeout=patience, return_when=asyncio.FIRST_COMPLETED
        )
        if cutting in done:
            return b""
        return reading.result() if reading in done else None
    finally:
        for task in (reading, cutting):
            task.cancel()
        await asyncio.gather(reading, cutting, return_exceptions=True)


def _read_key(request: web.Request) -> str:
    """Equal for the same question asked again; from which version on it is asked makes no difference."""
    asked = {k: v for k, v in request.query.items() if k in ("labelSelector", "fieldSelector")}
    return f"{request.path}?{json.dumps(asked, sort_keys=True)}"
