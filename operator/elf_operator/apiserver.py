"""Requests to the Kubernetes API: dicts in, dicts or typed values out.

`Direct` sends them over aiohttp as they are; `Lent` over a client of `kubernetes.aio`, which knows more ways
to log in, and costs half a second of CPU to import and a millisecond a request.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode

import aiohttp
import msgspec
from yarl import URL

from elf_operator.leadership import DURATION_SECONDS, ENTITLED_SECONDS
from elf_operator.reach import CONNECT_SECONDS
from elf_worker.contract import API_GROUP, API_PLURAL, API_VERSION

READ_SECONDS = 20.0
WRITE_SECONDS = DURATION_SECONDS - ENTITLED_SECONDS
"""A write that began as long as it may after a renewal of the Lease is over before another may act."""
MERGE_PATCH = "application/merge-patch+json"
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_OF_ALL = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
T = TypeVar("T")
Body = Mapping[str, Any] | Sequence[Mapping[str, Any]]
Requested = Callable[[str, str, int, float], None]
"""Is told of every request: verb, resource, HTTP status (0: no answer), seconds."""


class _Anything(msgspec.Struct):
    """Any JSON object."""


class ApiError(Exception):
    """An answer that is not 2xx, or no JSON; `body` is what was said, as text."""

    def __init__(self, status: int, reason: str | None = "", body: str = "") -> None:
        super().__init__(f"HTTP {status} {reason}")
        self.status, self.reason, self.body = status, reason or "", body


class NotLeadingError(Exception):
    """A write was not begun: another operator may act."""


OUTAGES = (ApiError, aiohttp.ClientError, TimeoutError, OSError, NotLeadingError)
"""What the API server and the way to it may do to a request."""


def brief(error: Exception) -> str:
    """An error on one line."""
    if isinstance(error, ApiError):
        return f"HTTP {error.status} {error.reason}: {str(error.body)[:300]}"
    return f"{type(error).__name__} {error}"


class Way(Protocol):
    """How a request gets to the API server."""

    async def send(
        self, method: str, resource: str, body: Body | None, headers: Mapping[str, str], seconds: float
    ) -> tuple[int, str, bytes]:
        """(HTTP status, reason, body) of the answer. Raises what `OUTAGES` has, but no ApiError."""


class Direct:
    """One session and its connections.

    `authorization`: what goes with each request, asked for each time. `unanswered` hears of requests that
    were not answered, or given up.
    """

    def __init__(
        self,
        server: str,
        session: aiohttp.ClientSession,
        authorization: Callable[[], Mapping[str, str]] = dict,
        unanswered: Callable[[], None] = lambda: None,
    ) -> None:
        self._server, self._session, self._authorization = server.rstrip("/"), session, authorization
        self._unanswered = unanswered

    async def send(
        self, method: str, resource: str, body: Body | None, headers: Mapping[str, str], seconds: float
    ) -> tuple[int, str, bytes]:
        """See `Way`."""
        async with self._answer(
            method,
            resource,
            data=None if body is None else msgspec.json.encode(body),
            headers={**headers, **self._authorization()},
            timeout=_patience(seconds),
            allow_redirects=False,
        ) as answer:
            return answer.status, answer.reason or "", await answer.read()

    async def lines(self, resource: str, seconds: float) -> AsyncGenerator[bytes, None]:
        """The lines of an answer as they come, for so long at most. Raises ApiError for anything but 2xx."""
        async with self._answer(
            "GET",
            resource,
            headers={"Accept": "application/json", **self._authorization()},
            timeout=_patience(seconds),
        ) as answer:
            if not 200 <= answer.status <= 299:
                raise ApiError(answer.status, answer.reason, (await answer.read()).decode(errors="replace"))
            while line := await answer.content.readline():
                yield line

    @contextlib.asynccontextmanager
    async def _answer(
        self, method: str, resource: str, **options: Any
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """What the server says, once it has begun to."""
        answered = False
        try:
            url = URL(self._server + resource, encoded=True)
            async with self._session.request(method, url, **options) as answer:
                answered = True
                yield answer
        finally:
            if not answered:
                self._unanswered()


class Lent:
    """Over an `ApiClient` of `kubernetes.aio` that somebody else opens and closes."""

    def __init__(self, api: Any) -> None:
        self._api = api

    async def send(
        self, method: str, resource: str, body: Body | None, headers: Mapping[str, str], seconds: float
    ) -> tuple[int, str, bytes]:
        """See `Way`."""
        prepared = await self._api.param_serialize(
            method, resource, header_params=dict(headers), auth_settings=["BearerToken"]
        )
        answer = await self._api.call_api(
            method, prepared[1], prepared[2], body=body, _request_timeout=seconds
        )
        return int(answer.status), str(answer.reason), bytes(await answer.read())


class KubeApi:
    """Requests with dict bodies."""

    def __init__(
        self,
        way: Way,
        may_write: Callable[[], bool] = lambda: True,
        requested: Requested = lambda verb, resource, code, seconds: None,
    ) -> None:
        self._way = way
        self._may_write = may_write
        self._requested = requested

    def watched(self, may_write: Callable[[], bool], requested: Requested) -> KubeApi:
        """The same connections; writes begin only while they may, and `requested` hears of everything."""
        return KubeApi(self._way, may_write, requested)

    async def request(
        self,
        method: str,
        path: str,
        body: Body | None = None,
        query: Mapping[str, str] | None = None,
        content: str = "application/json",
        accept: str = "application/json",
    ) -> dict[str, Any]:
        """The answer's JSON. Raises ApiError for anything but 2xx, NotLeadingError for a write too late."""
        return await self._ask(dict[str, Any], method, path, body, query, content, accept)

    async def create(self, path: str, body: Body, query: Mapping[str, str] | None = None) -> None:
        """A POST. Of the answer only the metadata are asked for, and nothing is kept.

        Raises like `request`: an answer that is no JSON, or cut short, is none.
        """
        await self._ask(_Anything, "POST", path, body, query, "application/json", _METADATA)

    async def read(self, kind: type[T], path: str, query: Mapping[str, str] | None = None) -> T:
        """A GET whose answer is of this type; what the type does not name is not even read."""
        return await self._ask(kind, "GET", path, None, query, "application/json", "application/json")

    async def _ask(
        self,
        kind: type[T],
        method: str,
        path: str,
        body: Body | None,
        query: Mapping[str, str] | None,
        content: str,
        accept: str,
    ) -> T:
        reads = method == "GET"
        if not reads and not self._may_write():
            raise NotLeadingError(f"{method} {path}: the Lease was not renewed in time")
        resource = f"/{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": accept, "Content-Type": content}
        began, code = time.monotonic(), 0
        try:
            seconds = READ_SECONDS if reads else WRITE_SECONDS
            code, reason, data = await self._way.send(method, resource, body, headers, seconds)
        finally:
            self._requested(verb_of(method, path), resource_of(path), code, time.monotonic() - began)
        if not 200 <= code <= 299:
            raise ApiError(status=code, reason=reason, body=data.decode(errors="replace"))
        try:
            found: T = _decoder(kind).decode(data)  # type: ignore[arg-type]
        except (msgspec.MsgspecError, ValueError) as error:
            raise ApiError(status=code, reason=f"the answer is cut short: {error}") from error
        return found

    async def get(self, path: str) -> dict[str, Any] | None:
        """One object, or None if it does not exist."""
        with unless_missing():
            return await self.request("GET", path)
        return None

    async def jobs(self, namespace: str | None) -> list[tuple[str, str]]:
        """(namespace, name) of all jobs, of one namespace or of all."""
        where = f"namespaces/{namespace}/" if namespace else ""
        path = f"apis/{API_GROUP}/{API_VERSION}/{where}{API_PLURAL}"
        found = await self.request("GET", path, accept=_METADATA_OF_ALL)
        metas = [item["metadata"] for item in found["items"] or ()]  # in this form none is null
        return [(meta["namespace"], meta["name"]) for meta in metas]


@functools.cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


@functools.cache
def _patience(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)


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
