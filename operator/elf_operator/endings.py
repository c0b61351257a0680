"""Jobs that do not run: ended, broken or suspended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from elf_operator import names, spec, status
from elf_operator.builders import Manifest
from elf_operator.lifetimes import OVERDUE
from elf_operator.observation import Observation, parse_time
from elf_operator.plans import Delete, Event, Plan
from elf_operator.slots import desired, replaced_counts, rewired, vacate
from elf_operator.spec import Spec
from elf_operator.status import Condition, Counts
from elf_worker.contract import Phase

GOODBYE_SECONDS = 30.0
"""How long pods may take to leave by themselves once the job has ended."""


def ended(seen: Observation) -> Condition | None:
    """How the job ended: as decided before, or as the NPDC says now."""
    for kind in ("Complete", "Failed"):
        held = status.holds(seen.status, kind)
        if held and held["reason"] != "InvalidSpec":
            return Condition(kind, True, held["reason"], held["message"])
        if held and seen.training.get("phase") == Phase.FAILED:
            return Condition(kind, True, held["reason"], held["message"])  # the NPDC found the spec wanting
    message = str(seen.training.get("message", ""))
    match seen.training.get("phase"):
        case Phase.COMPLETE:
            return Condition("Complete", True, "Trained", message)
        case Phase.FAILED:
            return Condition("Failed", True, str(seen.training.get("reason", "TaskFailed")), message)
    return None


def problems(seen: Observation) -> list[str]:
    """What is wrong with the spec as it stands, one sentence a field."""
    if seen.job.spec is None:
        return list(seen.job.errors)
    return _changed(seen)


def _changed(seen: Observation) -> list[str]:
    """What is said of fields that decide which bits come out and are not what the job was started with."""
    if seen.wiring is None or seen.job.spec is None:
        return []
    return spec.refusals(spec.completed(seen.wiring.recipe), seen.job.recipe)


def under_way(seen: Observation) -> bool:
    """Whether there is work of this job to lose."""
    return bool(seen.training.get("round")) and seen.training.get("phase") == Phase.TRAINING


UNTIL_MENDED = "Training goes on as before; nothing is replaced until the spec is mended"


def stranded(seen: Observation, authority: str) -> str | None:
    """What is to be done about a job whose pods trust an authority that cannot be spoken for any more."""
    theirs = seen.wiring.authority if seen.wiring is not None else ""
    if not theirs or theirs == authority:
        return None
    return (
        "the operator's master key is not the one that this job was started with, so no new pod could talk "
        "to those that run. Training goes on as it is; nothing is replaced until the key is restored, or the "
        "job is suspended and resumed"
    )


def hold(seen: Observation, now: float, reason: str, message: str) -> Plan:
    """Leave all as it is until a person has mended something."""
    conditions = [
        Condition("Ready", False, reason, message),
        Condition("Degraded", True, reason, message),
        Condition("Suspended", False, "NotSuspended", "spec.suspend has not been looked at"),
        Condition("Complete", False, "InProgress", "training goes on"),
        Condition("Failed", False, "InProgress", "training goes on"),
    ]
    fresh = status.build(seen, now, "Degraded", conditions, Counts())
    kept = {key: value for key, value in seen.status.items() if key not in ("training", "completionTime")}
    decided = {key: fresh[key] for key in ("observedGeneration", "state", "conditions", "startTime")}
    said = (status.holds(seen.status, "Degraded") or {}).get("message") == message
    events = () if said else (Event("Warning", reason, message),)
    return Plan(status=kept | decided, events=events)


def wind_up(seen: Observation, now: float, end: Condition) -> Plan:
    """Pods leave by themselves; what is still there later is helped. Of a job that never got going, nothing
    stays.
    """
    state = end.type
    ended_at = parse_time(seen.status.get("completionTime")) or now
    stillborn = state == "Failed" and not seen.training.get("round")
    late = now >= ended_at + GOODBYE_SECONDS
    at_once = stillborn or end.reason == OVERDUE
    doomed = [p for p in seen.pods if not p.deleting and (at_once or late) and (stillborn or not p.over)]
    delete = tuple(Delete(p.name, p.uid, f"the job is {state}: {end.reason}") for p in doomed)
    waits = any(not p.over for p in seen.pods)
    # The wiring of a job whose recipe was changed says what it was: without it the change would pass.
    remove = tuple(_leftovers(seen)) if stillborn and not _changed(seen) else ()
    old = seen.status
    events: tuple[Event, ...] = ()
    if not status.holds(old, state):
        events = (Event("Normal" if state == "Complete" else "Warning", end.reason, end.message),)
    new = status.build(seen, now, state, _final(end), _last_counts(seen), status.previous_replacements(seen))
    kept = {key: old[key] for key in ("assignments",) if key in old}
    return Plan(
        status=new | kept,
        delete=delete,
        remove=remove,
        events=events,
        again_after=GOODBYE_SECONDS if waits and not late else None,
    )


def _leftovers(seen: Observation) -> Iterator[tuple[str, str]]:
    """In the order of removal: what is seen goes last, so that a removal cut short is taken up again."""
    if seen.service is not None:
        for kind in ("RoleBinding", "Role", "ServiceAccount", "Service"):
            yield kind, names.npdc(seen.job.name)
    if seen.wiring is not None:
        yield "ConfigMap", names.wiring(seen.job.name)


def _final(end: Condition) -> list[Condition]:
    complete = end.type == "Complete"
    return [
        Condition("Ready", False, end.reason, "the job has ended"),
        Condition("Degraded", False, end.reason, "the job has ended"),
        Condition("Suspended", False, end.reason, "the job has ended"),
        end if complete else Condition("Complete", False, end.reason, end.message),
        end if not complete else Condition("Failed", False, end.reason, end.message),
    ]


def suspend(seen: Observation, spec: Spec, now: float, authority: str) -> Plan:
    """No pods; every slot is fenced, so nothing that lingers can act for the job.

    The pods of a resumed job trust this authority; see `Wiring.authority`.
    """
    delete = tuple(Delete(p.name, p.uid, "the job is suspended") for p in seen.pods if not p.deleting)
    apply: tuple[Manifest, ...] = ()
    if seen.wiring is not None:
        fenced = {i: vacate(slot) for i, slot in seen.wiring.mdcs.items()}
        npdc = vacate(seen.wiring.npdc)
        apply = rewired(seen, replace(seen.wiring, npdc=npdc, mdcs=fenced, authority=authority))
    message = _resume_message(seen, spec)
    conditions = [
        Condition("Ready", False, "Suspended", message),
        Condition("Degraded", False, "Suspended", message),
        Condition("Suspended", True, "Suspended", message),
        Condition("Complete", False, "Suspended", message),
        Condition("Failed", False, "Suspended", message),
    ]
    replaced = replaced_counts(seen)
    counts = replace(desired(spec), mdcs_replaced=replaced[0], npdc_replaced=replaced[1])
    new = status.build(seen, now, "Suspended", conditions, counts, status.previous_replacements(seen))
    events = () if status.holds(seen.status, "Suspended") else (Event("Normal", "Suspended", message),)
    return Plan(status=new, apply=apply, delete=delete, events=events)


def _resume_message(seen: Observation, spec: Spec) -> str:
    if not seen.training.get("round"):
        return "not started yet"
    if spec.volume_claim:
        every = spec.checkpoint_every
        return (
            f"resuming goes on from the newest checkpoint on {spec.volume_claim} (one every {every} rounds)"
        )
    over = "there is no checkpoint volume: resuming starts over from round 0"
    counts = {entry.get("homes") for entry in seen.training.get("population") or ()}
    if counts - {spec.homes}:
        return f"{over} with {spec.homes} homes; there were others before, so it ends with other bits"
    return f"{over} and ends with the same bits"


def _last_counts(seen: Observation) -> Counts:
    """What was there when the job ended: its pods leave, but they did serve."""
    homes, mdcs = seen.status.get("homes") or {}, seen.status.get("miniDataCenters") or {}
    replaced = replaced_counts(seen)
    return replace(
        desired(seen.job.spec),
        homes_ready=homes.get("ready", 0),
        mdcs_ready=mdcs.get("ready", 0),
        mdcs_replaced=replaced[0],
        npdc_ready=bool((seen.status.get("northPole") or {}).get("ready")),
        npdc_replaced=replaced[1],
    )
