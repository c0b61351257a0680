"""A small API server: objects by path, with versions, conflicts, preconditions, watches, logs and exec.

It answers as the real one does wherever a client could tell: bodies of kind Status, 404 for unknown kinds in
plain text, 409 for a UID that is another one's, pages of lists, logs that go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
from aiohttp import WSMsgType, web

from elf_operator import apiserver
from elf_worker.contract import FIGURES_TOKEN_HEADER

LISTS = ("pods", "elftrainingjobs", "events", "configmaps", "nodes")
MERGE = "application/merge-patch+json"
Exec = Callable[[str, list[str]], tuple[bytes, bytes, int]]
"""(pod, command) → what it writes to its outputs, and its exit status."""


@dataclass
class Log:
    """Of one container, as the kubelet keeps it: lines with their times."""

    lines: list[str] = field(default_factory=list)
    over: bool = False
    """The container has ended: nobody writes any more."""


@dataclass
class Server:
    """Objects by path, as an API server keeps them: versions, conflicts, preconditions."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    refuse: dict[str, int] = field(default_factory=dict)
    """Method → status that is answered to it."""
    denied: set[str] = field(default_factory=set)
    """Resources, such as pods/log, that RBAC does not grant."""
    crd: bool = True
    nulls: bool = False
    """Names of objects, where there are none, are `null`: so the real one says it, in this form only."""
    logs: dict[str, Log] = field(default_factory=dict)
    """By name of the pod; `name/previous` for the container before."""
    pages: dict[str, Any] = field(default_factory=dict)
    """What an NPDC's window shows, by page."""
    token: str = ""
    """Without it, it shows nothing."""
    shut: bool = False
    """A NetworkPolicy keeps this server from all pods."""
    run: Exec = lambda pod, command: (b"", b"", 0)
    cut: int = 0
    """So many commands in pods lose their connection in the middle."""
    kubelet: Callable[[str, dict[str, Any]], None] = lambda path, pod: None
    """Is shown each new pod, by path."""
    version: int = 0
    history: list[tuple[int, str, str, dict[str, Any]]] = field(default_factory=list)
    """(version, type, path, object) of every change."""
    loop: asyncio.AbstractEventLoop | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    # -- objects, from any thread -------------------------------------------------------------------------

    def put(self, path: str, obj: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        meta = {**obj["metadata"], "resourceVersion": str(self.version)}
        meta.setdefault("uid", f"uid-{self.version}")
        kind = "MODIFIED" if path in self.objects else "ADDED"
        self.objects[path] = {**obj, "metadata": meta}
        self._note(kind, path)
        return self.objects[path]

    def remove(self, path: str) -> None:
        self.version += 1
        self._note("DELETED", path)
        del self.objects[path]

    def write(self, pod: str, *lines: str, over: bool = False) -> None:
        log = self.logs.setdefault(pod, Log())
        log.lines += lines
        log.over = over
        self._wake()

    def _note(self, kind: str, path: str) -> None:
        found = self.objects[path]
        changed = {**found, "metadata": {**found["metadata"], "resourceVersion": str(self.version)}}
        self.history.append((self.version, kind, path, changed))
        self._wake()

    def _wake(self) -> None:
        if self.loop is not None:
            with contextlib.suppress(RuntimeError):  # it has been closed
                self.loop.call_soon_threadsafe(self._bump)

    def _bump(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    # -- answers ------------------------------------------------------------------------------------------

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path, method = request.path.lstrip("/"), request.method
        text = await request.text()
        sent = json.loads(text) if text else None
        self.asked.append((method, path, sent))
        if method in self.refuse:
            status = self.refuse[method]
            return web.json_response({"code": status, "message": "quota says no"}, status=status)
        resource = apiserver.resource_of(path)
        if resource in self.denied:
            return self.deny(method, path, resource)
        if not self.crd and path.startswith("apis/northpole.dev"):
            return web.Response(status=404, text="404 page not found\n")
        if "/pods/" in path and path.endswith(("/log", "/exec")):
            pod = path.rsplit("/", 2)[1]
            return await (self.log(request, pod) if path.endswith("/log") else self.execute(request, pod))
        if "/proxy/" in path:
            if self.shut:
                why = "error trying to reach service: dial tcp 10.244.0.5:7735: connect: connection refused"
                return failure(503, "ServiceUnavailable", why)
            if self.token and request.headers.get(FIGURES_TOKEN_HEADER) != self.token:
                return web.Response(status=401, text="needs the job's token\n")
            return web.json_response(self.pages["/" + path.partition("/proxy/")[2]])
        lists = method == "GET" and path.rpartition("/")[2] in LISTS
        if (asked := wanted_form(request)) and asked.endswith("List") != lists:
            return failure(406, "NotAcceptable", f"{asked} is no form of this answer")
        if lists:
            return await self.watch(request, path) if "watch" in request.query else self.list(request, path)
        return self.one(request, path, sent)

    def deny(self, method: str, path: str, resource: str) -> web.Response:
        group = path.split("/")[1] if path.startswith("apis/") else ""
        where = path.split("/namespaces/")[1].split("/")[0] if "/namespaces/" in path else ""
        scope = f' in the namespace "{where}"' if where else " at the cluster scope"
        verb = (
            apiserver.verb_of(method, path) if "/" not in resource else "get" if method == "GET" else "create"
        )
        message = (
            f'{resource} is forbidden: User "rudolph" cannot {verb} resource '
            f'"{resource}" in API group "{group}"{scope}'
        )
        return failure(403, "Forbidden", message)

    def one(self, request: web.Request, path: str, sent: Any) -> web.Response:
        held, method = self.objects.get(path), request.method
        match method:
            case "POST":
                path += "/" + (sent["metadata"].get("name") or f"made-{self.version}")
                sent["metadata"].setdefault("name", path.rpartition("/")[2])
                if path in self.objects:
                    return failure(409, "AlreadyExists", "exists")
                made = self.put(path, sent)
                if path.split("/")[-2] == "pods":
                    self.kubelet(path, made)
                if wanted_form(request):
                    made = {"kind": "PartialObjectMetadata", "metadata": made["metadata"]}
                return web.json_response(made, status=201)
            case "PATCH" if "metadata" in sent:
                wanted = sent["metadata"].get("resourceVersion")
                if wanted is not None and (held is None or held["metadata"]["resourceVersion"] != wanted):
                    return failure(409, "Conflict", "has been modified")
                return web.json_response(self.put(path, sent))
        if held is None:
            return missing(path)
        return self.change(method, path, held, sent, request.content_type)

    def list(self, request: web.Request, path: str) -> web.Response:
        found = list(self.matching(request, path))
        start = int(request.query.get("continue", 0))
        limit = int(request.query.get("limit", len(found) or 1))
        meta = {"resourceVersion": str(self.version)}
        if start + limit < len(found):
            meta["continue"] = str(start + limit)
        if self.nulls and not found and wanted_form(request):
            return web.json_response({"metadata": meta, "items": None})
        return web.json_response({"metadata": meta, "items": found[start : start + limit]})

    def matching(self, request: web.Request, path: str) -> Iterator[dict[str, Any]]:
        return (o for p, o in self.objects.items() if self.listed(request, path, p, o))

    def listed(self, request: web.Request, path: str, other: str, obj: dict[str, Any]) -> bool:
        """Whether an object is in a list: of one namespace, or of all."""
        plural = path.rpartition("/")[2]
        parts = other.split("/")
        inside = other.startswith(path + "/") if "/namespaces/" in path else parts[-2] == plural
        labels = dict(parse_qsl(request.query.get("labelSelector", "").replace(",", "&")))
        held = obj["metadata"].get("labels") or {}
        name = request.query.get("fieldSelector", "").removeprefix("metadata.name=")
        return (
            inside
            and parts[-2] == plural
            and all(held.get(key) == value for key, value in labels.items())
            and (not name or obj["metadata"]["name"] == name)
        )

    async def watch(self, request: web.Request, path: str) -> web.StreamResponse:
        since = int(request.query.get("resourceVersion") or 0)
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            news = self._news
            for version, kind, other, obj in list(self.history):
                if version > since and self.listed(request, path, other, obj):
                    await response.write(json.dumps({"type": kind, "object": obj}).encode() + b"\n")
                since = max(since, version)
            await news.wait()

    async def log(self, request: web.Request, pod: str) -> web.StreamResponse:
        path = request.path.lstrip("/").rpartition("/")[0]
        if path not in self.objects:
            return missing(path)
        previous = request.query.get("previous") == "true"
        log = self.logs.get(f"{pod}/previous" if previous else pod)
        if log is None and previous:
            message = f'previous terminated container "elf" in pod "{pod}" not found'
            return failure(400, "BadRequest", message)
        if log is None:
            message = f'container "elf" in pod "{pod}" is waiting to start: ContainerCreating'
            return failure(400, "BadRequest", message)
        lines = log.lines
        told = max(0, len(lines) - int(request.query["tailLines"])) if "tailLines" in request.query else 0
        since = request.query.get("sinceTime", "")[:19]
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            news, over, fresh = self._news, log.over, lines[told:]  # more may come while these are sent
            for line in fresh:
                if line[:19] >= since:
                    await response.write(line.encode() + b"\n")
            told += len(fresh)
            if over or request.query.get("follow") != "true":
                return response
            await news.wait()

    async def execute(self, request: web.Request, pod: str) -> web.StreamResponse:
        """The protocol v4.channel.k8s.io: the first byte of a message says which stream it is of."""
        if "*/*" not in request.headers.get("Accept", "*/*"):
            return failure(406, "NotAcceptable", "only the following media types are accepted: */*")
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket.prepare(request)
        out, err, code = self.run(pod, request.query.getall("command"))
        half = len(out) // 2
        await socket.send_bytes(b"\x01" + out[:half])
        if self.cut:
            self.cut -= 1
            await socket.close()
            return socket
        await socket.send_bytes(b"\x01" + out[half:])
        await socket.send_bytes(b"\x02" + err)
        end: dict[str, Any] = {"metadata": {}, "status": "Success"}
        if code:
            cause = {"reason": "ExitCode", "message": str(code)}
            message = f"command terminated with non-zero exit code: exit status {code}"
            end = {"status": "Failure", "reason": "NonZeroExitCode", "message": message}
            end["details"] = {"causes": [cause]}
        await socket.send_bytes(b"\x03" + json.dumps(end).encode())
        await socket.close()
        async for message in socket:
            assert message.type is not WSMsgType.ERROR
        return socket

    def step(self, path: str, held: dict[str, Any], steps: list[dict[str, Any]]) -> web.Response:
        """A JSON patch (RFC 6902)."""
        changed = json.loads(json.dumps(held))
        for step in steps:
            *parents, last = step["path"].split("/")[1:]
            where = changed
            for parent in parents:
                where = where[parent]
            if step["op"] == "test" and where.get(last) != step["value"]:
                return failure(422, "Invalid", "the test failed")
            if step["op"] == "add":
                where[last] = step["value"]
            if step["op"] == "remove":
                del where[last]
        return web.json_response(self.put(path, changed))

    def change(self, method: str, path: str, held: dict[str, Any], sent: Any, content: str) -> web.Response:
        if isinstance(sent, list):
            return self.step(path, held, sent)
        if method == "PATCH":
            return web.json_response(
                self.put(path, merged(held, sent) if content == MERGE else {**held, **sent})
            )
        if method == "DELETE":
            wanted = ((sent or {}).get("preconditions") or {}).get("uid")
            uid = held["metadata"]["uid"]
            if wanted is not None and wanted != uid:
                text = f"the UID in the precondition ({wanted}) does not match the UID in record ({uid})"
                return failure(409, "Conflict", f"Operation cannot be fulfilled: Precondition failed: {text}")
            self.remove(path)
        return web.json_response(held)

    def writes(self) -> list[tuple[str, str]]:
        return [(method, path) for method, path, _ in self.asked if method != "GET"]


def merged(base: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    out = dict(base) if isinstance(base, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merged(out.get(key), value)
    return out


def wanted_form(request: web.Request) -> str:
    """PartialObjectMetadata, of one object or of a list, if that is asked for."""
    found = re.search(r"\bas=(PartialObjectMetadata(?:List)?)\b", request.headers.get("Accept", ""))
    return found[1] if found else ""


def failure(status: int, reason: str, message: str) -> web.Response:
    """As Kubernetes says no."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message}
    return web.json_response({**body, "reason": reason, "code": status}, status=status)


def missing(path: str) -> web.Response:
    *_, plural, name = path.split("/")
    kind = f"{plural}.northpole.dev" if plural == "elftrainingjobs" else plural
    return failure(404, "NotFound", f'{kind} "{name}" not found')


@contextlib.asynccontextmanager
async def listening(server: Server) -> AsyncIterator[str]:
    """Its address, while it answers on this event loop."""
    server.loop = asyncio.get_running_loop()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def serving(server: Server) -> AsyncIterator[apiserver.KubeApi]:
    """A client of it."""
    async with listening(server) as url:
        async with aiohttp.ClientSession() as session:
            yield apiserver.KubeApi(apiserver.Direct(url, session))


@contextlib.contextmanager
def in_background(server: Server) -> Iterator[str]:
    """Its address, while it answers on a thread of its own: for commands that block."""
    ready, done = threading.Event(), asyncio.Event()
    address: list[str] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        async with listening(server) as url:
            address.append(url)
            loops.append(asyncio.get_running_loop())
            ready.set()
            await done.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(20), "the server has not started"
    try:
        yield address[0]
    finally:
        loops[0].call_soon_threadsafe(done.set)
        thread.join(20)
