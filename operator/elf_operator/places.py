"""The slots of a job that runs: who fills one, and what a failure means for the next who does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from elf_operator import verdicts
from elf_operator.observation import Pod
from elf_operator.progress import connected, is_from
from elf_operator.verdicts import Verdict
from elf_worker.contract import Role, Slot

STABLE_SECONDS = 30.0
"""A pod that has lived this long has shown that its slot works: the next failure is the first again."""
FREE_FAILURES = 2
"""So many short lives in a row cost their slot no wait."""
LONGEST_BACKOFF_SECONDS = 60.0
REMEMBERED_NODES = 3
BAD_NODE_REASONS = (verdicts.UNREACHABLE, verdicts.NODE_LOST, verdicts.STRAGGLER)


@dataclass(frozen=True)
class Place:
    """A slot after this plan: the pod that fills it, or a pod to be created for it."""

    role: Role
    index: int
    slot: Slot
    pod: Pod | None = None
    verdict: Verdict | None = None
    predecessor: Pod | None = None
    """The pod that acts for the slot until `pod` takes over between two rounds."""

    def serves(self, training: Mapping[str, Any]) -> bool:
        """A pod that may act for it is ready; the NPDC may say so sooner than the next probe."""
        return any(pod is not None and pod_serves(pod, training) for pod in (self.pod, self.predecessor))


def pod_serves(pod: Pod, training: Mapping[str, Any]) -> bool:
    """Whether a data center's pod is ready, by its probe or by the word of the NPDC."""
    if pod.ready:
        return True
    if pod.role is Role.NPDC:
        return is_from(training, pod.incarnation)
    return (pod.index, pod.incarnation) in connected(training)


def successor_of(slot: Slot, verdict: Verdict, pod: Pod | None, now: float) -> Slot:
    """The slot for the next incarnation; after several short lives in a row it has to wait."""
    stable = pod is not None and now - pod.created >= STABLE_SECONDS
    failures = 1 if stable else slot.failures + 1
    excess = failures - FREE_FAILURES
    wait = min(LONGEST_BACKOFF_SECONDS, 2.0 ** min(excess, 16)) if excess > 0 else 0.0
    nodes = slot.nodes if not stable else ()
    if pod is not None and pod.node:
        # A node from which nothing is heard may be gone, and one that is slow stays so: once is enough.
        times = 2 if verdict.reason in BAD_NODE_REASONS else 1
        nodes = (*nodes, *[pod.node] * times)[-REMEMBERED_NODES:]
    return replace(
        slot,
        incarnation=slot.incarnation + 1,
        uid="",
        predecessor="",
        homes=frozenset(),
        replaced=slot.replaced + 1,
        failures=failures,
        not_before=now + wait if wait else 0.0,
        nodes=nodes,
    )


def bad_nodes(slot: Slot) -> list[str]:
    """Nodes on which this slot has failed at least twice of late."""
    return sorted({node for node in slot.nodes if slot.nodes.count(node) > 1})
