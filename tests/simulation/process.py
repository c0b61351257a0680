"""A process of the simulated world: does what its state machine asks, and can crash or freeze anywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from elf_worker.aggregation.effects import Close, Dial, Effect, Send, Serve, Stop
from elf_worker.messages import Message
from simulation.network import End

if TYPE_CHECKING:
    from simulation.world import World


class Process:
    """One pod. `place` is where it runs: partitions are between places."""

    def __init__(self, world: World, name: str, place: str, machine: Any) -> None:
        self.world = world
        self.name = name
        self.place = place
        self.machine = machine
        self.alive = True
        self.frozen = False
        self.outcome: Stop | None = None
        """Set once it has ended by itself."""
        self.doom: int | None = None
        """Effects until it crashes, once set."""
        self._backlog: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._ends: dict[int, End] = {}
        self._incoming = 0
        world.later(world.rng.random() * world.scenario.tick, self._tick)

    # -- events, as the shell would raise them ------------------------------------------------------------

    def happen(self, event: Callable[..., list[Effect]], *args: Any) -> None:
        """Feed the machine, now or, when frozen, on waking up."""
        if self.frozen:
            self._backlog.append((self.happen, (event, *args)))
        elif self.alive:
            self.perform(event(*args, self.world.now))

    def _tick(self) -> None:
        if self.alive:
            if not self.frozen:
                self.perform(self.machine.tick(self.world.now))
            self.world.later(self.world.scenario.tick, self._tick)

    def name_incoming(self) -> int:
        """The name of the next connection from a child."""
        self._incoming -= 1
        return self._incoming

    def connected(self, end: End) -> None:
        """A connection is there."""
        self._ends[end.link] = end
        self._on_link(end, self._connected)

    def heard(self, end: End, message: Message, payload: Any) -> None:
        """A frame has come."""
        self._on_link(end, self._heard, message, payload)

    def lost(self, end: End) -> None:
        """A connection is gone or could not be made."""
        self._on_link(end, self._lost)

    def _on_link(self, end: End, handler: Callable[..., None], *args: Any) -> None:
        if self.frozen:
            self._backlog.append((self._on_link, (end, handler, *args)))
        elif self.alive and self._ends.get(end.link) is end:
            handler(end, *args)

    def _connected(self, end: End) -> None:
        self.world.trace(self.name, "opened", end.link)
        self.perform(self.machine.opened(end.link, self.world.now))

    def _heard(self, end: End, message: Message, payload: Any) -> None:
        self.world.trace(self.name, "got", end.link, message)
        self.perform(self.machine.received(end.link, message, payload, self.world.now))

    def _lost(self, end: End) -> None:
        self.world.trace(self.name, "closed", end.link)
        del self._ends[end.link]
        end.closed = True
        self.perform(self.machine.closed(end.link, self.world.now))

    # -- effects ------------------------------------------------------------------------------------------

    def perform(self, effects: list[Effect]) -> None:
        """In order; a crash may come between any two."""
        for effect in effects:
            if self.doom is not None:
                if self.doom <= 0:
                    self.crash()
                    return
                self.doom -= 1
            if not self.alive:
                return
            self._perform_one(effect)

    def _perform_one(self, effect: Effect) -> None:
        network = self.world.network
        match effect:
            case Send():
                end = self._ends.get(effect.link)
                if end is not None:
                    self.sent(effect)
                    network.send(end, effect.message, effect.payload)
            case Close():
                end = self._ends.pop(effect.link, None)
                if end is not None:
                    network.close(end)
            case Dial():
                end = self._ends[effect.link] = End(self, effect.link)
                network.dial(end, effect.address)
            case Serve():
                pass
            case Stop():
                self.end(effect)
            case _:
                self.perform_own(effect)

    def sent(self, effect: Send) -> None:
        """A frame goes out; roles that repeat themselves take note."""

    def perform_own(self, effect: Effect) -> None:
        """Effects of one role only."""
        raise AssertionError(f"{self.name} cannot perform {effect}")

    def repeat(self, link: int, effect: Send) -> None:
        """Say something once more, behind the machine's back."""
        end = self._ends.get(link)
        if end is not None and self.alive:
            self.world.network.send(end, effect.message, effect.payload)

    def end(self, stop: Stop) -> None:
        """It has nothing left to do: its connections close after what was said on them."""
        self.world.trace(self.name, "stops", stop)
        self.outcome = self.outcome or stop
        self.alive = False
        for end in self._ends.values():
            self.world.network.close(end)
        self._ends.clear()

    # -- faults -------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """It is gone, with everything it knew."""
        if not self.alive:
            return
        self.world.trace(self.name, "crashes")
        self.alive = self.frozen = False
        self._backlog.clear()
        for end in self._ends.values():
            self.world.network.vanish(end)
        self._ends.clear()

    def freeze(self, seconds: float) -> None:
        """It does nothing for a while and does not notice; too long, and its peers give it up."""
        if not self.alive or self.frozen:
            return
        self.world.trace(self.name, "freezes for", round(seconds, 2))
        self.frozen = True
        if seconds > self.world.silence:
            for end in list(self._ends.values()):
                if end.peer is not None:
                    self.world.later(self.world.silence, self._given_up_by, end.peer)
        self.world.later(seconds, self.thaw)

    def _given_up_by(self, peer: End) -> None:
        if self.frozen:
            self.world.network.abort(peer)

    def thaw(self) -> None:
        """It wakes up and finds what has come meanwhile."""
        if not self.frozen:
            return
        self.world.trace(self.name, "wakes up")
        self.frozen = False
        backlog, self._backlog = self._backlog, []
        for handler, args in backlog:
            handler(*args)
