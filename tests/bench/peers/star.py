"""A bare asyncio star, plain TCP: the ceiling for one aggregator in Python.

A server sends its weights to 8 clients, each answers with a float32 vector of the same size, the server adds
it up in float32 as it comes; next round. Buffers are made once. No messages, no statistics, nobody may die,
and the sum depends on who was first. Prints seconds of each round as JSON.

A transport is handed all weights at once, as one would; with `--tuned` a megabyte at a time.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time

import common
import numpy as np

_PIECE = 1 << 20
"""Bytes handed to a transport at a time: it copies what the socket does not take at once."""


class Client(asyncio.BufferedProtocol):
    """The server's end of one connection."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._vector = np.zeros(server.size // 4, np.float32)
        self._buffer = memoryview(self._vector.data).cast("B")
        self._filled = 0
        self._sending = memoryview(b"")
        self._full = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.set_write_buffer_limits(high=0)
        self._server.joined(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        if self._filled == self._server.size:
            self._filled = 0
            self._server.add(self._vector)

    def send(self, weights: memoryview) -> None:
        self._sending = weights
        self._pump()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._pump()

    def _pump(self) -> None:
        while self._sending and not self._full:
            piece, self._sending = self._sending[: self._server.piece], self._sending[self._server.piece :]
            self.transport.write(piece)


class Server:
    """All connections, the weights and the sum."""

    def __init__(self, size: int, rounds: int, piece: int) -> None:
        """`piece`: bytes that a transport is handed at a time."""
        self.size = size
        self.piece = piece
        self._left = rounds
        self._clients: list[Client] = []
        self._weights, self._sum = np.zeros(size // 4, np.float32), np.zeros(size // 4, np.float32)
        self._got = 0
        self.marks: list[float] = []
        self.done = asyncio.get_running_loop().create_future()

    def joined(self, client: Client) -> None:
        self._clients.append(client)
        if len(self._clients) == common.CLIENTS:
            self._publish()

    def add(self, vector: np.ndarray) -> None:
        if self._got:
            self._sum += vector
        else:
            self._sum[:] = vector
        self._got += 1
        if self._got == common.CLIENTS:
            self._got = 0
            self._weights, self._sum = self._sum, self._weights  # one is sent while the other is added to
            self.marks.append(time.perf_counter())
            if self._left == 0:
                self.done.set_result(None)
                return
            self._left -= 1
            self._publish()

    def _publish(self) -> None:
        view = memoryview(self._weights.data).cast("B")
        for client in self._clients:
            client.send(view)


async def serve(size: int, rounds: int, piece: int) -> list[float]:
    """Times at which rounds ended."""
    state = Server(size, rounds + common.WARM_UP, piece)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Client(state), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    me = [sys.executable, __file__, "--be", "client", "--port", str(port), "--bytes", str(size)]
    with common.children([me] * common.CLIENTS):
        await state.done
    server.close()
    return state.marks


def answer(port: int, size: int) -> None:
    """A client: until the server has gone."""
    weights = memoryview(bytearray(size))
    vector = memoryview(np.random.default_rng(port).standard_normal(size // 4).astype(np.float32)).cast("B")
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            filled = 0
            while filled < size:
                if not (got := link.recv_into(weights[filled:])):
                    return
                filled += got
            link.sendall(vector)


def main() -> None:
    options = common.options(__doc__)
    options.add_argument("--tuned", action="store_true", help="spare asyncio's copies of what has to wait")
    given = options.parse_args()
    if given.be:
        answer(given.port, given.bytes)
    else:
        piece = _PIECE if given.tuned else given.bytes
        common.tell(asyncio.run(serve(given.bytes, given.rounds, piece)))


if __name__ == "__main__":
    main()
