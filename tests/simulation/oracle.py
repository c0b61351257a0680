"""Judges a run from outside: what was counted, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elf_worker.aggregation import ids
from elf_worker.aggregation.effects import Effect, Send, Step
from elf_worker.aggregation.northpole import RoundLog, Snapshot
from elf_worker.aggregation.population import Schedule
from elf_worker.messages import Accepted, Stamp, Submit
from simulation import model
from simulation.roles import schedule_of

if TYPE_CHECKING:
    from simulation.roles import Npdc
    from simulation.world import World


class ViolationError(AssertionError):
    """A promise is broken."""


class Oracle:
    """Holds every claim of every NPDC incarnation against arithmetic done without the protocol."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._model = world.model
        scenario = world.scenario
        self._everyone = scenario.quorum == scenario.homes
        self._followed: set[tuple[str, str]] = set()
        """(NPDC, UID of an MDC whose successor it has heard since): nothing more may be taken from that."""
        self._weights: dict[Stamp, bytes] = {}
        self._trained: dict[tuple[int, ...], bytes] = {(): model.START}
        """Homes of each round so far → the weights then, had every home been counted."""

    def submitted(self, npdc: Npdc, uid: str | None, message: Submit, effects: list[Effect]) -> None:
        """A Submit was answered: was its sender entitled, and its members its own?"""
        accepted = [e.message for e in effects if isinstance(e, Send) and isinstance(e.message, Accepted)]
        if not accepted:
            return
        wiring = npdc.pole.wiring
        slots = wiring.mdcs.values() if wiring else ()
        current = {uid for slot in slots for uid in (slot.uid, slot.predecessor) if uid}
        current -= {uid for name, uid in self._followed if name == npdc.name}
        if uid not in current:
            raise ViolationError(f"{npdc.name} accepted a Submit of {uid}; current are {sorted(current)}")
        self._followed |= {(npdc.name, slot.predecessor) for slot in slots if slot.uid == uid}
        said = ids.from_wire(message.members) | ids.from_wire(message.failed)
        if ids.from_wire(accepted[0].members) != said:
            raise ViolationError(f"{npdc.name} accepted {accepted[0]} where {message} was said")

    def closed(self, npdc: Npdc, step: Step, log: RoundLog, weights: bytes) -> None:
        """A round was closed: is its sum the sum over exactly those homes that its log says were counted?"""
        scenario = self._world.scenario
        counted = [home for home in range(log.homes) if home not in log.missing]
        what = f"{npdc.name} closed round {log.round}: {log}"
        if log.homes not in self._world.overseer.counts:
            raise ViolationError(f"{what}: nobody ever asked for {log.homes} homes")
        if len(counted) != log.counted or log.counted < scenario.quorum_of(log.homes):
            raise ViolationError(f"{what}: the quorum is {scenario.quorum_of(log.homes)}")
        if sum(log.by_mdc.values()) != log.counted or log.counted + log.failed > log.homes:
            raise ViolationError(f"{what}: homes are counted twice")
        if step.weight != sum(map(model.weight_of, counted)):
            raise ViolationError(f"{what}: weight {step.weight} is not that of {counted}, once each")
        total = self._model.total(counted, step.stamp.round, weights)
        if bytes(step.total.to_bytes()) != model.limbs_of(total):
            raise ViolationError(f"{what}: the sum is not the exact sum over {counted}")

    def published(self, npdc: Npdc, snapshot: Snapshot) -> None:
        """Weights were published: equal stamps mean equal weights.

        Without missing homes they are a function of the schedule that is published with them.
        """
        weights = bytes(snapshot.weights)
        if self._weights.setdefault(snapshot.stamp, weights) != weights:
            raise ViolationError(f"{npdc.name} published other weights as {snapshot.stamp} before")
        schedule = schedule_of(snapshot)
        if self._everyone and weights != self.trained(schedule, snapshot.stamp.round):
            raise ViolationError(f"{npdc.name}: {snapshot.stamp} is not what {schedule} leads to")

    def trained(self, schedule: Schedule, rounds: int) -> bytes:
        """The weights after so many rounds with these homes, all of them counted in each."""
        counts: tuple[int, ...] = ()
        for round_ in range(rounds):
            before = self._trained[counts]
            [*_, homes] = [homes for since, homes in schedule if since <= round_]
            counts += (homes,)
            if counts not in self._trained:
                self._trained[counts] = self._model.stepped(list(range(homes)), round_, before)
        return self._trained[counts]
