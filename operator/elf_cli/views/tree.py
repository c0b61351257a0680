"""A job as a tree NPDC, MDCs, homes: what is observed of it, as a person wants to know it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from elf_cli.views.pod_states import NOBODY, Health, HomePods, Homes, pod_health
from elf_operator.observation import Pod, parse_time
from elf_worker.contract import Role, Slot, Wiring

_BAD = {"Ready": "False", "Degraded": "True", "Suspended": "True", "Failed": "True"}
"""Type of a condition → the value that is not well."""


@dataclass(frozen=True)
class Center:
    """One data center: its slot, and the pod that fills it now."""

    role: Role
    index: int
    incarnation: int
    health: Health
    why: str = ""
    pod: str = ""
    phase: str = ""
    ready: bool = False
    node: str = ""
    age: float | None = None
    """Seconds since its pod was made."""
    replaced: int = 0
    homes: Homes = NOBODY


@dataclass(frozen=True)
class Trouble:
    """Conditions that are not well for one reason."""

    conditions: tuple[str, ...]
    reason: str
    message: str
    since: float
    """Seconds."""


@dataclass(frozen=True)
class Lost:
    """A data center that was replaced."""

    pod: str
    reason: str
    message: str
    ago: float
    recovery: float | None


@dataclass(frozen=True)
class JobView:
    """Everything that `elf status JOB` tells."""

    namespace: str
    name: str
    state: str
    age: float
    round: int
    rounds: int
    figures: Mapping[str, str] = field(default_factory=dict)
    """roundsPerSecond, loss, metric, modelDigest: those there are."""
    homes: str = "-"
    mdcs: str = "-"
    replaced: int = 0
    note: str = ""
    """How it ended, if it did well."""
    troubles: tuple[Trouble, ...] = ()
    npdc: Center | None = None
    centers: tuple[Center, ...] = ()
    wired: bool = True
    """Whether it is known who serves whom: the wiring may be read, and is there."""
    others: Homes = NOBODY
    """Homes without an MDC; all homes, if it is not known who serves whom."""
    losses: tuple[Lost, ...] = ()
    statistics: Mapping[str, str] = field(default_factory=dict)


def look(body: Mapping[str, Any], pods: Sequence[Pod], wiring: Wiring | None, now: float) -> JobView:
    """The job's JSON, its pods, and its wiring if that may be read. Times are seconds since the epoch."""
    status, meta, spec = body.get("status") or {}, body["metadata"], body["spec"]
    training = status.get("training") or {}
    ended = bool(status.get("completionTime"))
    stopped = ended or status.get("state") == "Suspended"
    newest = _newest(pods)
    known = wiring is not None
    slots = _slots(status, wiring)
    homes = HomePods(pods, _per_pod(spec))
    centers = []
    for index, slot in sorted(slots.items()):
        pod = _acting(slot, pods, index, training, known) or newest.get((Role.MDC, index))
        if pod is not None and known and pod.uid == slot.predecessor:
            slot = replace(slot, incarnation=pod.incarnation)
        heard = _heard(training, index, slot.incarnation)
        made = _center(Role.MDC, index, slot, pod, now, heard, stopped)
        centers.append(_with_homes(made, slot, homes, training, wiring is not None))
    npdc_slot = wiring.npdc if wiring else Slot(incarnation=int(training.get("incarnation", 0)))
    heard = training.get("incarnation") == npdc_slot.incarnation
    served = {home for slot in slots.values() for home in slot.homes}
    alone = frozenset(range(_desired(body))) - served if wiring else homes.everyone
    figures = {
        k: str(training[k]) for k in ("roundsPerSecond", "loss", "metric", "modelDigest") if k in training
    }
    if stopped:
        figures.pop("roundsPerSecond", None)
    return JobView(
        namespace=meta["namespace"],
        name=meta["name"],
        state=status.get("state", "Pending"),
        age=now - parse_time(meta.get("creationTimestamp")) if meta.get("creationTimestamp") else 0.0,
        round=int(training.get("round", 0)),
        rounds=int(spec.get("rounds", 0)),
        figures=figures,
        homes=(status.get("homes") or {}).get("summary", "-"),
        mdcs=(status.get("miniDataCenters") or {}).get("summary", "-"),
        replaced=int(status.get("replaced", 0)),
        note=_note(status),
        troubles=tuple(_troubles(status, now)),
        npdc=_center(Role.NPDC, 0, npdc_slot, newest.get((Role.NPDC, 0)), now, heard, stopped),
        centers=tuple(centers),
        wired=wiring is not None,
        others=homes.of(alone) if not stopped else NOBODY,
        losses=tuple(_losses(status, now)),
        statistics=training.get("statistics") or {},
    )


def _newest(pods: Iterable[Pod]) -> dict[tuple[Role, int], Pod]:
    """Of each data center's slot the pod of the highest incarnation."""
    centers = (pod for pod in pods if pod.role is not Role.HOME)
    return {(pod.role, pod.index): pod for pod in sorted(centers, key=lambda pod: pod.incarnation)}


def _acting(
    slot: Slot, pods: Iterable[Pod], index: int, training: Mapping[str, Any], known: bool
) -> Pod | None:
    """The MDC's pod that acts, where a successor is there beside it; None: the newest is shown.

    Without the wiring (`known` is false) that is who the NPDC hears.
    """
    there = [p for p in pods if p.role is Role.MDC and p.index == index and not (p.over or p.deleting)]
    heard = [p for p in there if _heard(training, index, p.incarnation)]
    if not known:
        return heard[-1] if heard else None
    named = {p.uid: p for p in there if p.uid}
    heir, old = named.get(slot.uid), named.get(slot.predecessor)
    return old if old is not None and old in heard and heir not in heard else heir


def _slots(status: Mapping[str, Any], wiring: Wiring | None) -> dict[int, Slot]:
    """Slots of the MDCs: of the wiring, or as far as the status tells of them."""
    desired = {int(e["mdc"]): int(e["incarnation"]) for e in status.get("assignments") or ()}
    if wiring is None:
        return {index: Slot(incarnation) for index, incarnation in desired.items()}
    return {
        index: slot for index, slot in wiring.mdcs.items() if index in desired or slot.homes or not desired
    }


def _heard(training: Mapping[str, Any], index: int, incarnation: int) -> bool:
    return any(
        (e.get("mdc"), e.get("incarnation")) == (index, incarnation) for e in training.get("serving") or ()
    )


def _center(
    role: Role, index: int, slot: Slot, pod: Pod | None, now: float, heard: bool, stopped: bool
) -> Center:
    if pod is not None and pod.incarnation < slot.incarnation and not stopped:
        pod = None  # it is fenced, whatever it still does: the slot waits for the next one
    health, why = _center_health(slot, pod, now, heard, stopped)
    if pod is None:
        return Center(role, index, slot.incarnation, health, why, replaced=slot.replaced)
    return Center(
        role=role,
        index=index,
        incarnation=pod.incarnation,
        health=health,
        why=why,
        pod=pod.name,
        phase=pod.phase,
        ready=pod.ready,
        node=pod.node,
        age=now - pod.created,
        replaced=slot.replaced,
    )


def _center_health(slot: Slot, pod: Pod | None, now: float, heard: bool, stopped: bool) -> tuple[Health, str]:
    if pod is None:
        if stopped:
            return Health.ENDED, ""
        wait = slot.not_before - now
        if wait > 0:
            return Health.MISSING, f"the next one comes in {wait:.0f} s: failure {slot.failures} in a row"
        return Health.MISSING, "the next one is on its way"
    health, why = pod_health(pod)
    if health is Health.SERVES and not heard and not stopped:
        return (
            Health.SILENT,
            "runs, but the NPDC has not heard from it" if pod.role is Role.MDC else "is not heard yet",
        )
    return health, why


def _with_homes(
    made: Center, slot: Slot, homes: HomePods, training: Mapping[str, Any], wired: bool
) -> Center:
    """Without the wiring only the NPDC's count of them is known."""
    if wired:
        return replace(made, homes=homes.of(slot.homes))
    counts = {int(e["mdc"]): int(e["homes"]) for e in training.get("serving") or ()}
    count = counts.get(made.index, 0)
    return replace(made, homes=Homes(count, count))


def _per_pod(spec: Mapping[str, Any]) -> int:
    return int((spec.get("homes") or {}).get("perPod", 1))


def _desired(body: Mapping[str, Any]) -> int:
    return int((body["spec"].get("homes") or {}).get("replicas", 0))


def _note(status: Mapping[str, Any]) -> str:
    for condition in status.get("conditions") or ():
        if condition["type"] == "Complete" and condition["status"] == "True":
            return str(condition["message"])
    return ""


def _troubles(status: Mapping[str, Any], now: float) -> Iterator[Trouble]:
    """Conditions that are not well; those with one reason and sentence together."""
    if _note(status):
        return
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for condition in status.get("conditions") or ():
        if _BAD.get(condition["type"]) == condition["status"]:
            groups.setdefault((condition["reason"], condition["message"]), []).append(condition)
    for (reason, message), found in groups.items():
        types = tuple(f"{c['type']} is {c['status']}" for c in found)
        since = max(now - parse_time(c.get("lastTransitionTime")) for c in found)
        yield Trouble(types, reason, message, since)


def _losses(status: Mapping[str, Any], now: float) -> Iterator[Lost]:
    for entry in status.get("lastReplacements") or ():
        took = entry.get("recoverySeconds")
        yield Lost(
            pod=entry["pod"],
            reason=entry["reason"],
            message=entry["message"],
            ago=now - parse_time(entry["time"]),
            recovery=float(took) if took is not None else None,
        )
