"""Whole jobs in virtual time whose statistics are recomputed, each round, from what the homes really said.

The oracle notes which homes every accepted Submit brought. When a round is closed, it takes the raw vectors
of exactly these homes from the model and works out by hand what the statistics have to report: of all homes,
and of each MDC for itself. Faults, retries, re-homing, repeats and fenced MDCs must not show.
"""

from __future__ import annotations

import dataclasses
import math
import random
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from elf_worker.aggregation import ids
from elf_worker.aggregation.datacenter import DataCenter, Identity
from elf_worker.aggregation.effects import Effect, LinkId, Payload, Send, Step
from elf_worker.aggregation.household import Answer, Household
from elf_worker.aggregation.northpole import NorthPole, RoundLog, Rules
from elf_worker.aggregation.tally import Intake, parted
from elf_worker.messages import Accepted, Facts, Stamp, Submit
from elf_worker.statistics import HomeObservation, Product, Statistic
from elf_worker.statistics.builtin import BUILT_IN
from elf_worker.statistics.distribution import SMALLEST
from simulation import model
from simulation.oracle import Oracle, ViolationError
from simulation.roles import Npdc
from simulation.scenario import Scenario, draw
from simulation.world import World

SEEDS = 120
CHUNK = 20
NASTY = ("break_link", "stall_link", "partition", "shuffle_homes", "freeze_mdc", "freeze_npdc")
WATCHED = (0, 2)
VECTOR_BYTES = 4 * (model.SIZE + 1)
KNOWN = (
    "homes home_seconds loss gradient_norm classes bytes slowest_path "
    "mdc_seconds mdc_gradient_norm mdc_bytes ledger"
)
QUANTILES = {"p50": Fraction(1, 2), "p90": Fraction(9, 10), "p99": Fraction(99, 100)}


# -- machines with statistics --------------------------------------------------------------------------


def facts_of(home: int, round_: int) -> Facts:
    """What a home tells of its batches: something else for every home and round."""
    return Facts(0.001 * home, 0.002, (home + 1,), {str((home + round_) % 4): home + 1, "all": 1})


class Talking(Household):
    """Tells facts with each vector, also with those that turn out to be bad."""

    def computed(self, home: int, answer: Answer) -> list[Effect]:
        if answer.payload is not None:
            answer = answer._replace(facts=facts_of(home, answer.stamp.round))
        return super().computed(home, answer)


class Ledger(Statistic):
    """Every observation as it is; a statistic of somebody's own."""

    sees_failures = True

    def identity(self) -> Any:
        return []

    def of(self, observation: HomeObservation) -> Any:
        seen = observation
        batches = [*seen.batch_sizes]
        return [[seen.home, seen.round, seen.mdc, seen.weight, batches, seen.bytes_up, seen.failed]]

    def combine(self, a: Any, b: Any) -> Any:
        return sorted([*a, *b])


def product() -> Product:
    """What `load(())` makes, without a look at the entry points of everything installed; and one more."""
    return Product([*(kind() for kind in BUILT_IN), Ledger()])


def watching(intake: Intake, mdc: int) -> Intake:
    """The same with a Product of its own, as `roles.mdc` makes it."""
    own = product()
    own.watch(WATCHED)
    return dataclasses.replace(intake, statistics=own, mdc=mdc)


def datacenter(identity: Identity, npdc: str, intake: Intake) -> DataCenter:
    return DataCenter(identity, npdc, watching(intake, identity.index))


def northpole(rules: Rules) -> NorthPole:
    return NorthPole(rules, product())


# -- arithmetic by hand --------------------------------------------------------------------------------


def float32(value: float) -> float:
    return struct.unpack("<f", struct.pack("<f", value))[0]


def expect_numbers(found: dict[str, Any], values: dict[int, float]) -> None:
    """A distribution over these values by id: exact, but for the quantiles."""
    if not values:
        assert found == {"count": 0}
        return
    rounded = {who: float32(value) for who, value in values.items()}
    exact = [Fraction(value) for value in rounded.values()]
    mean = sum(exact) / len(exact)
    least, most = min(rounded.values()), max(rounded.values())
    assert {key: value for key, value in found.items() if key not in QUANTILES} == {
        "count": len(values),
        "mean": float(mean),
        "variance": float(sum((x - mean) ** 2 for x in exact) / len(exact)),
        "min": least,
        "minId": min(who for who, value in rounded.items() if value == least),
        "max": most,
        "maxId": min(who for who, value in rounded.items() if value == most),
    }
    expect_quantiles(found, list(rounded.values()))


def expect_quantiles(found: dict[str, Any], values: Iterable[float]) -> None:
    ordered = sorted(values)
    for name, q in QUANTILES.items():
        true = ordered[math.floor(q * (len(ordered) - 1))]
        assert abs(found[name] - true) <= max(0.010001 * abs(true), SMALLEST), (name, found[name], true)


@dataclasses.dataclass
class Part:
    """One Submit that counted."""

    mdc: int
    members: list[int]
    failed: list[int]


class Census(Oracle):
    """Also holds the statistics of every closed round against the vectors of the homes that are in it."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._parts: dict[tuple[int, Stamp, float], list[Part]] = defaultdict(list)
        self.failed_elsewhere: list[Any] = []
        """Homes that failed and were observed under another MDC's index."""
        self.seen: Counter[str] = Counter()
        """How often something worth a test was there."""

    def submitted(self, npdc: Npdc, uid: str | None, message: Submit, effects: list[Effect]) -> None:
        super().submitted(npdc, uid, message, effects)
        if not any(isinstance(e, Send) and isinstance(e.message, Accepted) for e in effects):
            self.seen["turned down"] += 1
            return
        parts = self._parts[_begun(npdc, message.stamp)]
        before = {home for part in parts for home in (*part.members, *part.failed)}
        members, failed = (
            ids.ids_of(ids.from_wire(message.members)),
            ids.ids_of(ids.from_wire(message.failed)),
        )
        if {*members, *failed} <= before:
            self.seen["said twice"] += 1
            return
        assert uid is not None
        parts.append(Part(int(uid.split("-")[1]), members, failed))

    def closed(self, npdc: Npdc, step: Step, log: RoundLog, weights: bytes) -> None:
        super().closed(npdc, step, log, weights)
        parts = self._parts[_begun(npdc, step.stamp)]
        product = npdc.pole._statistics
        try:
            self._round(product, parts, log, step.stamp.round, weights)
        except AssertionError as error:
            report = product.report(log.statistics)
            raise ViolationError(f"{npdc.name}, round {log.round}, {parts}, {report}: {error}") from error

    def _round(self, product: Product, parts: list[Part], log: RoundLog, round_: int, weights: bytes) -> None:
        assert product.errors == {}
        everyone = product.report(log.statistics)
        self._expect(everyone, parts, round_, weights)
        assert everyone["homes"]["served"] == log.counted
        reasons = {reason: count for reason, count in log.reasons.items() if reason != "Absent"}
        assert everyone["homes"]["failed"] == dict(
            sorted(reasons.items(), key=lambda entry: (-entry[1], entry[0]))
        )
        assert sum(everyone["homes"]["failed"].values()) == log.failed
        assert set(log.statistics_by_mdc) == {part.mdc for part in parts}
        for index, state in log.statistics_by_mdc.items():
            mine = [part for part in parts if part.mdc == index]
            report = product.report(state)
            self._expect(report, mine, round_, weights)
            assert report["homes"]["served"] == log.by_mdc[index]
            self.seen["several Submits of one MDC"] += len(mine) > 1
        together: dict[str, Any] = {}
        for state in log.statistics_by_mdc.values():
            product.combine(together, state)
        assert product.report(together) == everyone
        assert product.report(product.from_wire(product.to_wire(together))) == everyone
        self.seen["failed homes"] += log.failed > 0
        self.seen["missing homes"] += len(log.missing) > log.failed
        self.seen["several MDCs"] += len(log.statistics_by_mdc) > 1
        self.seen["rounds"] += 1

    def _expect(self, found: dict[str, Any], parts: list[Part], round_: int, weights: bytes) -> None:
        members = sorted(home for part in parts for home in part.members)
        failed = [home for part in parts for home in part.failed]
        norms, losses, classes = {}, {}, Counter[str]()
        for home in members:
            *gradient, loss = struct.unpack(f"<{model.SIZE + 1}f", self._model.vector(home, round_, weights))
            weight = model.weight_of(home)
            norms[home] = math.sqrt(math.fsum(x * x for x in gradient)) / weight
            losses[home] = loss / weight
            classes.update(facts_of(home, round_).classes)
        assert found["homes"]["served"] == len(members)
        assert sum(found["homes"]["failed"].values()) == len(failed)
        self._expect_ledger(found["ledger"], parts, round_)
        if not members:
            assert set(found) == {"homes", "ledger"}
            return
        assert set(found) == set(KNOWN.split())
        expect_numbers(found["loss"], losses)
        expect_numbers(found["gradient_norm"], norms)
        assert {name: entry["examples"] for name, entry in found["classes"].items()} == classes
        assert found["bytes"]["up"] == VECTOR_BYTES * len(members)
        self._expect_paths(found, parts)
        self._expect_mdcs(found, [part for part in parts if part.members], round_, weights)

    def _expect_ledger(self, found: list[Any], parts: list[Part], round_: int) -> None:
        expected = [
            [home, round_, part.mdc, model.weight_of(home), [home + 1], VECTOR_BYTES, ""]
            for part in parts
            for home in part.members
        ]
        assert [entry for entry in found if not entry[-1]] == sorted(expected)
        where = {home: part.mdc for part in parts for home in part.failed}
        ill = [entry for entry in found if entry[-1]]
        assert [entry[:2] for entry in ill] == [[home, round_] for home in sorted(where)]
        self.failed_elsewhere += [entry for entry in ill if entry[2] != where[entry[0]]]

    def _expect_paths(self, found: dict[str, Any], parts: list[Part]) -> None:
        where = {home: part.mdc for part in parts for home in part.members}
        seconds, path = found["home_seconds"], found["slowest_path"]
        assert seconds["count"] == len(where)
        assert 0 <= seconds["min"] <= seconds["max"]
        assert float32(path["slowest"]["seconds"]) == seconds["max"]
        assert {seconds["minId"], seconds["maxId"], path["slowest"]["home"]} <= set(where)
        asked = path.get("asked", {})
        assert set(asked) == {str(home) for home in WATCHED if home in where}
        for one in (path["slowest"], *asked.values()):
            assert one["mdc"] == where[one["home"]]
            assert self._world.scenario.together or one["waitingInPod"] == 0.001 * one["home"]

    def _expect_mdcs(self, found: dict[str, Any], parts: list[Part], round_: int, weights: bytes) -> None:
        norms = []
        for part in parts:
            total = self._model.total(part.members, round_, weights)
            count = sum(map(model.weight_of, part.members))
            mean = [float32(float(Fraction(u, 2**model.UNIT_BITS * count))) for u in total[: model.SIZE]]
            norms.append(math.sqrt(math.fsum(x * x for x in mean)))
        assert found["mdc_bytes"]["up"] >= 2 * len(parts)  # a packed sum has a header at least
        assert found["mdc_bytes"]["down"] >= 4 * model.SIZE * len({part.mdc for part in parts})
        found_norms = found["mdc_gradient_norm"]
        assert found["mdc_seconds"]["count"] == found_norms["count"] == len(parts)
        assert {found_norms["minId"], found_norms["maxId"]} <= {part.mdc for part in parts}
        assert found_norms["min"] == float32(min(norms))
        assert found_norms["max"] == float32(max(norms))
        assert np.isclose(found_norms["mean"], sum(norms) / len(norms), rtol=1e-6, atol=1e-12)


def _begun(npdc: Npdc, stamp: Stamp) -> tuple[int, Stamp, float]:
    """Names a round that was begun: with fewer homes it is begun anew."""
    present = npdc.pole._round
    return npdc.epoch, stamp, present.started if present is not None else -1.0


# -- the runs ------------------------------------------------------------------------------------------


def run(scenario: Scenario, **machines: Any) -> Census:
    made = {"northpole": northpole, "datacenter": datacenter, "household": Talking}
    made |= {"pod_intake": watching, "facts": facts_of} | machines
    world = World(scenario, **made)
    census = world.oracle = Census(world)
    world.run()
    return census


def nasty(seed: int) -> Scenario:
    """Slow connections that break all the time, and everything said on them said again."""
    rng = random.Random(seed)
    faults = tuple(sorted((8 * rng.random(), rng.choice(NASTY)) for _ in range(14)))
    return dataclasses.replace(draw(seed), mdcs=3, rounds=5, latency=0.2, replay=1.0, faults=faults)


@pytest.mark.parametrize("make", [draw, nasty])
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_round_reports_what_its_homes_did(first: int, make: Callable[[int], Scenario]) -> None:
    for seed in range(first, first + CHUNK):
        try:
            run(make(seed))
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}\n{make(seed)}") from error


def test_the_seeds_see_all_there_is() -> None:
    seen = sum((run(nasty(seed)).seen for seed in range(40)), Counter[str]())
    interesting = {"said twice", "turned down", "failed homes", "missing homes", "several MDCs"}
    assert interesting | {"several Submits of one MDC", "rounds"} == set(seen)
    assert {bool(nasty(seed).together) for seed in range(20)} == {True, False}


def test_homes_that_failed_are_observed_with_their_mdc() -> None:
    assert [entry for seed in range(60) for entry in run(draw(seed)).failed_elsewhere] == []


# -- machines that count wrongly -----------------------------------------------------------------------


class ObservesRepeats(NorthPole):
    """Takes the statistics of a Submit that was said twice a second time."""

    def _submit(self, link: LinkId, message: Submit, payload: Payload, now: float) -> list[Effect]:
        before = self._round.tally.settled if self._round else 0
        out = super()._submit(link, message, payload, now)
        accepted = any(isinstance(e, Send) and isinstance(e.message, Accepted) for e in out)
        if accepted and self._round is not None and self._round.tally.settled == before:
            index = next(i for i, member in self._members.items() if member.link == link)
            self._observe(index, message, *parted(payload, message.extra), now)
        return out


class ObservesOneSubmit(NorthPole):
    """Forgets all Submits of an MDC but its first."""

    def _observe(self, index: int, message: Submit, total: Payload, extra: Payload, now: float) -> None:
        if self._round is not None and index not in self._round.seen.by_mdc():
            super()._observe(index, message, total, extra, now)


class StartsOverByHalf(DataCenter):
    """Throws its sums away, but not what it observed."""

    def _start_over(self) -> list[Effect]:
        observed = (self._flying or self._tally).statistics
        out = super()._start_over()
        self._tally._statistics = observed
        return out


@pytest.mark.parametrize(
    "machines",
    [
        {"northpole": lambda rules: ObservesRepeats(rules, product())},
        {"northpole": lambda rules: ObservesOneSubmit(rules, product())},
        {"datacenter": lambda me, npdc, intake: StartsOverByHalf(me, npdc, watching(intake, me.index))},
    ],
    ids=["repeats", "one Submit", "starting over"],
)
def test_statistics_that_count_wrongly_are_found(machines: dict[str, Any]) -> None:
    def wrong(scenario: Scenario) -> bool:
        try:
            run(scenario, **machines)
        except ViolationError:
            return True
        return False

    assert any(wrong(make(seed)) for seed in range(200) for make in (draw, nasty))
