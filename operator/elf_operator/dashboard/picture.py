"""One job as a small JSON picture: the tree of data centers, figures, faults. Pure, and bounded.

10,000 homes are counts and ranges of ids here, never a row each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from elf_operator.observation import Observation, Pod, parse_time
from elf_operator.progress import heard_by
from elf_worker.contract import Role, Slot, format_ids, parse_ids

Json = dict[str, Any]
FEW_HOMES = 600
"""Up to so many homes in all, the ids of each MDC's homes are told in full."""
IDS_CHARS = 80
"""Of more homes, the ids of one MDC's are cut to this length."""
MESSAGE_CHARS = 500
FIGURES = 12
"""Metrics and statistics that are shown; a task may have any number."""


def ready_homes(seen: Observation) -> frozenset[int] | None:
    """The homes whose pods are ready; None where no pod of homes has been seen."""
    ready: set[int] = set()
    spec, pods = seen.job.spec, seen.of(Role.HOME)
    for pod in pods:
        if pod.ready and not pod.deleting:
            if pod.homes:
                ready |= parse_ids(pod.homes)
            elif spec is not None:
                ready.update(spec.share(pod.index, spec.homes))
    return frozenset(ready) if pods else None


def tree(seen: Observation, ready: frozenset[int] | None, now: float) -> Json:
    """NPDC, MDCs and homes as they stand. Without wiring (a standby operator) the status tells what it can.

    `ready` is what `ready_homes` says. Equal worlds give equal trees, whenever they are looked at.
    """
    over = seen.status.get("state") in ("Complete", "Failed", "Suspended")
    wired = seen.wiring
    if wired is None:
        return _tree_from_status(seen, over)
    spec, pods = seen.job.spec, _pods_by_slot(seen)
    chars = None if spec is None or spec.homes <= FEW_HOMES else IDS_CHARS
    heard = heard_by(seen.training, wired.npdc.incarnation)
    mdcs = []
    for index, slot in sorted(wired.mdcs.items()):
        if spec is not None and index >= spec.mdcs and not slot.uid:
            continue  # it was scaled away
        center = _center(slot, pods.get((Role.MDC, index), ()), seen, now, over)
        if center["state"] == "serving" and heard is not None and (index, center["incarnation"]) not in heard:
            center["state"] = "starting"  # it is ready, but has no connection: not yet, or not any more
        mdcs.append({"mdc": index, **center, **_homes_of(slot, ready, wired.absent, chars)})
    placed = frozenset[int]().union(*(slot.homes for slot in wired.mdcs.values()))
    waiting = frozenset(range(max(wired.homes, wired.expected))) - placed
    return {
        "npdc": _center(wired.npdc, pods.get((Role.NPDC, 0), ()), seen, now, over),
        "mdcs": mdcs,
        "waiting": {"homes": len(waiting), "ids": _ids(waiting, chars)},
        "homes": {**_home_counts(seen), "absent": len(wired.absent)},
    }


def outline(drawn: Json) -> list[tuple[Any, ...]]:
    """What of a tree is worth a frame of its own: who serves, and whom. Homes get ready too often."""
    centers = (drawn["npdc"], *drawn["mdcs"])
    return [(c.get("mdc"), c["state"], c["incarnation"], c.get("homes"), c.get("ids")) for c in centers]


def picture(seen: Observation, standing: Json, course: Json) -> Json:
    """The whole view of a job: its tree, its figures, its course so far."""
    training = seen.training
    return {
        **summary(seen),
        "startTime": seen.status.get("startTime"),
        "completionTime": seen.status.get("completionTime"),
        "phase": training.get("phase"),
        "exact": training.get("exact"),
        "modelDigest": training.get("modelDigest"),
        "metrics": _few(training.get("metrics")),
        "target": _target(seen),
        "statistics": _few(training.get("statistics")),
        "missing": training.get("missing"),
        "conditions": [_condition(c) for c in seen.status.get("conditions") or ()],
        "replacements": [_cut(r) for r in seen.status.get("lastReplacements") or ()],
        "tree": standing,
        "history": course,
    }


def summary(seen: Observation) -> Json:
    """One line of the list of jobs."""
    status, training, spec = seen.status, seen.training, seen.job.spec
    return {
        "namespace": seen.job.namespace,
        "job": seen.job.name,
        "state": status.get("state") or "Pending",
        "round": int(training.get("round") or 0),
        "rounds": spec.rounds if spec else None,
        "loss": number(training.get("loss")),
        "metric": training.get("metric"),
        "roundsPerSecond": number(training.get("roundsPerSecond")),
        "homes": (status.get("homes") or {}).get("summary"),
        "miniDataCenters": (status.get("miniDataCenters") or {}).get("summary"),
        "replaced": int(status.get("replaced") or 0),
    }


def number(text: Any) -> float | None:
    """A figure of the status, which writes numbers as strings; None for what is no finite number."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if value - value == 0 else None


# -- data centers -----------------------------------------------------------------------------------------


def _center(slot: Slot, pods: Iterable[Pod], seen: Observation, now: float, over: bool) -> Json:
    pod = _acting(slot, pods)
    state = "stopped" if over else _state(slot, pod, now)
    out: Json = {"state": state, "incarnation": pod.incarnation if pod else slot.incarnation}
    if pod is not None and pod.node:
        out["node"] = pod.node
        if zone := seen.zones.get(pod.node):
            out["zone"] = zone
    if slot.replaced:
        out["replaced"] = slot.replaced
    if state == "waiting":
        out["until"] = slot.not_before
    if state in ("dead", "waiting") and slot.loss is not None:
        out["why"] = f"{slot.loss.reason}: {slot.loss.message}"[:MESSAGE_CHARS]
    return out


def _state(slot: Slot, pod: Pod | None, now: float) -> str:
    """One of serving, starting, dead, waiting (its successor may not come yet)."""
    if pod is not None and not pod.over and not pod.deleting:
        return "serving" if pod.ready and pod.uid in (slot.uid, slot.predecessor) else "starting"
    if not slot.uid and slot.not_before > now:
        return "waiting"
    # A slot that has never had a pod has lost none.
    return "dead" if pod is not None or slot.replaced else "starting"


def _acting(slot: Slot, pods: Iterable[Pod]) -> Pod | None:
    """The pod that may act for the slot, else the newest; a pod that is fenced does not count any more.

    A pod that has not taken over yet leaves that to its predecessor.
    """
    pods = list(pods)
    heir_ready = any(pod.uid == slot.uid and pod.ready for pod in pods)
    if slot.predecessor and not heir_ready:
        acting = [p for p in pods if p.uid == slot.predecessor and p.ready and not (p.over or p.deleting)]
        if acting:
            return acting[0]
    current = [pod for pod in pods if pod.incarnation >= slot.incarnation]
    chosen = [pod for pod in current if pod.uid == slot.uid]
    return max(chosen or current, key=lambda pod: pod.incarnation, default=None)


def _pods_by_slot(seen: Observation) -> dict[tuple[Role, int], list[Pod]]:
    out: dict[tuple[Role, int], list[Pod]] = {}
    for pod in seen.pods:
        if pod.role is not Role.HOME:
            out.setdefault((pod.role, pod.index), []).append(pod)
    return out


def _tree_from_status(seen: Observation, over: bool) -> Json:
    status, training = seen.status, seen.training
    serving = {(s["mdc"], s["incarnation"]) for s in training.get("serving") or ()}
    mdcs = []
    for entry in status.get("assignments") or ():
        up = (entry["mdc"], entry["incarnation"]) in serving
        state = "stopped" if over else "serving" if up else "starting"
        mdcs.append({**entry, "state": state})
    ready = (status.get("northPole") or {}).get("ready")
    npdc = {"state": "stopped" if over else "serving" if ready else "starting"}
    return {
        "npdc": {**npdc, "incarnation": int(training.get("incarnation") or 0)},
        "mdcs": mdcs,
        "waiting": {"homes": 0, "ids": ""},
        "homes": _home_counts(seen),
    }


# -- homes ------------------------------------------------------------------------------------------------


def _homes_of(slot: Slot, ready: frozenset[int] | None, absent: frozenset[int], chars: int | None) -> Json:
    out: Json = {"homes": len(slot.homes), "ids": _ids(slot.homes, chars)}
    if ready is not None:
        out["ready"] = len(slot.homes & ready)
    if gone := slot.homes & absent:
        out["absent"] = len(gone)
    return out


def _home_counts(seen: Observation) -> Json:
    counts = seen.status.get("homes") or {}
    return {key: int(counts.get(key) or 0) for key in ("desired", "ready", "failed")}


def _ids(ids: Iterable[int], chars: int | None) -> str:
    text = format_ids(ids)
    if chars is None or len(text) <= chars:
        return text
    return text[:chars].rpartition(",")[0] + ",…"


# -- words ------------------------------------------------------------------------------------------------


def _target(seen: Observation) -> Json | None:
    spec = seen.job.spec
    if spec is None or spec.target_metric is None:
        return None
    return {"metric": spec.target_metric, "atLeast": spec.target_at_least}


def _few(found: Any) -> dict[str, str]:
    if not isinstance(found, Mapping):
        return {}
    return {str(k)[:64]: str(v)[:MESSAGE_CHARS] for k, v in list(found.items())[:FIGURES]}


def _condition(condition: Mapping[str, Any]) -> Json:
    shown = ("type", "status", "reason", "message", "lastTransitionTime")
    return {key: str(condition.get(key, ""))[:MESSAGE_CHARS] for key in shown}


def _cut(entry: Mapping[str, Any]) -> Json:
    return {
        "pod": str(entry.get("pod", "")),
        "reason": str(entry.get("reason", "")),
        "message": str(entry.get("message", ""))[:MESSAGE_CHARS],
        "time": parse_time(entry.get("time")),
        "recoverySeconds": number(entry.get("recoverySeconds")),
    }
