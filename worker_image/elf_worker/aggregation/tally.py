"""What one data center has counted of one round: an exact sum and who is in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from elf_worker.aggregation import ids
from elf_worker.exact import ExactSum, NotSummableError
from elf_worker.messages import Stamp, Submit

MAX_WEIGHT = 1 << 24
"""Examples one home may claim for one round: a false claim cannot drown the others by more."""
MAX_REASONS = 16
SAMPLE_CHARS = 400


class Tally:
    """A commutative monoid of contributions with disjoint members; the identity is a fresh `Tally(size)`.

    `size` counts float32 elements of a home's vector (parameters, then the loss).
    """

    def __init__(self, size: int) -> None:
        self.total = ExactSum(size)
        self.members = 0
        """Homes whose vectors are in `total` (bit mask)."""
        self.failed = 0
        """Homes that have no vector this round (bit mask)."""
        self.weight = 0
        self.reasons: dict[str, int] = {}
        self.sample = ""

    @property
    def settled(self) -> int:
        """Homes that are counted, one way or the other."""
        return self.members | self.failed

    def add(self, home: int, weight: int, payload: Any) -> None:
        """Count one home's vector. Raises NotSummableError, and changes nothing, for a bad one."""
        if not 0 < weight <= MAX_WEIGHT:
            raise NotSummableError("BadWeight", f"weight {weight} is outside 1..{MAX_WEIGHT}")
        size = memoryview(payload).nbytes if payload is not None else 0
        if size != 4 * self.total.size:
            raise NotSummableError("WrongSize", f"{size} bytes where {4 * self.total.size} are expected")
        self.total.add(np.frombuffer(payload, dtype="<f4"))
        self.members |= 1 << home
        self.weight += weight

    def fail(self, home: int, reason: str, message: str) -> None:
        """Count one home as failed in this round."""
        self.failed |= 1 << home
        self._count({reason: 1}, f"home {home}: {message}")

    def merge(self, submit: Submit, payload: Any) -> None:
        """Count what an MDC counted. Raises NotSummableError, and changes nothing, for a bad one."""
        members, failed = ids.from_wire(submit.members), ids.from_wire(submit.failed)
        if members & failed or (members | failed) & self.settled:
            raise NotSummableError("Overlap", "some of these homes are counted already")
        if members:
            if not 0 < submit.weight <= MAX_WEIGHT * members.bit_count():
                raise NotSummableError("BadWeight", f"weight {submit.weight} of {members.bit_count()} homes")
            self.total.merge(ExactSum.from_bytes(self.total.size, payload, submit.bound))
            self.weight += submit.weight
        self.members |= members
        self.failed |= failed
        self._count(submit.reasons, submit.sample)

    def submit(self, stamp: Stamp) -> tuple[Submit, memoryview | None]:
        """The tally as a message and its payload."""
        message = Submit(
            stamp=stamp,
            members=ids.to_wire(self.members),
            failed=ids.to_wire(self.failed),
            weight=self.weight,
            bound=self.total.bound,
            reasons=self.reasons,
            sample=self.sample,
        )
        return message, self.total.to_bytes() if self.members else None

    def _count(self, reasons: dict[str, int], sample: str) -> None:
        for reason, count in reasons.items():
            known = reason in self.reasons or len(self.reasons) < MAX_REASONS
            key = reason if known else "Other"
            self.reasons[key] = self.reasons.get(key, 0) + count
        self.sample = self.sample or sample[:SAMPLE_CHARS]
