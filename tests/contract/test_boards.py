"""What both boards promise: files on a real disk, and a cluster played by a real HTTP server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio import client, config

from elf_worker.boards import Board, BoardError, files, kube, open_board
from elf_worker.boards.files import FileBoard
from elf_worker.contract import WIRING_KEY, Slot, Wiring

DEADLINE = 20.0
PROGRESS = {"phase": "Training", "round": 3, "metrics": {"f1": "0.5000"}}


def wiring(version: int, mdcs: int = 2) -> Wiring:
    slots = {i: Slot(version, f"mdc-{i}-{version}", frozenset({2 * i, 2 * i + 1})) for i in range(mdcs)}
    return Wiring(version, Slot(1, "npdc-1"), slots, {"rounds": 10})


class Follower:
    """Collects what a board's watch yields."""

    def __init__(self, board: Board) -> None:
        self.seen: list[int] = []
        self.wirings: list[Wiring] = []
        self.task = asyncio.ensure_future(self._follow(board))

    async def _follow(self, board: Board) -> None:
        async for wiring in board.watch():
            self.wirings.append(wiring)
            self.seen.append(wiring.version)

    async def until(self, condition: Callable[[], Any]) -> None:
        """Fails at once, with its error, when the watch has ended: it never should."""
        async with asyncio.timeout(DEADLINE):
            while not condition():
                if self.task.done():
                    self.task.result()
                    raise AssertionError("the watch has ended")
                await asyncio.sleep(0.005)

    async def sees(self, *versions: int) -> None:
        await self.until(lambda: len(self.seen) >= len(versions))
        assert self.seen == list(versions)


@contextlib.asynccontextmanager
async def following(board: Board) -> AsyncIterator[Follower]:
    follower = Follower(board)
    try:
        yield follower
    finally:
        follower.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await follower.task


# -- which board ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["", "file", "/var/elf", "http://host/", "Kube:a/b/c"])
async def test_an_unknown_board_is_refused_with_the_forms_there_are(where):
    with pytest.raises(ValueError, match=r"kube:NAMESPACE/JOB/CONFIGMAP.*file:DIRECTORY") as caught:
        async with open_board(where):
            pass
    assert repr(where) in str(caught.value)


@pytest.mark.parametrize("where", ["kube:", "kube:space/job", "kube:space/job/map/more"])
async def test_a_cluster_s_board_with_the_wrong_number_of_names_is_refused_alike(where):
    with pytest.raises(ValueError, match=r"kube:NAMESPACE/JOB/CONFIGMAP"):
        async with open_board(where):
            pass


# -- files ----------------------------------------------------------------------------------------------


@pytest.fixture
def post(tmp_path) -> Callable[[Wiring], None]:
    """Writes a wiring as the local cluster does: a new file renamed over the old."""

    def write(wiring: Wiring) -> None:
        fresh = tmp_path / ".fresh"
        fresh.write_text(wiring.to_json())
        fresh.replace(tmp_path / WIRING_KEY)

    return write


async def test_files_yield_the_present_wiring_and_then_every_change(tmp_path, post):
    post(wiring(1))
    async with open_board(f"file:{tmp_path}") as board, following(board) as follower:
        await follower.sees(1)
        assert follower.wirings == [wiring(1)]
        post(wiring(2))
        await follower.sees(1, 2)
        post(wiring(3))
        await follower.sees(1, 2, 3)
    assert follower.wirings == [wiring(1), wiring(2), wiring(3)]


async def test_files_wait_for_a_wiring_that_is_not_there_yet_and_through_one_that_is_gone(tmp_path, post):
    async with following(FileBoard(str(tmp_path))) as follower:
        await asyncio.sleep(3 * files.POLL_SECONDS)
        assert follower.seen == []
        post(wiring(1))
        await follower.sees(1)
        os.unlink(tmp_path / WIRING_KEY)
        await asyncio.sleep(3 * files.POLL_SECONDS)
        post(wiring(2))
        await follower.sees(1, 2)


async def test_an_unchanged_file_is_yielded_once(tmp_path, post):
    post(wiring(1))
    async with following(FileBoard(str(tmp_path))) as follower:
        await follower.sees(1)
        await asyncio.sleep(5 * files.POLL_SECONDS)
        assert follower.seen == [1]


async def test_progress_is_one_file_that_is_replaced(tmp_path):
    board = FileBoard(str(tmp_path))
    for progress in (PROGRESS, {"phase": "Complete"}):
        await board.publish(progress)
        assert json.loads((tmp_path / files.PROGRESS_FILE).read_text()) == progress
    assert [path.name for path in tmp_path.iterdir()] == [files.PROGRESS_FILE]


async def test_a_reader_never_sees_half_of_the_progress(tmp_path):
    """A reader in a second thread reads all the time while large and small progress take turns."""
    board, path = FileBoard(str(tmp_path)), tmp_path / files.PROGRESS_FILE
    short, long = {"phase": "Training"}, {"missing": "x" * 200_000}
    await board.publish(short)
    done, read = threading.Event(), []

    def reader() -> None:
        while not done.is_set():
            read.append(path.read_text())

    thread = threading.Thread(target=reader)
    thread.start()
    try:
        for _ in range(300):
            await board.publish(long)
            await board.publish(short)
    finally:
        done.set()
        thread.join()
    assert {json.dumps(short), json.dumps(long)} >= set(read)
    assert len(read) > 10


async def test_a_file_that_cannot_be_written_is_a_board_error(tmp_path):
    (tmp_path / "directory").write_text("a file is in its place")
    with pytest.raises(BoardError):
        await FileBoard(str(tmp_path / "directory")).publish(PROGRESS)


# -- a cluster ------------------------------------------------------------------------------------------


@dataclass
class Api:
    """One ConfigMap to watch and one status to patch, as an API server serves them."""

    map: dict[str, str] | None = None
    version: int = 0
    watches: list[asyncio.Queue[bytes | None]] = field(default_factory=list)
    watch_queries: list[dict[str, str]] = field(default_factory=list)
    watch_faults: deque[Callable[[web.Request], Any]] = field(default_factory=deque)
    patches: list[tuple[str, dict[str, str], str, Any]] = field(default_factory=list)
    patch_faults: deque[Callable[[web.Request], Any]] = field(default_factory=deque)

    def post(self, wiring: Wiring | None, kind: str = "MODIFIED") -> None:
        self.map = {WIRING_KEY: wiring.to_json()} if wiring else {}
        self.version += 1
        self._tell(self._event(kind))

    def delete(self) -> None:
        self._tell(self._event("DELETED"))
        self.map = None

    def end_watches(self) -> None:
        for queue in self.watches:
            queue.put_nowait(None)

    def _tell(self, event: bytes) -> None:
        for queue in self.watches:
            queue.put_nowait(event)

    def _event(self, kind: str) -> bytes:
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "job-wiring", "namespace": "space", "resourceVersion": str(self.version)},
            "data": self.map,
        }
        return json.dumps({"type": kind, "object": body}).encode() + b"\n"

    async def watch(self, request: web.Request) -> web.StreamResponse:
        self.watch_queries.append(dict(request.query))
        if self.watch_faults:
            return await self.watch_faults.popleft()(request)
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        if self.map is not None:  # a watch without a resource version begins with what is there
            queue.put_nowait(self._event("ADDED"))
        self.watches.append(queue)
        response = await streaming(request)
        with contextlib.suppress(ConnectionError):
            while (event := await queue.get()) is not None:
                await response.write(event)
        self.watches.remove(queue)
        return response

    async def patch(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.text())
        self.patches.append((request.path, dict(request.query), request.headers["Content-Type"], body))
        if self.patch_faults:
            return await self.patch_faults.popleft()(request)
        return web.json_response(body)


async def streaming(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    return response


def failure(code: int, reason: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": f"it is {code}"}


def answers(code: int, reason: str) -> Callable[[web.Request], Any]:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(failure(code, reason), status=code)

    return answer


def streams(*pieces: bytes) -> Callable[[web.Request], Any]:
    """These bytes, and an orderly end."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = await streaming(request)
        for piece in pieces:
            await response.write(piece)
        return response

    return answer


async def hangs_up(request: web.Request) -> web.StreamResponse:
    """The connection breaks in the middle of a line."""
    response = await streaming(request)
    await response.write(b'{"type": "ADDED", "obj')
    assert request.transport is not None
    request.transport.abort()
    return response


async def says_nothing(request: web.Request) -> web.StreamResponse:
    await streaming(request)
    await asyncio.sleep(DEADLINE)
    raise AssertionError("nobody has hung up")


@pytest.fixture
async def api(monkeypatch) -> AsyncIterator[Api]:
    """An API server, and this process as a pod of its cluster."""
    served = Api()
    app = web.Application()
    app.router.add_get("/api/v1/namespaces/space/configmaps", served.watch)
    base = "/apis/northpole.dev/v1alpha1/namespaces/space/elftrainingjobs/job"
    app.router.add_patch(f"{base}/status", served.patch)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host = "http://{}:{}".format(*runner.addresses[0])

    def in_cluster(client_configuration: Any = None, **_: Any) -> None:
        chosen = client_configuration or client.Configuration()
        chosen.host = host
        if client_configuration is None:
            client.Configuration.set_default(chosen)

    monkeypatch.setattr(client.Configuration, "_default", None)
    monkeypatch.setattr(config, "load_incluster_config", in_cluster)
    monkeypatch.setattr(kube, "RETRY_SECONDS", 0.02)
    yield served
    served.end_watches()
    await runner.cleanup()


BOARD = "kube:space/job/job-wiring"


async def test_a_cluster_yields_the_present_wiring_and_then_every_change(api):
    api.post(wiring(1))
    async with open_board(BOARD) as board, following(board) as follower:
        await follower.sees(1)
        api.post(wiring(2))
        await follower.sees(1, 2)
        api.post(wiring(3))
        await follower.sees(1, 2, 3)
    assert follower.wirings == [wiring(1), wiring(2), wiring(3)]
    assert len(api.watch_queries) == 1


async def test_the_watch_asks_for_one_object_and_for_an_end(api):
    """Any wider request would be refused: the service account may watch this one ConfigMap."""
    api.post(wiring(1))
    async with open_board(BOARD) as board, following(board) as follower:
        await follower.sees(1)
    (query,) = api.watch_queries
    assert query["fieldSelector"] == "metadata.name=job-wiring"
    assert query["watch"].lower() == "true"
    assert query["timeoutSeconds"] == str(kube.WATCH_SECONDS)
    assert "resourceVersion" not in query, "the present object comes first only without one"


async def test_a_cluster_s_wiring_may_come_later_and_without_its_key(api):
    async with open_board(BOARD) as board, following(board) as follower:
        await follower.until(lambda: api.watches)
        api.post(None, "ADDED")
        api.post(wiring(1))
        await follower.sees(1)


async def test_a_deleted_wiring_is_no_news_and_its_return_only_if_it_differs(api):
    api.post(wiring(1))
    async with open_board(BOARD) as board, following(board) as follower:
        await follower.sees(1)
        api.delete()
        api.post(wiring(1), "ADDED")
        api.post(wiring(2))
        await follower.sees(1, 2)


async def test_a_watch_that_ends_is_resumed_with_what_happened_meanwhile(api):
    api.post(wiring(1))
    async with open_board(BOARD) as board, following(board) as follower:
        await follower.sees(1)
        watches = list(api.watches)
        api.end_watches()
        api.map = {WIRING_KEY: wiring(2).to_json()}  # while nobody was watching
        await follower.sees(1, 2)
        await follower.until(lambda: api.watches and api.watches != watches)
        api.end_watches()
        await follower.until(lambda: len(api.watch_queries) >= 3 and api.watches)
        api.post(wiring(3))
        await follower.sees(1, 2, 3)


WATCH_FAULTS = {
    "HTTP 500": answers(500, "InternalError"),
    "HTTP 403": answers(403, "Forbidden"),
    "HTTP 410": answers(410, "Expired"),
    "HTTP 429": answers(429, "TooManyRequests"),
    "410 in the stream": streams(
        json.dumps({"type": "ERROR", "object": failure(410, "Expired")}).encode() + b"\n"
    ),
    "connection broken within a line": hangs_up,
    "stream ended at once": streams(),
    "stream ended within a line": streams(b'{"type": "MODIFIED", "object": {"kind": "Conf'),
    "lines that are no JSON": streams(b"upstream connect error\n"),
    "a status instead of an event": streams(json.dumps(failure(504, "Timeout")).encode() + b"\n"),
    "JSON that is no event": streams(b"{}\n"),
}


@pytest.mark.parametrize("fault", WATCH_FAULTS.values(), ids=WATCH_FAULTS.keys())
async def test_whatever_a_watch_meets_is_waited_out(fault, api):
    """Once before the first event and once after it."""
    api.watch_faults.append(fault)
    api.post(wiring(1))
    async with open_board(BOARD) as board, following(board) as follower:
        await follower.sees(1)
        api.watch_faults += [fault, fault]
        api.end_watches()
        await follower.until(lambda: not api.watch_faults and api.watches)
        api.post(wiring(2))
        await follower.sees(1, 2)


async def test_a_server_that_is_away_is_waited_out(api, monkeypatch):
    real = client.CoreV1Api.list_namespaced_config_map_without_preload_content
    refused = 3

    async def unreachable(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal refused
        if refused:
            refused -= 1
            raise ConnectionRefusedError("nobody listens")
        return await real(self, *args, **kwargs)

    monkeypatch.setattr(client.CoreV1Api, "list_namespaced_config_map_without_preload_content", unreachable)
    api.post(wiring(1))
    async with open_board(BOARD) as board, following(board) as follower:
        await follower.sees(1)
    assert refused == 0


async def test_a_watch_that_has_gone_quiet_is_begun_anew(api, monkeypatch):
    monkeypatch.setattr(kube, "WATCH_SECONDS", 1)
    monkeypatch.setattr(kube, "REQUEST_SECONDS", 0)
    api.watch_faults.append(says_nothing)
    api.post(wiring(1))
    async with open_board(BOARD) as board, following(board) as follower:
        await follower.sees(1)
    assert len(api.watch_queries) == 2


async def test_the_wiring_of_three_thousand_mdcs_arrives(api):
    """An event is one line; this one has a quarter of a megabyte, and a ConfigMap may have a whole one."""
    large = wiring(1, mdcs=3000)
    assert 200_000 < len(large.to_json()) < 1_000_000
    api.post(large)
    async with open_board(BOARD) as board, following(board) as follower:
        await follower.sees(1)
    assert follower.wirings == [large]


async def test_progress_is_applied_to_the_status_alone_under_its_own_name(api):
    async with open_board(BOARD) as board:
        await board.publish(PROGRESS)
    ((path, query, kind, body),) = api.patches
    assert path == "/apis/northpole.dev/v1alpha1/namespaces/space/elftrainingjobs/job/status"
    assert query["fieldManager"] == "elf-npdc"
    assert query["force"].lower() == "true"
    assert kind == "application/apply-patch+yaml"
    assert body == {
        "apiVersion": "northpole.dev/v1alpha1",
        "kind": "ElfTrainingJob",
        "metadata": {"name": "job"},
        "status": {"training": PROGRESS},
    }


async def test_every_publication_is_whole(api):
    """Server-side apply removes what is left out, so nothing may be left out that still holds."""
    async with open_board(BOARD) as board:
        await board.publish(PROGRESS)
        await board.publish({"phase": "Complete"})
    assert [body["status"] for *_, body in api.patches] == [
        {"training": PROGRESS},
        {"training": {"phase": "Complete"}},
    ]


@pytest.mark.parametrize("code", [403, 404, 409, 422, 429, 500, 503])
async def test_a_refused_publication_is_a_board_error_and_the_next_may_pass(code, api):
    api.patch_faults.append(answers(code, "Nope"))
    async with open_board(BOARD) as board:
        with pytest.raises(BoardError, match=str(code)):
            await board.publish(PROGRESS)
        await board.publish(PROGRESS)
    assert len(api.patches) == 2


async def test_a_publication_whose_connection_breaks_is_a_board_error(api):
    api.patch_faults.append(hangs_up)
    async with open_board(BOARD) as board:
        with pytest.raises(BoardError):
            await board.publish(PROGRESS)


async def test_a_publication_without_an_answer_is_a_board_error(api, monkeypatch):
    monkeypatch.setattr(kube, "REQUEST_SECONDS", 0.2)
    api.patch_faults.append(says_nothing)
    async with open_board(BOARD) as board:
        with pytest.raises(BoardError):
            await board.publish(PROGRESS)
