"""Sockets for links: dialled or accepted, plain or TLS, always non-blocking.

Links use sockets themselves. asyncio's transports copy every byte that a socket does not take at once, for
each peer anew, and keep a quarter of a megabyte for each TLS connection: docs/adr/0018-sockets-themselves.md.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable


async def dial(address: str, source: str | None, context: ssl.SSLContext | None) -> socket.socket:
    """A connection to `host:port`, from the address `source`. Raises OSError."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    problem: OSError | None = None
    for family, kind, protocol, _, place in await loop.getaddrinfo(host, int(port), type=socket.SOCK_STREAM):
        dialled = socket.socket(family, kind, protocol)
        try:
            dialled.setblocking(False)
            if source:
                dialled.bind((source, 0))
            await loop.sock_connect(dialled, place)
            return await prepare(dialled, context, serving=False)
        except OSError as error:
            dialled.close()
            problem = error
        except BaseException:
            dialled.close()
            raise
    raise problem or OSError(f"{host} has no address")


async def prepare(connected: socket.socket, context: ssl.SSLContext | None, serving: bool) -> socket.socket:
    """No delay for small frames and, with a context, the TLS handshake. Raises OSError; then close it."""
    connected.setblocking(False)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context is None:
        return connected
    # The names of pods prove nothing: neither sent nor checked.
    secure = context.wrap_socket(connected, server_side=serving, do_handshake_on_connect=False)
    try:
        await _shake_hands(secure)
    except BaseException:
        secure.close()
        raise
    return secure


async def _shake_hands(secure: ssl.SSLSocket) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            secure.do_handshake()
            return
        except ssl.SSLWantReadError:
            await _ready(loop.add_reader, loop.remove_reader, secure)
        except ssl.SSLWantWriteError:
            await _ready(loop.add_writer, loop.remove_writer, secure)


async def _ready(
    add: Callable[..., None], remove: Callable[[socket.socket], bool], connection: socket.socket
) -> None:
    ready = asyncio.get_running_loop().create_future()
    add(connection, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        remove(connection)
