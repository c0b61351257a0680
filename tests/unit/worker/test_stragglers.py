"""Who is a straggler: the laws in the class's docstring."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elf_worker.aggregation.stragglers import FLOOR_SECONDS, ROUNDS, Straggler, Stragglers, median_without

FAST = {"a": 0.2, "b": 0.2, "c": 0.2}
SLOW = FAST | {"b": 1.8}

ROWS: dict[str, tuple[list[dict[str, float]], set[str]]] = {
    "nobody is slow": ([FAST] * 9, set()),
    "not for long enough yet": ([SLOW] * (ROUNDS - 1), set()),
    "long enough": ([SLOW] * ROUNDS, {"b"}),
    "for a long time": ([SLOW] * 30, {"b"}),
    "one good round makes up for all": ([SLOW] * ROUNDS + [FAST], set()),
    "with a gap": ([SLOW] * (ROUNDS - 1) + [FAST] + [SLOW] * (ROUNDS - 1), set()),
    "who was absent begins anew": ([SLOW] * (ROUNDS - 1) + [{"a": 0.2, "c": 0.2}, SLOW], set()),
    "that others come and go changes nothing": (
        [SLOW, {"a": 0.2, "b": 1.8}, SLOW, SLOW | {"d": 0.1}, SLOW],
        {"b"},
    ),
    "of two, the other one is the measure": ([{"a": 0.2, "b": 1.8}] * ROUNDS, {"b"}),
    "alone": ([{"b": 99.0}] * ROUNDS, set()),
    "no MDCs at all": ([{}] * ROUNDS, set()),
    "exactly as many times": ([FAST | {"b": 1.0 + FLOOR_SECONDS}] * ROUNDS, set()),
    "milliseconds are noise": ([{"a": 0.001, "b": 0.045, "c": 0.0}] * ROUNDS, set()),
    "others that take no time are no measure": ([{"a": 0.0, "b": FLOOR_SECONDS, "c": 0.0}] * ROUNDS, set()),
    "two of five": ([FAST | {"d": 9.0, "e": 8.0}] * ROUNDS, {"d", "e"}),
    "all are slow alike": ([{"a": 9.0, "b": 9.5, "c": 8.0}] * ROUNDS, set()),
}


def fed(rounds: list[dict[str, float]], factor: float = 5.0) -> dict[str, Straggler]:
    watch, found = Stragglers(factor), {}
    for seconds in rounds:
        found = watch.note(seconds)
    return found


@pytest.mark.parametrize("sentence", ROWS)
def test_who_is_a_straggler(sentence: str) -> None:
    rounds, expected = ROWS[sentence]
    assert set(fed(rounds)) == expected


def test_the_figures_are_means_over_the_rounds_that_count() -> None:
    rounds = [SLOW] + [{"a": 0.1 * i, "b": float(i), "c": 0.1 * i} for i in range(1, ROUNDS + 1)]
    found = fed(rounds)["b"]
    assert (found.seconds, found.median) == (pytest.approx(3.0), pytest.approx(0.3))


seconds = st.sampled_from([0.0, 0.01, 0.2, 0.25, 1.0, 1.8, 30.0]) | st.floats(0, 1e6)
one_round = st.dictionaries(st.sampled_from("abcde"), seconds)
rounds_of = st.lists(st.tuples(one_round, st.integers(1, ROUNDS + 1)), max_size=4).map(
    lambda drawn: [seconds for seconds, times in drawn for _ in range(times)]
)


@given(rounds_of, st.floats(1.01, 20))
def test_the_law_by_its_letter(rounds: list[dict[str, float]], factor: float) -> None:
    def slow(seconds: dict[str, float], who: str) -> bool:
        others = [own for other, own in seconds.items() if other != who]
        return bool(
            who in seconds and others and seconds[who] > factor * statistics.median(others) + FLOOR_SECONDS
        )

    last = rounds[-ROUNDS:]
    expected = {who for who in "abcde" if len(last) == ROUNDS and all(slow(one, who) for one in last)}
    found = fed(rounds, factor)
    assert set(found) == expected
    assert not rounds or not rounds[-1] or set(found) != set(rounds[-1]), "never all"


@given(rounds_of, st.permutations("abcde"))
def test_names_and_order_do_not_matter(rounds: list[dict[str, float]], names: list[str]) -> None:
    called = dict(zip("abcde", names, strict=True))
    renamed = [{called[who]: own for who, own in reversed(one.items())} for one in rounds]
    assert {called[who]: how for who, how in fed(rounds).items()} == fed(renamed)


@given(st.lists(seconds, min_size=2), st.data())
def test_the_median_of_the_others(numbers: list[float], data: st.DataObject) -> None:
    ordered = sorted(numbers)
    out = data.draw(st.integers(0, len(ordered) - 1))
    expected = statistics.median(ordered[:out] + ordered[out + 1 :])
    assert median_without(ordered, out) == pytest.approx(expected)
