"""How a job that runs stands, in the words of its status."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elf_operator import status
from elf_operator.observation import Observation
from elf_operator.places import Place
from elf_operator.plans import Event
from elf_operator.progress import heard_by, is_from, is_silent, undelivered
from elf_operator.spec import Spec
from elf_operator.status import Condition, Counts, Replacement
from elf_operator.verdicts import UNREACHABLE, Verdict
from elf_worker.contract import Phase, Role, Slot, Wiring, format_ids

NAMED = 20
"""Homes and slots named in a message."""
UNWRITTEN = "OutputNotWritten"
ALL_SERVE = "every pod serves"


@dataclass(frozen=True)
class Situation:
    """What a plan has found and decided, beside who serves whom."""

    seen: Observation
    spec: Spec
    now: float
    counts: Counts
    wiring: Wiring
    problems: Sequence[Verdict]
    waiting: str
    """Why homes wait, if the MDCs that serve have no room for them."""
    blocked: Sequence[str]
    """Pods that cannot be created before their namesakes are gone."""
    history: Sequence[Replacement]
    durable: Condition | None = None
    """Whether the state outlives each single node; None: not known."""

    def status(self) -> dict[str, Any]:
        """The operator's part of the job's status."""
        missing, problem = list(self._missing()), next(iter(self.problems), None)
        ready = not (missing or self.waiting) and self._started
        reason = problem.reason if problem else ("AllServing" if ready else "Starting")
        said = [*([problem.message] if problem else []), *([self.waiting] if self.waiting else []), *missing]
        message = "; ".join(said) or (
            ALL_SERVE if ready else "every pod is ready, training is about to begin"
        )
        unwritten = self._unwritten
        if unwritten and not said:
            reason, message = UNWRITTEN, unwritten
        degraded = bool(said or unwritten) and self._started
        if degraded and problem is None and said:
            reason = self._what_is_done()
        state = "Degraded" if degraded else ("Running" if ready else "Pending")
        conditions = [
            Condition("Ready", ready, reason, message),
            Condition("Degraded", degraded, reason if degraded else "AsExpected", message),
            Condition("Suspended", False, "NotSuspended", "spec.suspend is false"),
            Condition("Complete", False, "InProgress", "training goes on"),
            Condition("Failed", False, "InProgress", "training goes on"),
            *([self.durable] if self.durable is not None else []),
        ]
        assignments = [
            {"mdc": i, "incarnation": s.incarnation, "homes": len(s.homes)}
            for i, s in sorted(self.wiring.mdcs.items())
            if i < self.spec.mdcs
        ]
        history = list(self.history)
        return status.build(self.seen, self.now, state, conditions, self.counts, history, assignments)

    def events(self, decided: Mapping[str, Any]) -> Iterator[Event]:
        """What this status has to tell that the last one did not."""
        now, before = (status.holds(s, "Degraded") or {} for s in (decided, self.seen.status))
        if now.get("reason") == UNWRITTEN != before.get("reason"):
            yield Event("Warning", UNWRITTEN, str(now["message"]))

    @property
    def _started(self) -> bool:
        training = self.seen.training
        return bool(training.get("round")) or training.get("phase") == Phase.TRAINING

    @property
    def _unwritten(self) -> str:
        why = undelivered(self.seen.training) if self._started else ""
        return f"spec.output cannot be written: {why}" if why else ""

    def _what_is_done(self) -> str:
        if self.waiting:
            return "OverCapacity"
        counts = self.counts
        served = counts.npdc_ready and counts.mdcs_ready == counts.mdcs_desired
        if served and self._unheard:
            return UNREACHABLE
        return "Scaling" if served and self.wiring.homes < self.spec.homes else "Replacing"

    @functools.cached_property
    def _idle(self) -> list[int]:
        """MDCs whose slot has no pod that serves."""
        pods = {pod.uid: pod for pod in self.seen.of(Role.MDC)}
        slots = {i: self.wiring.mdcs.get(i, Slot(0)) for i in range(self.spec.mdcs)}
        places = (
            Place(Role.MDC, i, slot, pods.get(slot.uid), predecessor=pods.get(slot.predecessor))
            for i, slot in slots.items()
        )
        return [place.index for place in places if not place.serves(self.seen.training)]

    @functools.cached_property
    def _unheard(self) -> list[int]:
        """MDCs whose pod is ready, and of which the NPDC says that it has no connection to them.

        One that dies loses its connection at once; its pod is said to be ready until the next probe.
        """
        there = heard_by(self.seen.training, self.wiring.npdc.incarnation)
        if there is None:
            return []
        slots = {i: self.wiring.mdcs[i] for i in range(self.spec.mdcs) if i not in self._idle}
        acting = {i: {s.incarnation, s.incarnation - bool(s.predecessor)} for i, s in slots.items()}
        return [i for i, either in acting.items() if there.isdisjoint((i, k) for k in either)]

    def _missing(self) -> Iterator[str]:
        if self.blocked:
            yield f"{self.blocked[0]} of an earlier job of this name is still there"
        yield from self._missing_centers()
        yield from self._waiting_slots()
        yield from self._missing_homes()

    def _missing_centers(self) -> Iterator[str]:
        counts = self.counts
        if not counts.npdc_ready:
            yield "the NPDC does not serve yet"
        elif self._started and not is_from(self.seen.training, self.wiring.npdc.incarnation):
            yield "the NPDC does not train yet"
        elif self._started and is_silent(self.seen, self.spec):
            yield "nothing is heard from the NPDC"
        if self._idle:
            yield f"{counts.mdcs_ready} of {counts.mdcs_desired} MDCs serve, not {_named(self._idle)}"
        if self._unheard:
            yield f"the NPDC has no connection to {_named(self._unheard)}"

    def _missing_homes(self) -> Iterator[str]:
        counts, wiring = self.counts, self.wiring
        desired, ready = counts.homes_desired, counts.homes_ready
        if wiring.homes < desired:
            late = f"{desired - ready} of {desired} homes are not ready"
            yield f"{late}: rounds have {wiring.homes} until they are"
        elif ready < desired:
            yield f"{ready} of {desired} homes are ready"
        if gone := sorted(wiring.absent):
            who = format_ids(gone[:NAMED]) + (" and more" if len(gone) > NAMED else "")
            if wiring.homes - len(gone) < wiring.quorum:
                yield f"rounds wait for homes {who}: the quorum is {wiring.quorum} of {wiring.homes}"
            else:
                yield f"rounds do not wait for homes {who}"

    def _waiting_slots(self) -> Iterator[str]:
        """Slots whose last pods did not live long, and when they are filled again."""
        mdcs = sorted(self.wiring.mdcs.items())
        slots = {"the NPDC": self.wiring.npdc, **{f"MDC {i}": s for i, s in mdcs}}
        late = [(who, s) for who, s in slots.items() if not s.uid and s.not_before > self.now]
        for who, slot in late[:NAMED]:
            when = status.rfc3339(slot.not_before)
            yield f"{who} has failed {slot.failures} times in a row and is started again at {when}"


def _named(mdcs: Sequence[int]) -> str:
    ids = format_ids(mdcs[:NAMED]) + (" and more" if len(mdcs) > NAMED else "")
    return f"MDC {ids}" if len(mdcs) == 1 else f"MDCs {ids}"
