"""Jobs that run: which pods they need, and how things stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from elf_operator import builders, names, podbuilder, spreading, status, verdicts
from elf_operator.assignment import FIRST_START_SECONDS, assign
from elf_operator.builders import Defaults, Manifest
from elf_operator.endings import wind_up
from elf_operator.homes import HomePods, Homes
from elf_operator.issuing import Issuer, authority_of
from elf_operator.observation import Observation, Pod
from elf_operator.places import Place, bad_nodes, pod_serves, successor_of
from elf_operator.plans import Create, Delete, Event, Plan, Replaced
from elf_operator.progress import is_from, surroundings
from elf_operator.situation import Situation
from elf_operator.slots import rewired
from elf_operator.spec import HOMES, Spec
from elf_operator.spreading import Spread
from elf_operator.status import Condition, Counts, Replacement
from elf_operator.verdicts import Verdict
from elf_worker.contract import Loss, Role, Slot, Wiring

LOSS_CHARS = 300
"""Of the message that the wiring keeps for each slot."""


class Running:
    """The plan of a job that should train."""

    def __init__(self, seen: Observation, spec: Spec, now: float, defaults: Defaults) -> None:
        recipe = seen.wiring.recipe if seen.wiring is not None else {}
        spec = replace(spec, first_homes=recipe.get(HOMES, spec.homes))
        if seen.wiring is not None and not seen.wiring.authority:
            defaults = replace(defaults, authority=None)  # it began without: its pods would not understand
        self.seen, self.spec, self.now, self.defaults = seen, spec, now, defaults
        self.around = surroundings(seen, spec, now)
        self.delete: list[Delete] = []
        self.create: list[Create] = []
        self.issuer = Issuer(seen.job, defaults)
        self.events: list[Event] = []
        self.history = status.previous_replacements(seen)
        self.problems: list[Verdict] = []
        self.replaced: list[Replaced] = []
        self.blocked: list[str] = []
        """Pods that cannot be created before their namesakes are gone."""
        self.heirs: dict[int, Pod] = {}
        """MDC → its successor that was started so that copies of the state get onto another node."""

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
        spread = self._spread(npdc, mdcs)
        mdcs = list(spread.mdcs)
        self._delete_strays(npdc, mdcs)
        homes = self._fill_homes(npdc)
        assignment = assign(self.seen, self.spec, self.now, old.mdcs, mdcs, homes.count)
        wiring = Wiring(
            version=old.version,
            npdc=npdc.slot,
            mdcs=assignment.slots,
            recipe=old.recipe,
            homes=homes.count,
            quorum=self.spec.quorum_of(homes.count),
            expected=self.spec.homes,
            absent=homes.absent,
            authority=old.authority,
            failed_moves=spread.failed_moves,
            move_after=spread.move_after,
        )
        self._note_recoveries(npdc, mdcs)
        situation = Situation(
            seen=self.seen,
            spec=self.spec,
            now=self.now,
            counts=self._counts(npdc, mdcs, homes, spent),
            wiring=wiring,
            problems=self.problems,
            waiting=assignment.waiting,
            blocked=self.blocked,
            history=self.history,
            durable=spread.condition,
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
            again_after=self._again(npdc, mdcs, homes, spread),
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
        if role is Role.MDC and slot is not None and slot.uid and not slot.predecessor:
            for heir in [p for p in pods if p.incarnation == slot.incarnation + 1]:
                self.heirs[index] = heir
                pods.remove(heir)
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
        predecessor = self._predecessor(slot, newest, pods) if slot is not None else None
        slot = replace(
            slot or Slot(0),
            incarnation=newest.incarnation,
            uid=newest.uid,
            predecessor=predecessor.uid if predecessor is not None else "",
        )
        verdict = verdicts.judge(newest, self.around)
        if verdict is not None and verdict.replace:
            return self._replace(role, index, slot, verdict, newest)
        if verdict is not None:
            self.problems.append(verdict)
        return Place(role, index, slot, newest, verdict, predecessor)

    def _predecessor(self, slot: Slot, heir: Pod, pods: list[Pod]) -> Pod | None:
        """The pod that acts for the slot until its heir serves, if it still can."""
        if heir.uid != slot.uid or pod_serves(heir, self.seen.training):
            return None
        acting = next((p for p in pods if slot.predecessor and p.uid == slot.predecessor), None)
        return acting if acting is not None and verdicts.judge(acting, self.around) is None else None

    def _replace(self, role: Role, index: int, slot: Slot, verdict: Verdict, pod: Pod | None) -> Place:
        job = self.seen.job.name
        name = names.pod(job, role, index, slot.incarnation)
        if pod is not None and not pod.deleting:
            self.delete.append(Delete(pod.name, pod.uid, verdict.message))
        self.issuer.revoke(role, index, slot.incarnation)
        self.replaced.append(Replaced(str(role), verdict.reason))
        self.history.append(Replacement(name, verdict.reason, verdict.message, self.now))
        successor = replace(
            successor_of(slot, verdict, pod, self.now),
            loss=Loss(name, verdict.reason, verdict.message[:LOSS_CHARS], self.now),
        )
        heir = self.heirs.pop(index, None) if role is Role.MDC else None
        ready = heir is not None and verdicts.judge(heir, self.around) is None
        if heir is not None:  # what has its name is there already
            successor = replace(successor, incarnation=heir.incarnation + (not ready))
        if heir is not None and ready:
            successor = replace(successor, not_before=0.0)
        said = f"{verdict.message}; replaced by {names.pod(job, role, index, successor.incarnation)}"
        if (wait := successor.not_before - self.now) > 0:
            said += f" in {wait:.0f} s: it is failure {successor.failures} in a row"
        self.events.append(Event("Warning", verdict.reason, said))
        if heir is not None and ready:
            return Place(role, index, replace(successor, uid=heir.uid), heir)
        return self._launch(role, index, successor, verdict.message)

    def _launch(self, role: Role, index: int, slot: Slot, reason: str) -> Place:
        vacant = Place(role, index, replace(slot, uid="", predecessor="", homes=frozenset()))
        if self.now >= slot.not_before:
            self._start(role, index, slot.incarnation, bad_nodes(slot), reason)
        return vacant

    def _start(self, role: Role, index: int, number: int, avoided: Sequence[str], reason: str) -> None:
        """A pod for a slot, rather on none of these nodes."""
        job, spec, defaults = self.seen.job, self.spec, self.defaults

        def make() -> Manifest:
            return podbuilder.avoiding(podbuilder.pod(job, spec, defaults, role, index, number), avoided)

        name = names.pod(job.name, role, index, number)
        self._create(Create(role, index, number, name, reason, make))

    def _create(self, create: Create) -> None:
        if create.name in self.seen.taken:
            self.blocked.append(create.name)
            return
        needs = self.issuer.identify(create.role, create.index, create.incarnation)
        self.create.append(replace(create, needs=needs))

    def _delete_strays(self, npdc: Place, mdcs: list[Place]) -> None:
        """Pods that fill no slot: earlier incarnations, and slots that are not wanted any more."""
        current = {pod.uid for p in (npdc, *mdcs) for pod in (p.pod, p.predecessor) if pod is not None}
        current |= {heir.uid for heir in self.heirs.values()}
        doomed = {d.uid for d in self.delete}
        for pod in self.seen.pods:
            if pod.role is Role.HOME or pod.deleting or pod.uid in current or pod.uid in doomed:
                continue
            self.delete.append(Delete(pod.name, pod.uid, "fills no slot of the job"))
            self.issuer.revoke(pod.role, pod.index, pod.incarnation)

    def _spread(self, npdc: Place, mdcs: list[Place]) -> Spread:
        """See `spreading`; what it wants goes with the rest of the plan."""
        spread = spreading.spread(self.seen, self.spec, self.around, npdc, mdcs, self.heirs)
        if spread.start is not None:
            index, nodes = spread.start
            number = mdcs[index].slot.incarnation + 1
            self._start(Role.MDC, index, number, sorted(nodes), "the state is on one node alone")
        if spread.stop is not None:
            heir, why = spread.stop
            lost = heir.node in self.seen.lost_nodes  # its kubelet cannot give the name free
            self.delete.append(Delete(heir.name, heir.uid, why, force=lost))
            self.issuer.revoke(heir.role, heir.index, heir.incarnation)
        if spread.event:
            self.events.append(Event("Normal", "Moved", spread.event))
        return spread

    # -- homes --------------------------------------------------------------------------------------------

    def _fill_homes(self, npdc: Place) -> Homes:
        """See `HomePods`; what it finds goes with the rest of the plan."""
        training = self.seen.training
        said = training if is_from(training, npdc.slot.incarnation) else {}
        homes = HomePods(self.seen, self.spec, self.defaults, self.around, said).plan()
        for create in homes.create:
            self._create(create)
        self.delete += homes.delete
        self.problems += homes.problems
        return homes

    # -- the NPDC's objects ----------------------------------------------------------------------------

    def _npdc_objects(self, npdc: Place) -> list[Manifest]:
        """What the NPDC needs before its pod: an account, an address that leads to this incarnation."""
        job = self.seen.job
        service = builders.npdc_service(job, npdc.slot.incarnation)
        seen = ((self.seen.service or {}).get("spec") or {}).get("selector")
        name = names.pod(job.name, Role.NPDC, 0, npdc.slot.incarnation)
        starting = any(create.name == name for create in self.create)
        # The Service comes first: where it is seen, the rest may be there too, to be removed one day.
        out = [service] if seen != service["spec"]["selector"] else []
        if out and self.defaults.network_policies:
            out.append(builders.network_policy(job, self.defaults.figures_from))
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

    def _again(self, npdc: Place, mdcs: list[Place], homes: Homes, spread: Spread) -> float | None:
        """When time alone will change the plan.

        An MDC's first start takes too long, a pod does not get ready, a slot has waited long enough, a home
        has been without a node, or well again, for so long, copies of the state may get onto another node.
        """
        waits = [place.slot.not_before - self.now for place in (npdc, *mdcs) if place.pod is None]
        waits += [homes.again_after or 0.0, spread.again_after or 0.0]
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
