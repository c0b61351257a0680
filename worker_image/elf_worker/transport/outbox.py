"""Frames that wait to be sent. They hold views of their payloads: no byte of one is copied to wait."""

from __future__ import annotations

import socket
import ssl
from collections import deque
from dataclasses import dataclass
from typing import Final

TURN: Final = 1 << 22
"""Bytes that one connection may send before the others have their turn."""
JOINED: Final = 1 << 16
"""Payloads up to so many bytes are sent in one piece with their message: over TLS each piece is a record."""
_PIECES: Final = 16


Piece = bytes | memoryview


@dataclass(eq=False, slots=True)
class _Frame:
    """Small: a peer that asks much and reads nothing has tens of thousands of them wait."""

    pieces: list[Piece]
    replaceable: bool
    begun: bool = False


class Outbox:
    """What one connection has still to send, in order."""

    __slots__ = ("_frames", "waiting")

    def __init__(self) -> None:
        self._frames: deque[_Frame] = deque()
        self.waiting = 0
        """Bytes."""

    def put(self, head: bytes, payload: memoryview | None, replaceable: bool) -> bool:
        """Queue a frame. A replaceable one takes the place of those before it that are not begun.

        Returns whether the peer keeps up: False when it is still being sent a replaceable frame that was two
        before this one. So of what many peers are sent at the same time, three versions at most are held.
        """
        replaced = replaceable and self._drop_replaceable()
        pieces: list[Piece] = [head]
        if payload is not None and payload.nbytes <= JOINED:
            pieces = [b"".join((head, payload))]
        elif payload is not None:
            pieces.append(payload)
        self._frames.append(_Frame(pieces, replaceable))
        self.waiting += sum(map(len, pieces))
        return not (replaced and self._frames[0].begun and self._frames[0].replaceable)

    def flush(self, connection: socket.socket) -> bool:
        """Send what the connection takes now. Returns whether nothing is left. Raises OSError."""
        turn = TURN
        try:
            while self._frames and turn > 0:
                turn -= self._send(connection)
        except (BlockingIOError, InterruptedError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        return not self._frames

    def clear(self) -> None:
        """Forget everything."""
        self._frames.clear()
        self.waiting = 0

    def _drop_replaceable(self) -> bool:
        stale = [f for f in self._frames if f.replaceable and not f.begun]
        for frame in stale:
            self._frames.remove(frame)
            self.waiting -= sum(map(len, frame.pieces))
        return bool(stale)

    def _send(self, connection: socket.socket) -> int:
        if isinstance(connection, ssl.SSLSocket):
            self._frames[0].begun = True  # also when it would block: the same bytes have to be tried again
            sent = connection.send(self._frames[0].pieces[0])
        else:
            sent = connection.sendmsg(self._next_pieces())
        self._sent(sent)
        return sent

    def _next_pieces(self) -> list[Piece]:
        found: list[Piece] = []
        for frame in self._frames:
            found.extend(frame.pieces)
            if len(found) >= _PIECES:
                break
        return found

    def _sent(self, count: int) -> None:
        self.waiting -= count
        while count:
            frame = self._frames[0]
            frame.begun = True
            piece = frame.pieces[0]
            if count < len(piece):
                frame.pieces[0] = memoryview(piece)[count:]
                return
            count -= len(piece)
            del frame.pieces[0]
            if not frame.pieces:
                self._frames.popleft()
