"""Jobs that run: which pods they need, and which homes each MDC serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from elf_operator import builders, names, podbuilder, status, verdicts
from elf_operator.builders import Defaults, Manifest
from elf_operator.endings import wind_up
from elf_operator.homes import HomePods, Homes
from elf_operator.issuing import Issuer, authority_of
from elf_operator.observation import Observation, Pod
from elf_operator.plans import Create, Delete, Event, Plan, Replaced
from elf_operator.rebalance import Zones, rebalance, rebalance_units
from elf_operator.situation import Situation, undelivered
from elf_operator.slots import rewired, vacate
from elf_operator.spec import HOMES, Spec
from elf_operator.status import Condition, Counts, Replacement
from elf_operator.verdicts import Surroundings, Verdict
from elf_worker.contract import Loss, Phase, Role, Slot, Wiring

FIRST_START_SECONDS = 60.0
"""How long homes wait for an MDC that starts for the first time before others take them."""


STABLE_SECONDS = 120.0
"""A pod that has lived this long has shown that its slot works: the next failure is the first again."""
FREE_FAILURES = 2
"""So many short lives in a row cost their slot no wait."""
LONGEST_BACKOFF_SECONDS = 60.0
REMEMBERED_NODES = 3
BAD_NODE_REASONS = (verdicts.UNREACHABLE, verdicts.NODE_LOST, verdicts.STRAGGLER)
LOSS_CHARS = 300
"""Of the message that the wiring keeps for each slot."""
HEARTBEAT_SLACK_SECONDS = 2.0
"""What an NPDC's word may take to the operator, beyond the time after which it is taken for dead."""


@dataclass(frozen=True)
class Place:
    """A slot after this plan: the pod that fills it, or a pod to be created for it."""

    role: Role
    index: int
    slot: Slot
    pod: Pod | None = None
    verdict: Verdict | None = None

    def serves(self, training: Mapping[str, Any]) -> bool:
        """Its pod is ready; the NPDC may say so of itself and of MDCs, sooner than the next probe."""
        if self.pod is None:
            return False
        if self.pod.ready:
            return True
        if self.role is Role.NPDC:
            return _is_from(training, self.slot.incarnation)
        return (self.index, self.slot.incarnation) in connected(training)


class Running:
    """The plan of a job that should train."""

    def __init__(self, seen: Observation, spec: Spec, now: float, defaults: Defaults) -> None:
        recipe = seen.wiring.recipe if seen.wiring is not None else {}
        spec = replace(spec, first_homes=recipe.get(HOMES, spec.homes))
        if seen.wiring is not None and not seen.wiring.authority:
            defaults = replace(defaults, authority=None)  # it began without: its pods would not understand
        self.seen, self.spec, self.now, self.defaults = seen, spec, now, defaults
        unheard = {str(u["uid"]) for u in seen.training.get("unreachable") or ()}
        heard: set[str] = set()
        if seen.wiring is not None and _is_from(seen.training, seen.wiring.npdc.incarnation):
            patience = spec.mdc_timeout_seconds + HEARTBEAT_SLACK_SECONDS
            (unheard if seen.npdc_silence >= patience else heard).add(seen.wiring.npdc.uid)
            there = connected(seen.training)
            mdcs = seen.wiring.mdcs.items()
            heard |= {slot.uid for index, slot in mdcs if (index, slot.incarnation) in there}
        slow = {
            str(entry["uid"]): (float(entry["seconds"]), float(entry["median"]))
            for entry in seen.training.get("stragglers") or ()
            if spec.straggler_factor is not None
        }
        self.around = Surroundings(
            now, frozenset(unheard), frozenset(heard), seen.lost_nodes, slow, spec.straggler_factor or 1.0
        )
        self.delete: list[Delete] = []
        self.create: list[Create] = []
        self.issuer = Issuer(seen.job, defaults)
        self.events: list[Event] = []
        self.history = status.previous_replacements(seen)
        self.problems: list[Verdict] = []
        self.replaced: list[Replaced] = []
        self.blocked: list[str] = []
        """Pods that cannot be created before their namesakes are gone."""
        self.waiting = ""
        """Why homes wait, if the MDCs that serve have no room for them."""

    def plan(self) -> Plan:
        """Fill every slot, give every home an MDC, say how things stand."""
        # Versions begin with the time, so that a wiring that was lost is followed again by the NPDC.
        job = self.seen.job
        old = self.seen.wiring or Wiring(
            version=int(self.now), recipe=job.recipe, authority=authority_of(job.uid, self.defaults)
        )
        npdc = self._fill(Role.NPDC, 0, old.npdc if self.seen.wiring else None)
        mdcs = [self._fill(Role.MDC, i, old.mdcs.get(i)) for i in range(self.spec.mdcs)]
        retired = sum(s.replaced for i, s in old.mdcs.items() if i >= self.spec.mdcs)
        spent = retired + sum(place.slot.replaced for place in (npdc, *mdcs))
        if spent > self.spec.max_replacements:
            return self._exhausted(spent)
        self._delete_strays(npdc, mdcs)
        homes = self._fill_homes(npdc)
        wiring = Wiring(
            version=old.version,
            npdc=npdc.slot,
            mdcs=self._assigned(old, mdcs, homes.count),
            recipe=old.recipe,
            homes=homes.count,
            quorum=self.spec.quorum_of(homes.count),
            expected=self.spec.homes,
            absent=homes.absent,
            authority=old.authority,
        )
        self._note_recoveries(npdc, mdcs)
        situation = Situation(
            seen=self.seen,
            spec=self.spec,
            now=self.now,
            counts=self._counts(npdc, mdcs, homes, spent),
            wiring=wiring,
            problems=self.problems,
            waiting=self.waiting,
            blocked=self.blocked,
            history=self.history,
        )
        told = situation.status()
        return Plan(
            status=told,
            apply=(*self._npdc_objects(npdc), *rewired(self.seen, wiring)),
            delete=tuple(self.delete),
            remove=tuple(self.issuer.revoked),
            issue=self.issuer.issued,
            create=tuple(self.create),
            events=(*self.events, *situation.events(told)),
            replaced=tuple(self.replaced),
            again_after=self._again(npdc, mdcs, homes),
        )

    def _counts(self, npdc: Place, mdcs: list[Place], homes: Homes, spent: int) -> Counts:
        training = self.seen.training
        return Counts(
            homes_desired=self.spec.homes,
            homes_ready=homes.ready,
            homes_failed=homes.failed,
            mdcs_desired=self.spec.mdcs,
            mdcs_ready=sum(place.serves(training) for place in mdcs),
            mdcs_replaced=spent - npdc.slot.replaced,
            npdc_ready=npdc.serves(training),
            npdc_replaced=npdc.slot.replaced,
        )

    # -- data centers -------------------------------------------------------------------------------------

    def _fill(self, role: Role, index: int, slot: Slot | None) -> Place:
        """Who fills this slot: the pod that is there and well, or a new one."""
        pods = [p for p in self.seen.of(role) if p.index == index]
        floor = slot.incarnation if slot else 0
        newest = max(pods, key=lambda p: p.incarnation, default=None)
        if newest is None or newest.incarnation < floor:
            if slot is None or not slot.uid:  # its pod has not been seen yet
                return self._launch(role, index, slot or Slot(0), "first start")
            gone = Verdict("PodGone", f"{names.pod(self.seen.job.name, role, index, floor)} is gone", True)
            return self._replace(role, index, slot, gone, pod=None)
        if newest.deleting and (slot is None or slot.uid != newest.uid):
            # Nobody acts for the slot and its pod is on the way out: a job suspended or scaled, no fault.
            successor = replace(slot or Slot(0), incarnation=newest.incarnation + 1)
            return self._launch(role, index, successor, f"{newest.name} is being deleted")
        slot = replace(slot or Slot(0), incarnation=newest.incarnation, uid=newest.uid)
        verdict = verdicts.judge(newest, self.around)
        if verdict is not None and verdict.replace:
            return self._replace(role, index, slot, verdict, newest)
        if verdict is not None:
            self.problems.append(verdict)
        return Place(role, index, slot, newest, verdict)

    def _replace(self, role: Role, index: int, slot: Slot, verdict: Verdict, pod: Pod | None) -> Place:
        job = self.seen.job.name
        name = names.pod(job, role, index, slot.incarnation)
        if pod is not None and not pod.deleting:
            self.delete.append(Delete(pod.name, pod.uid, verdict.message))
        self.issuer.revoke(role, index, slot.incarnation)
        self.replaced.append(Replaced(str(role), verdict.reason))
        self.history.append(Replacement(name, verdict.reason, verdict.message, self.now))
        successor = replace(
            self._successor(slot, verdict, pod),
            loss=Loss(name, verdict.reason, verdict.message[:LOSS_CHARS], self.now),
        )
        said = f"{verdict.message}; replaced by {names.pod(job, role, index, successor.incarnation)}"
        if (wait := successor.not_before - self.now) > 0:
            said += f" in {wait:.0f} s: it is failure {successor.failures} in a row"
        self.events.append(Event("Warning", verdict.reason, said))
        return self._launch(role, index, successor, verdict.message)

    def _successor(self, slot: Slot, verdict: Verdict, pod: Pod | None) -> Slot:
        """The slot for the next incarnation; after several short lives in a row it has to wait."""
        stable = pod is not None and self.now - pod.created >= STABLE_SECONDS
        failures = 1 if stable else slot.failures + 1
        excess = failures - FREE_FAILURES
        wait = min(LONGEST_BACKOFF_SECONDS, 2.0**excess) if excess > 0 else 0.0
        nodes = slot.nodes if not stable else ()
        if pod is not None and pod.node:
            # A node from which nothing is heard may be gone, and one that is slow stays so: once is enough.
            times = 2 if verdict.reason in BAD_NODE_REASONS else 1
            nodes = (*nodes, *[pod.node] * times)[-REMEMBERED_NODES:]
        return replace(
            slot,
            incarnation=slot.incarnation + 1,
            uid="",
            homes=frozenset(),
            replaced=slot.replaced + 1,
            failures=failures,
            not_before=self.now + wait if wait else 0.0,
            nodes=nodes,
        )

    def _launch(self, role: Role, index: int, slot: Slot, reason: str) -> Place:
        vacant = Place(role, index, replace(slot, uid="", homes=frozenset()))
        if self.now >= slot.not_before:
            manifest = podbuilder.pod(self.seen.job, self.spec, self.defaults, role, index, slot.incarnation)
            self._create(Create(podbuilder.avoiding(manifest, _bad_nodes(slot)), reason))
        return vacant

    def _create(self, create: Create) -> None:
        meta = create.manifest["metadata"]
        if meta["name"] in self.seen.taken:
            self.blocked.append(meta["name"])
            return
        labels = meta["labels"]
        index, incarnation = int(labels[names.LABEL_INDEX]), int(labels[names.LABEL_INCARNATION])
        needs = self.issuer.identify(Role(labels[names.LABEL_ROLE]), index, incarnation)
        self.create.append(replace(create, needs=needs))

    def _delete_strays(self, npdc: Place, mdcs: list[Place]) -> None:
        """Pods that fill no slot: earlier incarnations, and slots that are not wanted any more."""
        current = {p.pod.uid for p in (npdc, *mdcs) if p.pod is not None}
        doomed = {d.uid for d in self.delete}
        for pod in self.seen.pods:
            if pod.role is Role.HOME or pod.deleting or pod.uid in current or pod.uid in doomed:
                continue
            self.delete.append(Delete(pod.name, pod.uid, "fills no slot of the job"))
            self.issuer.revoke(pod.role, pod.index, pod.incarnation)

    # -- homes --------------------------------------------------------------------------------------------

    def _fill_homes(self, npdc: Place) -> Homes:
        """See `HomePods`; what it finds goes with the rest of the plan."""
        training = self.seen.training
        said = training if _is_from(training, npdc.slot.incarnation) else {}
        homes = HomePods(self.seen, self.spec, self.defaults, self.around, said).plan()
        for create in homes.create:
            self._create(create)
        self.delete += homes.delete
        self.problems += homes.problems
        return homes

    # -- wiring -------------------------------------------------------------------------------------------

    def _assigned(self, old: Wiring, mdcs: list[Place], count: int) -> dict[int, Slot]:
        """The slots with their homes, balanced over the MDCs that serve or start for the first time."""
        current: dict[int, frozenset[int]] = {}
        for place in mdcs:
            before = old.mdcs.get(place.index)
            if before is not None and place.slot.uid and before.uid == place.slot.uid:
                current[place.index] = before.homes
        eligible = [p.index for p in mdcs if self._eligible(p)]
        if not eligible:
            eligible = [p.index for p in mdcs if p.pod is not None and p.verdict is None]
        zones = zones_of(self.seen, self.spec)
        if self.seen.zones:
            current = self._rooted(current, mdcs, count)
        capacity = self.spec.mdc_capacity
        if self.spec.aggregation == "mean":  # each home is a unit: a million ranges would only cost time
            homes = rebalance(current, eligible, count, capacity, zones)
        else:
            homes = rebalance_units(current, eligible, self.spec.units_of(count), capacity, zones)
        left = count - sum(map(len, homes.values()))
        if eligible and left:
            self.waiting = (
                f"{left} of {count} homes wait for an MDC: {len(eligible)} "
                f"serve{'s' * (len(eligible) == 1)}, "
                f"spec.miniDataCenters.capacity is {self.spec.mdc_capacity}"
            )
        slots = {p.index: replace(p.slot, homes=homes.get(p.index, frozenset())) for p in mdcs}
        retired = {i: s for i, s in old.mdcs.items() if i >= self.spec.mdcs}
        return slots | {i: replace(vacate(s), replaced=s.replaced) for i, s in retired.items()}

    def _rooted(
        self, current: Mapping[int, frozenset[int]], mdcs: list[Place], count: int
    ) -> dict[int, frozenset[int]]:
        """Only what has begun to work: the rest has nothing to lose by a move.

        Homes and MDCs are assigned before they have nodes; once they have, they may still get into one zone.
        """
        running = {p.index for p in self.seen.of(Role.HOME) if p.ready}
        slots = {place.index for place in mdcs if place.serves(self.seen.training)}
        begun: set[int] = set()
        for unit in self.spec.units_of(count):
            if any(home // self.spec.per_pod in running for home in unit):
                begun.update(unit)
        return {slot: homes & begun for slot, homes in current.items() if slot in slots}

    def _eligible(self, place: Place) -> bool:
        if place.pod is None or place.verdict is not None:
            return False
        first = place.slot.replaced == 0 and self.now - place.pod.created < FIRST_START_SECONDS
        return first or place.serves(self.seen.training)

    def _npdc_objects(self, npdc: Place) -> list[Manifest]:
        """What the NPDC needs before its pod: an account, an address that leads to this incarnation."""
        job = self.seen.job
        service = builders.npdc_service(job, npdc.slot.incarnation)
        seen = ((self.seen.service or {}).get("spec") or {}).get("selector")
        name = names.pod(job.name, Role.NPDC, 0, npdc.slot.incarnation)
        starting = any(c.manifest["metadata"]["name"] == name for c in self.create)
        # The Service comes first: where it is seen, the rest may be there too, to be removed one day.
        out = [service] if seen != service["spec"]["selector"] else []
        if out and self.defaults.network_policies:
            out.append(builders.network_policy(job))
        return out + (builders.npdc_account(job) if starting or self.seen.service is None else [])

    # -- status -------------------------------------------------------------------------------------------

    def _note_recoveries(self, npdc: Place, mdcs: list[Place]) -> None:
        """A replacement is over when its slot serves again."""
        job, training = self.seen.job.name, self.seen.training
        stems = {
            names.pod(job, place.role, place.index, 0).rpartition("-")[0]
            for place in (npdc, *mdcs)
            if place.serves(training)
        }
        self.history = [
            status.recovered(entry, self.now)
            if entry.recovery_seconds is None and entry.pod.rpartition("-")[0] in stems
            else entry
            for entry in self.history
        ]

    def _again(self, npdc: Place, mdcs: list[Place], homes: Homes) -> float | None:
        """When time alone will change the plan.

        An MDC's first start takes too long, a pod does not get ready, a slot has waited long enough, a home
        has been without a node, or well again, for so long.
        """
        waits = [place.slot.not_before - self.now for place in (npdc, *mdcs) if place.pod is None]
        waits.append(homes.again_after or 0.0)
        for place in (npdc, *mdcs):
            if place.pod is not None and not place.pod.ready:
                created, changed = place.pod.created, place.pod.ready_changed
                waits.append(max(created, changed) + verdicts.NOT_READY_SECONDS - self.now)
                if place.role is Role.MDC:
                    waits.append(created + FIRST_START_SECONDS - self.now)
        return min((max(1.0, wait) for wait in waits if wait > 0), default=None)

    def _exhausted(self, spent: int) -> Plan:
        allowed = self.spec.max_replacements
        message = f"data centers were replaced {spent} times, spec.failurePolicy.maxReplacements is {allowed}"
        if self.history:
            message += f"; the last: {self.history[-1].message}"
        return wind_up(self.seen, self.now, Condition("Failed", True, "ReplacementsExhausted", message))


def acted_on(training: Mapping[str, Any]) -> tuple[Any, ...]:
    """What of the NPDC's progress changes plans; the rest of it is for people."""
    silent = tuple(str(entry.get("uid")) for entry in training.get("unreachable") or ())
    slow = tuple(str(entry.get("uid")) for entry in training.get("stragglers") or ())
    said = (training.get("phase"), training.get("incarnation"), training.get("homes"))
    return (*said, silent, slow, connected(training), undelivered(training))


def connected(training: Mapping[str, Any]) -> frozenset[tuple[int, int]]:
    """(index, incarnation) of the MDCs that the NPDC hears."""
    found = ((e.get("mdc", -1), e.get("incarnation", -1)) for e in training.get("serving") or ())
    return frozenset(found)


def _is_from(training: Mapping[str, Any], incarnation: int) -> bool:
    """Whether this NPDC has said it, not its predecessor; it begins to speak when it trains."""
    return (training.get("phase"), training.get("incarnation")) == (Phase.TRAINING, incarnation)


def zones_of(seen: Observation, spec: Spec) -> Zones:
    """Zones of homes and of MDCs: those of the nodes that their pods are on."""
    newest = {(p.role, p.index): p for p in sorted(seen.pods, key=lambda pod: pod.incarnation)}
    there = {place: seen.zones[pod.node] for place, pod in newest.items() if pod.node in seen.zones}
    homes = {
        home: zone
        for (role, index), zone in there.items()
        if role is Role.HOME
        for home in range(index * spec.per_pod, min((index + 1) * spec.per_pod, spec.homes))
    }
    return Zones(homes, {index: zone for (role, index), zone in there.items() if role is Role.MDC})


def _bad_nodes(slot: Slot) -> list[str]:
    """Nodes on which this slot has failed at least twice of late."""
    return sorted({node for node in slot.nodes if slot.nodes.count(node) > 1})
