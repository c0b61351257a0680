"""Many homes taken at once, by tallies and statistics: the same as one after the other."""

from __future__ import annotations

import math
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elf_worker.aggregation import bundles, precision, robust
from elf_worker.aggregation import tally as tallies
from elf_worker.aggregation.rows import exact_rows
from elf_worker.aggregation.tally import MAX_WEIGHT, Intake, Tally
from elf_worker.contract import JobConfig
from elf_worker.exact import ExactSum, NotSummableError
from elf_worker.messages import Stamp
from elf_worker.statistics import ManyHomes, Product, Statistic, distribution
from elf_worker.statistics.builtin import BUILT_IN, ElementwiseVariance

STAMP = Stamp(3, 0)
SIZE = 3
_ELEMENT = st.floats(-(2.0**20), 2.0**20, width=32) | st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 2.0**-75])
_BAD = st.sampled_from([math.nan, math.inf, -math.inf, 2.0**21, -(2.0**30)])
_JOB: dict[str, Any] = {"job": "j", "uid": "u", "homes": 9, "rounds": 1, "seed": 0, "entrypoint": "a:B"}


class Ids(Statistic):
    """One of somebody's own, that knows nothing of many homes."""

    sees_failures = True

    def identity(self) -> Any:
        return []

    def of(self, observation: Any) -> Any:
        seen = observation
        return [[seen.home, seen.mdc, seen.failed, seen.weight, list(seen.batch_sizes), dict(seen.classes)]]

    def combine(self, a: Any, b: Any) -> Any:
        return sorted([*a, *b], key=lambda entry: entry[0])


def product(watched: tuple[int, ...] = (3, 900)) -> Product:
    made = Product([*(kind() for kind in BUILT_IN), ElementwiseVariance(), Ids()])
    made.watch(watched)
    return made


@st.composite
def crowds(draw: st.DrawFn, bad: bool = False) -> ManyHomes:
    homes = draw(st.lists(st.integers(0, 2000), min_size=1, max_size=12, unique=True))
    element = _ELEMENT | _BAD if bad else _ELEMENT
    weight = st.integers(-1, 3) | st.just(MAX_WEIGHT + 1) if bad else st.integers(1, 1000)
    count = len(homes)
    rows = draw(st.lists(st.lists(element, min_size=SIZE, max_size=SIZE), min_size=count, max_size=count))
    classes = st.dictionaries(st.sampled_from("abc"), st.integers(1, 9))
    return ManyHomes(
        homes=np.array(homes),
        round=STAMP.round,
        mdc=2,
        weights=np.array(draw(st.lists(weight, min_size=count, max_size=count))),
        vectors=np.array(rows, np.float32),
        seconds=draw(st.floats(0, 100, width=32)),
        waiting_seconds=0.25,
        computing_seconds=0.5,
        batch_sizes=[(home % 3 + 1,) for home in homes],
        classes=draw(st.lists(classes, min_size=count, max_size=count)),
        bytes_up=draw(st.integers(0, 1000)),
        bytes_down=draw(st.integers(0, 1000)),
    )


def tally() -> Tally:
    return Tally(SIZE, Intake(2001, 2, statistics=product()), STAMP.round)


def one_by_one(many: ManyHomes) -> Tally:
    """As an MDC takes offers."""
    made = tally()
    for one in many:
        seen = {key: value for key, value in vars(one).items() if key not in ("home", "weight", "vector")}
        del seen["failed"]
        try:
            made.add(one.home, one.weight, one.vector, **seen)
        except NotSummableError as error:
            made.refuse(error.reason)
            made.fail(one.home, error.reason, str(error))
    return made


def told(made: Tally) -> Any:
    message, payload = made.submit(STAMP)
    sum_ = bytes(payload or b"")[: len(payload or b"") - message.extra]
    fields = (message.members, message.failed, message.weight, message.bound, message.reasons)
    return *fields, message.refused, sum_, product().report(made.statistics)


both_ways = pytest.mark.parametrize("long", [SIZE, tallies.LONG], ids=["row by row", "all rows at once"])


@both_ways
@settings(deadline=None)
@given(many=crowds() | crowds(bad=True))
def test_a_tally_takes_many_as_it_takes_each(long: int, many: ManyHomes) -> None:
    made = tally()
    with np.errstate(invalid="ignore"), mock.patch.object(tallies, "LONG", long):
        made.add_many(many)
        assert told(made) == told(one_by_one(many))


@both_ways
def test_more_than_fits_is_refused_like_one_too_many(long: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "LONG", long)
    full = np.full((3000, SIZE), 2.0**21 - 1, np.float32)
    many = ManyHomes(np.arange(3000), 3, 2, np.ones(3000, np.int64), full)
    made = tally()
    made.add_many(many)
    assert made.reasons == made.refused == {"Overflow": 3000}
    assert (made.members, made.total.bound) == (0, 0)


@settings(deadline=None)
@given(crowds())
def test_rows_add_up_as_one_after_the_other(many: ManyHomes) -> None:
    total = ExactSum(SIZE)
    for row in many.vectors:
        total.add(row)
    payload, bound = exact_rows(many.vectors)
    assert (bytes(payload), bound) == (bytes(total.to_bytes()), total.bound)
    again = ExactSum(SIZE)
    again.merge_bytes(payload, bound)
    assert bytes(again.to_bytes()) == bytes(total.to_bytes())


@settings(deadline=None)
@given(crowds())
def test_norms_have_the_same_bits(many: ManyHomes) -> None:
    rows = many.vectors
    assert robust.norms(rows).tolist() == [robust.norm(row) for row in rows]
    wide = np.tile(rows, (1, 2000))
    assert robust.norms(wide).tolist() == [robust.norm(row) for row in wide]


_GAMMA = 1.01 / 0.99
_BORDERS = [float(np.float32(_GAMMA**k)) for k in range(-600, 600, 7)]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(allow_nan=False) | st.sampled_from([*_BORDERS, 0.0, -0.0, 1e-45]), st.integers(0, 99)
        )
    ),
    st.sampled_from([0, 2]),
)
def test_a_distribution_of_many_is_that_of_each(seen: list[tuple[float, int]], samples: int) -> None:
    whole = distribution.Distribution()
    for value, label in seen:
        whole = distribution.combine(whole, distribution.one(value, label, samples, 5), samples)
    values = np.array([value for value, _ in seen], np.float64)
    many = distribution.many(values, [label for _, label in seen], samples, 5)
    assert vars(many) == vars(whole)


@pytest.mark.parametrize("kind", list(precision.BYTES))
def test_what_is_added_in_the_pod_is_what_would_have_been_sent(kind: str) -> None:
    rows = np.random.default_rng(0).standard_normal((9, SIZE)).astype(np.float32) * 1000
    sent = [precision.decode(precision.encode(row, kind), kind) for row in rows]
    assert precision.as_sent(rows, kind).tobytes() == np.array(sent).tobytes()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"per_pod": 3}, False),
        ({"batching": "off"}, False),
        ({"batching": "fast"}, True),
        ({"batching": "fast", "per_pod": 1}, True),
        ({"batching": "fast", "aggregation": "median"}, False),
        ({"aggregation": "median"}, False),
        ({"clip_norm": 1.0}, False),
        ({"precision": "bfloat16"}, True),
    ],
)
def test_who_bundles(changes: dict[str, Any], expected: bool) -> None:
    """A robust method and clipping need each vector at the MDC; a pod of few gains nothing."""
    assert bundles.together(JobConfig(**(_JOB | {"per_pod": 4} | changes))) is expected
