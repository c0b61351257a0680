"""What a kubelet says of a pod, for those who play one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from elf_operator import names

CONDITIONS = ("Initialized", "ContainersReady", "Ready")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def condition(kind: str, holds: bool) -> dict[str, Any]:
    return {"type": kind, "status": str(holds), "lastTransitionTime": now()}


def running() -> dict[str, Any]:
    """The state of a container since now."""
    return {"running": {"startedAt": now()}}


def pod_status(phase: str, state: dict[str, Any]) -> dict[str, Any]:
    """Of a pod whose one container is in this state; it is ready while it runs."""
    ready = "running" in state
    container = {
        "name": names.CONTAINER,
        "image": "puppet",
        "imageID": "puppet",
        "ready": ready,
        "restartCount": 0,
        "state": state,
    }
    return {
        "phase": phase,
        "conditions": [condition(kind, ready) for kind in CONDITIONS],
        "containerStatuses": [container],
        "podIP": "192.0.2.1",
        "startTime": now(),
    }
