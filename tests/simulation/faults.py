"""What can go wrong, one method a kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulation.ghost import haunt
from simulation.process import Process

if TYPE_CHECKING:
    from simulation.roles import HomePod, Mdc, Npdc
    from simulation.world import World


class Faults:
    """Strikes the world; whom it hits is drawn when it happens."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.rng

    def strike(self, kind: str) -> None:
        """Let one fault happen."""
        self._world.trace("fault", kind)
        verb, _, role = kind.partition("_")
        if role in ("mdc", "npdc", "home") and verb in ("crash", "doom", "freeze"):
            victim = self._pick(role)
            if victim is not None:
                getattr(self, f"_{verb}")(victim)
        else:
            getattr(self, f"_{kind}")()

    def _pick(self, role: str) -> Process | None:
        overseer = self._world.overseer
        candidates: dict[str, list[Mdc | HomePod | Npdc | None]] = {
            "mdc": list(overseer.mdcs.values()),
            "home": list(overseer.pods.values()),
            "npdc": [overseer.npdc],
        }
        alive = [p for p in candidates[role] if p is not None and (p.alive or getattr(p, "lingers", False))]
        return self._rng.choice(alive) if alive else None

    def _long(self) -> float:
        """Within the silence limit, or well beyond it."""
        silence = self._world.silence
        return silence * (self._rng.random() if self._rng.random() < 0.4 else 1.1 + 2 * self._rng.random())

    # -- processes ----------------------------------------------------------------------------------------

    def _crash(self, victim: Process) -> None:
        victim.crash()

    def _doom(self, victim: Process) -> None:
        victim.doom = self._rng.randint(0, 6)

    def _freeze(self, victim: Process) -> None:
        victim.freeze(self._long())

    def _crash_many(self) -> None:
        """A rack, or all data centers at once."""
        overseer = self._world.overseer
        for mdc in list(overseer.mdcs.values()):
            if mdc is not None and self._rng.random() < 0.7:
                mdc.crash()
        if overseer.npdc is not None and self._rng.random() < 0.7:
            overseer.npdc.crash()

    # -- connections --------------------------------------------------------------------------------------

    def _break_link(self) -> None:
        if wires := self._world.network.live():
            self._world.network.tear(self._rng.choice(wires))

    def _stall_link(self) -> None:
        if wires := self._world.network.live():
            self._world.network.stall(self._rng.choice(wires), self._long())

    def _partition(self) -> None:
        if wires := self._world.network.live():
            wire = self._rng.choice(wires)
            self._world.network.partition(wire.a.process.place, wire.b.process.place, self._long())

    # -- the operator -------------------------------------------------------------------------------------

    def _evict_mdc(self) -> None:
        overseer = self._world.overseer
        filled = [i for i, mdc in overseer.mdcs.items() if mdc is not None]
        if filled:
            overseer.replace_mdc(self._rng.choice(filled))

    def _move_mdc(self) -> None:
        overseer = self._world.overseer
        if filled := [i for i, mdc in overseer.mdcs.items() if mdc is not None]:
            overseer.move_mdc(self._rng.choice(filled))

    def _evict_npdc(self) -> None:
        """Replaced although it lives; it may go on for a while."""
        overseer = self._world.overseer
        old = overseer.npdc
        if old is not None:
            overseer.replace_npdc()
            self._world.later(4 * self._rng.random(), old.crash)

    def _shuffle_homes(self) -> None:
        self._world.overseer.shuffle()

    def _scale(self) -> None:
        self._world.overseer.scale(self._rng.randint(1, 4))

    def _scale_homes(self) -> None:
        self._world.overseer.scale_homes(self._rng.choice(self._world.scenario.counts))

    def _lose_home(self) -> None:
        """A pod of homes is taken for gone, and mostly is, until it is made anew."""
        overseer = self._world.overseer
        if overseer.pods:
            index = self._rng.choice(list(overseer.pods))
            overseer.lose_home(index, 0.5 + 4 * self._rng.random(), dead=self._rng.random() < 0.7)

    def _pause_operator(self) -> None:
        self._world.overseer.pause(1 + 4 * self._rng.random())

    def _ghost(self) -> None:
        haunt(self._world)
