"""How long a job may live: until its deadline while it runs, and for some time after it has ended.

Both are those of batch/v1 Jobs: `activeDeadlineSeconds` counts from `status.startTime`, which begins anew
when a suspended job is resumed; `ttlSecondsAfterFinished` counts from `status.completionTime`.
"""

from __future__ import annotations

from dataclasses import replace

from elf_operator.observation import Observation, parse_time
from elf_operator.plans import Plan
from elf_operator.spec import Spec
from elf_operator.status import Condition

OVERDUE = "DeadlineExceeded"
"""Reason of a job that has failed because it took too long."""
JOB = "ElfTrainingJob"


def overdue(seen: Observation, spec: Spec, now: float) -> Condition | None:
    """That the job has failed, if it has been active for longer than it may."""
    left = _seconds_left(seen, spec, now)
    if left is None or left > 0:
        return None
    limit = f"spec.activeDeadlineSeconds ({spec.active_deadline_seconds})"
    done = f"{seen.training.get('round') or 0} of {spec.rounds} rounds are done"
    return Condition("Failed", True, OVERDUE, f"active for longer than {limit}: {done}")


def in_time(plan: Plan, seen: Observation, spec: Spec, now: float) -> Plan:
    """The plan of a job that runs, with a look at it when its deadline comes."""
    return _looking_after(plan, _seconds_left(seen, spec, now))


def kept(plan: Plan, seen: Observation, now: float) -> Plan:
    """The plan of a job that has ended: it goes when its time has come, and everything of it goes with it.

    Only once the status says how it ended, so that whoever waits for that has had the time to read it.
    """
    ttl = seen.job.spec.ttl_seconds if seen.job.spec is not None else None
    if ttl is None:
        return plan
    ended_at = parse_time(seen.status.get("completionTime"))
    if not ended_at:
        return _looking_after(plan, ttl)
    left = ended_at + ttl - now
    if left > 0:
        return _looking_after(plan, left)
    return Plan(status=plan.status, remove=((JOB, seen.job.name),))


def _seconds_left(seen: Observation, spec: Spec, now: float) -> float | None:
    """Until the deadline; None without one. A job that has not been seen yet begins now."""
    if spec.active_deadline_seconds is None:
        return None
    began = parse_time(seen.status.get("startTime")) or now
    return began + spec.active_deadline_seconds - now


def _looking_after(plan: Plan, seconds: float | None) -> Plan:
    if seconds is None:
        return plan
    waits = [wait for wait in (plan.again_after, seconds) if wait is not None]
    # Not at once: what was written a moment ago may not be seen yet.
    return replace(plan, again_after=max(0.1, min(waits)))
