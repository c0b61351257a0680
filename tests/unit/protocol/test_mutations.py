"""Breaks the protocol on purpose, one rule at a time: the simulation must notice each within some seeds.

Where two rules protect the same promise (that members are disjoint, and that they are the sender's own),
both are taken away at once: either alone is enough.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from elf_worker.aggregation import ids, tally
from elf_worker.aggregation.datacenter import DataCenter
from elf_worker.aggregation.effects import Close, ComputeMany, Effect, LinkId, Send
from elf_worker.aggregation.household import Answer, Household
from elf_worker.aggregation.northpole import NorthPole
from elf_worker.contract import Wiring
from elf_worker.exact import ExactSum
from elf_worker.messages import Accepted, Assign, Bundle, Message, Register, Stamp, Submit, Want, Work
from simulation.check import breaks
from simulation.scenario import Scenario, draw

SEEDS = 400
"""Seeds within which a mutant must be caught."""


def restless(seed: int) -> Scenario:
    """Connections break all the time, and on every new one something old is said again."""
    rng = random.Random(seed)
    faults = tuple(sorted((rng.random() * 4, "break_link") for _ in range(20)))
    return Scenario(seed=seed, rounds=5, replay=1.0, faults=faults)


def hurried(seed: int) -> Scenario:
    """Robust methods with a deadline that is often past while a group still waits for a home.

    All groups are needed for the quorum. (`draw` gives homes twice the time that they take.)
    """
    rng = random.Random(seed)
    return Scenario(
        seed=seed,
        mdcs=rng.randint(1, 2),
        homes=rng.randint(6, 8),
        per_pod=rng.randint(1, 2),
        quorum=5,
        group=3,
        method=rng.choice(("median", "trimmedMean")),
        deadline=0.5,
        compute=1.5,
    )


def changing(seed: int) -> Scenario:
    """The number of homes changes all the time, on connections that come and go."""
    rng = random.Random(seed)
    kinds = ("scale_homes", "scale_homes", "break_link", "stall_link", "shuffle_homes")
    faults = tuple(sorted((rng.random() * 6, rng.choice(kinds)) for _ in range(20)))
    return Scenario(seed=seed, rounds=8, mdcs=3, per_pod=rng.randint(1, 2), compute=1.0, faults=faults)


def alone(seed: int) -> Scenario:
    """Each home speaks for itself."""
    return replace(draw(seed), together=0)


def bundled(seed: int) -> Scenario:
    """Pods add up their homes; connections break, homes move, and old bundles are said again."""
    rng = random.Random(seed)
    kinds = ("break_link", "break_link", "stall_link", "shuffle_homes", "crash_mdc", "evict_mdc")
    return Scenario(
        seed=seed,
        mdcs=rng.randint(2, 3),
        homes=rng.randint(5, 8),
        per_pod=rng.randint(2, 4),
        quorum=1,
        together=rng.randint(2, 3),
        rounds=5,
        replay=1.0,
        faults=tuple(sorted((rng.random() * 4, rng.choice(kinds)) for _ in range(16))),
    )


def replaced(seed: int) -> Scenario:
    """MDCs that are replaced, but have not died: they wake up, and go on."""
    rng = random.Random(seed)
    kinds = ("evict_mdc", "evict_mdc", "freeze_mdc", "stall_link")
    faults = tuple(sorted((rng.random() * 5, rng.choice(kinds)) for _ in range(12)))
    return Scenario(seed=seed, mdcs=3, rounds=6, latency=0.2, compute=0.3, replay=0.5, faults=faults)


def caught(because: str, seeds: int = SEEDS, kind: Callable[[int], Scenario] = draw, **machines: Any) -> None:
    """Some seed fails with such a reason."""
    reasons = []
    for seed in range(seeds):
        reason = breaks(kind(seed), **machines)
        if reason is not None:
            reasons.append(reason)
            if because in reason:
                return
    pytest.fail(f"{seeds} seeds did not show {because!r}, only {reasons[:5]}")


# -- the NPDC ---------------------------------------------------------------------------------------------


class WithoutFencing(NorthPole):
    """Replaced incarnations stay members, and may register again."""

    def rewire(self, wiring: Wiring, now: float) -> list[Effect]:
        members = dict(self._members)
        out = super().rewire(wiring, now)
        gone = {m.link for i, m in members.items() if i not in self._members}
        self._members |= {i: m for i, m in members.items() if m.link in gone}
        return [e for e in out if not (isinstance(e, (Send, Close)) and e.link in gone)]


class AdmitsAnybody(NorthPole):
    """The uid of a Register is not compared with the wiring."""

    def _admit(self, link: LinkId, message: Register, now: float) -> list[Effect]:
        slot = self.wiring.mdcs.get(message.index) if self.wiring else None
        if slot is None or not slot.uid:
            return super()._admit(link, message, now)
        forged = msgspec.structs.replace(message, incarnation=slot.incarnation, uid=slot.uid)
        return super()._admit(link, forged, now)


class TakesThePredecessorBack(NorthPole):
    """A pod whose successor has taken over may act again."""

    def _admit(self, link: LinkId, message: Register, now: float) -> list[Effect]:
        self._succeeded.discard(message.uid)
        return super()._admit(link, message, now)


class TakesStaleRounds(NorthPole):
    """A Submit of any round is taken for the present one."""

    def _submit(self, link: LinkId, message: Submit, payload: Any, now: float) -> list[Effect]:
        if self._snapshot is not None:
            message = msgspec.structs.replace(message, stamp=self._snapshot.stamp)
        return super()._submit(link, message, payload, now)


class KeepsCounting(NorthPole):
    """A Submit that comes while the optimizer steps still goes into the sum."""

    def _submit(self, link: LinkId, message: Submit, payload: Any, now: float) -> list[Effect]:
        if self._round is None or not self._round.stepping:
            return super()._submit(link, message, payload, now)
        self._round.stepping = False
        out = super()._submit(link, message, payload, now)
        self._round.stepping = True
        return out


class NeverFlushes(NorthPole):
    """Past the deadline nobody is told to send what it has."""

    def _maybe_close(self, now: float) -> list[Effect]:
        out = super()._maybe_close(now)
        return [e for e in out if not (isinstance(e, Send) and type(e.message).__name__ == "Flush")]


class KeepsWhoLeft(NorthPole):
    """With fewer homes the round goes on instead of beginning anew."""

    def _begin_anew(self, now: float) -> list[Effect]:
        tally = self._round.tally if self._round is not None else None
        out = super()._begin_anew(now)
        if self._round is not None and tally is not None:
            self._round.tally = tally
        return out


class ServesWhoComesLater(NorthPole):
    """Homes of the next round are served, and counted, in this one."""

    def _place(self, boundary: bool) -> list[Effect]:
        if self._round is None:
            return super()._place(boundary)
        homes, self._round.homes = self._round.homes, 64
        out = super()._place(boundary)
        self._round.homes = homes
        return out


class NamesTheNextCount(NorthPole):
    """A round is said to have had as many homes as the next one will have."""

    def _close(self, now: float) -> list[Effect]:
        out = super()._close(now)
        if self.last_round is not None and self.last_round.homes < self._wanted()[0]:
            self.last_round.homes = self._wanted()[0]
        return out


# -- the sum ----------------------------------------------------------------------------------------------


def blind_merge(self: tally.Tally, submit: Submit, payload: Any) -> None:
    """`Tally.merge` without a look at who is counted already."""
    members = ids.from_wire(submit.members)
    if members:
        self.total.merge_packed(payload, submit.bound)
        self.weight += submit.weight
    self.members |= members
    self.failed |= ids.from_wire(submit.failed)


class BlindNorthPole(NorthPole):
    """Takes any members from any current MDC, counted or not."""

    def _submit(self, link: LinkId, message: Submit, payload: Any, now: float) -> list[Effect]:
        index = next((i for i, m in self._members.items() if m.link == link), None)
        fresh = self._round is not None and not self._round.stepping
        stamp = self._snapshot.stamp if self._snapshot else None
        if index is None or not fresh or message.stamp != stamp:
            return super()._submit(link, message, payload, now)
        self._round.tally.merge(message, payload)
        members = ids.from_wire(message.members) | ids.from_wire(message.failed)
        count = ids.from_wire(message.members).bit_count()
        self._round.by_mdc[index] = self._round.by_mdc.get(index, 0) + count
        return [Send(link, Accepted(message.stamp, ids.to_wire(members))), *self._maybe_close(now)]


class FloatSum(ExactSum):
    """Adds with rounding, as anybody would at first; the same bytes on the wire."""

    floats: Any = np.float64

    def fold(self, values: Any) -> None:
        super().fold(values)
        self._round_to(self._before + values.astype(self.floats))

    def fold_packed(self, payload: Any) -> None:
        other = ExactSum(self.size)
        other.fold_packed(payload)
        super().fold_packed(payload)
        self._round_to(self._before + _floats(other, self.floats))

    def clear(self) -> None:
        super().clear()
        self._rounded = np.zeros(self.size, self.floats)

    @property
    def _before(self) -> Any:
        return getattr(self, "_rounded", np.zeros(self.size, self.floats))

    def _round_to(self, value: Any) -> None:
        self._rounded = value
        limbs = [round(float(x) * 2.0**75) for x in value]
        low = [(u + (1 << 44)) % (1 << 45) - (1 << 44) for u in limbs]
        self._raw = 0
        self._high[:] = [(u - part) >> 45 for u, part in zip(limbs, low, strict=True)]
        self._low[:] = low


class Float32Sum(FloatSum):
    """The same in single precision."""

    floats = np.float32


def _floats(total: ExactSum, dtype: Any) -> Any:
    limbs = np.frombuffer(total.to_bytes(), "<i8")
    return (limbs[: total.size] * 2.0**-30 + limbs[total.size :] * 2.0**-75).astype(dtype)


combine_whole = tally.Tally._close


def combine_early(self: tally.Tally, mask: int) -> None:
    """`Tally._close` that waits for three vectors only; who comes later is added alone, as in a mean."""
    group = self._groups[mask]
    present = group.homes
    if present | self.members & mask == mask and self.members & mask:
        del self._groups[mask]
        for home, (weight, vector, *_) in group.vectors.items():
            self.total.add(vector)
            self.members |= 1 << home
            self.weight += weight
        self.failed |= ids.mask_of(group.failed)
    elif present != mask and len(group.vectors) >= 3 and not self.members & mask:
        self._groups[present] = self._groups.pop(mask)
        combine_whole(self, present)
    else:
        combine_whole(self, mask)


def lose_the_rest(self: tally.Tally) -> tally.Tally:
    """`Tally.rest` without the homes that wait for the rest of their group."""
    return tally.Tally(self.total.size, self._intake)


def mix_groups(self: tally.Intake, home: int) -> int:
    """`Intake.group_of` that takes all homes for one group."""
    return ids.full(self.homes) if self.group_size else 0


# -- the MDC ----------------------------------------------------------------------------------------------


class ForgetsItsFlight(DataCenter):
    """After reconnecting, what was in flight is taken for received."""

    def _reconcile(self, settled: int) -> list[Effect]:
        if self._flying is not None and self._up is not None:
            self._flying = replace(self._flying, link=self._up)
        return super()._reconcile(settled)


class NeverAsks(DataCenter):
    """Homes that have the weights already are not asked for what is missing."""

    def _serve_child(self, link: LinkId, child: Any) -> list[Effect]:
        return [e for e in super()._serve_child(link, child) if not _says(e, Want)]


class HoldsOnToHomes(DataCenter):
    """Homes that moved away are not told."""

    def _assign(self, message: Assign) -> list[Effect]:
        homes = ids.from_wire(message.homes) | self.homes
        return super()._assign(Assign(message.stamp, ids.to_wire(homes), message.settled))


class ForgetsWhoCameEarly(DataCenter):
    """Homes that spoke before it had heard of them are not asked to speak again."""

    def _turn_ahead(self) -> list[Effect]:
        return []


class MixesRounds(DataCenter):
    """The tally of the last round is carried into the next."""

    def _work(self, message: Work, payload: Any) -> list[Effect]:
        kept, total = self._tally, ExactSum(self._tally.size)
        total.merge_packed(kept.total.pack(), kept.total.bound)
        out = super()._work(message, payload)  # which takes the memory of the sum
        if kept.members and kept.size == self._tally.size:
            self._tally, kept._total = kept, total
        return out


# -- the home ---------------------------------------------------------------------------------------------


class DropsItsAnswer(Household):
    """Re-homed, it forgets its answer and thinks that it is still computing."""

    def _lose(self, homes: int, now: float) -> list[Effect]:
        for home in ids.ids_of(homes):
            if self._answers.pop(home, None) is not None:
                self._computing.add(home)
        return super()._lose(homes, now)


class AnswersForAnyRound(Household):
    """An answer for an earlier model is relabelled for the present one."""

    def computed(self, home: int, answer: Answer) -> list[Effect]:
        if self.stamp is not None:
            answer = answer._replace(stamp=self.stamp)
        return super().computed(home, answer)


class KeepsOldAnswers(Household):
    """New weights do not make it compute again."""

    def _work(self, link: LinkId, mdc: Any, message: Work, payload: Any) -> list[Effect]:
        kept = dict(self._answers)
        known: Stamp | None = self.stamp
        if known is not None and message.stamp != known:
            super()._work(link, mdc, message, payload)
            self._answers = {h: a._replace(stamp=message.stamp) for h, a in kept.items()}
            self._computing.clear()
            return self._offer_or_compute(link, mdc.homes)
        return super()._work(link, mdc, message, payload)


class StaysWithTheSilent(Household):
    """A lost connection is not followed by a question to the NPDC."""

    def _lose(self, homes: int, now: float) -> list[Effect]:
        return []


# -- bundles ----------------------------------------------------------------------------------------------


class TakesBundlesOfAnyRound(DataCenter):
    """A bundle of an earlier round is taken for the present one."""

    def _bundle(self, link: LinkId, child: Any, message: Bundle, payload: Any) -> list[Effect]:
        said = msgspec.structs.replace(message.sum, stamp=self.stamp)
        return super()._bundle(link, child, msgspec.structs.replace(message, sum=said), payload)

    def _bundle_room(self, child: Any, message: Bundle) -> int:
        return 1 << 20


class SendsWhatHasMoved(Household):
    """A bundle goes to whoever serves some of its homes, and nobody is computed again."""

    def bundled(self, work: ComputeMany, homes: int, bundle: Bundle, payload: Any) -> list[Effect]:
        out = super().bundled(work, homes, bundle, payload)
        return [e for e in out if not isinstance(e, ComputeMany)]


class KeepsOldBundles(Household):
    """What it added up for an earlier model is said for the present one."""

    def _work(self, link: LinkId, mdc: Any, message: Work, payload: Any) -> list[Effect]:
        kept, known = dict(self._bundles), self.stamp
        if known is not None and message.stamp != known:
            self.stamp = message.stamp
            super()._work(link, mdc, msgspec.structs.replace(message, stamp=known), payload)
            self.stamp, self._weights, self._busy = message.stamp, payload, 0
            self._bundles = {k: _relabelled(send, message.stamp) for k, send in kept.items()}
            return self._offer_or_compute(link, mdc.homes)
        return super()._work(link, mdc, message, payload)


def _relabelled(send: Send, stamp: Stamp) -> Send:
    assert isinstance(send.message, Bundle)
    said = msgspec.structs.replace(send.message.sum, stamp=stamp)
    return Send(send.link, msgspec.structs.replace(send.message, sum=said), send.payload)


def _says(effect: Effect, kind: type[Message]) -> bool:
    return isinstance(effect, Send) and isinstance(effect.message, kind)


# -- all of them ------------------------------------------------------------------------------------------

MUTANTS = [
    ("northpole", AdmitsAnybody, "accepted a Submit of"),
    ("northpole", NeverFlushes, "stuck"),
    ("datacenter", ForgetsItsFlight, "stuck"),
    ("northpole", KeepsCounting, "is not that of"),
    ("datacenter", HoldsOnToHomes, "stuck"),
    ("datacenter", NeverAsks, "stuck"),
    ("datacenter", MixesRounds, "the sum is not the exact sum"),
    ("household", DropsItsAnswer, "stuck"),
    ("household", AnswersForAnyRound, "the sum is not the exact sum"),
    ("household", KeepsOldAnswers, "the sum is not the exact sum"),
    ("household", StaysWithTheSilent, "stuck"),
]


@pytest.mark.parametrize(("role", "mutant", "because"), MUTANTS, ids=lambda m: getattr(m, "__name__", None))
def test_a_broken_machine_is_caught(role: str, mutant: type, because: str) -> None:
    caught(because, kind=alone, **{role: mutant})


def test_an_npdc_that_fences_nobody_is_caught() -> None:
    caught("accepted a Submit of", kind=replaced, northpole=WithoutFencing)


def bundled_and_moved(seed: int) -> Scenario:
    """As `bundled`, but MDCs die while pods compute, and their homes move."""
    rng = random.Random(seed)
    faults = tuple(sorted((rng.random() * 8, rng.choice(("crash_mdc", "evict_mdc"))) for _ in range(16)))
    return replace(bundled(seed), compute=2.0, faults=faults)


@pytest.mark.parametrize(
    ("role", "mutant", "because"),
    [
        ("datacenter", TakesBundlesOfAnyRound, "the sum is not the exact sum"),
        ("household", KeepsOldBundles, "the sum is not the exact sum"),
    ],
    ids=lambda m: getattr(m, "__name__", None),
)
def test_a_machine_that_mistakes_a_bundle_is_caught(role: str, mutant: type, because: str) -> None:
    caught(because, kind=bundled, **{role: mutant})


def test_a_bundle_of_homes_that_have_moved_is_caught() -> None:
    caught("stuck", kind=bundled_and_moved, household=SendsWhatHasMoved)


def handed_over(seed: int) -> Scenario:
    """MDCs are followed by others between rounds all the time, on connections that break and stall."""
    rng = random.Random(seed)
    kinds = ("move_mdc", "break_link", "break_link", "stall_link", "pause_operator")
    faults = tuple(sorted((rng.random() * 8, rng.choice(kinds)) for _ in range(30)))
    return Scenario(
        seed=seed, mdcs=rng.randint(1, 3), rounds=12, replay=1.0, silence=1.0, compute=0.5, faults=faults
    )


def test_an_npdc_that_takes_a_predecessor_back_is_caught() -> None:
    caught("accepted a Submit of", kind=handed_over, northpole=TakesThePredecessorBack)


def test_the_machines_themselves_pass_where_mutants_are_caught() -> None:
    kinds = (draw, restless, hurried, changing, alone, bundled, bundled_and_moved, handed_over)
    assert [breaks(kind(seed)) for kind in kinds for seed in range(20)] == [None] * 160


@pytest.mark.parametrize(
    ("role", "mutant", "because"),
    [
        ("northpole", KeepsWhoLeft, "counted twice"),
        ("northpole", ServesWhoComesLater, "the quorum is"),
        ("northpole", NamesTheNextCount, "the quorum is"),
        ("datacenter", ForgetsWhoCameEarly, "stuck"),
    ],
)
def test_a_machine_that_mistakes_the_number_of_homes_is_caught(role: str, mutant: type, because: str) -> None:
    caught(because, kind=changing, **{role: mutant})


def test_taking_stale_rounds_is_caught() -> None:
    caught("the sum is not the exact sum", kind=restless, northpole=TakesStaleRounds)


def test_counting_without_disjointness_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally.Tally, "merge", blind_merge)
    caught("counted twice", kind=restless, northpole=BlindNorthPole)


@pytest.mark.parametrize("floats", [FloatSum, Float32Sum])
def test_a_sum_that_rounds_is_caught(monkeypatch: pytest.MonkeyPatch, floats: type) -> None:
    monkeypatch.setattr(tally, "ExactSum", floats)
    caught("the sum is not the exact sum", seeds=10)


def test_combining_a_group_before_it_is_whole_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally.Tally, "_close", combine_early)
    caught("the sum is not the exact sum")


def test_combining_homes_of_other_groups_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally.Intake, "group_of", mix_groups)
    caught("the sum is not the exact sum")


def test_losing_homes_that_wait_for_their_group_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally.Tally, "rest", lose_the_rest)
    caught("stuck", kind=hurried)
