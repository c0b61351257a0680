"""Connections with the manners of TCP: ordered and reliable while they live, broken without warning.

What is sent on a connection arrives once and in order, or it and everything after it never does. The two
ends learn of a break at different times. A stalled connection delivers late; one that stalls for longer
than the silence limit is given up by both ends.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from elf_worker import messages
from elf_worker.messages import Message

if TYPE_CHECKING:
    from simulation.process import Process
    from simulation.world import World

CONNECT_SECONDS = 3.0


class End:
    """One process's side of a connection."""

    __slots__ = ("closed", "inbox", "link", "peer", "process", "pumping", "wire")

    def __init__(self, process: Process, link: int) -> None:
        self.process = process
        self.link = link
        self.closed = False
        """This side has let go: nothing is delivered to it any more."""
        self.peer: End | None = None
        self.wire: Wire | None = None
        self.inbox: deque[tuple[float, Message | None, Any]] = deque()
        """(when it is there, message, payload); no message: the other side has closed."""
        self.pumping = False


class Wire:
    """What the two ends share."""

    __slots__ = ("a", "b", "broken", "stalled_until")

    def __init__(self, a: End, b: End) -> None:
        self.a, self.b = a, b
        self.broken = False
        """What is sent from now on vanishes."""
        self.stalled_until = 0.0
        a.peer, b.peer = b, a
        a.wire = b.wire = self


class Network:
    """All connections of a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.rng
        self.wires: list[Wire] = []
        self._cuts: dict[tuple[str, str], float] = {}
        """Pairs of places that cannot reach each other, and until when."""

    # -- connecting ---------------------------------------------------------------------------------------

    def dial(self, end: End, address: str) -> None:
        """Connect to whoever has that address; `opened` or `closed` follows at the end."""
        target = self._world.resolve(address)
        if target is not None and self.cut(end.process.place, target.place):
            self._world.later(CONNECT_SECONDS, self._fail, end)
        elif target is None or (self._world.faulty and self._rng.random() < 0.05):
            self._world.later(self._delay(), self._fail, end)
        else:
            self._world.later(self._delay(), self._connect, end, target)

    def _fail(self, end: End) -> None:
        if not end.closed:
            end.process.lost(end)

    def _connect(self, end: End, target: Process) -> None:
        if not target.alive or not end.process.alive:
            self._fail(end)
            return
        there = End(target, target.name_incoming())
        wire = Wire(end, there)
        self.wires.append(wire)
        if len(self.wires) > 64:
            self.wires = [w for w in self.wires if not (w.a.closed and w.b.closed)]
        target.connected(there)
        if end.closed:  # the caller changed its mind
            self.close(end)
            return
        end.process.connected(end)
        if target.frozen:
            self._world.later(self._world.silence, self._give_up_on_frozen, end)

    def _give_up_on_frozen(self, end: End) -> None:
        assert end.peer is not None
        if end.peer.process.frozen:
            self.abort(end)

    # -- talking ------------------------------------------------------------------------------------------

    def send(self, end: End, message: Message, payload: Any) -> None:
        """Put a frame on its way."""
        peer, wire = end.peer, end.wire
        if peer is None or wire is None or wire.broken or peer.closed:
            return
        copy = messages.decode(messages.encode(message))
        self._enqueue(peer, copy, None if payload is None else bytes(payload))

    def close(self, end: End) -> None:
        """This side lets go after what it said; the other side hears of it."""
        end.closed = True
        end.inbox.clear()
        if end.peer is not None and end.wire is not None and not end.wire.broken:
            self._enqueue(end.peer, None, None)

    def _enqueue(self, end: End, message: Message | None, payload: Any, delay: float | None = None) -> None:
        due = self._world.now + (self._delay() if delay is None else delay)
        if end.inbox and end.inbox[-1][0] > due:
            due = end.inbox[-1][0]
        end.inbox.append((due, message, payload))
        if not end.pumping:
            end.pumping = True
            self._world.at(due, self._pump, end)

    def _pump(self, end: End) -> None:
        end.pumping = False
        if end.closed or not end.inbox:
            return
        wire = end.wire
        assert wire is not None
        due = max(end.inbox[0][0], wire.stalled_until)
        if due > self._world.now:
            end.pumping = True
            self._world.at(due, self._pump, end)
            return
        _, message, payload = end.inbox.popleft()
        if message is None:
            self._drop(end)
        else:
            end.process.heard(end, message, payload)
        if end.inbox and not end.pumping and not end.closed:
            end.pumping = True
            self._world.at(max(self._world.now, end.inbox[0][0]), self._pump, end)

    def _delay(self) -> float:
        return self._rng.random() * self._world.latency

    # -- breaking -----------------------------------------------------------------------------------------

    def live(self) -> list[Wire]:
        """Connections that carry something."""
        return [w for w in self.wires if not w.broken and not w.a.closed and not w.b.closed]

    def tear(self, wire: Wire) -> None:
        """Lose a suffix of what is in flight either way; each end learns of it in its own time."""
        if wire.broken:
            return
        wire.broken = True
        for end in (wire.a, wire.b):
            if end.closed:
                continue
            keep = self._rng.randint(0, len(end.inbox))
            while len(end.inbox) > keep:
                end.inbox.pop()
            slow = self._rng.random() < 0.5
            self._enqueue(end, None, None, self._world.silence * self._rng.random() if slow else None)

    def stall(self, wire: Wire, seconds: float) -> None:
        """Deliver nothing for a while; too long, and both ends give up."""
        wire.stalled_until = max(wire.stalled_until, self._world.now + seconds)
        if seconds > self._world.silence:
            for end in (wire.a, wire.b):
                patience = self._world.silence * (1 + 0.2 * self._rng.random())
                self._world.later(patience, self.abort, end)

    def abort(self, end: End) -> None:
        """This end has heard nothing for too long."""
        wire = end.wire
        if end.closed or wire is None:
            return
        if not wire.broken:
            wire.broken = True
            assert end.peer is not None
            if not end.peer.closed:
                self._enqueue(end.peer, None, None, self._world.silence * self._rng.random())
        self._drop(end)

    def _drop(self, end: End) -> None:
        end.closed = True
        end.inbox.clear()
        if end.wire is not None:
            end.wire.broken = True
        end.process.lost(end)

    def vanish(self, end: End) -> None:
        """The process at this end is gone. The other side hears at once, or only silence."""
        wire = end.wire
        end.closed = True
        end.inbox.clear()
        if wire is None or wire.broken:
            return
        self.tear(wire)

    # -- partitions ---------------------------------------------------------------------------------------

    def partition(self, one: str, other: str, seconds: float) -> None:
        """Two places cannot reach each other for a while."""
        self._cuts[one, other] = self._cuts[other, one] = self._world.now + seconds
        for wire in self.live():
            if {wire.a.process.place, wire.b.process.place} == {one, other}:
                self.stall(wire, seconds)

    def cut(self, one: str, other: str) -> bool:
        """Whether these places cannot reach each other now."""
        return self._cuts.get((one, other), 0.0) > self._world.now
