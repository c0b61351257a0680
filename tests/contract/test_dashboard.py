"""The dashboard's server as a browser meets it: what it serves, what it refuses, what it never does."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from builders import NOW, pod, settled, with_pod
from elf_operator.dashboard import server
from elf_operator.dashboard.gallery import Gallery
from elf_worker.contract import Role

JOB = "api/jobs/pole/sleigh"


@pytest.fixture
def gallery() -> Gallery:
    made = Gallery(lambda: NOW)
    made.look(settled())
    return made


@pytest.fixture
async def client(gallery: Gallery) -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        server.served(gallery, "127.0.0.1", 0) as board,
        aiohttp.ClientSession(board.url) as session,
    ):
        yield session


async def told(client: aiohttp.ClientSession, path: str, status: int = 200) -> Any:
    async with client.get(path) as answer:
        assert answer.status == status, await answer.text()
        assert answer.content_type == "application/json"
        return await answer.json()


@pytest.mark.parametrize("path", ["", "static/dashboard.js", "api/jobs", JOB, "nothing", "static/nothing"])
async def test_every_answer_is_guarded(client: aiohttp.ClientSession, path: str) -> None:
    async with client.get(f"/{path}") as answer:
        headers = answer.headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "http" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] == "no-store"


async def test_the_page_and_its_files_name_nobody_else(client: aiohttp.ClientSession) -> None:
    for name, kind in server.TYPES.items():
        async with client.get("/" if name == "index.html" else f"/static/{name}") as answer:
            assert answer.status == 200 and answer.content_type == kind
            text = await answer.text()
        urls = set(re.findall(r"\w+://[^\"' )]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not urls and "innerHTML" not in text and "eval(" not in text


async def test_jobs_and_a_job(client: aiohttp.ClientSession) -> None:
    listed = await told(client, "/api/jobs")
    assert [(j["namespace"], j["job"]) for j in listed["jobs"]] == [("pole", "sleigh")]
    assert (await told(client, f"/{JOB}"))["tree"]["npdc"]["state"] == "serving"


async def test_frames_since_the_last_question(client: aiohttp.ClientSession, gallery: Gallery) -> None:
    first = (await told(client, f"/{JOB}"))["frame"]
    gallery.look(with_pod(settled(), pod(Role.MDC, 1).name, phase="Failed"))
    [frame] = (await told(client, f"/{JOB}?after={first}"))["frames"]
    assert frame["tree"]["mdcs"][1]["state"] == "dead"


@pytest.mark.parametrize(
    "path", ["nothing", "api", "api/jobs/pole", "api/jobs/pole/none", "static/../gallery.py"]
)
async def test_what_is_not_there(client: aiohttp.ClientSession, path: str) -> None:
    assert (await told(client, f"/{path}", 404))["error"]


@pytest.mark.parametrize("after", ["x", "-1", "1e3", "9" * 17, "²"])
async def test_a_frame_that_is_no_number(client: aiohttp.ClientSession, after: str) -> None:
    assert "frame" in (await told(client, f"/{JOB}?after={after}", 400))["error"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_get_only(client: aiohttp.ClientSession, method: str) -> None:
    for path in ("/", "/api/jobs", f"/{JOB}"):
        async with client.request(method, path) as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "GET")
            assert (await answer.json())["error"] == "GET only"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:1", 200),
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil", 421),
    ],
)
async def test_a_strangers_name_for_our_address(
    client: aiohttp.ClientSession, host: str, status: int
) -> None:
    async with client.get("/api/jobs", headers={"Host": host}) as answer:
        assert answer.status == status


async def test_a_port_that_is_taken(gallery: Gallery) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        with pytest.raises(OSError):
            async with server.served(gallery, "127.0.0.1", held.getsockname()[1]):
                pass


# -- the last look ------------------------------------------------------------------------------------------

EVER = 3600.0
"""Seconds that no test waits for."""


async def idle() -> None:
    """Let everything go on that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_nobody_is_waited_for_where_nobody_looks_on() -> None:
    board = server.Dashboard("")
    async with asyncio.timeout(20):
        await board.farewell(EVER)
        board.asked = time.monotonic() - 2 * EVER - 1
        await board.farewell(EVER)


async def test_who_looks_on_is_waited_for_no_longer_than_said() -> None:
    board = server.Dashboard("")
    board.asked = time.monotonic() + EVER
    async with asyncio.timeout(20):
        await board.farewell(0.01)


async def test_the_last_look_is_one_that_was_asked_for_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is still on its way when the job ends does not show the end."""
    left: list[Callable[[], object]] = []
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda _, call: left.append(call))
    board = server.Dashboard("")
    board.note()
    waiting = asyncio.create_task(board.farewell(EVER))
    await idle()
    left.pop()()
    await idle()
    assert not waiting.done()
    board.note()
    await idle()
    assert not waiting.done(), "the answer has not left yet"
    left.pop()()
    async with asyncio.timeout(20):
        await waiting


async def test_a_question_for_the_job_is_a_look_and_one_for_the_list_is_none(gallery: Gallery) -> None:
    async with (
        server.served(gallery, "127.0.0.1", 0) as board,
        aiohttp.ClientSession(board.url) as session,
    ):
        await told(session, "/api/jobs")
        await told(session, "/api/jobs/pole/none", 404)
        async with asyncio.timeout(20):
            await board.farewell(EVER)
        await told(session, f"/{JOB}")
        waiting = asyncio.create_task(board.farewell(EVER))
        await idle()
        assert not waiting.done()
        await told(session, f"/{JOB}")
        async with asyncio.timeout(20):
            await waiting
