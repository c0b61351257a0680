"""What the operator remembers between looks: what it may expect to see, and what it has said."""

from __future__ import annotations

import logging

import pytest

from elf_operator.announcements import BURST, REFILL_SECONDS, REMEMBERED, Announcements, Written
from elf_operator.expectations import PATIENCE_SECONDS, Expectations, StaleViewError
from elf_operator.health import SILENCE_SECONDS, Health
from elf_operator.metrics import Metrics
from elf_operator.plans import Event


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_look_behind_an_earlier_one_is_refused(clock: Clock) -> None:
    known = Expectations(clock)
    known.check("a", generation=2, wiring=7)
    with pytest.raises(StaleViewError, match="generation 1, wiring 7 are shown; 2 and 7"):
        known.check("a", generation=1, wiring=7)
    with pytest.raises(StaleViewError):
        known.check("a", generation=2, wiring=6)
    known.check("a", generation=2, wiring=7)
    known.check("b", generation=1, wiring=0)


def test_a_look_must_show_what_was_written(clock: Clock) -> None:
    known = Expectations(clock)
    known.check("a", 1, 0)
    known.wrote("a", wiring=5)
    with pytest.raises(StaleViewError):
        known.check("a", 1, 0)
    known.check("a", 1, 5)


def test_a_wiring_that_was_removed_is_missed_by_nobody(clock: Clock) -> None:
    known = Expectations(clock)
    known.check("a", generation=2, wiring=7)
    known.removing("a")
    known.check("a", generation=2, wiring=7)  # it has not gone yet
    known.removing("a")
    known.check("a", generation=2, wiring=0)
    with pytest.raises(StaleViewError):
        known.check("a", generation=1, wiring=0)
    known.removing("of a job that nobody has looked at")


def test_a_view_that_stays_behind_is_the_truth(clock: Clock) -> None:
    known = Expectations(clock)
    known.check("a", 1, 5)
    with pytest.raises(StaleViewError):
        known.check("a", 1, 0)
    clock.now += PATIENCE_SECONDS - 1
    with pytest.raises(StaleViewError):
        known.check("a", 1, 0)
    clock.now += 1
    known.check("a", 1, 0)  # somebody has deleted the wiring
    known.check("a", 1, 0)


def test_a_new_job_of_the_same_name_is_not_behind(clock: Clock) -> None:
    known = Expectations(clock)
    known.check("a", 9, 9)
    known.forget("a")
    known.check("a", 1, 0)


def test_a_job_may_say_so_much_at_once_and_then_a_little_at_a_time(clock: Clock) -> None:
    said = Announcements(clock)
    assert [said.admit("a") for _ in range(BURST + 2)] == [True] * BURST + [False] * 2
    assert said.admit("b"), "another job has its own measure"
    clock.now += REFILL_SECONDS - 1
    assert not said.admit("a")
    clock.now += 1
    assert said.admit("a") and not said.admit("a")


def test_what_was_said_is_known_again_until_too_much_was_said_since(clock: Clock) -> None:
    said = Announcements(clock)
    first = Event("Warning", "Because", "first")
    assert said.known("a", first) is None
    said.wrote("a", first, Written("e-1"))
    assert said.known("a", first) == Written("e-1")
    assert said.known("b", first) is None
    for number in range(REMEMBERED):
        said.wrote("a", Event("Warning", "Because", str(number)), Written(f"e-{number}"))
    assert said.known("a", first) is None
    said.forget("a")
    assert said.known("a", Event("Warning", "Because", "3")) is None


def test_health_is_the_time_since_the_last_good_list(clock: Clock) -> None:
    health = Health(clock)
    assert health.alive and not health.ready
    clock.now += SILENCE_SECONDS
    assert not health.alive and not health.ready
    health.listed()
    assert health.alive and health.ready and health.silence() == 0.0


@pytest.mark.parametrize(
    ("name", "message", "level"),
    [
        ("kopf._cogs.clients.api", "Request attempt 3 failed; will retry: GET /api/v1/pods", "WARNING"),
        (
            "kopf._cogs.clients.api",
            "Request attempt 1 failed; SSL closed; will re-authenticate: GET",
            "WARNING",
        ),
        ("kopf._cogs.clients.api", "Request attempt 9 failed; escalating: GET /api/v1/pods", "ERROR"),
        ("elf_operator.workqueue", "it will retry", "ERROR"),
    ],
)
def test_only_errors_that_stay_are_counted_as_such(name: str, message: str, level: str) -> None:
    metrics = Metrics()
    record = logging.LogRecord(name, logging.ERROR, __file__, 1, message, (), None)
    metrics.counts_errors().handle(record)
    assert record.levelname == level
    counted = (
        f'elf_operator_errors_logged_total{{logger="{name.partition(".")[0]}"}} 1.0'
        in metrics.text().decode()
    )
    assert counted == (level == "ERROR")


def test_jobs_are_counted_by_state() -> None:
    states = {"Running": 3, "Degraded": 1}
    metrics = Metrics()
    metrics.show_by("state", "jobs_by_state", "Jobs by their state.", lambda: states)
    assert 'elf_operator_jobs_by_state{state="Running"} 3.0' in metrics.text().decode()
    del states["Degraded"]
    assert "Degraded" not in metrics.text().decode()
