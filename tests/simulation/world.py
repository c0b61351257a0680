"""A whole job in virtual time: one seed, one run, always the same."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from elf_worker.aggregation.datacenter import DataCenter
from elf_worker.aggregation.effects import Stop
from elf_worker.aggregation.household import Household
from elf_worker.aggregation.northpole import NorthPole
from elf_worker.aggregation.population import Schedule
from elf_worker.aggregation.tally import Intake
from elf_worker.contract import Phase
from elf_worker.messages import Facts, Stamp
from simulation.faults import Faults
from simulation.model import Model
from simulation.network import Network
from simulation.oracle import Oracle, ViolationError
from simulation.overseer import Overseer
from simulation.process import Process
from simulation.roles import NPDC, Mdc, Npdc
from simulation.scenario import Scenario

PATIENCE = 60.0
"""Seconds after the last fault within which a run must end."""
MAX_EVENTS = 60_000
TAIL = 150


class World:
    """Everything there is. The machines may be replaced by mutants."""

    northpole: Callable[..., NorthPole] = NorthPole
    datacenter: Callable[..., DataCenter] = DataCenter
    household: Callable[..., Household] = Household
    pod_intake: Callable[[Intake, int], Intake] = staticmethod(lambda intake, mdc: replace(intake, mdc=mdc))
    """How a pod of homes that go to this MDC adds them up."""
    facts: Callable[[int, int], Facts] = staticmethod(lambda home, round_: Facts())
    """What a home of a bundle tells of a round."""

    def __init__(self, scenario: Scenario, tracing: bool = False, **machines: Any) -> None:
        self.scenario = scenario
        for name, machine in machines.items():
            setattr(self, name, machine)
        self.rng = random.Random(scenario.seed)
        self.now = 0.0
        self.silence = scenario.silence
        self.latency = scenario.latency
        self.events = 0
        self._agenda: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0
        self._lines: deque[tuple[float, tuple[Any, ...]]] | None = deque(maxlen=TAIL) if tracing else None
        self.volume: bytes | None = None
        self.npdcs: list[Npdc] = []
        self._addresses: dict[str, Process] = {}
        self.result: bytes | None = None
        self.schedule: Schedule = []
        """How many homes the rounds had, as reported at the end."""
        self.quiet_at = scenario.horizon + 4 * scenario.silence
        groups = [list(unit) for unit in scenario.units(scenario.homes)] if scenario.group else []
        self.intake = Intake(
            homes=scenario.homes, method=scenario.method, trim_percent=20, group_size=scenario.group
        )
        self.model = Model(scenario.seed, scenario.homes, groups, scenario.method)
        self.oracle = Oracle(self)
        self.network = Network(self)
        self.overseer = Overseer(self)

    # -- time ---------------------------------------------------------------------------------------------

    @property
    def faulty(self) -> bool:
        """Whether things may still go wrong."""
        return self.now < self.quiet_at and bool(self.scenario.faults)

    def at(self, when: float, what: Callable[..., None], *args: Any) -> None:
        """Do something then."""
        self._count += 1
        heapq.heappush(self._agenda, (when, self._count, what, args))

    def later(self, seconds: float, what: Callable[..., None], *args: Any) -> None:
        """Do something after so many seconds."""
        self.at(self.now + seconds, what, *args)

    def run(self) -> bytes:
        """The final weights. Raises ViolationError when a promise is broken, or when the run does not end."""
        scenario = self.scenario
        faults = Faults(self)
        self.overseer.begin()
        for when, kind in scenario.faults:
            self.at(when, faults.strike, kind)
        late = scenario.rounds * (scenario.deadline + 3 * scenario.compute + 20 * scenario.latency)
        limit = self.quiet_at + PATIENCE + late
        while self.result is None:
            when, _, what, args = heapq.heappop(self._agenda)
            self.events += 1
            if when > limit or self.events > MAX_EVENTS:
                raise ViolationError(f"stuck: not done after {self.now:.1f} s and {self.events} events")
            self.now = when
            what(*args)
        return self.result

    # -- who is there -------------------------------------------------------------------------------------

    def add_npdc(self, npdc: Npdc) -> None:
        """A new incarnation of the NPDC: the Service leads to it from now on."""
        self.npdcs.append(npdc)
        self._addresses[NPDC] = npdc

    def add_mdc(self, mdc: Mdc) -> None:
        """A new MDC, reachable under its address."""
        self._addresses[mdc.address] = mdc

    def resolve(self, address: str) -> Process | None:
        """Who listens there. The Service may lead to an earlier NPDC for a while."""
        if address == NPDC and self.faulty and len(self.npdcs) > 1 and self.rng.random() < 0.1:
            old = self.npdcs[-2]
            if old.alive:
                return old
        process = self._addresses.get(address)
        return process if process is not None and process.alive else None

    def ailment(self, home: int, stamp: Stamp) -> str:
        """What ails a home in a round: always the same for the same round."""
        if home >= self.scenario.sick:
            return ""
        return random.Random(f"{self.scenario.seed}/{home}/{stamp.round}").choice(
            ("", "failed", "nan", "silent")
        )

    def conclude(self, npdc: Npdc, stop: Stop, weights: bytes, schedule: Schedule) -> None:
        """The outcome is known."""
        self.trace(npdc.name, "has published its outcome")
        if stop.outcome != Phase.COMPLETE:
            raise ViolationError(f"{npdc.name} gave up: {stop}")
        self.result, self.schedule = weights, schedule

    # -- what happened ------------------------------------------------------------------------------------

    def trace(self, *what: Any) -> None:
        """Note it, if anybody will read it."""
        if self._lines is not None:
            self._lines.append((self.now, what))

    def tail(self) -> str:
        """The last lines of the trace."""
        return "\n".join(f"{now:9.3f}  {' '.join(map(str, what))}" for now, what in self._lines or ())
