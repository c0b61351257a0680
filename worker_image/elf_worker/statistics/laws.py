"""The laws of a statistic, tested with random observations. Needs Hypothesis."""

from __future__ import annotations

import copy
import functools
import json
import math
from typing import Any

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from elf_worker.statistics.base import HomeObservation, MdcObservation, Statistic
from elf_worker.statistics.product import plain

EXAMPLES = 100
MANY = 2500
GROWTH, GROWTH_BYTES = 1.1, 128
"""How much larger a state may be after twice as many observations."""
_SECONDS = st.floats(0, 1e6, allow_nan=False, width=32)
_ELEMENT = st.floats(-1e3, 1e3, allow_nan=False, width=32)


class LawError(AssertionError):
    """A law does not hold; the message says which, and for which states."""


@st.composite
def home_observations(draw: st.DrawFn, failures: bool = False) -> HomeObservation:
    """Homes of a small model; with `failures`, also some that failed."""
    home, round_ = draw(st.integers(0, 10_000)), draw(st.integers(0, 100))
    mdc = draw(st.integers(0, 20))
    if failures and draw(st.booleans()):
        return HomeObservation(home=home, round=round_, mdc=mdc, failed=draw(st.sampled_from(_REASONS)))
    weight = draw(st.integers(1, 1000))
    vector = np.array(draw(st.lists(_ELEMENT, min_size=4, max_size=4)), np.float32)
    return HomeObservation(
        home=home,
        round=round_,
        mdc=mdc,
        weight=weight,
        vector=vector,
        seconds=draw(_SECONDS),
        waiting_seconds=draw(_SECONDS),
        computing_seconds=draw(_SECONDS),
        batch_sizes=tuple(draw(st.lists(st.integers(1, 512), min_size=1, max_size=4))),
        classes=draw(st.dictionaries(st.sampled_from("0123456789"), st.integers(1, 100))),
        bytes_up=draw(st.integers(0, 1 << 30)),
        bytes_down=draw(st.integers(0, 1 << 30)),
    )


_REASONS = ["TaskFailed", "NonFinite", "WrongSize"]

mdc_observations = st.builds(
    MdcObservation,
    mdc=st.integers(0, 20),
    round=st.integers(0, 100),
    seconds=_SECONDS,
    homes=st.integers(1, 10_000),
    weight=st.integers(1, 1 << 20),
    loss=_ELEMENT,
    gradient_norm=_SECONDS,
    bytes_up=st.integers(0, 1 << 30),
)


def observations(statistic: Statistic) -> st.SearchStrategy[Any]:
    """What this statistic may be told."""
    return mdc_observations if statistic.level == "mdc" else home_observations(statistic.sees_failures)


def check(statistic: Statistic, examples: int = EXAMPLES) -> None:
    """Raises LawError for the first law that does not hold, or whatever the statistic itself raises."""
    lists = st.lists(observations(statistic), max_size=8)

    # Without shrinking: for a statistic that fails often, it takes minutes, and says little more.
    @settings(max_examples=examples, deadline=None, database=None, phases=(Phase.generate,))
    @given(lists, lists, lists)
    def laws(one: list[Any], two: list[Any], three: list[Any]) -> None:
        def fresh() -> list[Any]:
            return [fold(statistic, part) for part in (one, two, three)]

        a, b, c = fresh()
        left = _combined(statistic, _combined(statistic, a, b), c)
        a, b, c = fresh()
        _same(
            statistic, "combine is not associative", left, _combined(statistic, a, _combined(statistic, b, c))
        )
        (a, b, _), (other_a, other_b, _) = fresh(), fresh()
        both = _combined(statistic, a, b)
        _same(statistic, "combine is not commutative", both, _combined(statistic, other_b, other_a))
        a, plain, _ = fresh()[0], fresh()[0], None
        _same(
            statistic,
            "identity() is not neutral on the right",
            plain,
            _combined(statistic, a, statistic.identity()),
        )
        a = fresh()[0]
        _same(
            statistic,
            "identity() is not neutral on the left",
            plain,
            _combined(statistic, statistic.identity(), a),
        )
        _same(statistic, "lasting(s) does not report what s does", left, _lasting(statistic, left))
        data = statistic.to_wire(left)
        _same(statistic, "from_wire(to_wire(s)) is not s", left, statistic.from_wire(data))
        if len(data) > statistic.max_bytes:
            raise LawError(f"the wire form has {len(data)} bytes, max_bytes is {statistic.max_bytes}")

    laws()
    _check_bound(statistic)


def fold(statistic: Statistic, seen: list[Any]) -> Any:
    """The state of many observations."""
    return functools.reduce(statistic.combine, map(statistic.of, seen), statistic.identity())


def _check_bound(statistic: Statistic) -> None:
    """Ever more homes that do the same few things must not make the state grow for ever."""
    state = statistic.identity()
    sizes = {}
    for count in range(1, 2 * MANY + 1):
        state = statistic.combine(state, statistic.of(_example(statistic, count)))
        if count in (MANY, 2 * MANY):
            sizes[count] = len(statistic.to_wire(state))
    if sizes[2 * MANY] > statistic.max_bytes:
        raise LawError(
            f"after {2 * MANY} observations the wire form has {sizes[2 * MANY]} bytes, "
            f"max_bytes is {statistic.max_bytes}: keep less, or say how much it may be"
        )
    if sizes[2 * MANY] > GROWTH * sizes[MANY] + GROWTH_BYTES:
        raise LawError(
            f"it grows with the number of observations: {sizes[MANY]} bytes on the wire after {MANY}, "
            f"{sizes[2 * MANY]} after {2 * MANY}; keep a sample, or counts"
        )


def _example(statistic: Statistic, count: int) -> Any:
    """An observation of its own home, but one of a few hundred as to what it did."""
    kind = count % 300
    common: dict[str, Any] = {"round": count % 50, "mdc": count % 20, "seconds": 1.01**kind, "bytes_up": kind}
    if statistic.level == "mdc":
        return MdcObservation(
            homes=1 + kind, weight=1 + kind, loss=float(kind), gradient_norm=1.0 + kind, **common
        )
    vector = np.full(4, math.sin(kind) * 10.0 ** (kind % 7 - 3), np.float32)
    facts: dict[str, Any] = {"batch_sizes": (1 + kind,), "classes": {str(kind % 10): 1}, "bytes_down": kind}
    return HomeObservation(home=count, weight=1 + kind % 9, vector=vector, **common, **facts)


def _combined(statistic: Statistic, a: Any, b: Any) -> Any:
    before = _shown(statistic, copy.deepcopy(b))
    made = statistic.combine(a, b)
    if _shown(statistic, b) != before:
        raise LawError(f"combine has changed its second argument, which was {before}")
    return made


def _lasting(statistic: Statistic, state: Any) -> Any:
    before = _shown(statistic, copy.deepcopy(state))
    made = statistic.lasting(state)
    if _shown(statistic, state) != before:
        raise LawError(f"lasting has changed the state, which was {before}")
    return made


def _same(statistic: Statistic, law: str, one: Any, other: Any) -> None:
    first, second = _shown(statistic, one), _shown(statistic, other)
    if first != second:
        raise LawError(f"{law}: {first} and {second}")


def _shown(statistic: Statistic, state: Any) -> str:
    try:
        return json.dumps(plain(statistic.report(state)), sort_keys=True)
    except (TypeError, ValueError) as error:
        raise LawError(f"report() gives what JSON cannot hold: {error}") from error
