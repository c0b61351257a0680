"""Room for payloads that are being received, the same whatever the number of connections.

An MDC of a thousand homes needs no more of it than one of eight: who finds no room waits, unread, and TCP has
the peer wait too. Peers that are slow to fill their share while others wait lose it: what they send is thrown
away, and they are asked again. From then on they keep what they get, but all of them together get no more
than half of the room. So neither do slow peers hold up quick ones, nor the other way round.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

LEAST: Final = 4
"""Payloads, of any size, that can be received at a time."""
FLOOR: Final = 1 << 22
"""Bytes that can be received at a time, however small the payloads."""
REVIEW_SECONDS: Final = 0.5
PACE: Final = 1 << 17
"""Bytes a second: who fills its share more slowly than this loses it while others wait."""


class Holder(Protocol):
    """A connection, as far as it takes room."""

    progress: int
    """Bytes of its payload that are there."""
    patient: bool
    """It has lost its share to others."""
    firm: bool
    """What it sends is never thrown away."""

    def granted(self, room: bytearray) -> None:
        """There is room now."""

    def evicted(self) -> None:
        """The room is somebody else's from now on."""


class Buffers:
    """Lends room. `later(seconds, work)` calls back, as `loop.call_later` does."""

    def __init__(self, later: Callable[[float, Callable[[], None]], object]) -> None:
        self._later = later
        self._lent: dict[Holder, bytearray] = {}
        self._in_use: dict[int, bytearray] = {}
        """By identity: received whole, and not yet given back."""
        self._bytes = 0
        self._spare: list[bytearray] = []
        self._waiting: deque[tuple[Holder, int]] = deque()
        self._reviewed: dict[Holder, int] | None = None

    def ask(self, holder: Holder, size: int) -> bytearray | None:
        """Room for `size` bytes, or None: `granted` will be called."""
        if self._next() is None and self._may(holder, size):
            return self._lend(holder, size)
        self._waiting.append((holder, size))
        if self._reviewed is None:
            self._review()
        return None

    def received(self, holder: Holder) -> None:
        """The payload is whole; its bytes stay in use until `give_back` or `keep`."""
        room = self._lent.pop(holder)
        self._in_use[id(room)] = room

    def give_back(self, room: bytearray) -> None:
        """The bytes have been used."""
        if self._in_use.pop(id(room), None) is not None:
            self._free(room)

    def keep(self, room: bytearray) -> None:
        """The bytes belong to somebody else now; they count no longer."""
        if self._in_use.pop(id(room), None) is not None:
            self._bytes -= len(room)
            self._serve()

    def leave(self, holder: Holder) -> None:
        """The connection is gone, or needs no room any more."""
        self._waiting = deque(entry for entry in self._waiting if entry[0] is not holder)
        if (room := self._lent.pop(holder, None)) is not None:
            self._free(room)

    def _fits(self, size: int) -> bool:
        return self._bytes + size <= max(LEAST * size, FLOOR) or not self._bytes

    def _next(self) -> tuple[Holder, int] | None:
        """Whose turn it is, if anybody's who waits: slow ones beyond their half are passed over."""
        return next((entry for entry in self._waiting if not self._beyond_half(*entry)), None)

    def _may(self, holder: Holder, size: int) -> bool:
        return self._fits(size) and not self._beyond_half(holder, size)

    def _beyond_half(self, holder: Holder, size: int) -> bool:
        if not holder.patient or holder.firm:
            return False
        slow = sum(len(room) for other, room in self._lent.items() if other.patient and not other.firm)
        return slow > 0 and slow + size > max(LEAST * size, FLOOR) // 2

    def _lend(self, holder: Holder, size: int) -> bytearray:
        room = next((spare for spare in self._spare if len(spare) == size), None)
        if room is not None:
            self._spare = [spare for spare in self._spare if spare is not room]
        else:
            self._spare = []  # payloads have another size now
            room = bytearray(size)
        self._lent[holder] = room
        if self._reviewed is not None:
            self._reviewed.pop(holder, None)  # that was another payload
        self._bytes += size
        return room

    def _free(self, room: bytearray) -> None:
        self._bytes -= len(room)
        self._spare.append(room)
        self._serve()

    def _serve(self) -> None:
        """Give room to whoever waits for it, in the order in which they came."""
        while (entry := self._next()) is not None and self._fits(entry[1]):
            self._waiting.remove(entry)
            holder, size = entry
            holder.granted(self._lend(holder, size))

    def _review(self) -> None:
        """While others wait: take the room of those that have been slow since the last look."""
        if not self._waiting:
            self._reviewed = None
            return
        before = self._reviewed or {}
        self._reviewed = {holder: holder.progress for holder in self._lent}
        self._later(REVIEW_SECONDS, self._review)
        if all(holder.patient for holder, _ in self._waiting):
            return
        slow = [
            holder
            for holder, progress in before.items()
            if holder in self._lent
            and not (holder.firm or holder.patient)
            and holder.progress - progress < PACE * REVIEW_SECONDS
        ]
        for holder in slow:
            # Who was given the room of one may have had another closed.
            if (room := self._lent.pop(holder, None)) is not None:
                holder.evicted()
                self._free(room)
