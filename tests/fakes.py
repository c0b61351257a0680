"""An in-memory cluster, with a kubelet that does what the test says, and an oracle that watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from builders import DEFAULTS, NOW, body
from elf_operator import names
from elf_operator.builders import Defaults, Manifest
from elf_operator.observation import Observation, Pod, parse_pod
from elf_operator.planner import plan
from elf_operator.plans import Delete, Event, Plan
from elf_operator.reconcile import RefusedError, reconcile
from elf_operator.spec import parse_job
from elf_operator.status import rfc3339
from elf_operator.verdicts import NOT_READY_SECONDS
from elf_worker.contract import WIRING_KEY, Role, Slot, Wiring, parse_ids


class CrashError(Exception):
    """The operator died, or a call failed: to the world it is the same."""


@dataclass
class World:
    """What exists of one job. Every write passes the oracle."""

    body: dict[str, Any] = field(default_factory=body)
    now: float = NOW
    defaults: Defaults = DEFAULTS
    status: dict[str, Any] = field(default_factory=dict)
    objects: dict[tuple[str, str], Manifest] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    nodes: tuple[str, ...] = ()
    """Of the cluster; the scheduler takes the first that it may. Empty: no pod has a node."""
    cordoned: frozenset[str] = frozenset()
    _avoided: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """UID → nodes on which a pod would rather not be."""
    _uids: int = 0
    _known: set[str] = field(default_factory=set)
    _fenced: set[str] = field(default_factory=set)

    # -- seen and done by the operator --------------------------------------------------------------------

    def observe(self) -> Observation:
        """A fresh look."""
        self._known = {pod.uid for pod in self.pods.values()}
        return Observation(
            job=parse_job(self.body),
            pods=tuple(self.pods.values()),
            wiring=self.wiring(),
            status=dict(self.status),
            open_nodes=frozenset(self.nodes) - self.cordoned if self.nodes else None,
            service=self.objects.get(("Service", names.npdc(self.name))),
        )

    def apply(self, manifest: Manifest) -> None:
        """Make an object be so."""
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        self.writes.append(f"apply {kind}")
        if kind == "ConfigMap":
            self._check_wiring(Wiring.from_json(manifest["data"][WIRING_KEY]))
        self.objects[kind, name] = manifest

    def remove(self, kind: str, name: str) -> None:
        """Delete an object; that it is gone is as good."""
        self.writes.append(f"remove {kind}")
        assert name.startswith(f"{self.name}-"), "nothing unowned is deleted"
        self.objects.pop((kind, name), None)

    def create_pod(self, manifest: Manifest) -> None:
        """Create a pod; that the name is taken is as good."""
        name = manifest["metadata"]["name"]
        self.writes.append(f"create {name}")
        if name in self.pods:
            return
        self._uids += 1
        meta = {**manifest["metadata"], "uid": f"uid-{self._uids}"}
        meta["creationTimestamp"] = rfc3339(self.now, precise=True)
        made = parse_pod({"metadata": meta, "spec": manifest["spec"]})
        assert made is not None and made.name == name
        self._check_pod(made)
        self._check_identity(manifest)
        self._avoided[made.uid] = _avoids(manifest)
        self.pods[name] = made

    def delete_pod(self, delete: Delete) -> None:
        """Begin to delete this very pod."""
        self.writes.append(f"delete {delete.name}")
        assert delete.uid in self._known, "nothing unowned is deleted, nor anything that was not seen"
        held = self.pods.get(delete.name)
        if held is not None and held.uid == delete.uid:
            self._check_surplus(held, delete.reason)
            self._check_current(held)
        if held is not None and held.uid == delete.uid:
            self.pods[delete.name] = replace(held, deleting=True, ready=False)

    def write_status(self, status: dict[str, Any]) -> None:
        """Replace the operator's part."""
        self.writes.append("write status")
        training = {"training": self.status["training"]} if "training" in self.status else {}
        self.status = {**status, **training}

    # -- done by others -----------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The job's name."""
        return str(self.body["metadata"]["name"])

    def wiring(self) -> Wiring | None:
        """As last applied."""
        held = self.objects.get(("ConfigMap", names.wiring(self.name)))
        return Wiring.from_json(held["data"][WIRING_KEY]) if held else None

    def edit(self, **changes: dict[str, Any]) -> None:
        """A person edits fields below these parts of the spec."""
        for part, fields in changes.items():
            self.body["spec"].setdefault(part, {}).update(fields)
        self.body["metadata"]["generation"] += 1

    def suspend(self, on: bool) -> None:
        """A person suspends or resumes the job."""
        self.body["spec"]["suspend"] = on
        self.body["metadata"]["generation"] += 1

    def become(self, name: str, **fields: Any) -> None:
        """Something happens to a pod."""
        self.pods[name] = replace(self.pods[name], **fields)

    def train(self, **progress: Any) -> None:
        """The NPDC reports."""
        self.status["training"] = {**self.status.get("training", {}), **progress}

    def vanish(self) -> None:
        """Deletions that have begun come to their end."""
        self.pods = {name: pod for name, pod in self.pods.items() if not pod.deleting}

    def thrive(self) -> None:
        """Deletions end, every pod that can still serve does, the NPDC hears everybody."""
        self.vanish()
        for name, pod in self.pods.items():
            if not pod.over:
                self.run(name)
        npdc = [p.incarnation for p in self.pods.values() if p.role is Role.NPDC and p.ready]
        if npdc:
            wiring = self.wiring()
            homes = wiring.homes if wiring is not None else 0
            self.train(phase="Training", incarnation=max(npdc), unreachable=[], homes=homes)
            if self.nodes:
                self.hear()

    def run(self, name: str) -> None:
        """A pod gets a node, if there are any, and runs; it serves, unless it is an heir too soon."""
        pod = self.pods[name]
        if self.nodes and not pod.node:
            able = [node for node in self.nodes if node not in self.cordoned]
            liked = [node for node in able if node not in self._avoided.get(pod.uid, ())]
            self.become(name, node=(liked or able)[0])
        ready = pod.uid not in {heir.uid for heir in self.heirs()}
        self.become(name, phase="Running", ready=ready, waiting="", unschedulable="")

    def heirs(self) -> list[Pod]:
        """Successors of MDCs' pods that fill their slots still."""
        wiring, mdcs = self.wiring(), [p for p in self.pods.values() if p.role is Role.MDC]
        slots = wiring.mdcs if wiring is not None else {}
        return [p for p in mdcs if (s := slots.get(p.index)) and s.uid and p.incarnation > s.incarnation]

    def hear(self) -> None:
        """The NPDC says which MDCs serve, and which hold copies: rather on nodes that have none."""
        wiring = self.wiring()
        assert wiring is not None
        named = {slot.uid: index for index, slot in wiring.mdcs.items()}
        there = sorted((p for p in self.pods.values() if p.uid in named and p.ready), key=lambda p: p.index)
        taken, keepers = [p.node for p in self.pods.values() if p.role is Role.NPDC], []
        while len(keepers) < min(2, len(there)):
            best = min((p for p in there if p not in keepers), key=lambda p: taken.count(p.node))
            keepers.append(best)
            taken.append(best.node)
        self.train(
            serving=[{"mdc": p.index, "incarnation": p.incarnation, "homes": 1} for p in there],
            copies=[{"mdc": p.index, "incarnation": p.incarnation} for p in keepers],
        )

    def state_nodes(self) -> set[str]:
        """Nodes that have the state, as the NPDC says; empty if it says nothing."""
        wiring, training = self.wiring(), self.status.get("training", {})
        held = {(e["mdc"], e["incarnation"]) for e in training.get("copies") or ()}
        if wiring is None or not held or training.get("incarnation") != wiring.npdc.incarnation:
            return set()
        acting = {uid for slot in wiring.mdcs.values() for uid in (slot.uid, slot.predecessor)} - {""}
        keepers = [p for p in self.pods.values() if p.uid in acting and (p.index, p.incarnation) in held]
        npdc = [p for p in self.pods.values() if p.uid == wiring.npdc.uid]
        return {p.node for p in (*npdc, *keepers)} if npdc and keepers else set()

    # -- the oracle ---------------------------------------------------------------------------------------

    def _check_wiring(self, new: Wiring) -> None:
        old = self.wiring()
        self._check_assignment(new)
        if old is None:
            return
        assert new.version > old.version, "a wiring is written only to say something new"
        for before, after in _slots(old, new):
            assert after.incarnation >= before.incarnation, "incarnations never fall"
            assert after.replaced >= before.replaced
            self._check_move(before, after, new)
            self._fenced |= {before.uid, before.predecessor} - {after.uid, after.predecessor, ""}
        there = {h for p in self.pods.values() if p.ready for h in parse_ids(p.homes)}
        assert there >= set(range(old.homes, new.homes)), "a home takes part once its pod is ready"
        acting = {uid for slot in (new.npdc, *new.mdcs.values()) for uid in (slot.uid, slot.predecessor)}
        assert not self._fenced & acting, "a fenced pod never comes back"

    def _check_move(self, before: Slot, after: Slot, new: Wiring) -> None:
        if after.predecessor and after.predecessor != before.predecessor:
            assert after.predecessor == before.uid and after.incarnation == before.incarnation + 1
            assert after.replaced == before.replaced, "a move is no replacement"
            fair = new.homes // self.body["spec"]["miniDataCenters"]["replicas"]
            assert len(after.homes) >= min(len(before.homes), fair), "homes stay with a slot that moves"
        elif before.predecessor and after.uid == before.uid and not after.predecessor:
            assert after.replaced == before.replaced, "a move is no replacement"
            assert self._serves(after.uid) or self._bad(before.predecessor), "its heir does not serve yet"
        elif before.predecessor and after.replaced != before.replaced:
            assert self._bad(before.uid), "its heir was well"

    def _serves(self, uid: str) -> bool:
        heard = self.status.get("training", {}).get("serving") or ()
        words = {(e["mdc"], e["incarnation"]) for e in heard}
        return any(
            p.uid == uid and (p.ready or (p.index, p.incarnation) in words) for p in self.pods.values()
        )

    def _bad(self, uid: str) -> bool:
        """Whether there is any reason at all to give up a pod."""
        silent = {e["uid"] for e in self.status.get("training", {}).get("unreachable") or ()}
        pod = next((p for p in self.pods.values() if p.uid == uid), None)
        if pod is None or pod.deleting or pod.over or pod.waiting or uid in silent:
            return True
        return not pod.ready and self.now - max(pod.created, pod.ready_changed) >= NOT_READY_SECONDS

    def _check_current(self, pod: Pod) -> None:
        """Fences come before deletions: who acts for a slot, or is about to, is not deleted."""
        wiring = self.wiring()
        if wiring is not None and wiring.recipe == parse_job(self.body).recipe:  # else all pods have to go
            slots = (wiring.npdc, *wiring.mdcs.values())
            assert pod.uid not in {uid for slot in slots for uid in (slot.uid, slot.predecessor)}

    def _check_assignment(self, wiring: Wiring) -> None:
        homes = [home for slot in wiring.mdcs.values() for home in slot.homes]
        assert len(homes) == len(set(homes)), "a home is in at most one MDC"
        assert set(homes) <= set(range(self.body["spec"]["homes"]["replicas"]))
        assert all(slot.uid for slot in wiring.mdcs.values() if slot.homes), "nobody serves for an empty slot"

    def _check_surplus(self, pod: Pod, reason: str) -> None:
        wiring, training = self.wiring(), self.status.get("training", {})
        if reason != "holds no home of the job" or wiring is None:
            return
        if training.get("incarnation") == wiring.npdc.incarnation and wiring.npdc.uid:
            present = set(range(training.get("homes", 0)))
            assert present.isdisjoint(parse_ids(pod.homes)), "a home of the present round keeps its pod"

    def _check_pod(self, made: Pod) -> None:
        alive = [p for p in self.pods.values() if (p.role, p.index) == (made.role, made.index)]
        assert made.incarnation not in [p.incarnation for p in alive], "one pod for each incarnation"
        if made.role is Role.HOME:
            return
        wiring = self.wiring()
        assert wiring is not None, "fences come before pods"
        slot = wiring.npdc if made.role is Role.NPDC else wiring.mdcs[made.index]
        if made.role is Role.MDC and slot.uid:
            assert made.incarnation == slot.incarnation + 1 and not slot.predecessor
            assert all(heir.deleting for heir in self.heirs()), "one MDC moves at a time"
            assert len(self.state_nodes()) == 1, "the state is on one node, and on no other"
            return
        assert (slot.incarnation, slot.uid) == (made.incarnation, ""), "its predecessor is fenced first"

    def _check_identity(self, manifest: Manifest) -> None:
        for volume in manifest["spec"]["volumes"]:
            if secret := volume.get("secret"):
                held = self.objects["Secret", secret["secretName"]]
                assert {item["key"] for item in secret["items"]} <= held["data"].keys()


def _avoids(manifest: Manifest) -> tuple[str, ...]:
    affinity = manifest["spec"].get("affinity") or {"nodeAffinity": {}}
    terms = affinity["nodeAffinity"].get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    return tuple(n for term in terms for e in term["preference"]["matchExpressions"] for n in e["values"])


def _slots(old: Wiring, new: Wiring) -> Iterator[tuple[Slot, Slot]]:
    yield old.npdc, new.npdc
    for index, slot in old.mdcs.items():
        yield slot, new.mdcs[index]


def carry_out(world: World, decided: Plan, calls: int | None = None) -> bool:
    """Do what a plan says, in its order; stop after so many calls. Whether all of it was done."""
    work: list[Callable[[], None]] = [lambda m=m: world.apply(m) for m in decided.apply]
    work += [lambda d=d: world.delete_pod(d) for d in decided.delete]
    work += [lambda k=kind, n=name: world.remove(k, n) for kind, name in decided.remove]
    work += [lambda i=i: world.apply(i.make()) for i in decided.issue]
    work += [lambda c=c: world.create_pod(c.manifest) for c in decided.create]
    own = {key: value for key, value in world.status.items() if key != "training"}
    if decided.status != own:
        work.append(lambda: world.write_status(dict(decided.status)))
    for do in work[:calls]:
        do()
    return calls is None or calls >= len(work)


def _waits(world: World) -> bool:
    """Whether a slot that is wanted has failed so often that its next pod has yet to come, a home that was
    absent is not trusted yet, or another node was full a while ago.
    """
    wiring, spec = world.wiring(), world.body["spec"]
    if wiring is None or spec.get("suspend"):
        return False
    wanted = spec["miniDataCenters"]["replicas"]
    slots = (wiring.npdc, *(slot for index, slot in wiring.mdcs.items() if index < wanted))
    if world.nodes and wiring.move_after > world.now:
        return True
    return bool(wiring.absent) or any(not slot.uid and slot.not_before > 0 for slot in slots)


def settle(world: World, passes: int = 40) -> None:
    """Plan and let everything thrive until nothing is written any more. Fails if that takes too long."""
    for _ in range(passes):
        before = len(world.writes)
        decided = plan(world.observe(), world.now, world.defaults)
        carry_out(world, decided)
        quiet = len(world.writes) == before and not any(p.deleting for p in world.pods.values())
        before_thriving = (dict(world.pods), dict(world.status.get("training", {})))
        world.thrive()
        at_rest = (world.pods, world.status.get("training", {})) == before_thriving
        if quiet and at_rest and not _waits(world):
            return
        world.now += max(1.0, decided.again_after or 0.0) if quiet else 1.0
    raise AssertionError(f"still writing: {world.writes[-8:]}")


@dataclass
class FakeCluster:
    """`elf_operator.reconcile.Cluster` over a World.

    The write number `fail_at` (from 0) fails: before it is done, or `after` it is done but not answered;
    the same holds for every later one if `dead`.
    """

    world: World
    fail_at: int | None = None
    after: bool = False
    dead: bool = True
    count: int = 0
    gone: bool = False
    refuses: str = ""
    """Why no pod may be created."""

    async def observe(self, namespace: str, name: str) -> Observation | None:
        """See `Cluster.observe`."""
        return None if self.gone else self.world.observe()

    async def apply(self, manifest: Manifest) -> None:
        """See `Cluster.apply`."""
        self._write(lambda: self.world.apply(manifest))

    async def remove(self, seen: Observation, kind: str, name: str) -> None:
        """See `Cluster.remove`."""
        self._write(lambda: self.world.remove(kind, name))

    async def create_pod(self, manifest: Manifest) -> None:
        """See `Cluster.create_pod`."""
        if self.refuses:
            raise RefusedError("Refused", self.refuses)
        self._write(lambda: self.world.create_pod(manifest))

    async def delete_pod(self, namespace: str, delete: Delete) -> None:
        """See `Cluster.delete_pod`."""
        self._write(lambda: self.world.delete_pod(delete))

    async def write_status(self, seen: Observation, status: dict[str, Any]) -> None:
        """See `Cluster.write_status`."""
        self._write(lambda: self.world.write_status(status))

    async def emit(self, seen: Observation, event: Event) -> None:
        """See `Cluster.emit`."""
        self.world.events.append(event)

    async def reconcile(self) -> float | None:
        """One pass of the loop."""
        meta = self.world.body["metadata"]
        where = (meta["namespace"], meta["name"])
        decided = await reconcile(self, *where, self.world.defaults, lambda: self.world.now)
        return decided.again_after if decided is not None else None

    def _write(self, do: Callable[[], None]) -> None:
        number, self.count = self.count, self.count + 1
        failing = self.fail_at is not None and (
            number == self.fail_at or (self.dead and number > self.fail_at)
        )
        if failing and not (self.after and number == self.fail_at):
            raise CrashError(f"write {number}")
        do()
        if failing:
            raise CrashError(f"write {number}, after it was done")
