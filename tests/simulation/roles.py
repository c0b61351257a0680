"""The three roles as processes: what their shells do besides talking, in virtual time."""

from __future__ import annotations

import json
import math
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from elf_worker.aggregation import bundles, ids
from elf_worker.aggregation.datacenter import DataCenter, Identity
from elf_worker.aggregation.effects import (
    Compute,
    ComputeMany,
    Effect,
    Initialise,
    LinkId,
    Restore,
    Send,
    Step,
    Stop,
)
from elf_worker.aggregation.household import Answer
from elf_worker.aggregation.northpole import NorthPole, Rules, Snapshot
from elf_worker.aggregation.population import Schedule, noted
from elf_worker.aggregation.tally import Tally
from elf_worker.contract import Phase, Wiring
from elf_worker.messages import Bundle, Facts, Failed, Finish, Message, Offer, Register, Stamp, Submit
from elf_worker.statistics import ManyHomes
from simulation import model
from simulation.process import Process

if TYPE_CHECKING:
    from simulation.network import End
    from simulation.world import World

JOB = "job"
NPDC = "npdc"
_HEAD = struct.Struct("<qq")
_WEIGHTS = 4 * model.SIZE


def pack(stamp: Stamp, weights: bytes, schedule: Schedule) -> bytes:
    """A whole state: the weights, then what an MDC keeps beside them."""
    return weights + _HEAD.pack(*stamp) + json.dumps(schedule).encode()


def unpack(copy: bytes) -> Snapshot:
    """Inverse of `pack`, as a snapshot."""
    weights, rest = copy[:_WEIGHTS], copy[_WEIGHTS:]
    return Snapshot(Stamp(*_HEAD.unpack_from(rest)), weights, rest)


def whole(snapshot: Snapshot) -> bytes:
    """The state of a snapshot in one piece."""
    return bytes(snapshot.weights) + bytes(snapshot.rest)


def schedule_of(snapshot: Snapshot) -> Schedule:
    """How many homes the rounds up to this state had."""
    return list(json.loads(bytes(snapshot.rest)[_HEAD.size :]))


class Talkative(Process):
    """A child that may say on a new connection once more what it said on an earlier one."""

    def __init__(self, world: World, name: str, place: str, machine: Any) -> None:
        super().__init__(world, name, place, machine)
        self._said: deque[Send] = deque(maxlen=6)

    def sent(self, effect: Send) -> None:
        """Remember what counts."""
        if self.world.scenario.replay and isinstance(effect.message, (Submit, Offer, Failed, Bundle)):
            self._said.append(effect)

    def connected(self, end: End) -> None:
        """A connection is there: old words may be repeated on it, soon or late."""
        super().connected(end)
        world = self.world
        if self._said and world.faulty and end.link >= 0 and world.rng.random() < world.scenario.replay:
            effect = world.rng.choice(list(self._said))
            world.later(world.rng.random() * 4 * world.latency, self.repeat, end.link, effect)


class Mdc(Talkative):
    """One incarnation of an MDC."""

    def __init__(self, world: World, index: int, incarnation: int, address: str) -> None:
        self.uid = f"mdc-{index}-{incarnation}"
        self.index, self.incarnation, self.address = index, incarnation, address
        identity = Identity(JOB, index, incarnation, self.uid, address)
        super().__init__(world, self.uid, f"place-{index}", world.datacenter(identity, NPDC, world.intake))

    @property
    def center(self) -> DataCenter:
        """The state machine."""
        machine = self.machine
        assert isinstance(machine, DataCenter)
        return machine

    def _on_link(self, end: End, handler: Callable[..., None], *args: Any) -> None:
        """A slow one learns of everything late, in order."""
        slow = self.incarnation == 0 and self.index == self.world.scenario.slow_mdc
        if slow:
            self.world.later(1.0, super()._on_link, end, handler, *args)
        else:
            super()._on_link(end, handler, *args)


class HomePod(Talkative):
    """One life of a pod of homes."""

    def __init__(self, world: World, index: int, life: int, homes: range) -> None:
        self.homes = homes
        name = f"home-{index}" + "'" * life
        together = {"together": world.scenario.together} if world.scenario.together else {}
        super().__init__(world, name, f"home-{index}", world.household(JOB, homes, NPDC, **together))

    def perform_own(self, effect: Effect) -> None:
        """A gradient takes time; some homes fail, lie or hang in some rounds."""
        world = self.world
        if isinstance(effect, ComputeMany):
            seconds = max(self._seconds(home) for home in ids.ids_of(effect.homes))
            world.later(seconds, self.happen, self._added_up, effect, seconds)
            return
        assert isinstance(effect, Compute)
        seconds = self._seconds(effect.home)
        ailment = world.ailment(effect.home, effect.stamp)
        if ailment != "silent":
            world.later(seconds, self.happen, self._computed, effect, ailment, seconds)

    def _seconds(self, home: int) -> float:
        scenario = self.world.scenario
        return self.world.rng.random() * scenario.compute + 5.0 * (home == scenario.slow_home)

    def _added_up(self, work: ComputeMany, seconds: float, now: float) -> list[Effect]:
        """Those that are silent are left out; nothing is said of them."""
        world = self.world
        ailments = {home: world.ailment(home, work.stamp) for home in ids.ids_of(work.homes)}
        said = [home for home, ailment in ailments.items() if ailment != "silent"]
        if not said:
            return []
        tally = Tally(model.SIZE + 1, world.pod_intake(world.intake, work.mdc), work.stamp.round)
        for home in said:
            if ailments[home] == "failed":
                tally.fail(home, "TaskFailed", "ill")
        well = [home for home in said if ailments[home] != "failed"]
        if well:
            vectors = [self._row(home, ailments[home], work) for home in well]
            weights = np.array([model.weight_of(home) for home in well])
            facts = [world.facts(home, work.stamp.round) for home in well]
            many = ManyHomes(
                homes=np.array(well),
                round=work.stamp.round,
                mdc=work.mdc,
                weights=weights,
                vectors=np.array(vectors),
                seconds=seconds,
                batch_sizes=[fact.batch_sizes for fact in facts],
                classes=[fact.classes for fact in facts],
                bytes_up=4 * (model.SIZE + 1) * len(well),
            )
            tally.add_many(many)
        bundle, payload = bundles.make(tally, work.stamp, work.mdc, seconds)
        return self.machine.bundled(work, ids.mask_of(said), bundle, payload)

    def _row(self, home: int, ailment: str, work: ComputeMany) -> Any:
        if ailment == "nan":
            return np.full(model.SIZE + 1, math.nan, np.float32)
        return np.frombuffer(self.world.model.vector(home, work.stamp.round, bytes(work.weights)), "<f4")

    def _computed(self, work: Compute, ailment: str, seconds: float, now: float) -> list[Effect]:
        if ailment == "failed":
            answer = Answer(work.stamp, 0, None, "TaskFailed", "ill")
        elif ailment == "nan":
            answer = Answer(work.stamp, 1, struct.pack(f"<{model.SIZE + 1}f", *[math.nan] * (model.SIZE + 1)))
        else:
            vector = self.world.model.vector(work.home, work.stamp.round, bytes(work.weights))
            facts = Facts(computing=seconds)
            answer = Answer(work.stamp, model.weight_of(work.home), vector, facts=facts)
        return self.machine.computed(work.home, answer)


class Npdc(Process):
    """One incarnation of the NPDC. What it claims is checked by the oracle."""

    def __init__(self, world: World, epoch: int) -> None:
        scenario = world.scenario
        known = world.volume is not None and world.rng.random() < 0.5
        rules = Rules(
            job=JOB,
            homes=scenario.homes,
            quorum=scenario.quorum,
            deadline=scenario.deadline,
            silence=scenario.silence,
            epoch=epoch,
            checkpoint_round=unpack(world.volume).stamp.round if known and world.volume else -1,
            straggler_factor=scenario.straggler_factor,
        )
        self.epoch = epoch
        self.pole: NorthPole = world.northpole(rules)
        self._uids: dict[LinkId, str] = {}
        self.state: Snapshot | None = None
        """The newest, whole; the protocol may lack its rest for a while."""
        self.lingers = False
        """It has ended, and its last word is not published yet."""
        super().__init__(world, f"npdc-{epoch}", f"npdc-{epoch}", self.pole)

    # -- what the oracle sees -----------------------------------------------------------------------------

    def _heard(self, end: End, message: Message, payload: Any) -> None:
        self.world.trace(self.name, "got", end.link, message)
        if isinstance(message, Register):
            self._uids[end.link] = message.uid
        effects = self.pole.received(end.link, message, payload, self.world.now)
        if isinstance(message, Submit):
            self.world.oracle.submitted(self, self._uids.get(end.link), message, effects)
        self.perform(effects)

    def rewire(self, wiring: Wiring) -> None:
        """The ConfigMap has changed."""
        if self.alive and not self.frozen:
            self.world.trace(self.name, "wiring", wiring.to_json())
        self.happen(self.pole.rewire, wiring)

    # -- the model ----------------------------------------------------------------------------------------

    def perform_own(self, effect: Effect) -> None:
        """Work on the model takes time, and a crash loses it."""
        seconds = self.world.rng.random() * 0.3
        match effect:
            case Initialise():
                self.world.later(seconds, self.happen, self._load, None)
            case Restore():
                self.world.later(seconds, self.happen, self._load, effect.payload)
            case Step():
                self.world.trace(self.name, "steps", self.pole.last_round)
                self.world.later(seconds, self.happen, self._step, effect)
            case _:
                super().perform_own(effect)

    def _load(self, copy: bytes | None, now: float) -> list[Effect]:
        world = self.world
        if copy is None:
            first = Stamp(0, self.epoch)
            return self._go_on(unpack(world.volume or pack(first, model.START, [])), now)
        if world.faulty and world.rng.random() < 0.1:
            return self.pole.restore_failed(now)
        return self._go_on(unpack(copy), now)

    def _step(self, step: Step, now: float) -> list[Effect]:
        log, before = self.pole.last_round, self.state
        assert log is not None and before is not None
        self.world.oracle.closed(self, step, log, bytes(before.weights))
        weights = model.step(bytes(before.weights), step.total.mean(step.weight))
        stamp = Stamp(step.stamp.round + 1, self.epoch)
        schedule = noted(schedule_of(before), step.stamp.round, log.homes)
        every = self.world.scenario.volume_every
        if every and stamp.round % every == 0:
            self.world.volume = pack(stamp, weights, schedule)
        return self._go_on(unpack(pack(stamp, weights, schedule)), now)

    def _go_on(self, snapshot: Snapshot, now: float) -> list[Effect]:
        self.state = snapshot
        self.world.trace(self.name, "publishes", snapshot.stamp)
        self.world.oracle.published(self, snapshot)
        finish = None
        if snapshot.stamp.round >= self.world.scenario.rounds:
            finish = Finish(Phase.COMPLETE, "done")
            if self.world.volume is not None:
                self.world.volume = whole(snapshot)
        if finish is not None or self.world.rng.random() < 0.2:
            return self.pole.ready(snapshot, now, finish)
        # As a rule the rest of the state comes later than the weights, and this process may be gone by then.
        out = self.pole.ready(replace(snapshot, rest=None), now)
        # Of quick rounds only the last is kept, and later still.
        most = 0.1 if self.world.rng.random() < 0.8 else 2.0
        self.world.later(self.world.rng.random() * most, self.happen, self._keep, snapshot)
        return out

    def _keep(self, snapshot: Snapshot, now: float) -> list[Effect]:
        return self.pole.keep(snapshot.stamp, snapshot.rest)

    # -- the end ------------------------------------------------------------------------------------------

    def end(self, stop: Stop) -> None:
        """Unless it is fenced it stays until its last word is published."""
        super().end(stop)
        if stop.outcome != "Fenced":
            self.lingers = True
            self.world.later(self.world.rng.random(), self._say_last_word, stop)

    def _say_last_word(self, stop: Stop) -> None:
        if self.frozen:
            self.world.later(1.0, self._say_last_word, stop)
        elif self.lingers:
            snapshot = self.state
            weights, schedule = (bytes(snapshot.weights), schedule_of(snapshot)) if snapshot else (b"", [])
            self.world.conclude(self, stop, weights, schedule)

    def crash(self) -> None:
        """It may also die before its last word."""
        self.lingers = False
        super().crash()
