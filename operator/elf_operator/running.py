"""Jobs that run: which pods they need, and which homes each MDC serves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from elf_operator import builders, names, status, verdicts
from elf_operator.builders import Defaults, Manifest
from elf_operator.endings import wind_up
from elf_operator.observation import Observation, Pod
from elf_operator.plans import Create, Delete, Event, Plan, Replaced
from elf_operator.rebalance import rebalance_units
from elf_operator.slots import rewired, vacate
from elf_operator.spec import Spec
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
        self.seen, self.spec, self.now, self.defaults = seen, spec, now, defaults
        unheard = {str(u["uid"]) for u in seen.training.get("unreachable") or ()}
        heard: set[str] = set()
        if seen.wiring is not None and _is_from(seen.training, seen.wiring.npdc.incarnation):
            patience = spec.mdc_timeout_seconds + HEARTBEAT_SLACK_SECONDS
            (unheard if seen.npdc_silence >= patience else heard).add(seen.wiring.npdc.uid)
            there = connected(seen.training)
            mdcs = seen.wiring.mdcs.items()
            heard |= {slot.uid for index, slot in mdcs if (index, slot.incarnation) in there}
        self.around = Surroundings(now, frozenset(unheard), frozenset(heard), seen.lost_nodes)
        self.delete: list[Delete] = []
        self.create: list[Create] = []
        self.events: list[Event] = []
        self.history = status.previous_replacements(seen)
        self.problems: list[Verdict] = []
        self.replaced: list[Replaced] = []
        self.blocked: list[str] = []
        """Pods that cannot be created before their namesakes are gone."""

    def plan(self) -> Plan:
        """Fill every slot, give every home an MDC, say how things stand."""
        # Versions begin with the time, so that a wiring that was lost is followed again by the NPDC.
        old = self.seen.wiring or Wiring(version=int(self.now), recipe=self.seen.job.recipe)
        npdc = self._fill(Role.NPDC, 0, old.npdc if self.seen.wiring else None)
        mdcs = [self._fill(Role.MDC, i, old.mdcs.get(i)) for i in range(self.spec.mdcs)]
        retired = sum(s.replaced for i, s in old.mdcs.items() if i >= self.spec.mdcs)
        spent = retired + sum(place.slot.replaced for place in (npdc, *mdcs))
        if spent > self.spec.max_replacements:
            return self._exhausted(spent)
        self._delete_strays(npdc, mdcs)
        homes_ready, homes_failed = self._fill_homes()
        wiring = Wiring(old.version, npdc.slot, self._assigned(old, mdcs), old.recipe)
        self._note_recoveries(npdc, mdcs)
        training = self.seen.training
        counts = Counts(
            homes_desired=self.spec.homes,
            homes_ready=homes_ready,
            homes_failed=homes_failed,
            mdcs_desired=self.spec.mdcs,
            mdcs_ready=sum(place.serves(training) for place in mdcs),
            mdcs_replaced=spent - npdc.slot.replaced,
            npdc_ready=npdc.serves(training),
            npdc_replaced=npdc.slot.replaced,
        )
        return Plan(
            status=self._status(counts, wiring),
            apply=(*self._npdc_objects(npdc), *rewired(self.seen, wiring)),
            delete=tuple(self.delete),
            create=tuple(self.create),
            events=tuple(self.events),
            replaced=tuple(self.replaced),
            again_after=self._again(npdc, mdcs),
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
            # A node from which nothing is heard may be gone: once is enough, before Kubernetes knows.
            times = 2 if verdict.reason in (verdicts.UNREACHABLE, verdicts.NODE_LOST) else 1
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
            manifest = builders.pod(self.seen.job, self.spec, self.defaults, role, index, slot.incarnation)
            self._create(builders.avoiding(manifest, _bad_nodes(slot)), reason)
        return vacant

    def _create(self, manifest: Manifest, reason: str) -> None:
        if (name := manifest["metadata"]["name"]) in self.seen.taken:
            self.blocked.append(name)
        else:
            self.create.append(Create(manifest, reason))

    def _delete_strays(self, npdc: Place, mdcs: list[Place]) -> None:
        """Pods that fill no slot: earlier incarnations, and slots that are not wanted any more."""
        current = {p.pod.uid for p in (npdc, *mdcs) if p.pod is not None}
        doomed = {d.uid for d in self.delete}
        for pod in self.seen.pods:
            if pod.role is Role.HOME or pod.deleting or pod.uid in current or pod.uid in doomed:
                continue
            self.delete.append(Delete(pod.name, pod.uid, "fills no slot of the job"))

    # -- homes --------------------------------------------------------------------------------------------

    def _fill_homes(self) -> tuple[int, int]:
        """Create what is missing; what has ended goes first, its name is needed. (ready, failed) homes."""
        pods = {p.index: p for p in self.seen.of(Role.HOME)}
        ready = failed = 0
        for index in range(self.spec.home_pods):
            size = min(self.spec.per_pod, self.spec.homes - index * self.spec.per_pod)
            pod = pods.pop(index, None)
            if pod is None:
                manifest = builders.pod(self.seen.job, self.spec, self.defaults, Role.HOME, index, 0)
                self._create(manifest, "home is missing")
                continue
            ready += size * pod.ready
            verdict = verdicts.judge(pod, self.around)
            lost = pod.node in self.seen.lost_nodes
            if lost or (pod.over and not pod.deleting):
                # Its name is needed, and the node's kubelet cannot give it free.
                why = verdict.message if verdict else "it has ended"
                self.delete.append(Delete(pod.name, pod.uid, why, force=lost))
            if verdict is not None:
                failed += size
                self.problems.append(verdict)
        for pod in pods.values():
            if not pod.deleting:
                self.delete.append(Delete(pod.name, pod.uid, "holds no home of the job"))
        return ready, failed

    # -- wiring -------------------------------------------------------------------------------------------

    def _assigned(self, old: Wiring, mdcs: list[Place]) -> dict[int, Slot]:
        """The slots with their homes, balanced over the MDCs that serve or start for the first time."""
        current: dict[int, frozenset[int]] = {}
        for place in mdcs:
            before = old.mdcs.get(place.index)
            if before is not None and place.slot.uid and before.uid == place.slot.uid:
                current[place.index] = before.homes
        eligible = [p.index for p in mdcs if self._eligible(p)]
        if not eligible:
            eligible = [p.index for p in mdcs if p.pod is not None and p.verdict is None]
        homes = rebalance_units(current, eligible, self.spec.units)
        slots = {p.index: replace(p.slot, homes=homes.get(p.index, frozenset())) for p in mdcs}
        retired = {i: s for i, s in old.mdcs.items() if i >= self.spec.mdcs}
        return slots | {i: replace(vacate(s), replaced=s.replaced) for i, s in retired.items()}

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

    def _status(self, counts: Counts, wiring: Wiring) -> dict[str, Any]:
        missing = list(self._missing(counts))
        started = bool(self.seen.training.get("round")) or self.seen.training.get("phase") == Phase.TRAINING
        ready = not missing and started
        problem = self.problems[0] if self.problems else None
        reason = problem.reason if problem else ("AllServing" if ready else "Starting")
        message = "; ".join([*([problem.message] if problem else []), *missing]) or "every pod serves"
        degraded = bool(missing or problem) and started
        if degraded and problem is None:
            reason = "Replacing"
        state = "Degraded" if degraded else ("Running" if ready else "Pending")
        conditions = [
            Condition("Ready", ready, reason, message),
            Condition("Degraded", degraded, reason if degraded else "AsExpected", message),
            Condition("Suspended", False, "NotSuspended", "spec.suspend is false"),
            Condition("Complete", False, "InProgress", "training goes on"),
            Condition("Failed", False, "InProgress", "training goes on"),
        ]
        assignments = [
            {"mdc": i, "incarnation": s.incarnation, "homes": len(s.homes)}
            for i, s in sorted(wiring.mdcs.items())
            if i < self.spec.mdcs
        ]
        return status.build(self.seen, self.now, state, conditions, counts, self.history, assignments)

    def _missing(self, counts: Counts) -> Iterator[str]:
        if self.blocked:
            yield f"{self.blocked[0]} of an earlier job of this name is still there"
        if not counts.npdc_ready:
            yield "the NPDC does not serve yet"
        if counts.mdcs_ready < counts.mdcs_desired:
            yield f"{counts.mdcs_ready} of {counts.mdcs_desired} MDCs serve"
        if counts.homes_ready < counts.homes_desired:
            yield f"{counts.homes_ready} of {counts.homes_desired} homes are ready"

    def _again(self, npdc: Place, mdcs: list[Place]) -> float | None:
        """When time alone will change the plan.

        An MDC's first start takes too long, a pod does not get ready, a slot has waited long enough.
        """
        waits = [place.slot.not_before - self.now for place in (npdc, *mdcs) if place.pod is None]
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


def connected(training: Mapping[str, Any]) -> frozenset[tuple[int, int]]:
    """(index, incarnation) of the MDCs that the NPDC hears."""
    found = ((e.get("mdc", -1), e.get("incarnation", -1)) for e in training.get("serving") or ())
    return frozenset(found)


def _is_from(training: Mapping[str, Any], incarnation: int) -> bool:
    """Whether this NPDC has said it, not its predecessor; it begins to speak when it trains."""
    return (training.get("phase"), training.get("incarnation")) == (Phase.TRAINING, incarnation)


def _bad_nodes(slot: Slot) -> list[str]:
    """Nodes on which this slot has failed at least twice of late."""
    return sorted({node for node in slot.nodes if slot.nodes.count(node) > 1})
