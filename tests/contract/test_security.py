"""What mutual TLS promises, over real loopback TCP: strangers get nothing, and the others are known."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from contract.owners import DEADLINE, HOST, MOST, WORK, Owner, until
from elf_worker import contract, transport
from elf_worker.contract import Peer, Role
from elf_worker.messages import Stamp, Want
from elf_worker.transport import Credentials, IdentityError, Limits, Link, connect, listen
from pods import JOB, OTHER_AUTHORITY, mounted

Identify = Callable[..., Credentials]


@pytest.fixture
def identify(tmp_path: pathlib.Path) -> Identify:
    return lambda *who, **kwargs: transport.load(mounted(tmp_path, *who, **kwargs))


@contextlib.asynccontextmanager
async def listening(owner: Owner, credentials: Credentials, most: int = MOST) -> AsyncIterator[str]:
    host = await listen(owner, HOST, 0, owner.silence, Limits(most), credentials.accepting)
    try:
        yield f"{HOST}:{host.port}"
    finally:
        host.close()
        for link in owner.opened:
            link.close()
        await asyncio.sleep(0)


async def dialled(owner: Owner, address: str, credentials: Credentials | None) -> Link:
    link = Link(owner, owner.silence)
    await connect(link, address, None, credentials.dialling if credentials else None)
    return link


async def test_both_ends_know_who_is_there_and_talk(identify: Identify) -> None:
    child, parent = Owner(), Owner()
    async with listening(parent, identify(Role.MDC, 2, 1)) as address:
        link = await dialled(child, address, identify(Role.HOME, 7))
        await until(lambda: parent.opened)
        assert link.peer == Peer(JOB, Role.MDC, 2, 1)
        assert parent.link.peer == Peer(JOB, Role.HOME, 7, 0)
        payload = bytes(range(256)) * 40_000
        parent.link.send(WORK, payload)
        link.send(Want(Stamp(3, 1), b"\x01"))
        await until(lambda: child.received and parent.received)
        assert child.received == [(WORK, bytearray(payload))]
        link.close()
        await until(lambda: parent.closed)


@pytest.mark.parametrize(
    "stranger",
    [
        pytest.param({"authority": OTHER_AUTHORITY}, id="of another authority"),
        pytest.param({"job": "another-job"}, id="of another job"),
    ],
)
async def test_a_stranger_is_not_let_in_and_not_talked_to(identify: Identify, stranger: Any) -> None:
    child, parent = Owner(), Owner()
    async with listening(parent, identify(Role.MDC)) as address:
        with pytest.raises(ssl.SSLError, match="certificate verify failed"):
            await dialled(child, address, identify(Role.HOME, **stranger))
    assert not parent.opened and not child.opened


async def test_who_shows_no_certificate_gets_nothing(identify: Identify) -> None:
    parent = Owner()
    async with listening(parent, identify(Role.MDC)) as address:
        curious = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        curious.check_hostname, curious.verify_mode = False, ssl.CERT_NONE
        reader, writer = await asyncio.open_connection(*address.split(":"), ssl=curious)
        got = b""
        with contextlib.suppress(ssl.SSLError, ConnectionError):  # TLS 1.3 tells a client late, or just ends
            writer.write(b"\0" * 64)
            got = await asyncio.wait_for(reader.read(), DEADLINE)
        writer.transport.abort()
    assert not parent.opened and not got


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_1"])
async def test_older_tls_is_refused(identify: Identify, version: str) -> None:
    parent = Owner()
    async with listening(parent, identify(Role.MDC)) as address:
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        with pytest.warns(DeprecationWarning) if version == "TLSv1_1" else contextlib.nullcontext():
            old.maximum_version = ssl.TLSVersion[version]
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(*address.split(":"), ssl=old)
    assert not parent.opened


async def test_plain_bytes_are_not_taken(identify: Identify) -> None:
    child, parent = Owner(), Owner()
    async with listening(parent, identify(Role.MDC)) as address:
        link = await dialled(child, address, None)
        link.send(WORK, b"weights")
        await until(lambda: child.closed)
    assert not parent.opened and not child.received


async def test_nobody_can_serve_with_the_identity_of_a_home(identify: Identify) -> None:
    child, parent = Owner(), Owner()
    async with listening(parent, identify(Role.HOME)) as address:
        with pytest.raises(ssl.SSLError, match="unsuitable certificate purpose"):
            await dialled(child, address, identify(Role.HOME, 1))


async def test_an_npdc_dials_nobody(identify: Identify) -> None:
    child, parent = Owner(), Owner()
    async with listening(parent, identify(Role.MDC)) as address:
        link = await dialled(child, address, identify(Role.NPDC))
        await until(lambda: child.closed)
        assert link.peer is not None
    assert not parent.opened


async def test_those_who_never_shake_hands_keep_nobody_out(
    identify: Identify, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hold no more than so many connections, and none for long while others wait."""
    monkeypatch.setattr("elf_worker.transport.host.HANDSHAKES", 3)
    monkeypatch.setattr("elf_worker.transport.host.HANDSHAKE_SECONDS", 0.05)
    child, parent = Owner(), Owner()
    async with listening(parent, identify(Role.MDC)) as address:
        host, port = address.split(":")
        with contextlib.ExitStack() as held:
            silent = [held.enter_context(socket.create_connection((host, int(port)))) for _ in range(20)]
            await dialled(child, address, identify(Role.HOME))
            await until(lambda: parent.opened)
            for one in silent[:16]:
                one.settimeout(DEADLINE)
                assert await asyncio.to_thread(one.recv, 1) == b"", "an old one is still there"


async def test_who_comes_in_a_crowd_is_let_in_all_the_same(
    identify: Identify, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All homes of an MDC may dial in one moment: each has its turn, and nobody has to dial again."""
    monkeypatch.setattr("elf_worker.transport.host.HANDSHAKES", 2)
    monkeypatch.setattr("elf_worker.transport.host.HANDSHAKE_SECONDS", DEADLINE)
    children, parent = [Owner() for _ in range(30)], Owner()
    async with listening(parent, identify(Role.MDC)) as address:
        credentials = identify(Role.HOME)
        await asyncio.gather(*(dialled(child, address, credentials) for child in children))
        await until(lambda: len(parent.opened) == len(children))
        assert not any(child.closed for child in children)


async def test_a_handshake_that_takes_too_long_is_given_up(
    identify: Identify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elf_worker.transport.host.CONNECT_SECONDS", 0.2)
    parent = Owner()
    async with listening(parent, identify(Role.MDC)) as address:
        host, port = address.split(":")
        with socket.create_connection((host, int(port)), DEADLINE) as silent:
            assert await asyncio.to_thread(silent.recv, 1) == b""


async def test_with_identities_too_there_are_only_so_many_links(identify: Identify) -> None:
    children, parent = [Owner() for _ in range(4)], Owner()
    async with listening(parent, identify(Role.MDC), most=2) as address:
        for number, child in enumerate(children):
            await dialled(child, address, identify(Role.HOME, number))
        await until(lambda: sum(len(child.closed) for child in children) == 2)
        assert len(parent.opened) == 2


@pytest.mark.parametrize("missing", [contract.KEY_FILE, contract.CERTIFICATE_FILE, contract.AUTHORITY_FILE])
def test_an_identity_that_is_not_whole_is_an_error(tmp_path: pathlib.Path, missing: str) -> None:
    folder = mounted(tmp_path, Role.MDC)
    (pathlib.Path(folder) / missing).unlink()
    with pytest.raises(IdentityError, match="no identity in"):
        transport.load(folder)


def test_a_key_that_is_not_that_of_the_certificate_is_an_error(tmp_path: pathlib.Path) -> None:
    folder, other = mounted(tmp_path, Role.MDC), mounted(tmp_path, Role.MDC, 1)
    key = pathlib.Path(folder) / contract.KEY_FILE
    key.write_bytes((pathlib.Path(other) / contract.KEY_FILE).read_bytes())
    with pytest.raises(IdentityError, match=r"KEY_VALUES_MISMATCH|key values mismatch"):
        transport.load(folder)
