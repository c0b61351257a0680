"""What the operator sees of one job, taken from a fresh look at the world. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from elf_operator import names
from elf_operator.spec import Job
from elf_worker.contract import Role, Wiring


@dataclass(frozen=True)
class Pod:
    """What decisions need of a pod. Times are seconds since the epoch."""

    name: str
    uid: str
    role: Role
    index: int
    incarnation: int
    phase: str = "Pending"
    ready: bool = False
    ready_changed: float = 0.0
    """When `ready` last changed; 0 if it never did."""
    deleting: bool = False
    created: float = 0.0
    node: str = ""
    reason: str = ""
    """`status.reason`, such as Evicted."""
    message: str = ""
    waiting: str = ""
    """Why the container is waiting, such as ImagePullBackOff."""
    waiting_message: str = ""
    exit_code: int | None = None
    exit_reason: str = ""
    """Why the container ended, such as OOMKilled."""
    exit_message: str = ""
    restarts: int = 0
    unschedulable: str = ""
    homes: str = ""
    """Which homes it holds, for a pod of homes; pods of an earlier version do not say it."""

    @property
    def over(self) -> bool:
        """Its containers have ended and will not start again."""
        return self.phase in ("Failed", "Succeeded")


@dataclass(frozen=True)
class Observation:
    """One job and what exists of it."""

    job: Job
    pods: tuple[Pod, ...] = ()
    wiring: Wiring | None = None
    wiring_resource: str | None = None
    """resourceVersion of the wiring's ConfigMap; empty: it is not there; None: nobody else writes here."""
    status: Mapping[str, Any] = field(default_factory=dict)
    """The job's whole status as last written, `training` included."""
    service: Mapping[str, Any] | None = None
    """The NPDC's Service, if it exists."""
    taken: frozenset[str] = frozenset()
    """Names of pods that an earlier job of this name has left; they go by their owner references."""
    lost_nodes: frozenset[str] = frozenset()
    """Nodes that pods of the job are bound to and that are not ready, or gone."""
    zones: Mapping[str, str] = field(default_factory=dict)
    """Node → zone, of nodes that pods of the job are bound to; empty where nodes are not known."""
    npdc_silence: float = 0.0
    """Seconds since the NPDC's progress, with its heartbeat, was last seen to change."""

    @property
    def training(self) -> Mapping[str, Any]:
        """What the NPDC reports."""
        return self.status.get("training") or {}

    def of(self, role: Role) -> tuple[Pod, ...]:
        """Pods of one role."""
        return tuple(pod for pod in self.pods if pod.role is role)


_NO_NODE = ("Unschedulable", "SchedulingGated")
"""Why a pod has no node: none fits, or something such as Kueue has not let it in yet."""


def parse_pod(body: Mapping[str, Any]) -> Pod | None:
    """From the API's JSON; None for a pod that lacks our labels."""
    meta, status = body["metadata"], body.get("status") or {}
    labels = meta.get("labels") or {}
    try:
        role = Role(labels[names.LABEL_ROLE])
        index, incarnation = int(labels[names.LABEL_INDEX]), int(labels[names.LABEL_INCARNATION])
    except (KeyError, ValueError):
        return None
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled", {})
    containers = status.get("containerStatuses") or ()
    container: Mapping[str, Any] = next((c for c in containers if c.get("name") == names.CONTAINER), {})
    state = container.get("state") or {}
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
    return Pod(
        name=meta["name"],
        uid=meta["uid"],
        role=role,
        index=index,
        incarnation=incarnation,
        phase=status.get("phase", "Pending"),
        ready=conditions.get("Ready", {}).get("status") == "True",
        ready_changed=parse_time(conditions.get("Ready", {}).get("lastTransitionTime")),
        deleting=bool(meta.get("deletionTimestamp")),
        created=parse_time(meta.get("creationTimestamp")),
        node=(body.get("spec") or {}).get("nodeName", ""),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        waiting=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        exit_code=ended.get("exitCode"),
        exit_reason=ended.get("reason", ""),
        exit_message=(ended.get("message") or "").strip(),
        restarts=container.get("restartCount", 0),
        unschedulable=scheduled.get("message", "") if scheduled.get("reason") in _NO_NODE else "",
        homes=labels.get(names.LABEL_HOMES, ""),
    )


def parse_time(text: str | None) -> float:
    """RFC 3339 to seconds since the epoch; 0 for None."""
    return datetime.fromisoformat(text).timestamp() if text else 0.0
