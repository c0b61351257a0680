"""Bundles: what several homes of one pod add up to, so that their MDC takes them at once.

The exact sum is a commutative monoid, so it does not matter who adds. Only a plain mean may be bundled: a
robust method and clipping need each home's vector at the MDC.
"""

from __future__ import annotations

from typing import Any

import msgspec

from elf_worker.aggregation import ids
from elf_worker.aggregation.tally import Tally, count_reasons, parted
from elf_worker.contract import JobConfig
from elf_worker.exact import NotSummableError
from elf_worker.exact.accumulator import LIMIT
from elf_worker.messages import Bundle, Stamp

MOST_HOMES = 1024
"""Homes in a bundle: they are neighbours, from a multiple of this on."""
FEWEST_HOMES = 4
"""Of a pod that bundles of its own accord. A sum has 16 bytes for an element where one vector has 4."""


def together(config: JobConfig) -> bool:
    """Whether pods of this job compute their homes together, and add them up.

    With fast, whatever the size of pods: its bits are not to depend on that.
    """
    plain = config.aggregation == "mean" and config.clip_norm is None
    worth_it = config.batching == "exact" and config.per_pod >= FEWEST_HOMES
    return plain and (worth_it or config.batching == "fast")


def make(tally: Tally, stamp: Stamp, mdc: int, held: float) -> tuple[Bundle, memoryview | None]:
    """The message of a tally that is not empty, and its payload. `held`: seconds since the weights came."""
    submit, payload = tally.submit(stamp)
    first = ids.lowest(tally.settled)
    members, failed = (ids.to_wire(mask >> first) for mask in (tally.members, tally.failed))
    submit = msgspec.structs.replace(submit, members=members, failed=failed)
    return Bundle(first, submit, mdc, held), payload


def homes_of(bundle: Bundle, most: int) -> int:
    """The mask of the homes that it speaks for; 0 if some would be beyond `most`, however far."""
    mask = ids.from_wire(bundle.sum.members) | ids.from_wire(bundle.sum.failed)
    inside = 0 <= bundle.first and bundle.first + mask.bit_length() <= most
    return mask << bundle.first if inside else 0


def take(tally: Tally, bundle: Bundle, payload: Any) -> None:
    """Count a bundle whose homes have been checked.

    Raises NotSummableError, and changes nothing, for a bad one.
    """
    members, failed = (ids.from_wire(m) << bundle.first for m in (bundle.sum.members, bundle.sum.failed))
    if bundle.sum.bound > LIMIT * members.bit_count():
        raise NotSummableError("OutOfRange", f"magnitudes of {members.bit_count()} homes add up to more")
    placed = msgspec.structs.replace(bundle.sum, members=ids.to_wire(members), failed=ids.to_wire(failed))
    total, extra = parted(payload, bundle.sum.extra)
    tally.merge(placed, total)
    count_reasons(tally.refused, bundle.sum.refused)
    tally.note_wire(extra)
