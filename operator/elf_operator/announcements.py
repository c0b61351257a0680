"""Events without floods: the same thing said again is counted, and a job that says too much is cut short."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from elf_operator.plans import Event

BURST = 25
"""Events a job may have at once …"""
REFILL_SECONDS = 20.0
"""… and one more in so much time."""
REMEMBERED = 64
"""Different Events of a job that are known again."""


@dataclass
class Written:
    """An Event that stands on the server."""

    name: str
    count: int = 1
    first: float = 0.0


@dataclass
class _Job:
    tokens: float = BURST
    at: float = 0.0
    written: dict[Event, Written] = field(default_factory=dict)


class Announcements:
    """What was said of each job (UID). `clock`: seconds since the epoch."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._jobs: dict[str, _Job] = {}

    def admit(self, uid: str) -> bool:
        """Whether this job may have an Event written now; one that may is counted."""
        now = self._clock()
        job = self._jobs.setdefault(uid, _Job(at=now))
        job.tokens = min(BURST, job.tokens + (now - job.at) / REFILL_SECONDS)
        job.at = now
        if job.tokens < 1:
            return False
        job.tokens -= 1
        return True

    def known(self, uid: str, event: Event) -> Written | None:
        """The Event on the server that says the same."""
        job = self._jobs.get(uid)
        return job.written.get(event) if job else None

    def wrote(self, uid: str, event: Event, written: Written) -> None:
        """It stands on the server now."""
        known = self._jobs.setdefault(uid, _Job(at=self._clock())).written
        known.pop(event, None)
        known[event] = written
        if len(known) > REMEMBERED:
            del known[next(iter(known))]

    def forget(self, uid: str) -> None:
        """The job is gone."""
        self._jobs.pop(uid, None)
