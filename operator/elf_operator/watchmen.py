"""What the operator remembers between looks, because no single look can tell it: silences, and nodes.

Nothing of it outlives the operator: a new one starts to listen anew, and only waits a little longer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

NODE_GRACE_SECONDS = 5.0
"""How long a node must be not ready: after an outage of the API server all of them are, for a moment."""
OUTAGE_GRACE_SECONDS = 20.0
"""So long after an outage no node is taken for lost: kubelets could not say that they live."""
FORGET_SECONDS = 600.0
"""How long a deleted node is remembered as lost. By then Kubernetes has removed what was bound to it."""
ZONE_LABEL = "topology.kubernetes.io/zone"
Clock = Callable[[], float]


class Pulse:
    """When each job's NPDC was last heard of: its progress holds a heartbeat that changes while it lives."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heard: dict[str, tuple[Any, float]] = {}

    def note(self, uid: str, training: Mapping[str, Any]) -> float:
        """Seconds since this heartbeat was seen first; 0 for a job without one."""
        beat = (training.get("heartbeat"), training.get("incarnation"), training.get("round"))
        if beat[0] is None:
            self._heard.pop(uid, None)
            return 0.0
        known, since = self._heard.get(uid, (None, 0.0))
        if beat != known:
            since = self._clock()
            self._heard[uid] = (beat, since)
        return self._clock() - since

    def forget(self, uid: str) -> None:
        """The job is gone."""
        self._heard.pop(uid, None)

    def listen_anew(self) -> None:
        """The API server did not answer: who could not be heard is not to blame."""
        self._heard.clear()


class Nodes:
    """Which nodes are lost, and in which zones nodes are."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}
        """Node → when it was first seen not ready, or gone."""
        self._ready: set[str] = set()
        self._outage_at = -math.inf
        self._deleted: dict[str, float] = {}
        self._zones: dict[str, str] = {}
        self._open: frozenset[str] = frozenset()

    def note(self, event: str | None, body: Mapping[str, Any]) -> bool:
        """An event of a node; whether it has changed sides, or takes pods again."""
        name = str(body["metadata"]["name"])
        self._forget_deleted()
        if event == "DELETED":
            self._deleted.setdefault(name, self._clock())
        else:
            self._deleted.pop(name, None)
        if zone := (body["metadata"].get("labels") or {}).get(ZONE_LABEL):
            self._zones[name] = str(zone)
        else:
            self._zones.pop(name, None)
        conditions = (body.get("status") or {}).get("conditions") or ()
        well = event != "DELETED" and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        known = name in self._ready or name in self._since
        opened = self._note_open(name, well and _takes_pods(body.get("spec") or {})) and known
        if well:
            changed = self._since.pop(name, None) is not None
            self._ready.add(name)
            return changed or opened
        self._ready.discard(name)
        changed = name not in self._since
        self._since.setdefault(name, self._clock())
        return changed

    def lost(self) -> frozenset[str]:
        """Nodes that are not ready for long enough. None while no node is ready: then it is not the nodes."""
        if not self._ready:
            return frozenset()
        now = self._clock()
        if now - self._outage_at < OUTAGE_GRACE_SECONDS:
            return frozenset()
        return frozenset(name for name, since in self._since.items() if now - since >= NODE_GRACE_SECONDS)

    def listen_anew(self) -> None:
        """The API server did not answer: a node that it has not heard of may be well."""
        self._outage_at = self._clock()

    def open(self) -> frozenset[str] | None:
        """Nodes that take pods; None if no node was ever seen."""
        return self._open if self._ready or self._since else None

    def _note_open(self, name: str, takes_pods: bool) -> bool:
        """Whether it takes pods now and did not before."""
        if takes_pods == (name in self._open):
            return False
        self._open ^= {name}
        return takes_pods

    def zones(self, nodes: Iterable[str]) -> dict[str, str]:
        """The zones of those of these nodes that are in one."""
        return {node: self._zones[node] for node in nodes if node in self._zones}

    def _forget_deleted(self) -> None:
        """Where nodes come and go all the time, their names would pile up."""
        now = self._clock()
        for name in [name for name, at in self._deleted.items() if now - at >= FORGET_SECONDS]:
            del self._deleted[name]
            self._since.pop(name, None)
            self._zones.pop(name, None)


def _takes_pods(spec: Mapping[str, Any]) -> bool:
    """Neither cordoned nor tainted against pods that do not tolerate it."""
    closed = any(taint.get("effect") in ("NoSchedule", "NoExecute") for taint in spec.get("taints") or ())
    return not (spec.get("unschedulable") or closed)
