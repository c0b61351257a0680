"""The status: transition times, histories, and that it fits the CRD."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import jsonschema
import pytest
from hypothesis import given

from builders import (
    NOW,
    condition,
    decide,
    job,
    observation,
    settled,
    with_pod,
    with_spec,
    with_training,
    without,
)
from elf_operator import schema
from elf_operator.observation import Observation
from elf_operator.status import (
    HISTORY,
    MESSAGE_CHARS,
    Condition,
    Counts,
    Replacement,
    build,
    holds,
    previous_replacements,
    recovered,
    rfc3339,
)
from elf_worker.contract import Loss, Slot, Wiring

READY = Condition("Ready", True, "AllServing", "every pod serves")
NOT_READY = Condition("Ready", False, "Starting", "not yet")


def status(
    old: dict[str, Any] | None = None, state: str = "Running", now: float = NOW, **how: Any
) -> dict[str, Any]:
    how = {"conditions": [READY], "counts": Counts()} | how
    return build(observation(status=old or {}), now, state, **how)


def test_times_are_utc_text() -> None:
    assert rfc3339(NOW) == "2023-11-14T22:13:20Z"
    assert rfc3339(NOW + 0.25, precise=True) == "2023-11-14T22:13:20.250Z"


def test_a_transition_time_moves_only_when_the_status_flips() -> None:
    first = status()
    same = status(first, now=NOW + 60.0, conditions=[Condition("Ready", True, "Other", "new words")])
    flipped = status(same, now=NOW + 90.0, conditions=[NOT_READY])
    times = [condition(s, "Ready")["lastTransitionTime"] for s in (first, same, flipped)]
    assert times == [rfc3339(NOW), rfc3339(NOW), rfc3339(NOW + 90.0)]
    assert condition(same, "Ready")["reason"] == "Other"
    assert condition(same, "Ready")["message"] == "new words"


def test_the_generation_is_that_of_the_spec_which_was_read() -> None:
    seen = with_spec(settled(), suspend=True)
    new = build(seen, NOW, "Suspended", [READY], Counts())
    assert new["observedGeneration"] == condition(new, "Ready")["observedGeneration"] == 2


def test_long_messages_are_cut() -> None:
    new = status(
        conditions=[Condition("Ready", False, "R", "x" * 9999)],
        replacements=[Replacement("p", "R", "x" * 9999, NOW)],
    )
    assert len(condition(new, "Ready")["message"]) == MESSAGE_CHARS
    assert len(new["lastReplacements"][0]["message"]) == MESSAGE_CHARS


def test_only_the_newest_replacements_are_kept() -> None:
    new = status(replacements=[Replacement(f"p-{i}", "R", "m", NOW + i) for i in range(HISTORY + 3)])
    assert [r["pod"] for r in new["lastReplacements"]] == [f"p-{i}" for i in range(3, HISTORY + 3)]


@pytest.mark.parametrize(
    ("state", "begins", "ends"),
    [
        ("Pending", True, False),
        ("Running", True, False),
        ("Degraded", True, False),
        ("Suspended", False, False),
        ("Failed", False, True),
        ("Complete", True, True),
    ],
)
def test_start_and_end(state: str, begins: bool, ends: bool) -> None:
    new = status(state=state)
    assert ("startTime" in new, "completionTime" in new) == (begins, ends)


def test_start_and_end_are_written_once() -> None:
    first = status(state="Complete")
    later = status(first, state="Complete", now=NOW + 60.0)
    assert (later["startTime"], later["completionTime"]) == (rfc3339(NOW), rfc3339(NOW))
    assert "startTime" not in status(first, state="Suspended", now=NOW + 60.0), "resumed, it starts anew"
    assert "completionTime" not in status(first, state="Running", now=NOW + 60.0)


def test_a_condition_holds_only_while_it_is_true() -> None:
    new = status(conditions=[READY, Condition("Failed", False, "InProgress", "")])
    assert holds(new, "Ready") == condition(new, "Ready")
    assert holds(new, "Failed") is None and holds(new, "Complete") is None and holds({}, "Ready") is None


def test_recovery_takes_no_negative_time() -> None:
    assert recovered(Replacement("p", "R", "m", NOW), NOW - 5.0).recovery_seconds == 0.0


replacements = st.builds(
    Replacement,
    st.just("p-0"),
    st.just("R"),
    st.text(max_size=20),
    st.floats(1.0e9, 2.0e9),
    st.none() | st.floats(0.0, 1e6),
)


@given(st.lists(replacements, max_size=HISTORY))
def test_a_history_that_was_written_is_written_again_unchanged(entries: list[Replacement]) -> None:
    first = status(replacements=entries)
    read = previous_replacements(observation(status=first))
    assert status(first, replacements=read) == first
    for entry, back in zip(entries, read, strict=True):
        assert abs(back.time - entry.time) < 0.0011
        assert (back.recovery_seconds is None) == (entry.recovery_seconds is None)


def test_what_has_left_a_full_history_does_not_come_back() -> None:
    entries = [Replacement(f"p-{i}", "R", "m", NOW + i) for i in range(HISTORY)]
    first = status(replacements=entries)
    for time, comes in ((NOW - 1.0, False), (NOW + 0.5, True)):
        wiring = Wiring(1, Slot(1, loss=Loss("other", "R", "m", time)))
        read = previous_replacements(observation(status=first, wiring=wiring))
        assert ("other" in [entry.pod for entry in read]) == comes
        assert [entry.time for entry in read] == sorted(entry.time for entry in read)


SEEN: dict[str, Callable[[], Observation]] = {
    "nothing": observation,
    "settled": settled,
    "replacing": lambda: without(settled(), "sleigh-mdc-1-0"),
    "not pullable": lambda: with_pod(settled(), "sleigh-mdc-1-0", ready=False, waiting="ErrImagePull"),
    "suspended": lambda: with_spec(settled(), suspend=True),
    "complete": lambda: with_training(settled(), phase="Complete", message="done"),
    "invalid": lambda: observation(job(rounds=0)),
}


@pytest.mark.parametrize("sentence", SEEN)
def test_every_status_fits_the_crd(sentence: str) -> None:
    root = schema.crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    closed = schema._close(root["properties"]["status"])
    new = decide(SEEN[sentence]()).status
    assert [e.message for e in jsonschema.Draft202012Validator(closed).iter_errors(new)] == []


@pytest.mark.parametrize("sentence", SEEN)
def test_every_status_has_all_conditions_with_reason_and_sentence(sentence: str) -> None:
    new = decide(SEEN[sentence]()).status
    assert [c["type"] for c in new["conditions"]] == [
        "Ready",
        "Degraded",
        "Suspended",
        "Complete",
        "Failed",
    ]
    assert all(c["reason"][0].isupper() and c["reason"].isalnum() and c["message"] for c in new["conditions"])
