"""Statistics as monoids: their laws, their numbers, and what becomes of those that break."""

from __future__ import annotations

import copy
import logging
import math
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from elf_worker.contract import JobConfig
from elf_worker.roles.window import exposition
from elf_worker.statistics import (
    HomeObservation,
    MdcObservation,
    Product,
    Statistic,
    StatisticError,
    distribution,
    laws,
    load,
    load_or_built_in,
    product,
)
from elf_worker.statistics.builtin import (
    BUILT_IN,
    SAMPLE,
    Classes,
    ElementwiseVariance,
    GradientNorm,
    Homes,
    Loss,
    SlowestPath,
)
from elf_worker.statistics.distribution import Distribution
from elf_worker.statistics.product import MAX_WATCHED, find

ALL = [*BUILT_IN, ElementwiseVariance]
JOB = JobConfig(job="night", uid="u", homes=4, per_pod=2, rounds=9, seed=0, entrypoint="a:B")


def home(index: int, loss: float = 1.0, **changes: Any) -> HomeObservation:
    """A home of a model with two parameters and a weight of 2."""
    vector = np.array([3.0 * index, 4.0 * index, 2 * loss], np.float32)
    plain: dict[str, Any] = {"home": index, "round": 0, "weight": 2, "vector": vector, "seconds": 0.5}
    plain |= {"bytes_up": 12, "classes": {"a": 1 + index}}
    return HomeObservation(**(plain | changes))


def failed(index: int, reason: str) -> HomeObservation:
    return HomeObservation(home=index, round=0, failed=reason)


def mdc_of(index: int, seconds: float = 1.0) -> MdcObservation:
    return MdcObservation(index, 0, seconds, homes=2, weight=4, loss=0.5, gradient_norm=seconds, bytes_up=64)


def in_one(statistic: Statistic, *seen: Any) -> Any:
    return laws.fold(statistic, list(seen))


# -- laws -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_what_every_job_has_keeps_the_laws(kind: type[Statistic]) -> None:
    laws.check(kind(), examples=30)


class Count(Statistic):
    """How many homes; a lawful one, to be broken by those below."""

    def identity(self) -> Any:
        return 0

    def of(self, observation: HomeObservation) -> Any:
        return 1 + observation.home

    def combine(self, a: Any, b: Any) -> Any:
        return a + b


class FirstHome(Count):
    def identity(self) -> Any:
        return None

    def combine(self, a: Any, b: Any) -> Any:
        return b if a is None else a


class RockPaperScissors(Count):
    def identity(self) -> Any:
        return None

    def of(self, observation: HomeObservation) -> Any:
        return observation.home % 3

    def combine(self, a: Any, b: Any) -> Any:
        if a is None or b is None or a == b:
            return b if a is None else a
        return a if (a - b) % 3 == 1 else b


class CountsNobody(Count):
    def identity(self) -> Any:
        return 1


class Thief(Count):
    def identity(self) -> Any:
        return [0]

    def of(self, observation: HomeObservation) -> Any:
        return [1]

    def combine(self, a: Any, b: Any) -> Any:
        a[0] += b[0]
        b[0] = 0
        return a


class LosesDigits(Count):
    def to_wire(self, state: Any) -> bytes:
        return super().to_wire(state % 100)


class Hoarder(Count):
    def identity(self) -> Any:
        return []

    def of(self, observation: HomeObservation) -> Any:
        return [[observation.home, observation.seconds, observation.loss]]

    def combine(self, a: Any, b: Any) -> Any:
        return sorted([*a, *b])


class Forgetful(Count):
    def lasting(self, state: Any) -> Any:
        return state % 100


class Spender(Thief):
    def combine(self, a: Any, b: Any) -> Any:
        return [a[0] + b[0]]

    def lasting(self, state: Any) -> Any:
        return [state.pop(), state.append(0)][:1]


class Talkative(Count):
    max_bytes = 8

    def to_wire(self, state: Any) -> bytes:
        return super().to_wire([state] * 10)

    def from_wire(self, data: bytes) -> Any:
        return super().from_wire(data)[0]


BROKEN = [
    (FirstHome, "combine is not commutative"),
    (RockPaperScissors, "combine is not associative"),
    (CountsNobody, r"identity\(\) is not neutral on the (left|right)"),
    (Thief, r"combine has changed its second argument, which was \[1\]"),
    (LosesDigits, r"from_wire\(to_wire\(s\)\) is not s"),
    (Forgetful, r"lasting\(s\) does not report what s does"),
    (Spender, r"lasting has changed the state, which was \[\d+\]"),
    (Hoarder, r"after 5000 observations the wire form has \d+ bytes, max_bytes is 65536: keep less"),
    (Talkative, "the wire form has 11 bytes, max_bytes is 8"),
]


@pytest.fixture
def no_shrinking() -> Iterator[None]:
    """The first example that breaks a law is good enough; the smallest one takes minutes."""
    settings.register_profile("first", settings.get_profile("repeatable"), phases=[Phase.generate])
    settings.load_profile("first")
    yield
    settings.load_profile("repeatable")


@pytest.mark.usefixtures("no_shrinking")
@pytest.mark.parametrize(("kind", "sentence"), BROKEN, ids=lambda value: getattr(value, "name", None))
def test_a_broken_law_is_named(kind: type[Statistic], sentence: str) -> None:
    with pytest.raises(laws.LawError, match=f"^{sentence}"):
        laws.check(kind(), examples=150)


def test_a_lawful_one_passes() -> None:
    laws.check(Count(), examples=40)


class PerHome(Count):
    """Counts by name, reported as they are: equal as JSON, whatever the order of the keys."""

    def identity(self) -> Any:
        return {}

    def of(self, observation: HomeObservation) -> Any:
        return {str(observation.home % 10): 1}

    def combine(self, a: Any, b: Any) -> Any:
        for key, count in b.items():
            a[key] = a.get(key, 0) + count
        return a


class KeepsAllIds(Count):
    """Three bytes a home: nothing for 5,000 of them, more than max_bytes for 50,000."""

    def identity(self) -> Any:
        return []

    def of(self, observation: HomeObservation) -> Any:
        return [observation.home]

    def combine(self, a: Any, b: Any) -> Any:
        return sorted([*a, *b])


@pytest.mark.usefixtures("no_shrinking")
def test_the_order_of_keys_in_a_report_breaks_no_law() -> None:
    laws.check(PerHome(), examples=40)


@pytest.mark.usefixtures("no_shrinking")
def test_a_state_that_grows_slowly_for_ever_is_found() -> None:
    with pytest.raises(laws.LawError, match="it grows with the number of observations"):
        laws.check(KeepsAllIds(), examples=20)


def test_zero_has_no_sign() -> None:
    one, other = (lambda: distribution.one(0.0, 1)), (lambda: distribution.one(-0.0, 1))
    there, back = distribution.combine(one(), other()), distribution.combine(other(), one())
    assert repr(distribution.report(there)) == repr(distribution.report(back))


# -- distributions --------------------------------------------------------------------------------------

ANY_VALUE = st.floats(-3e38, 3e38, allow_nan=False)
BINNED = st.one_of(st.just(0.0), *(st.floats(lo, hi) for lo, hi in ((2e-9, 9e11), (-9e11, -2e-9))))
IDS = st.integers(0, 1 << 40)


def float32(value: float) -> float:
    return struct.unpack("<f", struct.pack("<f", value))[0]


def gathered(parts: Sequence[Distribution], rng: random.Random, samples: int = 0) -> Distribution:
    """All of them, combined two at a time in any order."""
    rest = [*parts, Distribution()]
    while len(rest) > 1:
        rng.shuffle(rest)
        rest.append(distribution.combine(rest.pop(), rest.pop(), samples))
    return rest[0]


@given(st.lists(st.tuples(ANY_VALUE, IDS), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_mean_variance_and_extremes_are_those_of_fractions(
    seen: list[tuple[float, int]], rng: random.Random
) -> None:
    found = gathered([distribution.one(value, label) for value, label in seen], rng)
    rounded = [(float32(value), label) for value, label in seen]
    exact = [Fraction(value) for value, _ in rounded]
    mean = sum(exact) / len(exact)
    assert found.count == len(seen)
    assert found.mean == float(mean)
    assert found.variance == float(sum((x - mean) ** 2 for x in exact) / len(exact))
    least, most = min(value for value, _ in rounded), max(value for value, _ in rounded)
    assert found.low == (least, min(label for value, label in rounded if value == least))
    assert found.high == (most, min(label for value, label in rounded if value == most))


@given(st.lists(BINNED, min_size=1, max_size=60), st.floats(0, 1), st.randoms(use_true_random=False))
def test_quantiles_are_within_one_percent(values: list[float], q: float, rng: random.Random) -> None:
    found = gathered([distribution.one(value, i) for i, value in enumerate(values)], rng).quantile(q)
    true = sorted(map(float32, values))[math.floor(q * (len(values) - 1))]
    assert abs(found - true) <= 0.010001 * abs(true)


@given(
    st.lists(BINNED, max_size=40),
    st.tuples(BINNED, BINNED).map(sorted),
    st.randoms(use_true_random=False),
)
def test_homes_between_are_counted_exactly_and_named_truly(
    values: list[float], borders: list[float], rng: random.Random
) -> None:
    low, high = borders
    clear = {
        i: value
        for i, value in enumerate(values)
        if all(abs(value - border) > 0.02 * abs(border) for border in borders)
    }
    state = gathered([distribution.one(v, i, SAMPLE, salt=3) for i, v in clear.items()], rng, SAMPLE)
    inside = {i for i, value in clear.items() if low <= value <= high}
    count, ids = state.between(low, high)
    assert count == len(inside)
    assert set(ids) <= inside
    assert ids == sorted(set(ids))
    assert len(ids) >= min(count, SAMPLE)


def test_of_many_homes_in_one_bin_some_are_named_the_same_in_any_order() -> None:
    parts = [distribution.one(0.25, i, SAMPLE, salt=9) for i in range(1000)]
    orders = [gathered(copy.deepcopy(parts), random.Random(seed), SAMPLE) for seed in range(5)]
    count, ids = orders[0].between(0.2, 0.3)
    assert (count, len(ids)) == (1000, SAMPLE)
    assert all(state.between(0.2, 0.3) == (count, ids) for state in orders)
    other = gathered(
        [distribution.one(0.25, i, SAMPLE, salt=10) for i in range(1000)], random.Random(0), SAMPLE
    )
    assert other.between(0.2, 0.3)[1] != ids, "another round names others"


@given(st.permutations([7, 3, 12, 5]))
def test_ties_name_the_smallest_id(order: list[int]) -> None:
    state = Distribution()
    for label in order:
        distribution.combine(state, distribution.one(0.1, label))
    assert (state.low, state.high) == ((float32(0.1), 3), (float32(0.1), 3))


@pytest.mark.parametrize("value", [1e-30, -1e-30, 1e30, -1e30, 3.4e38, 1e300, -math.inf, math.inf])
def test_magnitudes_beyond_the_bins_still_count(value: float) -> None:
    state = distribution.one(value, 1)
    kept = float32(max(min(value, 3e38), -3e38))
    assert (state.count, state.low, state.high) == (1, (kept, 1), (kept, 1))
    assert state.quantile(0.5) == kept
    assert distribution.from_wire(distribution.to_wire(state)) == state


def test_an_empty_distribution_has_a_count_alone() -> None:
    assert distribution.report(Distribution()) == {"count": 0}
    assert all(math.isnan(x) for x in (Distribution().mean, Distribution().variance))
    assert Distribution().between(0, 1) == (0, [])


@pytest.mark.parametrize("data", [b"", b"\x90", b"\xc0", msgspec.msgpack.encode([1, b"", b"", 1, 2, {}, {}])])
def test_what_is_no_distribution_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, msgspec.MsgspecError)):
        distribution.from_wire(data)


def with_all_bins(samples: int) -> Distribution:
    """A home or more in each bin there is: the largest state that ids of a million homes can make."""
    last = distribution._key(1e12)
    keys = range(-last, last + 1)
    chosen = {key: [(2**47 + i, (1 << 20) - 1 - i) for i in range(samples)] for key in keys}
    return Distribution(
        1 << 40, 1 << 230, 1 << 460, (-1e12, 1 << 20), (1e12, 1 << 20), dict.fromkeys(keys, 1 << 40),
        chosen if samples else {},
    )  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [
        GradientNorm,
        Loss,
    ],
)
def test_all_bins_together_are_within_the_bound(kind: type[Statistic]) -> None:
    state = with_all_bins(getattr(kind, "samples", 0))
    assert len(kind().to_wire(state)) <= kind.max_bytes


# -- the built-in ones ----------------------------------------------------------------------------------


def test_homes_are_counted_with_reasons_from_the_most_frequent_down() -> None:
    statistic = Homes()
    seen = [home(0), home(1), *(failed(i, "NonFinite") for i in (2, 3)), failed(4, "TaskFailed")]
    report = statistic.report(in_one(statistic, *seen))
    assert report == {"served": 2, "failed": {"NonFinite": 2, "TaskFailed": 1}}
    assert list(report["failed"]) == ["NonFinite", "TaskFailed"]


def test_reasons_that_homes_make_up_are_other() -> None:
    statistic = Homes()
    report = statistic.report(
        in_one(statistic, failed(1, "Moonlight"), failed(2, "Snow"), failed(3, "NonFinite"))
    )
    assert report == {"served": 0, "failed": {"Other": 2, "NonFinite": 1}}


@pytest.mark.parametrize(
    ("statistic", "observation"),
    [
        (Homes(), lambda i: failed(i, f"{i:064}")),
        (Classes(), lambda i: home(i, classes={f"class {i:026}": 1})),
    ],
    ids=["reasons", "classes"],
)
def test_names_that_homes_make_up_are_bounded(
    statistic: Statistic, observation: Callable[[int], HomeObservation]
) -> None:
    state = in_one(statistic, *map(observation, range(5000)))
    assert len(statistic.to_wire(state)) <= statistic.max_bytes


def test_classes_have_shares() -> None:
    statistic = Classes()
    state = in_one(statistic, home(0, classes={"3": 6, "nice": 1}), home(1, classes={"3": 2, "2000": 1}))
    assert statistic.report(state) == {
        "3": {"examples": 8, "share": 0.8},
        "2000": {"examples": 1, "share": 0.1},
        "nice": {"examples": 1, "share": 0.1},
    }


@given(st.permutations(range(120)), st.integers(1, 119))
def test_of_many_classes_the_same_ones_are_kept_in_any_order(order: list[int], cut: int) -> None:
    statistic = Classes()
    seen = [home(i, classes={f"class {i}": i + 1, "class 7": 1}) for i in order]
    parts = [in_one(statistic, *seen[:cut]), in_one(statistic, *seen[cut:])]
    report = statistic.report(statistic.combine(*parts))
    ordered = statistic.report(
        in_one(statistic, *(home(i, classes={f"class {i}": i + 1, "class 7": 1}) for i in range(120)))
    )
    assert report == ordered
    assert len(report) == 101
    assert sum(entry["examples"] for entry in report.values()) == sum(range(121)) - 8 + 120


def test_a_class_may_have_any_name() -> None:
    statistic = Classes()
    assert statistic.report(statistic.of(home(0, classes={"²": 1}))) == {"²": {"examples": 1, "share": 1.0}}


def test_the_slowest_path_and_those_asked_for_are_kept() -> None:
    statistic = SlowestPath()
    statistic.watched = frozenset({1, 9})
    times = {"waiting_seconds": 0.5, "computing_seconds": 1.0}
    state = in_one(statistic, *(home(i, seconds=3.0 - i, mdc=i, **times) for i in range(3)))
    report = statistic.report(state)
    step = {"waitingInPod": 0.5, "computing": 1.0}
    assert report["slowest"] == {"home": 0, "mdc": 0, "seconds": 3.0, "onTheWay": 1.5, **step}
    assert report["asked"] == {"1": {"home": 1, "mdc": 1, "seconds": 2.0, "onTheWay": 0.5, **step}}


def test_watching_is_bounded() -> None:
    one = load(())
    one.watch(range(1000))
    slowest = one.statistics["slowest_path"]
    assert isinstance(slowest, SlowestPath)
    assert slowest.watched == frozenset(range(MAX_WATCHED))


@given(st.lists(st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3), min_size=1, max_size=8))
def test_variance_of_each_element_is_that_of_the_homes(gradients: list[list[float]]) -> None:
    statistic = ElementwiseVariance()
    rows = [np.array([*gradient, 0.0], np.float32) for gradient in gradients]
    report = statistic.report(
        in_one(statistic, *(home(i, weight=1, vector=row) for i, row in enumerate(rows)))
    )
    exact = np.array(rows, "f8")[:, :3]
    slack = 1e-6 * (1 + np.square(exact).mean(axis=0).max())
    assert report["homes"] == len(gradients)
    assert report["mean"] == pytest.approx(exact.var(axis=0).mean(), abs=slack)
    assert report["largest"][0]["variance"] == pytest.approx(exact.var(axis=0).max(), abs=slack)


def test_a_home_beyond_the_range_of_exact_squares_is_left_out_and_counted() -> None:
    statistic = ElementwiseVariance()
    far = home(1, weight=1, vector=np.array([1e10, 0, 0], np.float32))
    report = statistic.report(in_one(statistic, home(0), far, home(2)))
    assert (report["homes"], report["leftOut"]) == (2, 1)


def test_an_observation_has_the_gradient_per_example() -> None:
    seen = home(2, loss=0.75)
    assert seen.gradient.tolist() == [3.0, 4.0]
    assert (seen.loss, seen.gradient_norm) == (0.75, 5.0)


def test_a_home_that_failed_has_no_gradient() -> None:
    seen = failed(3, "NonFinite")
    assert seen.gradient.size == 0
    assert math.isnan(seen.loss) and math.isnan(seen.gradient_norm)


@pytest.mark.parametrize(
    ("kind", "name"), [(Loss, "loss"), (GradientNorm, "gradient_norm"), (KeepsAllIds, "keeps_all_ids")]
)
def test_a_name_is_the_class_in_snake_case(kind: type[Statistic], name: str) -> None:
    assert kind.name == name


# -- all of them together -------------------------------------------------------------------------------

HOMES = [home(0, 0.5, classes={"a": 1}), home(1, 1.5), home(2, 2.5), failed(3, "TaskFailed")]


def broken_at(operation: str) -> Statistic:
    """A Count whose method of this name raises."""

    def raises(self: Statistic, *args: Any) -> Any:
        raise ZeroDivisionError("the sleigh is stuck")

    return type("Stuck", (Count,), {operation: raises})()


def through_everything(one: Product) -> tuple[dict[str, Any], set[str]]:
    """Two MDCs observe, send up, and the sums are reported: (report, names of metrics)."""
    total: dict[str, Any] = {}
    for part in (HOMES[:2], HOMES[2:]):
        state: dict[str, Any] = {}
        for seen in part:
            one.combine(state, one.of_home(seen))
        arrived = one.from_wire(one.to_wire(state))
        one.combine(total, one.combine(arrived, one.of_mdc(mdc_of(1))))
    return one.report(total), {name for name, _, _ in one.metrics(total)}


@pytest.mark.parametrize(
    "operation", ["identity", "of", "combine", "report", "metrics", "to_wire", "from_wire"]
)
def test_one_that_raises_stops_no_other(operation: str, caplog: pytest.LogCaptureFixture) -> None:
    healthy = through_everything(load(()))
    one = Product([broken_at(operation), *load(()).statistics.values(), Count()])
    with caplog.at_level(logging.WARNING):
        report, metrics = through_everything(one)
    if operation == "metrics":
        assert report.pop("stuck") == report["count"]
    assert report.pop("count") == 1 + 2 + 3
    assert "stuck" not in report
    assert (report, metrics) == healthy
    assert set(one.errors) == {"stuck"}
    assert one.errors["stuck"] > 0
    assert [r.getMessage() for r in caplog.records] == [
        "statistic stuck: ZeroDivisionError: the sleigh is stuck; further errors are only counted"
    ]


def test_only_those_that_want_failures_see_them() -> None:
    assert set(load(()).of_home(failed(0, "TaskFailed"))) == {"homes"}


def test_homes_and_mdcs_are_told_apart() -> None:
    one = load(())
    assert set(one.of_mdc(mdc_of(2))) == {"mdc_seconds", "mdc_gradient_norm", "mdc_bytes"}
    assert not set(one.of_mdc(mdc_of(2))) & set(one.of_home(home(0)))


def test_a_state_beyond_its_bound_stays_at_home() -> None:
    one = Product([type("Fat", (Count,), {"max_bytes": 2})(), Count()])
    small, large = one.of_home(home(1)), one.of_home(home(1000))
    assert set(one.from_wire(one.to_wire(small))) == {"fat", "count"}
    assert set(one.from_wire(one.to_wire(large))) == {"count"}
    assert one.errors == {"fat": 1}


def test_statistics_that_the_receiver_does_not_know_are_passed_over() -> None:
    rich, poor = Product([Count(), Homes()]), Product([Homes()])
    arrived = poor.from_wire(rich.to_wire(rich.of_home(home(4))))
    assert poor.report(arrived) == {"homes": {"served": 1, "failed": {}}}
    assert poor.combine({}, rich.of_home(home(4))) == {"homes": [1, {}]}
    assert poor.errors == {}


def test_bytes_that_cannot_be_read_are_left_out() -> None:
    one = Product([Count(), Loss()])
    assert one.from_wire(b"") == {}
    assert one.errors == {}
    assert one.from_wire(b"\xff\xff") == {}
    half = msgspec.msgpack.encode({"count": b"\x05", "loss": b"\xc1"})
    assert one.from_wire(half) == {"count": 5}
    assert one.errors == {"(all)": 1, "loss": 1}


def test_the_wire_form_is_never_longer_than_it_says() -> None:
    one = load(())
    states = [one.of_home(seen) for seen in HOMES]
    assert all(len(one.to_wire(state)) <= one.max_bytes() for state in states)


@pytest.mark.parametrize(
    "kind",
    ALL,
    ids=lambda kind: kind.name,
)
def test_what_is_combined_later_does_not_touch_what_came_in_before(kind: type[Statistic]) -> None:
    """The NPDC adds one arrival to the sum of all and to that of its MDC: they must not become one."""
    one = Product([kind()])
    of: Callable[[int], dict[str, Any]] = (
        (lambda i: one.of_mdc(mdc_of(i))) if kind.level == "mdc" else (lambda i: one.of_home(home(i)))
    )
    arrived, everyone, mine = of(1), {}, {}
    before = one.report(copy.deepcopy(arrived))
    one.combine(everyone, arrived)
    one.combine(mine, arrived)
    one.combine(everyone, of(2))
    one.combine(everyone, of(3))
    assert one.report(arrived) == before
    assert one.report(mine) == before
    assert one.report(everyone) != before


class Careless(Count):
    """Reports and metrics that Python likes and JSON and Prometheus do not."""

    def metrics(self, state: Any) -> Any:
        yield "_by_parity", {"odd": state % 2}, state


def test_careless_metrics_do_not_take_the_page_down() -> None:
    one = Product([Careless(), Homes()])
    assert b"elf_homes_served 1.0" in exposition(one.metrics(one.of_home(home(4))))


# -- finding them ---------------------------------------------------------------------------------------


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lawful = "from elf_worker.statistics import Statistic\n\n\nclass {}(Statistic):\n    pass\n"
    (tmp_path / "sleighs.py").write_text(lawful.format("Sleighs") + "\n\nnumber = 7\nOther = object\n")
    (tmp_path / "reindeer.py").write_text(lawful.format("Sleighs"))
    (tmp_path / "stormy.py").write_text("raise RuntimeError('too much wind')\n")
    (tmp_path / "needy.py").write_text("import no_such_thing\n")
    (tmp_path / "wordy.py").write_text(
        lawful.format("Wordy") + "    def __init__(self, words):\n        pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


NOT_FOUND = [
    ("sleighs.Sleighs", "'sleighs.Sleighs' is no path of a class, module:Class is expected"),
    (":Sleighs", "':Sleighs' is no path of a class, module:Class is expected"),
    ("sleighs:", "'sleighs:' is no path of a class, module:Class is expected"),
    ("", "'' is no path of a class, module:Class is expected"),
    ("nowhere:A", "'nowhere:A': there is no module 'nowhere' in the worker image"),
    ("nowhere.near:A", "'nowhere.near:A': there is no module 'nowhere' in the worker image"),
    ("needy:A", "'needy:A': there is no module 'no_such_thing' in the worker image"),
    ("sleighs:Sledges", "'sleighs:Sledges': the module has no Sledges"),
    ("sleighs:number", "'sleighs:number' is no subclass of elf_worker.statistics.Statistic"),
    ("sleighs:Other", "'sleighs:Other' is no subclass of elf_worker.statistics.Statistic"),
    ("stormy:A", "'stormy:A': importing it raised RuntimeError: too much wind"),
]


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(("path", "sentence"), NOT_FOUND)
def test_a_path_that_leads_nowhere_says_why(path: str, sentence: str) -> None:
    with pytest.raises(StatisticError) as caught:
        find(path)
    assert str(caught.value) == sentence
    with pytest.raises(StatisticError) as caught:
        load(["elf_worker.statistics.builtin:ElementwiseVariance", path])
    assert str(caught.value) == f"spec.statistics[1]: {sentence}"


@pytest.mark.usefixtures("modules")
def test_what_is_found_is_made_without_arguments() -> None:
    assert "sleighs" in load(["sleighs:Sleighs"]).statistics
    with pytest.raises(StatisticError, match=r"^spec\.statistics\[0\]: .*argument: 'words'"):
        load(["wordy:Wordy"])


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(
    ("paths", "name"),
    [
        (["elf_worker.statistics.builtin:Loss"], "loss"),
        (["sleighs:Sleighs", "sleighs:Sleighs"], "sleighs"),
        (["sleighs:Sleighs", "reindeer:Sleighs"], "sleighs"),
    ],
)
def test_two_of_one_name_are_refused(paths: list[str], name: str) -> None:
    with pytest.raises(StatisticError, match=f"^spec.statistics: two statistics are named '{name}'$"):
        load(paths)


class Point:
    """An entry point of the image."""

    def __init__(self, name: str, found: Any) -> None:
        self.name = name
        self.found = found

    def load(self) -> Any:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def test_an_image_may_bring_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "_entry_points", lambda: [Point("count", Count)])
    assert "count" in load(()).statistics


@pytest.mark.parametrize(
    "found",
    [
        ImportError("no reindeer"),
        object,
    ],
)
def test_an_entry_point_that_is_none_is_named(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "_entry_points", lambda: [Point("sleighs", found)])
    with pytest.raises(StatisticError, match=r"^entry point sleighs of elf.statistics: "):
        load(())


@pytest.mark.parametrize(
    "points",
    [
        [],
        [Point("sleighs", ImportError("no reindeer"))],
    ],
    ids=["spec", "image"],
)
def test_an_mdc_serves_without_what_it_cannot_have(
    points: list[Point], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The NPDC says what is wrong; an MDC that dies of it would only be replaced again and again."""
    monkeypatch.setattr(product, "_entry_points", lambda: points)
    job = JobConfig(**(vars(JOB) | {"statistics": ["nowhere:A"]}))
    assert set(load_or_built_in(job.statistics).statistics) == {kind.name for kind in BUILT_IN}
