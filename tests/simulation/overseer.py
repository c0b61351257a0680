"""The operator of the simulated world: replaces what is dead, assigns homes, sometimes late or twice.

As the real one does, it vacates the slot of a dead MDC at once, starts a successor under the next
incarnation, and names the successor's uid in the wiring once it has seen it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from elf_worker.contract import Slot, Wiring
from simulation.roles import HomePod, Mdc, Npdc

if TYPE_CHECKING:
    from simulation.world import World


class Overseer:
    """Looks at the world every now and then and sets it right."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.rng
        scenario = world.scenario
        self.wanted = scenario.mdcs
        self.homes = scenario.homes
        """How many homes there shall be."""
        quorum = scenario.quorum
        self.wiring = Wiring(npdc=Slot(0), homes=self.homes, quorum=quorum, expected=self.homes)
        self.counts = {self.homes}
        """Every number of homes that a wiring ever had."""
        self.npdc: Npdc | None = None
        self.mdcs: dict[int, Mdc | None] = {}
        """The pod that fills each slot; None: it is being created."""
        self._leaving: dict[int, Mdc] = {}
        """Pods that act until their successors take over between two rounds."""
        self.pods: dict[int, HomePod | None] = {}
        self._lost: dict[int, float] = {}
        """Pods of homes that are named absent, and until when they cannot be made anew."""
        self.stragglers: set[str] = set()
        """Pods that were replaced for being too slow."""
        self._lives: dict[int, int] = {}
        self._paused_until = 0.0

    def begin(self) -> None:
        """Create everything."""
        self._launch_npdc(0)
        slots = {}
        for index in range(self.wanted):
            slots[index] = Slot(0)
            self._launch_mdc(index, 0)
        self._write(replace(self.wiring, mdcs=slots))
        self._look_at_homes()
        self._wake()

    def pause(self, seconds: float) -> None:
        """It is down, or slow."""
        self._paused_until = self._world.now + seconds

    # -- creating pods ------------------------------------------------------------------------------------

    def _soon(self) -> float:
        return 0.02 + 0.5 * self._rng.random()

    def _launch_npdc(self, epoch: int) -> None:
        self.npdc = None
        self._world.later(self._soon(), self._start_npdc, epoch)

    def _start_npdc(self, epoch: int) -> None:
        self.npdc = Npdc(self._world, epoch)
        self._world.add_npdc(self.npdc)
        self._tell(self.npdc)

    def _launch_mdc(self, index: int, incarnation: int) -> None:
        self.mdcs[index] = None
        self._world.later(self._soon(), self._start_mdc, index, incarnation)

    def _start_mdc(self, index: int, incarnation: int) -> None:
        if index not in self.mdcs:
            return  # scaled down meanwhile
        reuse = self._world.scenario.reuse_addresses
        address = f"mdc-{index}" if reuse else f"mdc-{index}-{incarnation}"
        mdc = self.mdcs[index] = Mdc(self._world, index, incarnation, address)
        self._world.add_mdc(mdc)

    def _launch_home(self, index: int, homes: range) -> None:
        self.pods[index] = None
        self._world.later(self._soon(), self._start_home, index, homes)

    def _start_home(self, index: int, homes: range) -> None:
        if index not in self.pods or self.pods[index] is not None:
            return  # scaled down meanwhile, perhaps up again
        life = self._lives[index] = self._lives.get(index, -1) + 1
        self.pods[index] = HomePod(self._world, index, life, homes)

    # -- watching -----------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._world.now >= self._paused_until:
            self._look()
        self._world.later(0.1 + 0.5 * self._rng.random(), self._wake)

    def _look(self) -> None:
        if self.npdc is not None and not self.npdc.alive and not self.npdc.lingers:
            self.replace_npdc()
        self._look_at_homes()
        unreachable = [*self._unreachable(), *self._stragglers()]
        for index, mdc in self.mdcs.items():
            if mdc is not None and (not mdc.alive or mdc.uid in unreachable):
                self.replace_mdc(index)
        self._end_moves()
        self._assign()

    def _look_at_homes(self) -> None:
        """Every home that is wanted, or in the present round, has a pod; the last pod may hold fewer."""
        per = self._world.scenario.per_pod
        npdc, now = self.npdc, self._world.now
        present = npdc.pole.homes if npdc is not None and npdc.alive and npdc.pole.round_begun else 0
        kept = max(self.homes, present)
        for index in range(-(-kept // per)):
            homes = range(index * per, min(index * per + per, kept))
            pod = self.pods.get(index)
            if pod is not None and pod.alive and pod.homes != homes:
                pod.crash()
            if index not in self.pods or (
                pod is not None and not pod.alive and self._lost.get(index, 0.0) <= now
            ):
                self._launch_home(index, homes)
        for index in [i for i in self.pods if i * per >= kept]:
            if (pod := self.pods.pop(index)) is not None:
                pod.crash()
        self._lost = {i: t for i, t in self._lost.items() if t > now or not self._serves(i)}

    def _serves(self, index: int) -> bool:
        pod = self.pods.get(index)
        return pod is not None and pod.alive

    def _population(self) -> Wiring:
        """The wiring with the homes of the next round: more only once their pods are there, fewer at once."""
        per, scenario = self._world.scenario.per_pod, self._world.scenario
        count = self.wiring.homes
        new = {home // per for home in range(count, self.homes)}
        there = {
            i for i in new if self._serves(i) and len(self.pods[i].homes) == min(per, self.homes - i * per)
        }
        if self.homes < count or there == new:
            count = self.homes
        self.counts.add(count)
        units = scenario.units(count)
        absent = (u for u in units if any(home // per in self._lost for home in u))
        return replace(
            self.wiring,
            homes=count,
            quorum=scenario.quorum_of(count),
            expected=self.homes,
            absent=frozenset().union(*absent),
        )

    def _unreachable(self) -> list[str]:
        if self.npdc is None or not self.npdc.alive or self.npdc.frozen:
            return []
        return [uid for _, _, uid in self.npdc.pole.unreachable(self._world.now)]

    def _stragglers(self) -> list[str]:
        if self.npdc is None or not self.npdc.alive or self.npdc.frozen:
            return []
        slow = [uid for _, _, uid, _ in self.npdc.pole.stragglers()]
        self.stragglers.update(slow)
        return slow

    def replace_npdc(self) -> None:
        """The next incarnation; the last one may live on for a while."""
        epoch = self.wiring.npdc.incarnation + 1
        self._write(replace(self.wiring, npdc=Slot(epoch)))
        self._launch_npdc(epoch)

    def replace_mdc(self, index: int) -> None:
        """Fence the pod and create its successor. The pod itself dies now, later, or by being told."""
        old = self.mdcs[index]
        if old is None:
            return
        if old.alive and self._rng.random() < 0.5:
            self._world.later(2 * self._rng.random(), old.crash)
        slot = self.wiring.mdcs.get(index, Slot(old.incarnation))
        successor = Slot(max(slot.incarnation, old.incarnation) + 1, "", frozenset(), slot.replaced + 1)
        self._launch_mdc(index, successor.incarnation)
        self._write(replace(self.wiring, mdcs={**self.wiring.mdcs, index: successor}))
        if self._rng.random() < 0.7:
            self._assign()

    def move_mdc(self, index: int) -> None:
        """Have another pod take the slot over between two rounds, while the present one goes on."""
        old = self.mdcs[index]
        slot = self.wiring.mdcs.get(index)
        if old is None or index in self._leaving or slot is None or slot.uid != old.uid:
            return
        self._world.later(self._soon(), self._start_heir, index, old)

    def _start_heir(self, index: int, old: Mdc) -> None:
        if self.mdcs.get(index) is not old:
            return  # replaced or scaled down meanwhile
        slot = self.wiring.mdcs[index]
        heir = Mdc(self._world, index, slot.incarnation + 1, f"mdc-{index}-{slot.incarnation + 1}")
        self._world.add_mdc(heir)
        self.mdcs[index], self._leaving[index] = heir, old
        named = replace(slot, incarnation=heir.incarnation, uid=heir.uid, predecessor=old.uid)
        self._write(replace(self.wiring, mdcs={**self.wiring.mdcs, index: named}))

    def _end_moves(self) -> None:
        """Who has been followed goes; so does who is dead, or whose successor was replaced."""
        serving = self.npdc.pole.serving() if self.npdc is not None and self.npdc.alive else []
        followed = {(index, incarnation) for index, incarnation, _ in serving}
        for index, old in list(self._leaving.items()):
            slot = self.wiring.mdcs[index]
            if old.alive and slot.predecessor == old.uid and (index, slot.incarnation) not in followed:
                continue
            del self._leaving[index]
            self._world.later(2 * self._rng.random(), old.crash)
            if slot.predecessor:
                self._write(
                    replace(self.wiring, mdcs={**self.wiring.mdcs, index: replace(slot, predecessor="")})
                )

    def scale(self, wanted: int) -> None:
        """Another number of MDCs."""
        self.wanted = wanted
        for index in range(wanted):
            if index not in self.mdcs:
                last = self.wiring.mdcs.get(index, Slot(-1)).incarnation
                self._launch_mdc(index, last + 1)
        for index in [i for i in self.mdcs if i >= wanted]:
            mdc = self.mdcs.pop(index)
            if mdc is not None:
                self._world.later(2 * self._rng.random(), mdc.crash)

    def scale_homes(self, homes: int) -> None:
        """Another number of homes."""
        self.homes = homes

    def lose_home(self, index: int, seconds: float, dead: bool) -> None:
        """A pod of homes is taken for gone; no other comes before this time is over."""
        self._lost[index] = self._world.now + seconds
        pod = self.pods[index]
        if dead and pod is not None:
            pod.crash()

    # -- assigning ----------------------------------------------------------------------------------------

    def _assign(self, shuffled: bool = False) -> None:
        """Vacate slots without a pod, name new pods, give homes without an MDC to those with the fewest."""
        planned = self._population()
        slots: dict[int, Slot] = {}
        for index in sorted(set(self.wiring.mdcs) | set(self.mdcs)):
            slot, mdc = self.wiring.mdcs.get(index, Slot(0)), self.mdcs.get(index)
            if mdc is None:
                slots[index] = replace(slot, uid="", homes=frozenset(), predecessor="")
            elif mdc.uid != slot.uid:
                slots[index] = Slot(mdc.incarnation, mdc.uid, frozenset(), slot.replaced)
            else:
                slots[index] = slot
        eligible = [i for i, slot in slots.items() if slot.uid]
        if eligible:
            self._balance(slots, eligible, shuffled, planned.homes)
        planned = replace(planned, mdcs=slots)
        if planned != self.wiring:
            self._write(planned)

    def _balance(self, slots: dict[int, Slot], eligible: list[int], shuffled: bool, homes: int) -> None:
        units = [frozenset(unit) for unit in self._world.scenario.units(homes)]
        held = {
            i: set() if shuffled else {u for u, homes in enumerate(units) if homes <= slots[i].homes}
            for i in eligible
        }
        placed = set().union(*held.values())
        waiting = [u for u in range(len(units)) if u not in placed]
        if shuffled:
            self._rng.shuffle(waiting)
        for unit in waiting:
            held[min(eligible, key=lambda i: len(held[i]))].add(unit)
        while True:
            most = max(eligible, key=lambda i: len(held[i]))
            least = min(eligible, key=lambda i: len(held[i]))
            if len(held[most]) - len(held[least]) < 2:
                break
            held[least].add(moved := max(held[most]))
            held[most].remove(moved)
        for i in eligible:
            slots[i] = replace(slots[i], homes=frozenset().union(*(units[u] for u in held[i])))

    def shuffle(self) -> None:
        """Move homes for no reason; sometimes at once again."""
        self._assign(shuffled=True)
        if self._rng.random() < 0.5:
            self._assign(shuffled=True)

    # -- the wiring ---------------------------------------------------------------------------------------

    def _write(self, wiring: Wiring) -> None:
        stale, self.wiring = self.wiring, replace(wiring, version=self.wiring.version + 1)
        for npdc in self._world.npdcs:
            if npdc.alive:
                if self._world.faulty and self._rng.random() < 0.1:
                    self._world.later(self._rng.random(), npdc.rewire, stale)
                self._tell(npdc)

    def _tell(self, npdc: Npdc) -> None:
        """A watch delivers in its own time."""
        slow = self._world.faulty and self._rng.random() < 0.2
        self._world.later(self._rng.random() * (3.0 if slow else 0.1), npdc.rewire, self.wiring)
