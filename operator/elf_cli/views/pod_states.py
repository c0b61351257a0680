"""How pods are, and homes in sums: a few names and reasons, never a row a home. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from elf_operator.observation import Pod
from elf_worker.contract import Role, format_ids, parse_ids

NAMED = 5
"""Homes that are not well and are named, for each MDC; more are counted."""


class Health(StrEnum):
    """How a pod is; for a data center, as the NPDC hears it too."""

    SERVES = "serves"
    STARTS = "starts"
    WAITS = "waits"
    SILENT = "silent"
    LEAVES = "leaves"
    ENDED = "ended"
    MISSING = "missing"


WELL = (Health.SERVES,)


@dataclass(frozen=True)
class Homes:
    """Homes of one MDC, or those that wait for one: sums, and a few names."""

    count: int = 0
    well: int = 0
    ill: tuple[str, ...] = ()
    """At most NAMED pods with homes that are not well, each with its reason."""
    ill_pods: int = 0


NOBODY = Homes()


def pod_health(pod: Pod) -> tuple[Health, str]:
    """How a pod is by itself, and why, if it does not serve."""
    if pod.over:
        return Health.ENDED, _ending(pod)
    if pod.deleting:
        return Health.LEAVES, ""
    if pod.ready:
        return Health.SERVES, ""
    if pod.unschedulable:
        return Health.WAITS, f"no node takes it: {pod.unschedulable}"
    if pod.waiting and pod.waiting not in ("ContainerCreating", "PodInitializing"):
        return Health.WAITS, f"{pod.waiting}: {pod.waiting_message}".rstrip(": ")
    if pod.exit_code is not None:
        return Health.STARTS, f"{_ending(pod)}; it is started again"
    return Health.STARTS, pod.waiting


def _ending(pod: Pod) -> str:
    if pod.phase == "Succeeded":
        return ""
    code = f"exit code {pod.exit_code}" if pod.exit_code is not None else ""
    return ", ".join(
        filter(None, (pod.reason or pod.exit_reason, code, pod.exit_message[-200:] or pod.message))
    )


class HomePods:
    """Which pod holds which home."""

    def __init__(self, pods: Iterable[Pod], per_pod: int) -> None:
        self._of: dict[int, Pod] = {}
        for pod in pods:
            if pod.role is Role.HOME:
                first = pod.index * per_pod
                held = parse_ids(pod.homes) if pod.homes else range(first, first + per_pod)
                self._of.update(dict.fromkeys(held, pod))
        self._per_pod = per_pod

    def of(self, homes: Iterable[int]) -> Homes:
        """How these are."""
        count = well = 0
        ill: dict[str, tuple[str, list[int]]] = {}
        for home in sorted(homes):
            count += 1
            pod = self._of.get(home)
            health, why = pod_health(pod) if pod is not None else (Health.MISSING, "")
            if health in WELL:
                well += 1
                continue
            name = pod.name if pod is not None else f"pod {home // self._per_pod} of homes"
            ill.setdefault(name, (f"{health}: {why}".rstrip(": "), []))[1].append(home)
        named = tuple(
            f"{name} (home{'s' if len(ids) > 1 else ''} {format_ids(ids)}) {why}"
            for name, (why, ids) in list(ill.items())[:NAMED]
        )
        return Homes(count, well, named, len(ill))

    @property
    def everyone(self) -> frozenset[int]:
        """All homes that have pods."""
        return frozenset(self._of)
