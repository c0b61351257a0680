"""The pods of homes: which there shall be, how many homes the next round has, and who is absent.

More homes first get their pods and then take part; fewer take part at once, and their pods go when the NPDC
has begun a round without them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from elf_operator import names, podbuilder, verdicts
from elf_operator.builders import Defaults
from elf_operator.observation import Observation, Pod
from elf_operator.plans import Create, Delete
from elf_operator.spec import Spec
from elf_operator.verdicts import Surroundings, Verdict
from elf_worker.contract import Role, format_ids

UNSCHEDULABLE_SECONDS = 60.0
"""No node for so long, and a home is absent: before that, one may just be on its way."""
WELL_SECONDS = 10.0
"""A home that was absent is waited for again when its pod has been ready for so long: one that crashes again
and again is ready in between."""


@dataclass(frozen=True)
class Homes:
    """Homes and their pods after this plan."""

    create: tuple[Create, ...]
    delete: tuple[Delete, ...]
    problems: tuple[Verdict, ...]
    ready: int
    failed: int
    count: int
    """Homes of the next round."""
    absent: frozenset[int]
    again_after: float | None


class HomePods:
    """One look at the pods of homes. `training` is what the current NPDC says; nothing before it trains."""

    def __init__(
        self,
        seen: Observation,
        spec: Spec,
        defaults: Defaults,
        around: Surroundings,
        training: Mapping[str, Any],
    ) -> None:
        self._seen, self._spec, self._defaults, self._around = seen, spec, defaults, around
        self._before = (seen.wiring.homes or spec.first_homes) if seen.wiring else spec.homes
        self._named = seen.wiring.absent if seen.wiring else frozenset()
        # An NPDC of an earlier version names no count: its rounds have as many homes as the job began with.
        present = int(training.get("homes", spec.first_homes)) if training else 0
        self._can_grow = not training or "homes" in training
        self._kept = max(spec.homes, present)
        self._create: list[Create] = []
        self._delete: list[Delete] = []
        self._problems: list[Verdict] = []
        self._ready = self._failed = self._newly_ready = 0
        self._absent: set[int] = set()
        self._waits: list[float] = []

    def plan(self) -> Homes:
        """Create what is missing; what has ended, or holds other homes, goes first: its name is needed."""
        pods = {p.index: p for p in self._seen.of(Role.HOME)}
        for index in range(math.ceil(self._kept / self._spec.per_pod)):
            self._fill(index, self._spec.share(index, self._kept), pods.pop(index, None))
        for pod in pods.values():
            if not pod.deleting:
                self._delete.append(Delete(pod.name, pod.uid, "holds no home of the job"))
        count = self._count()
        return Homes(
            create=tuple(self._create),
            delete=tuple(self._delete),
            problems=tuple(self._problems),
            ready=self._ready,
            failed=self._failed,
            count=count,
            absent=self._whole_units(count),
            again_after=min((wait for wait in self._waits if wait > 0), default=None),
        )

    def _fill(self, index: int, homes: range, pod: Pod | None) -> None:
        if pod is None:
            self._launch(index)
            if not self._named.isdisjoint(homes):
                self._absent.update(homes)
            return
        held = pod.homes or format_ids(self._spec.share(index, self._spec.first_homes))
        fits = held == format_ids(homes)
        verdict = verdicts.judge(pod, self._around)
        if pod.ready and fits:
            self._ready += len(range(homes.start, min(homes.stop, self._spec.homes)))
        if pod.ready and fits and not pod.deleting:
            self._newly_ready += len(range(max(homes.start, self._before), homes.stop))
        self._remove(pod, verdict, "" if fits else f"holds homes {held}, not {format_ids(homes)}")
        if verdict is not None:
            self._failed += len(homes)
            self._problems.append(verdict)
        if self._gone(pod, homes, verdict):
            self._absent.update(homes)

    @functools.cached_property
    def _spec_kept(self) -> Spec:
        return replace(self._spec, homes=self._kept)

    @functools.cached_property
    def _config(self) -> str:
        """One for all: of a thousand pods, a thousandth of the work."""
        return podbuilder.job_config(self._seen.job, self._spec_kept).to_json()

    def _launch(self, index: int) -> None:
        job, spec = self._seen.job, self._spec_kept
        make = functools.partial(podbuilder.pod, job, spec, self._defaults, Role.HOME, index, 0, self._config)
        name = names.pod(job.name, Role.HOME, index, 0)
        self._create.append(Create(Role.HOME, index, 0, name, "home is missing", make))

    def _remove(self, pod: Pod, verdict: Verdict | None, unfit: str) -> None:
        """Its name is needed; a lost node's kubelet cannot give it free."""
        lost = pod.node in self._seen.lost_nodes
        if lost or ((pod.over or unfit) and not pod.deleting):
            why = verdict.message if verdict else unfit or "it has ended"
            self._delete.append(Delete(pod.name, pod.uid, why, force=lost))

    # -- how many take part -------------------------------------------------------------------------------

    def _count(self) -> int:
        """Fewer at once; more when all the new ones have pods that are ready."""
        wanted = self._spec.homes
        if wanted > self._before and not (self._can_grow and self._newly_ready >= wanted - self._before):
            return self._before
        return wanted

    # -- who is absent ------------------------------------------------------------------------------------

    def _gone(self, pod: Pod, homes: range, verdict: Verdict | None) -> bool:
        """Whether nothing can be expected of these homes, as far as anyone can tell now."""
        now = self._around.now
        if verdict is not None and verdict.reason == verdicts.UNSCHEDULABLE:
            self._waits.append(pod.created + UNSCHEDULABLE_SECONDS - now)
            if now >= pod.created + UNSCHEDULABLE_SECONDS:
                return True
        elif verdict is not None and (not verdict.replace or verdict.reason in verdicts.LASTING):
            return True
        if self._named.isdisjoint(homes):
            return False
        well_at = max(pod.created, pod.ready_changed) + WELL_SECONDS
        if pod.ready:
            self._waits.append(well_at - now)
        return verdict is not None or not pod.ready or now < well_at

    def _whole_units(self, count: int) -> frozenset[int]:
        """A group of a robust method cannot be counted without one of its homes."""
        if not self._absent:
            return frozenset()
        units = self._spec.units_of(count)
        return frozenset(h for unit in units if not self._absent.isdisjoint(unit) for h in unit)
