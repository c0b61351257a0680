"""What the operator sees of one job, taken from a fresh look at the world. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

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
    open_nodes: frozenset[str] | None = None
    """Nodes of the cluster that take pods; None: not known, nodes are not watched."""
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


class _Raw(msgspec.Struct, rename="camel", gc=False):
    """Of a pod's JSON what decisions need. The rest, nine tenths of it, is skipped where it is read."""


class _Owner(_Raw):
    uid: str = ""


class _Meta(_Raw):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] | None = None
    owner_references: list[_Owner] | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None


class _Spec(_Raw):
    node_name: str | None = None


class _Condition(_Raw):
    type: str
    status: str = ""
    reason: str | None = None
    message: str | None = None
    last_transition_time: str | None = None


class _Waiting(_Raw):
    reason: str | None = None
    message: str | None = None


class _Ended(_Waiting):
    exit_code: int | None = None


class _State(_Raw):
    waiting: _Waiting | None = None
    terminated: _Ended | None = None


class _Container(_Raw):
    name: str = ""
    restart_count: int | None = None
    state: _State | None = None


class _Status(_Raw):
    phase: str | None = None
    reason: str | None = None
    message: str | None = None
    conditions: list[_Condition] | None = None
    container_statuses: list[_Container] | None = None


class RawPod(_Raw):
    """A pod as the API says it."""

    metadata: _Meta
    spec: _Spec | None = None
    status: _Status | None = None

    def owned(self, uid: str) -> bool:
        """Whether it is of this very job, not of an earlier one of the same name."""
        return any(owner.uid == uid for owner in self.metadata.owner_references or ())


class PodList(_Raw):
    """The answer to a LIST."""

    items: list[RawPod] | None = None


_NOTHING = _Condition("")
_NO_STATE = _State()
_NO_CONTAINER = _Container()


def parse_pod(body: Mapping[str, Any]) -> Pod | None:
    """From the API's JSON; None for a pod that lacks our labels."""
    return pod_of(msgspec.convert(body, RawPod))


def pod_of(raw: RawPod) -> Pod | None:
    """None for a pod that lacks our labels."""
    meta, status = raw.metadata, raw.status or _Status()
    labels = meta.labels or {}
    try:
        role = Role(labels[names.LABEL_ROLE])
        index, incarnation = int(labels[names.LABEL_INDEX]), int(labels[names.LABEL_INCARNATION])
    except (KeyError, ValueError):
        return None
    ready = scheduled = _NOTHING
    for condition in status.conditions or ():
        if condition.type == "Ready":
            ready = condition
        elif condition.type == "PodScheduled":
            scheduled = condition
    containers = status.container_statuses or ()
    container = next((c for c in containers if c.name == names.CONTAINER), _NO_CONTAINER)
    state = container.state or _NO_STATE
    waiting, ended = state.waiting or _Waiting(), state.terminated or _Ended()
    return Pod(
        name=meta.name,
        uid=meta.uid,
        role=role,
        index=index,
        incarnation=incarnation,
        phase=status.phase or "Pending",
        ready=ready.status == "True",
        ready_changed=parse_time(ready.last_transition_time),
        deleting=bool(meta.deletion_timestamp),
        created=parse_time(meta.creation_timestamp),
        node=(raw.spec.node_name or "") if raw.spec is not None else "",
        reason=status.reason or "",
        message=status.message or "",
        waiting=waiting.reason or "",
        waiting_message=waiting.message or "",
        exit_code=ended.exit_code,
        exit_reason=ended.reason or "",
        exit_message=(ended.message or "").strip(),
        restarts=container.restart_count or 0,
        unschedulable=(scheduled.message or "") if scheduled.reason in _NO_NODE else "",
        homes=labels.get(names.LABEL_HOMES, ""),
    )


def parse_time(text: str | None) -> float:
    """RFC 3339 to seconds since the epoch; 0 for None."""
    return datetime.fromisoformat(text).timestamp() if text else 0.0
