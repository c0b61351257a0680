"""A data center's window: its figures over HTTP, for Prometheus and for `elf stats`. Reading only.

The server runs in threads of its own; what it shows is made on the event loop, where the figures live.
Where the job's links are mutual TLS, it is HTTPS, and opens for a token: who reads figures has no certificate
of the job.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import selectors
import socket
import socketserver
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from wsgiref import simple_server

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from elf_worker.contract import FIGURES_TOKEN_HEADER

_log = logging.getLogger(__name__)
ANSWER_SECONDS = 5.0
HANDSHAKE_SECONDS = 3.0
_HEADER = "HTTP_" + FIGURES_TOKEN_HEADER.upper().replace("-", "_")

Query = Mapping[str, str]
Figures = Iterable[tuple[str, Mapping[str, str], float]]


class BadQueryError(ValueError):
    """A question that makes no sense; the message says what would."""


class Window:
    """Serves `/metrics` and JSON pages until closed."""

    def __init__(
        self,
        figures: Callable[[], Figures],
        pages: Mapping[str, Callable[[Query], Any]],
        tokens: frozenset[str] = frozenset(),
        context: ssl.SSLContext | None = None,
    ) -> None:
        """`tokens`: SHA-256 (hex) of those that open it; none: it is open to all."""
        self._figures = figures
        self._pages = pages
        self._tokens = tokens
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._serving: tuple[threading.Thread, socket.socket] | None = None
        """The thread ends when the socket is closed."""

    def open(self, address: str, port: int) -> None:
        """Begin to serve. Without a free port there is a warning and no window."""
        try:
            server = simple_server.make_server(address, port, self._answer, _Server, _Handler)
        except OSError as error:
            _log.warning("no figures on %s:%d: %s", address, port, error)
            return
        server.context = self._context
        ours, end = socket.socketpair()
        thread = threading.Thread(target=_serve, args=(server, end), name="window", daemon=True)
        self._serving = thread, ours
        thread.start()

    def close(self) -> None:
        """Serve no more."""
        if self._serving is not None:
            thread, end = self._serving
            end.close()
            thread.join()

    def _answer(self, environ: dict[str, Any], start: Any) -> list[bytes]:
        query = dict(urllib.parse.parse_qsl(environ.get("QUERY_STRING", "")))
        path = environ.get("PATH_INFO", "/")
        if self._tokens and not self._opens(environ):
            said = b"needs the job's token: see docs/statistics.md\n"
            return _reply(start, "401 Unauthorized", "text/plain", said)
        try:
            kind, body = self._page(path, query)
        except BadQueryError as error:
            return _reply(start, "400 Bad Request", "text/plain", f"{error}\n".encode())
        except TimeoutError:
            return _reply(start, "503 Service Unavailable", "text/plain", b"busy, ask again\n")
        if body is None:
            known = ", ".join(["/metrics", *self._pages])
            return _reply(start, "404 Not Found", "text/plain", f"there are {known}\n".encode())
        return _reply(start, "200 OK", kind, body)

    def _opens(self, environ: Mapping[str, Any]) -> bool:
        bearer = str(environ.get("HTTP_AUTHORIZATION", "")).removeprefix("Bearer ")
        digest = hashlib.sha256(str(environ.get(_HEADER) or bearer).encode()).hexdigest()
        return any(hmac.compare_digest(digest, token) for token in self._tokens)

    def _page(self, path: str, query: Query) -> tuple[str, bytes | None]:
        if path == "/metrics":
            return "text/plain; version=0.0.4; charset=utf-8", exposition(self._on_loop(self._collected))
        page = self._pages.get(path)
        if page is None:
            return "", None
        return "application/json", json.dumps(self._on_loop(lambda: page(query))).encode()

    def _collected(self) -> list[tuple[str, Mapping[str, str], float]]:
        return list(self._figures())

    def _on_loop(self, make: Callable[[], Any]) -> Any:
        async def called() -> Any:
            return make()

        return asyncio.run_coroutine_threadsafe(called(), self._loop).result(ANSWER_SECONDS)


def exposition(figures: Figures) -> bytes:
    """Prometheus' text format of (name, labels, value); the names get the prefix `elf_`."""
    families: dict[str, Metric] = {}
    for name, labels, value in figures:
        full = f"elf_{name}"
        family = families.setdefault(full, GaugeMetricFamily(full, full.replace("_", " ")))
        family.add_sample(full, dict(labels), value)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Fixed(families.values()))
    return generate_latest(registry)


class _Fixed:
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _serve(server: simple_server.WSGIServer, end: socket.socket) -> None:
    """Until the other side of `end` is closed; `serve_forever` looks twice a second whether it shall stop."""
    server.timeout = 0
    with server, end, selectors.DefaultSelector() as selector:
        selector.register(server, selectors.EVENT_READ)
        selector.register(end, selectors.EVENT_READ)
        while all(key.fileobj is not end for key, _ in selector.select()):
            server.handle_request()


class _Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    daemon_threads = True
    request_queue_size = 32
    context: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the request's own thread: a caller that does not shake hands keeps nobody waiting."""
        if self.context is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(HANDSHAKE_SECONDS)
        try:
            with self.context.wrap_socket(request, server_side=True) as secured:
                super().finish_request(secured, client_address)
        except OSError as error:
            _log.debug("no figures for %s: %s", client_address, error)


class _Handler(simple_server.WSGIRequestHandler):
    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug(format, *args)


def _reply(start: Any, status: str, kind: str, body: bytes) -> list[bytes]:
    start(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]
