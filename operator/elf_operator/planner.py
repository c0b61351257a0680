"""What to do about one job: a pure function from what is seen to what shall be done.

The same plan serves the cluster and local mode. It is made from a fresh observation each time and remembers
nothing: what must outlive the operator stands in the wiring (incarnations, fencing tokens, assignment) and
in the status (histories).
"""

from __future__ import annotations

from elf_operator import lifetimes
from elf_operator.builders import Defaults
from elf_operator.endings import (
    UNTIL_MENDED,
    ended,
    hold,
    problems,
    stranded,
    suspend,
    under_way,
    wind_up,
)
from elf_operator.issuing import authority_of
from elf_operator.observation import Observation
from elf_operator.plans import Plan
from elf_operator.running import Running
from elf_operator.status import Condition


def plan(seen: Observation, now: float, defaults: Defaults) -> Plan:
    """What to do about this job at `now` (seconds since the epoch)."""
    if (end := ended(seen)) is not None:
        return lifetimes.kept(wind_up(seen, now, end), seen, now)
    if found := problems(seen):
        if under_way(seen):
            return hold(seen, now, "InvalidSpec", f"{'; '.join(found)}. {UNTIL_MENDED}")
        return wind_up(seen, now, Condition("Failed", True, "InvalidSpec", "; ".join(found)))
    wanted = seen.job.spec
    assert wanted is not None
    if wanted.suspend:
        return suspend(seen, wanted, now, authority_of(seen.job.uid, defaults))
    if (end := lifetimes.overdue(seen, wanted, now)) is not None:
        return lifetimes.kept(wind_up(seen, now, end), seen, now)
    if (strange := stranded(seen, authority_of(seen.job.uid, defaults))) is not None:
        return hold(seen, now, "AuthorityChanged", strange)
    return lifetimes.in_time(Running(seen, wanted, now, defaults).plan(), seen, wanted, now)
