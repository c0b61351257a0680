"""What the operator makes of an NPDC's word on its training, `status.training`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elf_operator.observation import Observation
from elf_operator.spec import Spec
from elf_operator.verdicts import Surroundings
from elf_worker.contract import Phase

HEARTBEAT_SLACK_SECONDS = 2.0
"""What an NPDC's word may take to the operator, beyond the time after which it is taken for dead."""


def acted_on(training: Mapping[str, Any]) -> tuple[Any, ...]:
    """What of the NPDC's progress changes plans; the rest of it is for people."""
    silent = tuple(str(entry.get("uid")) for entry in training.get("unreachable") or ())
    slow = tuple(str(entry.get("uid")) for entry in training.get("stragglers") or ())
    said = (training.get("phase"), training.get("incarnation"), training.get("homes"))
    return (*said, silent, slow, connected(training), copies(training), undelivered(training))


def connected(training: Mapping[str, Any]) -> frozenset[tuple[int, int]]:
    """(index, incarnation) of the MDCs that the NPDC hears."""
    found = ((e.get("mdc", -1), e.get("incarnation", -1)) for e in training.get("serving") or ())
    return frozenset(found)


def heard_by(training: Mapping[str, Any], npdc: int) -> frozenset[tuple[int, int]] | None:
    """See `connected`, as this incarnation of the NPDC says; None while it says nothing of that."""
    return connected(training) if "serving" in training and is_from(training, npdc) else None


def copies(training: Mapping[str, Any]) -> frozenset[tuple[int, int]]:
    """(index, incarnation) of the MDCs that hold copies of the state."""
    return frozenset((e.get("mdc", -1), e.get("incarnation", -1)) for e in training.get("copies") or ())


def is_from(training: Mapping[str, Any], incarnation: int) -> bool:
    """Whether this NPDC has said it, not its predecessor; it begins to speak when it trains."""
    return (training.get("phase"), training.get("incarnation")) == (Phase.TRAINING, incarnation)


def is_silent(seen: Observation, spec: Spec) -> bool:
    """Whether an NPDC that has spoken has not done so for too long."""
    return seen.npdc_silence >= spec.mdc_timeout_seconds + HEARTBEAT_SLACK_SECONDS


def undelivered(training: Mapping[str, Any]) -> str:
    """Why the NPDC cannot write where the model shall go, if it cannot."""
    return str((training.get("output") or {}).get("problem") or "")


def surroundings(seen: Observation, spec: Spec, now: float) -> Surroundings:
    """What it says of pods, and its silence of itself."""
    unheard = {str(u["uid"]) for u in seen.training.get("unreachable") or ()}
    heard: set[str] = set()
    if seen.wiring is not None and is_from(seen.training, seen.wiring.npdc.incarnation):
        (unheard if is_silent(seen, spec) else heard).add(seen.wiring.npdc.uid)
        there = connected(seen.training)
        mdcs = seen.wiring.mdcs.items()
        heard |= {slot.uid for index, slot in mdcs if (index, slot.incarnation) in there}
    slow = {
        str(entry["uid"]): (float(entry["seconds"]), float(entry["median"]))
        for entry in seen.training.get("stragglers") or ()
        if spec.straggler_factor is not None
    }
    return Surroundings(
        now, frozenset(unheard), frozenset(heard), seen.lost_nodes, slow, spec.straggler_factor or 1.0
    )
