"""What is wrong with a pod: ordered checks, the first that applies speaks.

Each returns a reason in CamelCase and a sentence; both go into conditions, events and logs unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from elf_operator.observation import Pod
from elf_worker.contract import Role

PULL_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
CONFIG_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
UNREACHABLE = "Unreachable"
NODE_LOST = "NodeLost"
STRAGGLER = "Straggler"
UNSCHEDULABLE = "Unschedulable"
CRASH_LOOPING = "CrashLooping"
LASTING = frozenset({NODE_LOST, CRASH_LOOPING})
"""A new pod may help, but not soon."""
NOT_READY_SECONDS = 300.0
SIGNALLED = 128
"""Exit codes above this are 128 plus the number of a signal."""


@dataclass(frozen=True)
class Verdict:
    """Why a pod is not well. `replace`: a new pod would help; otherwise a person must."""

    reason: str
    message: str
    replace: bool


@dataclass(frozen=True)
class Surroundings:
    """What others say of the pods."""

    now: float = 0.0
    unreachable: frozenset[str] = frozenset()
    """UIDs of data-center pods from which nothing is heard."""
    heard: frozenset[str] = frozenset()
    """UIDs of data-center pods that are known to work."""
    lost_nodes: frozenset[str] = frozenset()
    """Nodes that are not ready, or gone."""
    stragglers: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """UID of an MDC that is too slow → (its seconds a round, those of the others)."""
    straggler_factor: float = 1.0


Check = Callable[[Pod, Surroundings], Verdict | None]


def judge(pod: Pod, around: Surroundings) -> Verdict | None:
    """The first check that applies, or None for a pod that is well or on its way."""
    return next((verdict for check in CHECKS if (verdict := check(pod, around)) is not None), None)


def _deleting(pod: Pod, _: Surroundings) -> Verdict | None:
    return Verdict("BeingDeleted", f"{pod.name} is being deleted", True) if pod.deleting else None


def _evicted(pod: Pod, _: Surroundings) -> Verdict | None:
    if pod.phase != "Failed" or not pod.reason:
        return None
    return Verdict(pod.reason, f"{pod.name}: {pod.message or pod.reason}", True)


def _out_of_memory(pod: Pod, _: Surroundings) -> Verdict | None:
    if pod.exit_reason != "OOMKilled":
        return None
    return Verdict("OOMKilled", f"{pod.name} was killed for using more memory than its limit", True)


def _failed(pod: Pod, _: Surroundings) -> Verdict | None:
    if pod.phase != "Failed":
        return None
    if pod.exit_code is None:
        return Verdict("ContainerFailed", f"{pod.name} failed", True)
    if pod.exit_code > SIGNALLED:
        number = pod.exit_code - SIGNALLED
        return Verdict("ContainerKilled", f"{pod.name} was killed by signal {number}", True)
    last = f": {pod.exit_message.splitlines()[-1][:300]}" if pod.exit_message else ""
    return Verdict("ContainerFailed", f"{pod.name} ended with exit code {pod.exit_code}{last}", True)


def _left(pod: Pod, _: Surroundings) -> Verdict | None:
    if pod.phase != "Succeeded":
        return None
    return Verdict("LeftEarly", f"{pod.name} ended before the job did", True)


def _node_lost(pod: Pod, around: Surroundings) -> Verdict | None:
    if pod.node not in around.lost_nodes:
        return None
    return Verdict(NODE_LOST, f"{pod.name}: node {pod.node} is not ready, or gone", True)


def _not_ready(pod: Pod, around: Surroundings) -> Verdict | None:
    since = max(pod.created, pod.ready_changed)
    waits = pod.phase != "Running" or pod.ready or pod.uid in around.heard
    if pod.role is Role.HOME or waits or around.now - since < NOT_READY_SECONDS:
        return None
    return Verdict("NotReady", f"{pod.name} runs, but was not ready for {NOT_READY_SECONDS:.0f} s", True)


def _crash_looping(pod: Pod, _: Surroundings) -> Verdict | None:
    if pod.waiting != "CrashLoopBackOff":
        return None
    return Verdict(CRASH_LOOPING, f"{pod.name} has crashed {pod.restarts} times", True)


def _not_pullable(pod: Pod, _: Surroundings) -> Verdict | None:
    if pod.waiting not in PULL_REASONS:
        return None
    return Verdict("ImageNotPullable", f"{pod.name}: {pod.waiting_message or pod.waiting}", False)


def _misconfigured(pod: Pod, _: Surroundings) -> Verdict | None:
    if pod.waiting not in CONFIG_REASONS:
        return None
    return Verdict("ContainerNotCreated", f"{pod.name}: {pod.waiting_message or pod.waiting}", False)


def _unschedulable(pod: Pod, _: Surroundings) -> Verdict | None:
    if not pod.unschedulable:
        return None
    return Verdict(UNSCHEDULABLE, f"{pod.name}: {pod.unschedulable}", False)


def _unreachable(pod: Pod, around: Surroundings) -> Verdict | None:
    # Ready or not: on a node that is gone, Kubernetes takes readiness away long before the pod.
    if pod.uid not in around.unreachable or pod.phase != "Running":
        return None
    return Verdict(UNREACHABLE, f"{pod.name} runs, but nothing is heard from it", True)


def _straggler(pod: Pod, around: Surroundings) -> Verdict | None:
    if pod.uid not in around.stragglers:
        return None
    own, others = (f"{s:.0f}" if s >= 10 else f"{s:.2g}" for s in around.stragglers[pod.uid])
    times = f"more than {around.straggler_factor:g} times as long"
    return Verdict(STRAGGLER, f"{pod.name} took {own} s a round, the others {others} s: {times}", True)


CHECKS: tuple[Check, ...] = (
    _out_of_memory,
    _evicted,
    _failed,
    _left,
    _deleting,
    _node_lost,
    _crash_looping,
    _not_pullable,
    _misconfigured,
    _unschedulable,
    _unreachable,
    _not_ready,
    _straggler,
)
