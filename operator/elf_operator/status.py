"""The job's status, computed anew each time; only histories and transition times are carried over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from elf_operator.observation import Observation, parse_time

HISTORY = 10
MESSAGE_CHARS = 2000


@dataclass(frozen=True)
class Condition:
    """One condition; see the API conventions of Kubernetes."""

    type: str
    status: bool
    reason: str
    message: str


@dataclass(frozen=True)
class Replacement:
    """One data center that was replaced because of a fault. Times are seconds since the epoch."""

    pod: str
    reason: str
    message: str
    time: float
    recovery_seconds: float | None = None


@dataclass(frozen=True)
class Counts:
    """What is there and what should be."""

    homes_desired: int = 0
    homes_ready: int = 0
    homes_failed: int = 0
    mdcs_desired: int = 0
    mdcs_ready: int = 0
    mdcs_replaced: int = 0
    npdc_ready: bool = False
    npdc_replaced: int = 0


def rfc3339(now: float, precise: bool = False) -> str:
    """Seconds since the epoch as UTC text; `precise` keeps milliseconds."""
    stamp = datetime.fromtimestamp(now, UTC)
    return stamp.isoformat(timespec="milliseconds" if precise else "seconds").replace("+00:00", "Z")


def rfc3339_micro(now: float) -> str:
    """Seconds since the epoch as Kubernetes' MicroTime."""
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def build(
    seen: Observation,
    now: float,
    state: str,
    conditions: Sequence[Condition],
    counts: Counts,
    replacements: Sequence[Replacement] = (),
    assignments: Sequence[Mapping[str, int]] = (),
) -> dict[str, Any]:
    """The operator's part of the status (all but `training`)."""
    old = seen.status
    out: dict[str, Any] = {
        "observedGeneration": seen.job.generation,
        "state": state,
        "conditions": _conditions(seen, conditions, now),
        "replaced": counts.mdcs_replaced + counts.npdc_replaced,
        "homes": {
            "desired": counts.homes_desired,
            "ready": counts.homes_ready,
            "failed": counts.homes_failed,
            "summary": f"{counts.homes_ready}/{counts.homes_desired}",
        },
        "miniDataCenters": {
            "desired": counts.mdcs_desired,
            "ready": counts.mdcs_ready,
            "replaced": counts.mdcs_replaced,
            "summary": f"{counts.mdcs_ready}/{counts.mdcs_desired}",
        },
        "northPole": {"ready": counts.npdc_ready, "replaced": counts.npdc_replaced},
        "assignments": list(assignments),
        "lastReplacements": [_replacement(r) for r in replacements[-HISTORY:]],
    }
    # A suspended job has not started; resumed, it starts anew. So it is with batch/v1 Jobs.
    if state != "Suspended" and (state != "Failed" or old.get("startTime")):
        out["startTime"] = old.get("startTime") or rfc3339(now)
    if state in ("Complete", "Failed"):
        out["completionTime"] = old.get("completionTime") or rfc3339(now)
    return out


def previous_replacements(seen: Observation) -> list[Replacement]:
    """The history as last written, and what an operator that died in between could not write any more.

    The wiring is written before the status, because it fences.
    """
    told = [
        Replacement(
            pod=r["pod"],
            reason=r["reason"],
            message=r["message"],
            time=parse_time(r["time"]),
            recovery_seconds=float(r["recoverySeconds"]) if "recoverySeconds" in r else None,
        )
        for r in seen.status.get("lastReplacements") or ()
    ]
    slots = (seen.wiring.npdc, *seen.wiring.mdcs.values()) if seen.wiring else ()
    known = {entry.pod for entry in told}
    oldest = told[0].time if len(told) >= HISTORY else 0.0
    untold = [
        Replacement(loss.pod, loss.reason, loss.message, loss.time)
        for slot in slots
        if (loss := slot.loss) is not None and loss.pod not in known and loss.time > oldest
    ]
    return sorted((*told, *untold), key=lambda entry: entry.time) if untold else told


def recovered(entry: Replacement, now: float) -> Replacement:
    """The successor serves."""
    return replace(entry, recovery_seconds=max(0.0, now - entry.time))


def blamed(status: Mapping[str, Any], reason: str, message: str) -> dict[str, Any]:
    """This status, with what keeps the job from being ready."""
    conditions = [
        {**c, "reason": reason, "message": message[:MESSAGE_CHARS]}
        if c["type"] == "Ready" and c["status"] == "False"
        else c
        for c in status["conditions"]
    ]
    return {**status, "conditions": conditions}


def holds(status: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    """The condition of this type, if it is True."""
    for condition in status.get("conditions") or ():
        if condition["type"] == kind and condition["status"] == "True":
            return dict(condition)
    return None


def _conditions(seen: Observation, wanted: Sequence[Condition], now: float) -> list[dict[str, Any]]:
    old = {c["type"]: c for c in seen.status.get("conditions") or ()}
    out = []
    for condition in wanted:
        status = "True" if condition.status else "False"
        before = old.get(condition.type)
        same = before is not None and before["status"] == status
        out.append(
            {
                "type": condition.type,
                "status": status,
                "reason": condition.reason,
                "message": condition.message[:MESSAGE_CHARS],
                "observedGeneration": seen.job.generation,
                "lastTransitionTime": before["lastTransitionTime"] if before and same else rfc3339(now),
            }
        )
    return out


def _replacement(entry: Replacement) -> dict[str, Any]:
    out = {
        "pod": entry.pod,
        "reason": entry.reason,
        "message": entry.message[:MESSAGE_CHARS],
        "time": rfc3339(entry.time, precise=True),
    }
    if entry.recovery_seconds is not None:
        out["recoverySeconds"] = f"{entry.recovery_seconds:.1f}"
    return out
