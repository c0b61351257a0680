"""How a job that runs stands, in the words of its status."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elf_operator import status
from elf_operator.observation import Observation
from elf_operator.plans import Event
from elf_operator.progress import undelivered
from elf_operator.spec import Spec
from elf_operator.status import Condition, Counts, Replacement
from elf_operator.verdicts import Verdict
from elf_worker.contract import Phase, Wiring, format_ids

NAMED = 20
"""Homes and slots named in a message."""
UNWRITTEN = "OutputNotWritten"


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

    def status(self) -> dict[str, Any]:
        """The operator's part of the job's status."""
        missing, problem = list(self._missing()), next(iter(self.problems), None)
        ready = not (missing or self.waiting) and self._started
        reason = problem.reason if problem else ("AllServing" if ready else "Starting")
        said = [*([problem.message] if problem else []), *([self.waiting] if self.waiting else []), *missing]
        message = "; ".join(said) or "every pod serves"
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
        return "Scaling" if served and self.wiring.homes < self.spec.homes else "Replacing"

    def _missing(self) -> Iterator[str]:
        counts, wiring = self.counts, self.wiring
        if self.blocked:
            yield f"{self.blocked[0]} of an earlier job of this name is still there"
        if not counts.npdc_ready:
            yield "the NPDC does not serve yet"
        if counts.mdcs_ready < counts.mdcs_desired:
            yield f"{counts.mdcs_ready} of {counts.mdcs_desired} MDCs serve"
        yield from self._waiting_slots()
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
