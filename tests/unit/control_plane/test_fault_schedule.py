"""A seed fixes which call meets which fault, and faults come to an end."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from control_plane.calls import Target
from control_plane.faults import EVERYWHERE, LONGEST_BURST, WATCHES, Schedule, kinds_for, refusal

CREATE, LOOK, WATCH = Target("create", "pods"), Target("list", "pods"), Target("watch", "pods")
targets = st.lists(st.sampled_from([CREATE, LOOK, WATCH]), max_size=400)


@given(st.integers(0, 10**6), targets)
def test_a_run_meets_as_many_faults_as_it_shall(seed: int, calls: list[Target]) -> None:
    schedule = Schedule(seed, faults=5)
    struck = [fault for call in calls if (fault := schedule.next(call)) is not None]
    assert len(struck) <= 5 * (1 + LONGEST_BURST)
    schedule.stop()
    assert all(schedule.next(call) is None for call in calls)


@given(st.integers(0, 10**6))
def test_calls_of_one_kind_meet_the_same_whatever_comes_between(seed: int) -> None:
    alone, mixed = Schedule(seed, faults=10**6), Schedule(seed, faults=10**6)
    for _ in range(50):
        first, other, second = alone.next(CREATE), mixed.next(WATCH), mixed.next(CREATE)
        if "403" in {fault.kind for fault in (first, other, second) if fault is not None}:
            return  # a burst strikes whatever comes next
        assert first == second


def test_seeds_differ() -> None:
    def story(seed: int) -> list[str]:
        schedule = Schedule(seed, faults=50)
        return [fault.kind if (fault := schedule.next(CREATE)) else "" for _ in range(100)]

    assert story(1) == story(1) != story(2)


def test_every_kind_comes_up() -> None:
    found = set()
    for seed in range(40):
        schedule = Schedule(seed, faults=100)
        for call in (CREATE, LOOK, WATCH) * 100:
            if (fault := schedule.next(call)) is not None:
                found.add(fault.kind)
    assert found >= {*EVERYWHERE, *WATCHES, "409", "422", "403"} - {"403 burst"}


@pytest.mark.parametrize(
    ("call", "never"), [(LOOK, {"409", "422", *WATCHES}), (CREATE, set(WATCHES)), (WATCH, {"409", "422"})]
)
def test_what_a_call_cannot_meet(call: Target, never: set[str]) -> None:
    assert not never & set(kinds_for(call))


def test_a_refusal_is_a_status_as_a_server_sends_it() -> None:
    said = refusal(429, CREATE)
    assert (said["kind"], said["code"], said["reason"]) == ("Status", 429, "TooManyRequests")
    assert said["details"]["retryAfterSeconds"] == 1
