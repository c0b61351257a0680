"""Figures of a job with identities: HTTPS, for those who have a token."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import pathlib
import socket
import ssl
from collections.abc import AsyncIterator

import pytest

from contract.owners import DEADLINE, HOST
from elf_worker import transport
from elf_worker.contract import FIGURES_TOKEN_HEADER, Role
from elf_worker.roles.window import Window
from pods import AUTHORITY, JOB, mounted

TOKEN = AUTHORITY.figures_token(JOB)
KNOWN = frozenset(hashlib.sha256(token.encode()).hexdigest() for token in (TOKEN, AUTHORITY.scrape_token()))


@pytest.fixture
async def port(tmp_path: pathlib.Path) -> AsyncIterator[int]:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        free = int(sock.getsockname()[1])
    credentials = transport.load(mounted(tmp_path, Role.NPDC))
    window = Window(lambda: [("round", {}, 7.0)], {"/page": lambda query: 1}, KNOWN, credentials.showing)
    window.open(HOST, free)
    yield free
    window.close()


def ask(port: int, headers: dict[str, str]) -> tuple[int, str]:
    """As an API server does: it checks no certificate of a pod."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(HOST, port, timeout=DEADLINE, context=context)
    try:
        connection.request("GET", "/metrics", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    "headers",
    [
        {FIGURES_TOKEN_HEADER: TOKEN},
        {"Authorization": f"Bearer {TOKEN}"},
        {"Authorization": f"Bearer {AUTHORITY.scrape_token()}"},
        {"Authorization": "Bearer of the API server", FIGURES_TOKEN_HEADER: TOKEN},
    ],
)
async def test_a_token_opens_it(port: int, headers: dict[str, str]) -> None:
    status, text = await asyncio.to_thread(ask, port, headers)
    assert (status, "elf_round 7" in text) == (200, True)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {FIGURES_TOKEN_HEADER: next(iter(KNOWN))},
        {FIGURES_TOKEN_HEADER: AUTHORITY.figures_token("another job")},
    ],
)
async def test_nothing_else_does(port: int, headers: dict[str, str]) -> None:
    status, text = await asyncio.to_thread(ask, port, headers)
    assert (status, "elf_round" in text) == (401, False)
    assert "docs/statistics.md" in text


async def test_it_says_nothing_without_tls(port: int) -> None:
    def plainly() -> bytes:
        with socket.create_connection((HOST, port), DEADLINE) as sock:
            sock.sendall(f"GET /metrics HTTP/1.0\r\n{FIGURES_TOKEN_HEADER}: {TOKEN}\r\n\r\n".encode())
            with contextlib.suppress(ConnectionError):
                return sock.recv(4096)
            return b""

    assert b"elf_round" not in await asyncio.to_thread(plainly)


async def test_who_does_not_shake_hands_keeps_nobody_waiting(port: int) -> None:
    with socket.create_connection((HOST, port), DEADLINE):
        status, _ = await asyncio.to_thread(ask, port, {FIGURES_TOKEN_HEADER: TOKEN})
    assert status == 200
