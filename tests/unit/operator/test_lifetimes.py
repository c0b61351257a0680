"""Deadlines and times to live: what is done when they come, and that somebody looks then."""

from __future__ import annotations

import pytest

from builders import (
    JOB,
    NOW,
    actions,
    condition,
    decide,
    job,
    observation,
    settled,
    with_pod,
    with_spec,
    with_training,
    written,
)
from elf_operator.observation import Observation
from elf_worker.contract import Phase

BEGAN = NOW - 500.0
"""When `settled` jobs have started."""


def limited(seconds: int) -> Observation:
    return settled(activeDeadlineSeconds=seconds)


def over(phase: Phase = Phase.COMPLETE, **spec: object) -> Observation:
    """A job that ended at NOW, as the status says."""
    seen = with_training(settled(**spec), phase=phase, reason="TaskFailed", message="over")
    return written(seen, decide(seen))


def test_a_job_that_takes_too_long_fails_and_its_pods_go_at_once() -> None:
    seen = limited(500)
    decided = decide(seen)
    failed = condition(decided.status, "Failed")
    assert (failed["status"], failed["reason"]) == ("True", "DeadlineExceeded")
    assert "spec.activeDeadlineSeconds (500)" in failed["message"]
    assert "7 of 100 rounds" in failed["message"]
    assert decided.status["state"] == "Failed"
    assert sorted(actions(decided)) == sorted(f"delete {pod.name}" for pod in seen.pods)
    assert [event.reason for event in decided.events] == ["DeadlineExceeded"]
    later = decide(written(seen, decided), NOW + 5.0)
    assert condition(later.status, "Failed")["reason"] == "DeadlineExceeded", "it stays so"


def test_a_job_in_time_is_looked_at_when_its_deadline_comes() -> None:
    decided = decide(limited(520))
    assert decided.status["state"] == "Running"
    assert decided.again_after == pytest.approx(20.0)


def test_the_deadline_does_not_hide_what_is_to_be_done_before() -> None:
    unready = {"ready": False, "ready_changed": NOW - 1.0}
    soon = decide(with_pod(settled(), "sleigh-mdc-0-0", **unready)).again_after
    assert soon is not None
    assert decide(with_pod(limited(100_000), "sleigh-mdc-0-0", **unready)).again_after == soon


def test_a_job_that_is_done_in_its_last_second_is_complete() -> None:
    decided = decide(with_training(limited(500), phase=Phase.COMPLETE, message="trained"))
    assert decided.status["state"] == "Complete"


def test_time_of_a_suspension_does_not_count() -> None:
    seen = with_spec(limited(600), activeDeadlineSeconds=600, suspend=True)
    suspended = written(seen, decide(seen))
    assert "startTime" not in suspended.status
    resumed = with_spec(suspended, activeDeadlineSeconds=600)
    decided = decide(resumed, NOW + 10_000.0)
    assert decided.status["state"] != "Failed"
    assert decide(written(resumed, decided), NOW + 10_599.0).status["state"] != "Failed"
    assert decide(written(resumed, decided), NOW + 10_600.0).status["state"] == "Failed"


def test_a_job_that_was_never_looked_at_begins_now() -> None:
    assert decide(observation(job(activeDeadlineSeconds=1))).status["state"] == "Pending"


@pytest.mark.parametrize("phase", [Phase.COMPLETE, Phase.FAILED])
@pytest.mark.parametrize("ttl", [0, 60])
def test_an_ended_job_goes_when_its_time_has_come(phase: Phase, ttl: int) -> None:
    seen = over(phase, ttlSecondsAfterFinished=ttl)
    assert actions(decide(seen, NOW + ttl)) == [f"remove ElfTrainingJob {JOB}"]
    assert decide(seen, NOW + ttl).status == seen_status(seen), "nothing is written that nobody will read"


def seen_status(seen: Observation) -> dict[str, object]:
    return {key: value for key, value in seen.status.items() if key != "training"}


def test_an_ended_job_is_kept_until_then() -> None:
    seen = over(ttlSecondsAfterFinished=60)
    decided = decide(seen, NOW + 50.0)
    assert not decided.remove
    assert decided.again_after == pytest.approx(10.0)


def test_how_a_job_ended_is_written_before_it_goes() -> None:
    seen = with_training(settled(ttlSecondsAfterFinished=0), phase=Phase.COMPLETE, message="trained")
    decided = decide(seen)
    assert not decided.remove
    assert decided.status["state"] == "Complete"
    assert decided.again_after is not None


def test_without_a_time_to_live_a_job_stays() -> None:
    assert not decide(over(), NOW + 1e9).remove


def test_a_job_whose_deadline_has_passed_goes_too() -> None:
    seen = settled(activeDeadlineSeconds=1, ttlSecondsAfterFinished=5)
    ended = written(seen, decide(seen))
    assert actions(decide(ended, NOW + 5.0)) == [f"remove ElfTrainingJob {JOB}"]
