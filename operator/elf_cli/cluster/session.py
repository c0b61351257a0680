"""A cluster for the time of one command: requests, lists, watches, logs and commands within pods."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

import aiohttp
import yaml
from kubernetes.aio import client, config
from kubernetes.aio.stream import WsApiClient

from elf_cli.cluster import trouble
from elf_cli.cluster.target import Target, namespace_in_pod, namespace_of
from elf_cli.refusal import TroubleError, refuse
from elf_operator.apiserver import ApiError, KubeApi, Lent
from elf_worker.contract import API_GROUP, API_PLURAL, API_VERSION

T = TypeVar("T")
JOBS = f"apis/{API_GROUP}/{API_VERSION}"
PAGE = "500"
"""Objects an answer: lists of ten thousand pods come in pieces."""
CONNECT_SECONDS = 10.0
EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143
QUIET_SECONDS = 300.0
"""A stream that says nothing for so long is opened again: it may have died without a word."""
PATIENCE_SECONDS = 60.0
"""How long a watch may fail before the command does."""
_OUT, _ERR, _END = 1, 2, 3
_NAMES_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class GoneError(Exception):
    """A stream of changes cannot go on where it was: look at everything again."""


class Session:
    """See the module; made by `connect`."""

    def __init__(self, made: client.ApiClient, namespace: str, target: Target) -> None:
        self.api = KubeApi(Lent(made))
        self.namespace = namespace
        self.target = target
        self._made = made

    @property
    def server(self) -> str:
        """Its address."""
        return str(self._made.configuration.host)

    def job_path(self, name: str) -> str:
        """Of one job in the namespace."""
        return f"{self.jobs_path()}/{name}"

    def jobs_path(self, everywhere: bool = False) -> str:
        """Of all jobs, of the namespace or of all."""
        return f"{JOBS}/{API_PLURAL}" if everywhere else f"{JOBS}/namespaces/{self.namespace}/{API_PLURAL}"

    def core_path(self, kind: str) -> str:
        """Of all objects of a kind such as pods."""
        return f"api/v1/namespaces/{self.namespace}/{kind}"

    async def job(self, name: str) -> dict[str, Any]:
        """The job of this name. Raises TroubleError that says which there are."""
        try:
            return await self.api.request("GET", self.job_path(name))
        except ApiError as error:
            if error.status != 404:
                raise
            if trouble.lacks_crd(error.body):
                raise TroubleError(trouble.no_crd()) from error
        here = await self.job_names()
        others: set[str] = set()
        with contextlib.suppress(ApiError):  # without the right to look everywhere: no hint
            others = {where for where, other in await self._names(everywhere=True) if other == name}
        raise TroubleError(trouble.no_such_job(name, self.namespace, here, others))

    async def job_names(self) -> list[str]:
        """Of all jobs of the namespace; none without the right to list them."""
        with contextlib.suppress(ApiError):
            return [name for _, name in await self._names(everywhere=False)]
        return []

    async def _names(self, everywhere: bool) -> list[tuple[str, str]]:
        found = await self.api.request("GET", self.jobs_path(everywhere), accept=_NAMES_ONLY)
        metas = [item["metadata"] for item in found.get("items") or ()]  # in this form none is null
        return [(meta["namespace"], meta["name"]) for meta in metas]

    async def items(
        self, path: str, query: Mapping[str, str] | None = None
    ) -> tuple[list[dict[str, Any]], str]:
        """(all objects of a list, its resourceVersion), a page at a time."""
        found: list[dict[str, Any]] = []
        asked = {**(query or {}), "limit": PAGE}
        while True:
            answer = await self.api.request("GET", path, query=asked)
            meta = answer.get("metadata") or {}
            found += answer.get("items") or []
            if not meta.get("continue"):
                return found, str(meta.get("resourceVersion") or "")
            asked["continue"] = meta["continue"]

    async def changes(
        self, path: str, query: Mapping[str, str] | None = None
    ) -> AsyncGenerator[tuple[str, Any], None]:
        """("LIST", all objects) first and whenever the thread was lost, in between (type, object).

        Raises TroubleError if the server is away for too long.
        """
        failing_since: float | None = None
        while True:
            try:
                found, version = await self.items(path, query)
                failing_since = None
                yield "LIST", found
                async for kind, changed in self._watched(path, query or {}, version):
                    yield kind, changed
            except GoneError:
                continue
            except (aiohttp.ClientError, TimeoutError, ApiError) as error:
                if isinstance(error, ApiError) and error.status in (401, 403, 404):
                    raise
                failing_since = time.monotonic() if failing_since is None else failing_since
                if time.monotonic() - failing_since > PATIENCE_SECONDS:
                    raise
                await asyncio.sleep(1.0)

    async def _watched(
        self, path: str, query: Mapping[str, str], version: str
    ) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        while True:
            asked = {**query, "watch": "true", "resourceVersion": version, "timeoutSeconds": "240"}
            async for line in self.lines(path, asked):
                change = json.loads(line)
                if change["type"] in ("ERROR", "BOOKMARK"):
                    raise GoneError(str(change["object"].get("message")))
                version = change["object"]["metadata"]["resourceVersion"]
                yield change["type"], change["object"]

    async def lines(
        self, path: str, query: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The lines of an answer as they come, without their ends. Raises ApiError for anything but 2xx."""
        prepared = await self._prepared(self._made, f"/{path}?{urlencode(query)}")
        sent = {**prepared[2], **(headers or {})}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=QUIET_SECONDS)
        answer = await self._made.call_api("GET", prepared[1], sent, _request_timeout=timeout)
        response: aiohttp.ClientResponse = answer.response
        try:
            if not 200 <= response.status <= 299:
                body = (await response.read()).decode(errors="replace")
                raise ApiError(status=response.status, reason=response.reason, body=body)
            rest = b""
            async for piece in response.content.iter_any():
                *whole, rest = (rest + piece).split(b"\n")
                for line in whole:
                    yield line
            if rest:
                yield rest
        finally:
            response.close()

    async def execute(self, pod: str, container: str, command: Sequence[str]) -> bytes:
        """What a command in a pod writes to its standard output. Raises TroubleError if it fails."""
        asked = [("command", word) for word in command]
        asked += [("container", container), ("stdout", "true"), ("stderr", "true")]
        path = f"/{self.core_path('pods')}/{pod}/exec?{urlencode(asked)}"
        out, err, end = bytearray(), bytearray(), b""
        async with WsApiClient(self._made.configuration) as sockets:
            prepared = await self._prepared(sockets, path)
            # A server asked for JSON alone refuses a stream with 406.
            headers = {**prepared[2], "Accept": "*/*", "sec-websocket-protocol": "v4.channel.k8s.io"}
            try:
                opened = await sockets.request("GET", prepared[1], headers=headers, _preload_content=False)
                async with opened as socket:
                    async for message in socket:
                        channel, data = message.data[0], message.data[1:]
                        if channel == _END:
                            end += data
                        elif channel in (_OUT, _ERR):
                            (out if channel == _OUT else err).extend(data)
            except aiohttp.WSServerHandshakeError as error:
                if error.status == 403:
                    raise TroubleError(trouble.exec_denied(self.namespace)) from error
                raise ApiError(status=error.status, reason=error.message) from error
        if not end or json.loads(end).get("status") != "Success":
            why = err.decode(errors="replace").strip().splitlines() or [
                trouble.said(end) or "the stream broke off"
            ]
            raise TroubleError(f"pod {pod}: {why[-1]}")
        return bytes(out)

    async def _prepared(self, made: client.ApiClient, resource: str) -> Any:
        headers = {"Accept": "application/json"}
        return await made.param_serialize(
            "GET", resource, header_params=headers, auth_settings=["BearerToken"]
        )


@contextlib.asynccontextmanager
async def connect(target: Target) -> AsyncIterator[Session]:
    """The cluster of the kubeconfig, or the one around this pod where there is none. Raises TroubleError."""
    settings = client.Configuration()
    try:
        namespace = await _configure(settings, target)
    except (config.ConfigException, yaml.YAMLError) as error:
        raise TroubleError(trouble.no_config(str(error))) from error
    async with client.ApiClient(settings) as made:
        session = Session(made, namespace, target)
        try:
            yield session
        except ApiError as error:
            raise TroubleError(trouble.of_answer(*_told(error))) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            why = str(error) or type(error).__name__
            raise TroubleError(trouble.unreachable(session.server, why)) from error


async def _configure(settings: client.Configuration, target: Target) -> str:
    """Fill the settings in; the namespace that is meant."""
    try:
        _expect_a_file(target)
        contexts, active = config.list_kube_config_contexts(target.kubeconfig)
        namespace = namespace_of(target, contexts, active)
        await config.load_kube_config(target.kubeconfig, target.context, settings, persist_config=False)
        return namespace
    except config.ConfigException:
        if target.explicit:
            raise
        try:
            config.load_incluster_config(settings)
        except config.ConfigException:
            pass
        else:
            return namespace_in_pod(target)
        raise


def _expect_a_file(target: Target) -> None:
    """The client would go on with an empty kubeconfig, and complain of what is not in it."""
    asked = target.kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    if not any(pathlib.Path(part).expanduser().is_file() for part in asked.split(os.pathsep) if part):
        raise config.ConfigException(f"there is no kubeconfig {asked}")


def _told(error: Any) -> tuple[str, int, str, object]:
    """What `trouble.of_answer` is told of an error."""
    return "the API server refuses", int(error.status or 0), str(error.reason or ""), error.body


async def beside(work: Awaitable[T], others: Sequence[Awaitable[None]]) -> T:
    """The outcome of `work`, while these run beside it; the first of them that fails ends it all."""
    main = asyncio.ensure_future(work)
    tasks: set[asyncio.Future[Any]] = {main, *map(asyncio.ensure_future, others)}
    pending = tasks
    try:
        while not main.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        return main.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def run(target: Target, work: Callable[[Session], Awaitable[T]]) -> T:
    """Do this with the cluster that is meant; what goes wrong ends the command with a sentence."""

    async def whole() -> T:
        me = asyncio.current_task()
        assert me is not None
        with contextlib.suppress(RuntimeError, ValueError):  # only a main thread hears signals
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, me.cancel)
        async with connect(target) as session:
            return await work(session)

    try:
        return asyncio.run(whole())
    except TroubleError as error:
        refuse(str(error), error.status)
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None
    except asyncio.CancelledError:
        raise SystemExit(EXIT_TERMINATED) from None
