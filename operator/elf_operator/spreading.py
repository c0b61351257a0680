"""Copies of a job's state on more than one node: where all have come together, one MDC moves.

The NPDC gives copies to MDCs on nodes without one, if there are such (`NorthPole.copies`). If there are none,
a successor of one MDC is started, on another node if one has room. Once it runs, the slot names it, and it
takes over between two rounds. An attempt that gets no other node costs nothing but that pod.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from elf_operator import status, verdicts
from elf_operator.observation import Observation, Pod
from elf_operator.places import Place
from elf_operator.progress import copies, is_from
from elf_operator.spec import Spec
from elf_operator.status import Condition
from elf_operator.verdicts import Surroundings
from elf_worker.contract import Wiring

DURABLE = "Durable"
"""Type of the condition that says whether the state outlives each single node."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 60.0, 3600.0
"""Between attempts that come to nothing; the wait doubles."""
MOST_DOUBLINGS = 10
"""So many are more than the longest wait has; attempts without end would be too many for a float."""
START_SECONDS = 60.0
"""A successor that does not run after so long is given up."""


@dataclass(frozen=True)
class Spread:
    """What a plan does so that no node has every copy of the state."""

    mdcs: tuple[Place, ...]
    """The MDCs' slots; one of them may be on its way to another pod."""
    start: tuple[int, frozenset[str]] | None = None
    """(index of an MDC, nodes that its successor shall not be on) where a successor is to be created."""
    stop: tuple[Pod, str] | None = None
    """A successor that is of no use, and why."""
    event: str = ""
    """What a person would want to read of it."""
    failed_moves: int = 0
    move_after: float = 0.0
    """See `Wiring`; so is `failed_moves`."""
    again_after: float | None = None
    """Seconds after which time alone changes this."""
    condition: Condition | None = None
    """None while it is not known where the state is: before the first round, or without nodes."""


def state_nodes(seen: Observation, npdc: Place, mdcs: Sequence[Place]) -> frozenset[str]:
    """Nodes that have the newest state, lost ones left out; empty: it is not known."""
    if npdc.pod is None or not is_from(seen.training, npdc.slot.incarnation):
        return frozenset()
    held = copies(seen.training)
    pods = [pod for place in mdcs for pod in (place.pod, place.predecessor) if pod is not None]
    keepers = [pod for pod in pods if (pod.index, pod.incarnation) in held]
    nodes = {pod.node for pod in (npdc.pod, *keepers)}
    return frozenset(nodes - seen.lost_nodes) if keepers and "" not in nodes else frozenset()


def spread(
    seen: Observation,
    spec: Spec,
    around: Surroundings,
    npdc: Place,
    mdcs: Sequence[Place],
    heirs: Mapping[int, Pod],
) -> Spread:
    """Decide for one look. `heirs`: index of an MDC → its successor that was started and is not named yet."""
    nodes, old, now = state_nodes(seen, npdc, mdcs), seen.wiring or Wiring(), around.now
    unchanged = Spread(tuple(mdcs), failed_moves=old.failed_moves, move_after=old.move_after)
    if not nodes:
        return _without(heirs, unchanged, "it is not known where the state is")
    if len(nodes) > 1:
        condition = Condition(DURABLE, True, "OnSeveralNodes", f"the state is on {_listed(nodes)}")
        calm = replace(unchanged, failed_moves=0, move_after=0.0, condition=condition)
        return _without(heirs, calm, "the state is on several nodes again")
    if any(place.predecessor is not None for place in mdcs):
        return replace(
            unchanged, condition=_alone(nodes, spec, "an MDC is about to take over on another node")
        )
    other = _elsewhere(mdcs, nodes)
    if other is not None and other.pod is not None:
        condition = _alone(nodes, spec, f"{other.pod.name} on node {other.pod.node} is to get a copy")
        return _without(heirs, replace(unchanged, condition=condition), "an MDC is on another node already")
    if heirs:
        index, heir = next(iter(sorted(heirs.items())))
        return _with_heir(unchanged, index, heir, nodes, spec, around)
    return _attempt(unchanged, seen, spec, npdc, nodes, now)


def _elsewhere(mdcs: Sequence[Place], nodes: frozenset[str]) -> Place | None:
    """An MDC that is on another node already: the NPDC gives it a copy, and says so a little later."""
    well = (p for p in mdcs if p.pod is not None and p.verdict is None and p.predecessor is None)
    return next((p for p in well if p.pod is not None and p.pod.node not in nodes | {""}), None)


def _with_heir(
    unchanged: Spread, index: int, heir: Pod, nodes: frozenset[str], spec: Spec, around: Surroundings
) -> Spread:
    """Name it if it runs on another node; give it up if it never will."""
    now, tries = around.now, unchanged.failed_moves + 1
    waits = heir.created + START_SECONDS - now
    where = f"on {heir.node}" if heir.node else "on another node"
    coming = replace(
        unchanged, condition=_alone(nodes, spec, f"{heir.name} starts {where}"), again_after=waits
    )
    if heir.node in around.lost_nodes:  # no room was lacking: the next one need not wait
        condition = _alone(nodes, spec, f"node {heir.node} is lost")
        return replace(unchanged, stop=(heir, f"node {heir.node} is lost"), condition=condition)
    if heir.deleting:
        return replace(unchanged, condition=_alone(nodes, spec, f"{heir.name} is being deleted"))
    problem = verdicts.judge(heir, around)
    late = waits <= 0 and heir.phase != "Running"
    if problem is not None or heir.node in nodes or late:
        wait = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(tries - 1, MOST_DOUBLINGS))
        why = problem.message if problem is not None else f"{heir.name} got no other node"
        said = f"{why}; tried again at {status.rfc3339(now + wait)}"
        return replace(
            coming,
            stop=(heir, why),
            failed_moves=tries,
            move_after=now + wait,
            condition=_alone(nodes, spec, said),
            again_after=wait,
        )
    if heir.phase != "Running":
        return coming
    places = list(unchanged.mdcs)
    place = places[index]
    slot = replace(
        place.slot, incarnation=heir.incarnation, uid=heir.uid, predecessor=place.slot.uid, nodes=()
    )
    places[index] = replace(place, slot=slot, pod=heir, predecessor=place.pod)
    old = place.pod.name if place.pod is not None else ""
    event = (
        f"{heir.name} on {heir.node} takes over from {old}: all copies of the state were on {_listed(nodes)}"
    )
    return replace(coming, mdcs=tuple(places), event=event, again_after=None)


def _attempt(
    unchanged: Spread, seen: Observation, spec: Spec, npdc: Place, nodes: frozenset[str], now: float
) -> Spread:
    """Start a successor of the last MDC, if everything else is well and another node may have room."""
    if seen.open_nodes is not None and not seen.open_nodes - nodes:
        return replace(unchanged, condition=_alone(nodes, spec, "no other node takes pods"))
    wait = unchanged.move_after - now
    if wait > 0:
        said = f"no other node had room; tried again at {status.rfc3339(unchanged.move_after)}"
        return replace(unchanged, condition=_alone(nodes, spec, said), again_after=wait)
    places = (npdc, *unchanged.mdcs)
    if not all(place.verdict is None and place.serves(seen.training) for place in places):
        return replace(unchanged, condition=_alone(nodes, spec, "other data centers are being replaced"))
    index = unchanged.mdcs[-1].index
    condition = _alone(nodes, spec, f"a successor of MDC {index} is started, on another node if one has room")
    return replace(unchanged, start=(index, nodes), condition=condition)


def _without(heirs: Mapping[int, Pod], calm: Spread, why: str) -> Spread:
    """A successor that was started is not needed."""
    gone = [heir for _, heir in sorted(heirs.items()) if not heir.deleting]
    return replace(calm, stop=(gone[0], why)) if gone else calm


def _alone(nodes: frozenset[str], spec: Spec, done: str) -> Condition:
    """All copies are on one node."""
    where = f"the state is on {_listed(nodes)} alone"
    if spec.volume_claim:
        volume = f"the volume {spec.volume_claim} has the state of every {spec.checkpoint_every} rounds"
        return Condition(DURABLE, True, "OnVolume", f"{where}, but {volume}")
    lost = "if that node is lost, training starts over, with the same bits"
    hint = "spec.northPole.checkpoint.volumeClaim would keep it"
    return Condition(DURABLE, False, "OnOneNode", f"{where}: {lost}; {hint}; {done}")


def _listed(nodes: frozenset[str]) -> str:
    return f"{'nodes' if len(nodes) > 1 else 'node'} {', '.join(sorted(nodes))}"
