"""A pod that was fenced, or never current, and will not take no for an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elf_worker.aggregation import ids
from elf_worker.aggregation.effects import Dial, Effect, LinkId, Payload, Send
from elf_worker.contract import WIRE_VERSION, Wiring
from elf_worker.exact import ExactSum
from elf_worker.messages import Message, Register, Stamp, Submit
from simulation import model
from simulation.process import Process

if TYPE_CHECKING:
    from simulation.world import World

ATTEMPTS = 8


class Ghost:
    """Registers under a uid that is not current and submits at once, whatever it is told."""

    def __init__(self, world: World, index: int, incarnation: int, uid: str) -> None:
        self._world = world
        self._register = Register(WIRE_VERSION, "job", index, incarnation, uid, "nowhere", (0, Stamp(0, 0)))
        self._dialled = 0
        self._link: LinkId | None = None

    def tick(self, now: float) -> list[Effect]:
        """Dial, again and again."""
        if self._link is not None or self._dialled >= ATTEMPTS:
            return []
        self._link, self._dialled = self._dialled, self._dialled + 1
        return [Dial(self._link, "npdc")]

    def opened(self, link: LinkId, now: float) -> list[Effect]:
        """Say everything without waiting for an answer, unless an NPDC still takes us for current."""
        wirings = [npdc.pole.wiring for npdc in self._world.npdcs if npdc.alive]
        if any(w is None or self._register.uid in _acting(w) for w in wirings):
            return []
        npdc = self._world.overseer.npdc
        snapshot = npdc.state if npdc is not None else None
        stamp = snapshot.stamp if snapshot is not None else Stamp(0, 0)
        homes = ids.full(self._world.scenario.homes)
        total = ExactSum(model.SIZE + 1).pack()
        submit = Submit(stamp, ids.to_wire(homes), b"", homes.bit_count(), 1, {}, "", {})
        return [Send(link, self._register), Send(link, submit, total)]

    def closed(self, link: LinkId, now: float) -> list[Effect]:
        """Turned away."""
        self._link = None
        return []

    def received(self, link: LinkId, message: Message, payload: Payload, now: float) -> list[Effect]:
        """Deaf, except that a Fetch gets no answer either."""
        return []


def _acting(wiring: Wiring) -> set[str]:
    """UIDs of pods that may act for a slot."""
    return {uid for slot in wiring.mdcs.values() for uid in (slot.uid, slot.predecessor)}


def haunt(world: World) -> None:
    """Let a ghost of some slot appear: of an earlier incarnation, or under a foreign uid."""
    mdcs = [mdc for mdc in world.overseer.mdcs.values() if mdc is not None]
    if not mdcs:
        return
    mdc = world.rng.choice(mdcs)
    incarnation = mdc.incarnation - world.rng.randint(0, 1)
    uid = f"mdc-{mdc.index}-{incarnation}" + ("" if incarnation < mdc.incarnation else "-foreign")
    Process(world, f"ghost of {uid}", "limbo", Ghost(world, mdc.index, incarnation, uid))
