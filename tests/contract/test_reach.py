"""What the operator says of an API server that it cannot connect to: real sockets, and the real program."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pathlib
import re
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator

import aiohttp
import pytest
import yaml

from contract.apiserver import Server, listening
from elf_operator import apiserver, reach
from elf_operator.apiserver import Direct
from elf_operator.reach import Reach

PATIENCE = 60.0
ENOUGH = 31.0
"""Seconds that a request may take in all, so that it is not this that ends it."""
Said = Callable[[str], list[str]]


@pytest.fixture
def closed() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that answers nothing to who wants to connect, as behind a policy that drops what it forbids."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as held:
        for _ in range(4):  # nobody accepts: when the queue is full, the kernel drops the rest
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield int(full.getsockname()[1])


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Said:
    caplog.set_level(logging.INFO, reach.__name__)
    return lambda level: [r.getMessage() for r in caplog.records if r.levelname == level]


@contextlib.asynccontextmanager
async def looking(where: str) -> AsyncIterator[Reach]:
    made = Reach(where)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_port_that_is_closed_is_named_with_the_cause(closed: int, said: Said) -> None:
    async with looking(f"https://localhost:{closed}"):
        await until(lambda: said("ERROR"))
    (text,) = said("ERROR")
    assert re.search(rf"localhost cannot be connected to at .*127\.0\.0\.1:{closed}\b.*refused", text)
    assert "NetworkPolicy" in text and "endpointslices" in text


async def test_a_port_that_swallows_everything_is_named_soon(
    silent: int, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reach.CONNECT_SECONDS <= 10
    monkeypatch.setattr(reach, "CONNECT_SECONDS", 0.2)
    async with looking(f"https://127.0.0.1:{silent}"):
        await until(lambda: said("ERROR"))
    assert f"127.0.0.1:{silent}: no answer within 0.2 s" in said("ERROR")[0]


async def test_a_name_that_leads_nowhere_is_no_matter_of_ports(said: Said) -> None:
    async with looking("https://nowhere.invalid"):
        await until(lambda: said("ERROR"))
    assert "nowhere.invalid cannot be resolved" in said("ERROR")[0] and "DNS" in said("ERROR")[0]


async def test_it_is_said_once_in_a_while_and_when_it_is_over(
    closed: int, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "PAUSE_SECONDS", 0.0)
    looks = 0
    obstacle = Reach.obstacle

    async def counted(self: Reach) -> str:
        nonlocal looks
        looks += 1
        return await obstacle(self)

    monkeypatch.setattr(Reach, "obstacle", counted)
    async with looking(f"http://127.0.0.1:{closed}") as made:
        await until(lambda: said("ERROR"))
        for _ in range(100):
            made.doubt()
            await asyncio.sleep(0)
        assert (looks, len(said("ERROR"))) == (1, 1)
    monkeypatch.setattr(reach, "QUIET_SECONDS", 0.01)
    async with looking(f"http://127.0.0.1:{closed}") as made:
        await until(lambda: len(said("ERROR")) >= 3)
        with socket.create_server(("127.0.0.1", closed)):
            await until(lambda: said("INFO"))
        assert str(closed) in said("INFO")[0]
        errors = len(said("ERROR"))
        made.doubt()
        await until(lambda: said("WARNING"))
        assert len(said("ERROR")) == errors, "an outage of a server that was there is waited out"


async def test_requests_tell_of_no_answer_and_give_up_soon(
    silent: int, closed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apiserver, "CONNECT_SECONDS", 0.2)
    told: list[int] = []
    async with aiohttp.ClientSession() as session:
        for port in (closed, silent):
            way = Direct(f"http://127.0.0.1:{port}", session, unanswered=lambda port=port: told.append(port))
            with pytest.raises(aiohttp.ClientError):
                await way.send("GET", "/version", None, {}, seconds=ENOUGH)
            with pytest.raises(aiohttp.ClientError):
                await anext(way.lines("/version", seconds=ENOUGH))
    assert told == [closed, closed, silent, silent]


async def test_an_answer_is_one_whatever_it_says(server: Server) -> None:
    told: list[str] = []
    async with listening(server) as url, aiohttp.ClientSession() as session:
        way = Direct(url, session, unanswered=lambda: told.append("nothing"))
        status, _, _ = await way.send("GET", "/api/v1/namespaces/a/pods/b", None, {}, seconds=PATIENCE)
    assert (status, told) == (404, [])


async def test_the_operator_says_it_when_it_starts(closed: int, tmp_path: pathlib.Path) -> None:
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{closed}"}}],
        "users": [{"name": "me", "user": {}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    env = {"KUBECONFIG": str(path), "PYTHONPATH": ":".join(filter(None, sys.path)), "HOME": str(tmp_path)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "elf_operator", "--master-key", "elf-system/key"),
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    lines = []
    try:
        async with asyncio.timeout(PATIENCE):
            while line := (await process.stdout.readline()).decode():
                lines.append(line)
                if f"cannot be connected to at 127.0.0.1:{closed}" in line:
                    break
    finally:
        process.kill()
        await process.wait()
    assert lines and " ERROR elf_operator.reach " in lines[-1], lines
