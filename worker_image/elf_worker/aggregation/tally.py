"""What one data center has counted of one round: an exact sum and who is in it."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from elf_worker.aggregation import ids, precision, robust
from elf_worker.aggregation.lane import INLINE, Lane
from elf_worker.aggregation.rows import exact_rows
from elf_worker.contract import group_of
from elf_worker.exact import ExactSum, NotSummableError, check_packed, check_vector, max_packed_bytes
from elf_worker.exact.accumulator import LIMIT, check_magnitude
from elf_worker.messages import Discarded, Pace, Stamp, Submit
from elf_worker.statistics import HomeObservation, ManyHomes, Product
from elf_worker.statistics.product import State

MAX_WEIGHT = 1 << 24
"""Examples one home may claim for one round: a false claim cannot drown the others by more."""
MAX_REASONS = 16
REASON_CHARS = 64
SAMPLE_CHARS = 400

MOST_HOMES = 1 << 20
LONG = 1 << 10
"""Elements from which on many vectors are added one by one, not all at once by numpy."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Intake:
    """What an MDC does with a home's vector before it is added up. The default adds it as it is."""

    homes: int = MOST_HOMES
    """Of the whole job when it was started: ids from here on are nobody's unless the NPDC names them."""
    mdc: int = 0
    """Index of this MDC."""
    precision: str = precision.FLOAT32
    clip_norm: float | None = None
    method: str = "mean"
    trim_percent: int = 10
    statistics: Product | None = None
    group_size: int = 0
    """Homes, at least, in a group that is combined by a robust method before it is added (`contract.groups`);
    0 for the plain mean. A group is counted whole, in one MDC, or not at all."""
    lane: Lane = INLINE
    """Where vectors and sums are added up once they have been accepted."""

    def group_of(self, home: int) -> int:
        """The mask of a home's group; 0 without groups, or for nobody's home."""
        if not self.group_size or home >= self.homes:
            return 0
        group = group_of(home, self.homes, self.group_size)
        return ids.full(len(group)) << group.start

    @property
    def takes_sums(self) -> bool:
        """Whether homes may be added up before they come here."""
        return not self.group_size and self.clip_norm is None

    def watch(self, homes: Iterable[int]) -> None:
        """Have the paths of these homes in the statistics."""
        if self.statistics is not None:
            self.statistics.watch(homes)


PLAIN = Intake()


@dataclass
class _Group:
    """Homes of one group that have spoken; kept until all of them have."""

    vectors: dict[int, tuple[int, Floats, State]] = field(default_factory=dict)
    """Home → (weight, vector, statistics)."""
    failed: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Home → (reason, message)."""

    @property
    def homes(self) -> int:
        return ids.mask_of((*self.vectors, *self.failed))


class Tally:
    """A commutative monoid of contributions with disjoint members; the identity is a fresh `Tally(size)`.

    `size` counts the elements of a home's vector (parameters, then the loss).
    """

    def __init__(
        self, size: int, intake: Intake = PLAIN, round_: int = 0, total: ExactSum | None = None
    ) -> None:
        """`total`: a sum that is not needed any more, for its memory."""
        self._round = round_
        if total is None or total.size != size:
            total = ExactSum(size)
        else:
            intake.lane.join()
            total.clear()
        self._total = total
        self.members = 0
        """Homes whose vectors are in `total` (bit mask)."""
        self.failed = 0
        """Homes that have no vector this round (bit mask)."""
        self.weight = 0
        self.reasons: dict[str, int] = {}
        self.sample = ""
        self._statistics: State = {}
        self.refused: dict[str, int] = {}
        """Messages that were not counted, by reason."""
        self._intake = intake
        self._groups: dict[int, _Group] = {}

    @property
    def size(self) -> int:
        """Elements of a home's vector; 0 while that is unknown."""
        return self._total.size

    @property
    def total(self) -> ExactSum:
        """The sum, whole."""
        self._intake.lane.join()
        return self._total

    @property
    def statistics(self) -> State:
        """Of the homes that are counted."""
        self._intake.lane.join()
        return self._statistics

    @property
    def settled(self) -> int:
        """Homes that are counted, one way or the other."""
        return self.members | self.failed

    @property
    def held(self) -> int:
        """Homes that have spoken: settled, or waiting for the rest of their group."""
        mask = self.settled
        for group in self._groups.values():
            mask |= group.homes
        return mask

    def room(self) -> int:
        """Bytes that a home's vector may have."""
        return precision.nbytes(self.size, self._intake.precision) if self.size else 0

    def sum_room(self) -> int:
        """Bytes that a sum with its statistics may have."""
        product = self._intake.statistics
        return max_packed_bytes(self.size) + (product.max_bytes() if product is not None else 0)

    def add(self, home: int, weight: int, payload: Any, kind: str = precision.FLOAT32, **seen: Any) -> None:
        """Take one home's vector. Raises NotSummableError, and changes nothing, for a bad one.

        `seen` are further fields of its `HomeObservation`.
        """
        raw, vector, bound = self._checked(weight, payload, kind)
        if group := self._intake.group_of(home):
            state = self._observed(home=home, weight=weight, vector=raw, **seen)
            self._groups.setdefault(group, _Group()).vectors[home] = (weight, vector.copy(), state)
            self._close(group)
            return
        self._total.reserve(bound)

        def add() -> None:
            self._total.fold(vector)
            self._note(self._observed(home=home, weight=weight, vector=raw, **seen))

        self._intake.lane.run(add, vector.nbytes)
        self.members |= 1 << home
        self.weight += weight

    def add_many(self, many: ManyHomes) -> None:
        """Take the vectors of many homes, as they count; those that are no good have failed.

        For the plain mean without clipping; the result is that of `add` of each, or of `refuse` and `fail`.
        """
        sizes = np.abs(many.vectors).max(1)
        good = (many.weights > 0) & (many.weights <= MAX_WEIGHT) & (sizes < LIMIT)
        if not good.all():
            for index in np.flatnonzero(~good).tolist():
                self._turn_down(many[index], float(sizes[index]))
            many = many.only(good)
        if not len(many):
            return
        try:
            self._add_rows(many.vectors)
        except NotSummableError as error:
            for home in many.homes.tolist():
                self.refuse(error.reason)
                self.fail(home, error.reason, str(error))
            return
        first = int(many.homes.min())
        self.members |= ids.mask_of((many.homes - first).tolist()) << first
        self.weight += int(many.weights.sum())
        if self._intake.statistics is not None:
            product = self._intake.statistics
            self._intake.lane.run(lambda: self._note(product.of_many(many)))

    def _add_rows(self, rows: Floats) -> None:
        if self.size < LONG:
            self.total.merge_bytes(*exact_rows(rows))
            return
        total = self.total  # nobody else adds to it meanwhile
        total.reserve(sum(map(check_vector, rows)))
        for row in rows:
            total.fold(row)

    def _turn_down(self, one: HomeObservation, size: float) -> None:
        try:
            _check_weight(one.weight)
            check_magnitude(size)
        except NotSummableError as error:
            self.refuse(error.reason)
            self.fail(one.home, error.reason, str(error))

    def note_wire(self, extra: Any) -> None:
        """Statistics of homes that have been merged."""
        if self._intake.statistics is not None:
            state = self._intake.statistics.from_wire(extra)
            self._intake.lane.run(lambda: self._note(state))

    def fail(self, home: int, reason: str, message: str) -> None:
        """Count one home as failed in this round."""
        if group := self._intake.group_of(home):
            self._groups.setdefault(group, _Group()).failed[home] = (
                reason[:REASON_CHARS],
                message[:SAMPLE_CHARS],
            )
            self._close(group)
            return
        self._fail(home, reason, message)

    def refuse(self, reason: str) -> None:
        """Note that something was not counted; it is reported with the tally."""
        count_reasons(self.refused, {reason: 1})

    def rest(self) -> Tally:
        """A new tally with the homes that wait for the rest of their group; they leave this one.

        It has the memory of this one's sum, which is not to be used any more.
        """
        new = Tally(self.size, self._intake, self._round, self._total)
        new._groups, self._groups = self._groups, {}
        return new

    def merge(self, submit: Submit, payload: Any) -> None:
        """Count what an MDC counted. Raises NotSummableError, and changes nothing, for a bad one."""
        members, failed = ids.from_wire(submit.members), ids.from_wire(submit.failed)
        if members & failed or (members | failed) & self.settled:
            raise NotSummableError("Overlap", "some of these homes are counted already")
        if members:
            if not 0 < submit.weight <= MAX_WEIGHT * members.bit_count():
                raise NotSummableError("BadWeight", f"weight {submit.weight} of {members.bit_count()} homes")
            if payload is None or isinstance(payload, Discarded):
                _check_size(payload, max_packed_bytes(self.size))
            check_packed(self.size, payload, submit.bound)
            self._total.reserve(submit.bound)
            self._intake.lane.run(lambda: self._total.fold_packed(payload), memoryview(payload).nbytes)
            self.weight += submit.weight
        self.members |= members
        self.failed |= failed
        count_reasons(self.reasons, submit.reasons)
        self.sample = self.sample or submit.sample[:SAMPLE_CHARS]

    def submit(self, stamp: Stamp, pace: Pace | None = None) -> tuple[Submit, memoryview | None]:
        """The tally as a message and its payload."""
        product = self._intake.statistics
        extra = product.to_wire(self.statistics) if product is not None and self.statistics else b""
        payload = self.total.pack(extra) if self.members else memoryview(extra) if extra else None
        message = Submit(
            stamp=stamp,
            members=ids.to_wire(self.members),
            failed=ids.to_wire(self.failed),
            weight=self.weight,
            bound=self.total.bound,
            reasons=self.reasons,
            sample=self.sample,
            refused=self.refused,
            extra=len(extra),
            pace=pace,
        )
        return message, payload

    def _observed(self, **seen: Any) -> State:
        product = self._intake.statistics
        return {} if product is None else product.of_home(HomeObservation(**seen))

    def _note(self, state: State) -> None:
        if self._intake.statistics is not None:
            self._statistics = self._intake.statistics.combine(self._statistics, state)

    def _checked(self, weight: int, payload: Any, kind: str) -> tuple[Floats, Floats, int]:
        """The vector as it came, as it counts, and the latter's bound."""
        intake = self._intake
        _check_weight(weight)
        if kind != intake.precision:
            raise NotSummableError("WrongType", f"{kind[:20]} where {intake.precision} is expected")
        _check_size(payload, self.room())
        raw = vector = precision.decode(payload, kind)
        if intake.clip_norm is not None and np.isfinite(raw).all():
            vector = robust.clip(raw, weight, intake.clip_norm)
        return raw, vector, check_vector(vector)

    def _close(self, mask: int) -> None:
        """Combine a group once all of its homes have spoken."""
        group, intake = self._groups[mask], self._intake
        if group.homes != mask:
            return
        del self._groups[mask]
        for home, (reason, message) in sorted(group.failed.items()):
            self._fail(home, reason, message)
        try:
            if len(group.vectors) < robust.SMALLEST_GROUP:
                few = f"{len(group.vectors)} homes of its group are left, {robust.SMALLEST_GROUP} are needed"
                raise NotSummableError("GroupTooSmall", few)
            entries = [group.vectors[home] for home in sorted(group.vectors)]
            weights, vectors, states = zip(*entries, strict=True)
            self.total.add(robust.combine(intake.method, intake.trim_percent, vectors, weights))
        except NotSummableError as error:
            for home in sorted(group.vectors):
                self._fail(home, error.reason, str(error))
            return
        self.members |= ids.mask_of(group.vectors)
        self.weight += sum(weights)
        for state in states:
            self._intake.lane.run(functools.partial(self._note, state))

    def _fail(self, home: int, reason: str, message: str) -> None:
        self.failed |= 1 << home
        about = {"home": home, "round": self._round, "mdc": self._intake.mdc}
        state = self._observed(**about, failed=reason)
        self._intake.lane.run(lambda: self._note(state))
        count_reasons(self.reasons, {reason: 1})
        self.sample = self.sample or f"home {home}: {message}"[:SAMPLE_CHARS]


def _check_weight(weight: int) -> None:
    if not 0 < weight <= MAX_WEIGHT:
        raise NotSummableError("BadWeight", f"weight {weight} is outside 1..{MAX_WEIGHT}")


def _check_size(payload: Any, expected: int) -> None:
    thrown_away = isinstance(payload, Discarded)
    size = payload.size if thrown_away else memoryview(payload).nbytes if payload is not None else 0
    if size != expected or thrown_away:
        raise NotSummableError("WrongSize", f"{size} bytes where {expected} are expected")


def count_reasons(counts: dict[str, int], more: dict[str, int]) -> None:
    """Add counts by reason; of many reasons the later ones are put together."""
    for reason, count in more.items():
        key = reason[:REASON_CHARS]
        if key not in counts and len(counts) >= MAX_REASONS:
            key = "Other"
        counts[key] = counts.get(key, 0) + count


def parted(payload: Any, extra: int) -> tuple[Any, Any]:
    """The sum and the statistics behind it."""
    if payload is None or isinstance(payload, Discarded) or extra <= 0:
        return payload, b""
    view = memoryview(payload)
    split = max(0, view.nbytes - extra)
    return (view[:split] if split else None), view[split:]
