"""What the dashboard shows of a job: small, whatever the number of homes, and true."""

from __future__ import annotations

import itertools
import json
import logging
from dataclasses import replace
from typing import Any

import pytest

from builders import (
    NOW,
    body,
    decide,
    job,
    observation,
    pod,
    settled,
    slot,
    wired,
    with_pod,
    with_training,
    without,
)
from elf_operator import builders
from elf_operator.dashboard import picture
from elf_operator.dashboard.course import FAULTS, SAMPLES, Course
from elf_operator.dashboard.gallery import FRAMES, Gallery
from elf_operator.observation import Observation
from elf_operator.status import rfc3339
from elf_worker.contract import Loss, Role, Slot

MDC = "sleigh-mdc-1-0"
LOST = Loss(MDC, "OOMKilled", "no memory left", NOW - 1)


def drawn(seen: Observation) -> dict[str, Any]:
    return picture.tree(seen, picture.ready_homes(seen), NOW)


def with_slot(seen: Observation, index: int, filled: Slot) -> Observation:
    assert seen.wiring is not None
    return replace(seen, wiring=replace(seen.wiring, mdcs={**seen.wiring.mdcs, index: filled}))


VACANT = Slot(1, replaced=1, loss=LOST)
NEW = pod(Role.MDC, 1, 1)
TABLE: dict[str, tuple[Observation, dict[str, Any]]] = {
    "it serves": (settled(), {"state": "serving", "incarnation": 0, "homes": 2, "ready": 2, "node": "n1"}),
    "its zone is known": (replace(settled(), zones={"n1": "north"}), {"zone": "north"}),
    "its pod has failed, nobody has acted on it": (
        with_pod(settled(), MDC, phase="Failed", ready=False),
        {"state": "dead", "homes": 2},
    ),
    "its pod goes": (with_pod(settled(), MDC, deleting=True), {"state": "dead"}),
    "its pod is gone": (
        with_slot(without(settled(), MDC), 1, VACANT),
        {"state": "dead", "homes": 0, "ready": 0},
    ),
    "it is fenced, its pod still runs": (
        with_slot(settled(), 1, VACANT),
        {"state": "dead", "incarnation": 1, "why": "OOMKilled: no memory left", "replaced": 1},
    ),
    "it waits": (
        with_slot(without(settled(), MDC), 1, replace(VACANT, not_before=NOW + 8)),
        {"state": "waiting", "until": NOW + 8, "why": "OOMKilled: no memory left"},
    ),
    "it has waited": (
        with_slot(without(settled(), MDC), 1, replace(VACANT, not_before=NOW)),
        {"state": "dead"},
    ),
    "its successor is not ready": (
        with_slot(replace(settled(), pods=(replace(NEW, ready=False),)), 1, replace(VACANT, uid=NEW.uid)),
        {"state": "starting", "incarnation": 1},
    ),
    "its successor is ready, nobody has let it in": (
        with_slot(replace(settled(), pods=(NEW,)), 1, VACANT),
        {"state": "starting", "incarnation": 1},
    ),
    "its successor serves": (
        with_slot(replace(settled(), pods=(NEW,)), 1, replace(VACANT, uid=NEW.uid)),
        {"state": "serving", "incarnation": 1},
    ),
    "it is ready, and the NPDC does not hear it": (
        settled({"serving": [{"mdc": 0, "incarnation": 0, "homes": 2}]}),
        {"state": "starting", "incarnation": 0, "homes": 2},
    ),
    "it is ready, and the NPDC hears it": (
        settled({"serving": [{"mdc": 1, "incarnation": 0, "homes": 2}]}),
        {"state": "serving"},
    ),
    "it is ready, and an NPDC before heard others": (
        settled({"incarnation": -1, "serving": []}),
        {"state": "serving"},
    ),
    "its successor is to take over from it": (
        with_slot(
            replace(settled(), pods=(*settled().pods, replace(NEW, ready=False, node="n2"))),
            1,
            Slot(1, NEW.uid, predecessor=f"uid-{MDC}"),
        ),
        {"state": "serving", "incarnation": 0, "node": "n1"},
    ),
    "its successor is to take over from it, whom the NPDC hears": (
        with_slot(
            replace(
                settled({"serving": [{"mdc": 1, "incarnation": 0, "homes": 2}]}),
                pods=(*settled().pods, replace(NEW, ready=False)),
            ),
            1,
            Slot(1, NEW.uid, predecessor=f"uid-{MDC}"),
        ),
        {"state": "serving", "incarnation": 0},
    ),
    "its successor has taken over": (
        with_slot(
            replace(settled(), pods=(*settled().pods, NEW)), 1, Slot(1, NEW.uid, predecessor=f"uid-{MDC}")
        ),
        {"state": "serving", "incarnation": 1},
    ),
    "it has never had a pod": (with_slot(without(settled(), MDC), 1, Slot(0)), {"state": "starting"}),
    "the job is over": (
        replace(with_pod(settled(), MDC, phase="Succeeded"), status={"state": "Complete"}),
        {"state": "stopped"},
    ),
    "one of its homes is not ready": (
        with_pod(settled(), "sleigh-home-3", ready=False),
        {"homes": 2, "ready": 1},
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_an_mdc(case: str) -> None:
    seen, expected = TABLE[case]
    [shown] = [m for m in drawn(seen)["mdcs"] if m["mdc"] == 1]
    assert {key: shown.get(key) for key in expected} == expected
    assert ("until" in shown) == (shown["state"] == "waiting")


def test_the_whole_tree() -> None:
    tree = drawn(settled())
    assert tree["npdc"] == {"state": "serving", "incarnation": 0, "node": "n1"}
    assert [(m["mdc"], m["ids"]) for m in tree["mdcs"]] == [(0, "0,2"), (1, "1,3")]
    assert tree["waiting"] == {"homes": 0, "ids": ""}
    assert tree["homes"] == {"desired": 4, "ready": 4, "failed": 0, "absent": 0}


def test_homes_that_no_mdc_serves_wait() -> None:
    assert drawn(with_slot(settled(), 1, VACANT))["waiting"] == {"homes": 2, "ids": "1,3"}


def test_absent_homes_are_counted() -> None:
    seen = settled()
    assert seen.wiring is not None
    tree = drawn(replace(seen, wiring=replace(seen.wiring, absent=frozenset({3}))))
    assert tree["homes"]["absent"] == 1
    assert [m.get("absent") for m in tree["mdcs"]] == [None, 1]


def test_an_mdc_that_was_scaled_away_is_not_shown() -> None:
    assert [m["mdc"] for m in drawn(with_slot(settled(), 2, Slot(3)))["mdcs"]] == [0, 1]


def test_without_wiring_the_status_tells() -> None:
    told = with_training(settled(), serving=[{"mdc": 0, "incarnation": 0, "homes": 2}])
    tree = drawn(Observation(job=told.job, status=told.status))
    assert [(m["mdc"], m["state"], m["homes"]) for m in tree["mdcs"]] == [
        (0, "serving", 2),
        (1, "starting", 2),
    ]
    assert tree["npdc"]["state"] == "serving"


def test_nothing_at_all_is_a_picture_too() -> None:
    for seen in (observation(), observation(job(rounds=-1))):
        shown = picture.picture(seen, drawn(seen), Course().to_json())
        assert shown["state"] == "Pending" and shown["round"] == 0 and shown["tree"]["mdcs"] == []
        json.dumps(shown, allow_nan=False)


def test_ten_thousand_homes_are_small() -> None:
    parsed = job(homes={"replicas": 10_000}, miniDataCenters={"replicas": 200})
    split = {i: slot(Role.MDC, i, homes=range(i, 10_000, 200)) for i in range(200)}
    homes = tuple(pod(Role.HOME, i) for i in range(10_000))
    centers = tuple(pod(Role.MDC, i) for i in range(200))
    seen = observation(parsed, pods=(*homes, *centers), wiring=wired(parsed, split))
    tree = drawn(seen)
    assert all(m["homes"] == m["ready"] == 50 and m["ids"].endswith(",…") for m in tree["mdcs"])
    assert len(json.dumps(tree)) < 50_000


def test_long_texts_are_cut() -> None:
    long = {"message": "x" * 9000, "pod": MDC, "reason": "R", "time": rfc3339(NOW)}
    seen = replace(
        settled(),
        status={
            "lastReplacements": [long],
            "conditions": [{"type": "Ready", "status": "True", "reason": "R", **long}],
            "training": {"statistics": {str(i): "y" * 9000 for i in range(99)}},
        },
    )
    shown = picture.picture(seen, drawn(seen), {})
    assert len(json.dumps(shown)) < 20_000
    assert shown["replacements"][0]["time"] == NOW


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.5", 0.5), (3, 3.0), ("nan", None), ("inf", None), ("", None), (None, None), ("x", None)],
)
def test_numbers(text: Any, value: float | None) -> None:
    assert picture.number(text) == value


# -- the course -------------------------------------------------------------------------------------------


def training(round_: int, **more: Any) -> dict[str, Any]:
    return {"training": {"round": round_, "loss": f"{1 / (round_ + 1):.6f}", "metric": "f1 0.5", **more}}


def test_a_short_course_is_kept_as_it_is() -> None:
    course = Course()
    for i in range(5):
        course.note(NOW + i, training(i, roundsPerSecond="2.00"))
        course.note(NOW + i + 0.5, training(i, roundsPerSecond="2.00", heartbeat=i))
    told = course.to_json()
    assert told["samples"][1] == (NOW + 1, 1, 0.5, 0.5, 2.0)
    assert [s[1] for s in told["samples"]] == [0, 1, 2, 3, 4], "a heartbeat is no progress"
    assert told["metric"] == "f1"


@pytest.mark.parametrize("count", [SAMPLES - 1, SAMPLES, SAMPLES + 1, 10 * SAMPLES, 50 * SAMPLES + 7])
def test_a_long_course_is_thinned_and_keeps_both_ends(count: int) -> None:
    course = Course()
    for i in range(count):
        course.note(NOW + i, training(i))
    samples = course.to_json()["samples"]
    assert SAMPLES / 3 < len(samples) <= SAMPLES
    assert samples[0][1] == 0 and samples[-1][1] == count - 1
    gaps = [b[0] - a[0] for a, b in itertools.pairwise(samples)]
    assert max(gaps) <= 4 * count / SAMPLES + 1, "no part of the course is lost"


def test_faults_are_marks_and_learn_when_they_are_over() -> None:
    course = Course()
    entry = {"pod": MDC, "reason": "OOMKilled", "message": "m", "time": rfc3339(NOW, precise=True)}
    course.note(NOW, {"lastReplacements": [entry]})
    course.note(NOW, {"lastReplacements": [entry | {"recoverySeconds": "1.5"}]})
    [fault] = course.to_json()["faults"]
    assert fault == {"time": NOW, "pod": MDC, "reason": "OOMKilled", "recoverySeconds": 1.5}


def test_marks_are_bounded_and_the_newest_stay() -> None:
    course = Course()
    for i in range(FAULTS + 50):
        entry = {"pod": f"p-{i}", "reason": "R", "time": rfc3339(NOW + i)}
        course.note(NOW + i, {"lastReplacements": [entry]})
    faults = course.to_json()["faults"]
    assert [f["pod"] for f in faults] == [f"p-{i}" for i in range(50, FAULTS + 50)]


# -- the gallery ------------------------------------------------------------------------------------------

KEY = ("pole", "sleigh")


def gallery() -> Gallery:
    return Gallery(lambda: NOW)


def shown(on: Gallery, after: int = 0) -> dict[str, Any]:
    found = on.job(KEY, after)
    assert found is not None
    return found


def test_what_was_there_for_a_moment_is_told_to_who_asks_later() -> None:
    on = gallery()
    on.look(settled())
    first = shown(on)["frame"]
    on.look(with_pod(settled(), MDC, phase="Failed"))
    on.look(with_slot(replace(settled(), pods=(NEW,)), 1, replace(VACANT, uid=NEW.uid)))
    frames = shown(on, first)["frames"]
    assert [f["tree"]["mdcs"][1]["state"] for f in frames] == ["dead", "serving"]
    assert shown(on, frames[-1]["frame"])["frames"] == []
    assert len(shown(on)["frames"]) == 1, "who comes anew sees what is"


def test_homes_that_get_ready_make_no_frames() -> None:
    on = gallery()
    on.look(with_pod(settled(), "sleigh-home-3", ready=False))
    before = shown(on)["frame"]
    on.look(settled())
    [frame] = shown(on, before)["frames"]
    assert frame["tree"]["mdcs"][1]["ready"] == 2
    assert len(on._jobs[KEY].frames) == 1


def test_frames_are_bounded() -> None:
    on = gallery()
    for i in range(3 * FRAMES):
        on.look(settled() if i % 2 else with_pod(settled(), MDC, phase="Failed"))
    assert len(shown(on, 1)["frames"]) == FRAMES


def test_the_wiring_that_the_operator_writes_is_seen_at_once() -> None:
    on = gallery()
    seen = settled()
    on.look(seen)
    moved = wired(seen.job, {0: slot(Role.MDC, 0, homes=range(4)), 1: slot(Role.MDC, 1)})
    on.applied(builders.wiring_map(seen.job, moved))
    assert [m["homes"] for m in shown(on)["tree"]["mdcs"]] == [4, 0]


def test_the_status_that_the_operator_writes_keeps_the_training() -> None:
    on = gallery()
    seen = settled()
    on.look(seen)
    on.reported(seen, {**decide(seen).status, "state": "Degraded"})
    assert (shown(on)["state"], shown(on)["round"]) == ("Degraded", 7)


def test_progress_is_followed_without_a_look() -> None:
    on = gallery()
    on.progress({**body(), "status": {"state": "Running", **training(3)}})
    on.progress({**body(), "status": {"state": "Running", **training(4)}})
    assert shown(on)["round"] == 4
    assert [s[1] for s in shown(on)["history"]["samples"]] == [3, 4]


def test_another_job_of_the_same_name_begins_anew() -> None:
    on = gallery()
    on.progress({**body(), "status": training(3)})
    other = body()
    other["metadata"]["uid"] = "another"
    on.progress({**other, "status": training(1)})
    assert [s[1] for s in shown(on)["history"]["samples"]] == [1]


def test_jobs_that_are_gone_are_forgotten() -> None:
    on = gallery()
    on.look(settled())
    on.keep("elsewhere", [])
    assert on.jobs()["count"] == 1
    on.keep(None, [])
    assert on.jobs()["count"] == 0 and on.job(KEY) is None
    on.look(settled())
    on.forget(KEY)
    assert on.job(KEY) is None


@pytest.mark.parametrize("broken", [{}, {"metadata": None}, {"metadata": {"name": "x"}, "status": [1]}])
def test_a_bug_is_logged_and_goes_no_further(broken: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        gallery().progress(broken)
    assert "could not follow" in caplog.text
