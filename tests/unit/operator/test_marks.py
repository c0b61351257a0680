"""Which changes of a job wake the operator."""

from __future__ import annotations

from typing import Any

import pytest

from builders import body
from elf_operator.handlers import mark_of

SLOW = {"mdc": 1, "incarnation": 0, "uid": "u", "seconds": "1.800", "median": "0.200"}
BASE: dict[str, Any] = {
    "phase": "Training",
    "incarnation": 0,
    "unreachable": [],
    "round": 3,
    "stragglers": [],
}


def mark(**training: Any) -> Any:
    return mark_of({**body(), "status": {"training": {**BASE, **training}}})


@pytest.mark.parametrize(
    "training",
    [
        {"phase": "Complete"},
        {"incarnation": 1},
        {"unreachable": [{"uid": "u"}]},
        {"stragglers": [SLOW]},
        {"serving": [{"mdc": 0, "incarnation": 1, "homes": 0}]},
    ],
)
def test_what_concerns_data_centers_wakes_it(training: dict[str, Any]) -> None:
    assert mark(**training) != mark()


def test_another_straggler_wakes_it_and_another_figure_of_the_same_does_not() -> None:
    slow = mark(stragglers=[SLOW])
    assert mark(stragglers=[SLOW | {"seconds": "1.900"}], round=4) == slow
    assert mark(stragglers=[SLOW | {"uid": "v"}]) != slow


def test_a_job_without_a_status_has_a_mark() -> None:
    assert mark_of(body()) == mark_of(body() | {"status": {}})
