"""A job as a tree: what is observed, and what is shown of it."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from builders import NOW, body, pod, slot
from elf_cli.views import tree, tree_text
from elf_cli.views.ages import age
from elf_cli.views.pod_states import NAMED, Health
from elf_cli.views.tree import JobView
from elf_operator.observation import Pod
from elf_operator.status import rfc3339
from elf_worker.contract import Role, Wiring

SPLIT = {0: slot(Role.MDC, 0, homes=[0, 1]), 1: slot(Role.MDC, 1, homes=[2, 3])}
WIRING = Wiring(1, slot(Role.NPDC), SPLIT, homes=4)
PODS = [
    pod(Role.NPDC),
    pod(Role.MDC, 0),
    pod(Role.MDC, 1),
    *(pod(Role.HOME, i, homes=str(i)) for i in range(4)),
]


def condition(kind: str, value: bool, reason: str = "R", message: str = "m") -> dict[str, Any]:
    since = rfc3339(NOW - 30)
    return {
        "type": kind,
        "status": str(value),
        "reason": reason,
        "message": message,
        "lastTransitionTime": since,
    }


def job(**changes: Any) -> dict[str, Any]:
    """A job that is well, with changes to its status."""
    made = body()
    made["metadata"]["creationTimestamp"] = rfc3339(NOW - 100)
    made["spec"]["rounds"] = 50
    serving = [{"mdc": 0, "incarnation": 0, "homes": 2}, {"mdc": 1, "incarnation": 0, "homes": 2}]
    training = {"round": 7, "incarnation": 0, "serving": serving, "loss": "0.5", "metric": "f1 0.9"}
    made["status"] = {
        "state": "Running",
        "homes": {"summary": "4/4"},
        "miniDataCenters": {"summary": "2/2"},
        "replaced": 0,
        "assignments": [{"mdc": i, "incarnation": 0, "homes": 2} for i in (0, 1)],
        "conditions": [condition("Ready", True), condition("Degraded", False)],
        "training": {**training, "roundsPerSecond": "12"},
        **changes,
    }
    return made


def look(pods: list[Pod] = PODS, wiring: Wiring | None = WIRING, **changes: Any) -> JobView:
    return tree.look(job(**changes), pods, wiring, NOW)


def without(*names: str) -> list[Pod]:
    return [p for p in PODS if p.name not in names]


def changed(name: str, **fields: Any) -> list[Pod]:
    return [replace(p, **fields) if p.name == name else p for p in PODS]


def text(view: JobView) -> str:
    return "\n".join(line for line, _ in tree_text.lines(view))


def test_a_job_that_is_well() -> None:
    view = look()
    assert view.npdc is not None and view.npdc.health is Health.SERVES
    assert [(c.index, c.health, c.homes.count, c.homes.well) for c in view.centers] == [
        (0, Health.SERVES, 2, 2),
        (1, Health.SERVES, 2, 2),
    ]
    assert view.troubles == () and view.losses == () and view.others.count == 0
    lines = text(view).splitlines()
    assert lines[0] == (
        "sleigh  Running  round 7 of 50  12 rounds/s  loss 0.5  f1 0.9  homes 4/4  MDCs 2/2  "
        "replaced 0  age 1m40s"
    )
    assert lines[2] == (
        "● NPDC       sleigh-npdc-0    Running, ready   n1   16m40s   incarnation 0, replaced 0   serves"
    )
    assert lines[3].startswith("├─ ● MDC 0   sleigh-mdc-0-0 ") and lines[4] == "│     2 homes: 2 ready"
    assert lines[5].startswith("└─ ● MDC 1   sleigh-mdc-1-0 ") and lines[6] == "      2 homes: 2 ready"


MDC = "sleigh-mdc-1-0"
LATE = replace(SPLIT[1], uid="", incarnation=1, homes=frozenset(), failures=3, not_before=NOW + 12)


@pytest.mark.parametrize(
    ("pods", "second", "health", "why"),
    [
        (without(MDC), SPLIT[1], Health.MISSING, "the next one is on its way"),
        (without(MDC), LATE, Health.MISSING, "the next one comes in 12 s: failure 3 in a row"),
        (PODS, LATE, Health.MISSING, "the next one comes in 12 s: failure 3 in a row"),
        (changed(MDC, deleting=True), SPLIT[1], Health.LEAVES, ""),
        (
            changed(MDC, phase="Failed", exit_code=137, exit_reason="OOMKilled"),
            SPLIT[1],
            Health.ENDED,
            "OOMKilled, exit code 137",
        ),
        (changed(MDC, ready=False), SPLIT[1], Health.STARTS, ""),
        (
            changed(MDC, ready=False, phase="Pending", unschedulable="0/3 nodes"),
            SPLIT[1],
            Health.WAITS,
            "no node takes it: 0/3 nodes",
        ),
        (
            changed(MDC, ready=False, waiting="ImagePullBackOff", waiting_message="no such image"),
            SPLIT[1],
            Health.WAITS,
            "ImagePullBackOff: no such image",
        ),
        (
            changed(MDC, incarnation=1),
            replace(SPLIT[1], incarnation=1),
            Health.SILENT,
            "runs, but the NPDC has not heard from it",
        ),
    ],
)
def test_how_an_mdc_is(pods: list[Pod], second: Any, health: Health, why: str) -> None:
    view = look(pods, replace(WIRING, mdcs={**SPLIT, 1: second}))
    assert (view.centers[1].health, view.centers[1].why) == (health, why)
    assert view.centers[0].health is Health.SERVES
    assert f"{health}: {why}".rstrip(": ") in text(view)


HEIR = pod(Role.MDC, 1, 1, ready=False)
NAMED_HEIR = replace(SPLIT[1], incarnation=1, uid=HEIR.uid, predecessor=f"uid-{MDC}")


@pytest.mark.parametrize("slots", [SPLIT, {**SPLIT, 1: NAMED_HEIR}, None], ids=["tried", "named", "unknown"])
def test_an_mdc_serves_until_its_successor_has_taken_over(slots: Any) -> None:
    view = look([*PODS, HEIR], replace(WIRING, mdcs=slots) if slots else None)
    assert (view.centers[1].health, view.centers[1].pod) == (Health.SERVES, MDC)


def test_an_mdcs_successor_serves_when_it_has_taken_over() -> None:
    training = {**job()["status"]["training"], "serving": [{"mdc": 1, "incarnation": 1, "homes": 2}]}
    pods = [*PODS, replace(HEIR, ready=True)]
    view = look(pods, replace(WIRING, mdcs={**SPLIT, 1: NAMED_HEIR}), training=training)
    assert (view.centers[1].health, view.centers[1].pod) == (Health.SERVES, HEIR.name)


def test_homes_that_are_not_well_are_named_with_their_reason() -> None:
    pods = changed("sleigh-home-2", ready=False, waiting="CrashLoopBackOff", waiting_message="again")
    homes = look(pods).centers[1].homes
    assert (homes.count, homes.well, homes.ill_pods) == (2, 1, 1)
    assert homes.ill == ("sleigh-home-2 (home 2) waits: CrashLoopBackOff: again",)
    gone = look(without("sleigh-home-2")).centers[1].homes
    assert gone.ill == ("pod 2 of homes (home 2) missing",)


def test_homes_that_share_a_pod_may_have_different_mdcs() -> None:
    together = pod(Role.HOME, 0, homes="0-3", ready=False)
    view = look([*PODS[:3], together])
    assert [c.homes.ill for c in view.centers] == [
        ("sleigh-home-0 (homes 0-1) starts",),
        ("sleigh-home-0 (homes 2-3) starts",),
    ]


def test_homes_without_an_mdc() -> None:
    view = look(wiring=replace(WIRING, mdcs={0: SPLIT[0], 1: LATE}))
    assert (view.others.count, view.others.well) == (2, 2)
    assert "└─ 2 homes without an MDC: 2 ready" in text(view)


def test_who_may_not_read_the_wiring_sees_counts() -> None:
    view = look(wiring=None)
    assert [(c.index, c.homes.count) for c in view.centers] == [(0, 2), (1, 2)]
    assert "4 homes (who serves them is not known): 4 ready" in text(view)


def test_ten_thousand_homes_are_a_few_lines() -> None:
    count = 10_000
    ill = [i for i in range(count) if i % 100 == 0]
    pods = [*PODS[:3], *(pod(Role.HOME, i, homes=str(i), ready=i % 100 != 0) for i in range(count))]
    halves = {i: slot(Role.MDC, i, homes=range(i, count, 2)) for i in (0, 1)}
    view = look(pods, replace(WIRING, mdcs=halves, homes=count))
    assert [(c.homes.count, c.homes.well) for c in view.centers] == [(5000, 5000 - len(ill)), (5000, 5000)]
    said = text(view)
    assert len(said.splitlines()) < 20 and len(said) < 3000
    assert f"and {len(ill) - NAMED} more pods" in said
    assert len(tree_text.as_data(view)["tree"]["mdcs"][0]["homes"]["notReady"]) == NAMED


def test_conditions_that_are_not_well_come_with_their_sentence_once() -> None:
    bad = [
        condition("Ready", False, "Replacing", "1 of 2 MDCs serve"),
        condition("Degraded", True, "Replacing", "1 of 2 MDCs serve"),
        condition("Suspended", False, "NotSuspended", "no"),
        condition("Complete", False, "InProgress", "no"),
        condition("Failed", False, "InProgress", "no"),
    ]
    view = look(conditions=bad, state="Degraded")
    (found,) = view.troubles
    assert found.conditions == ("Ready is False", "Degraded is True") and found.since == 30
    assert "  Ready is False, Degraded is True for 30s: Replacing: 1 of 2 MDCs serve" in text(view)


def test_a_job_that_is_complete_tells_how_and_with_which_model() -> None:
    bad = [
        condition("Ready", False, "Trained", "the job has ended"),
        condition("Complete", True, "Trained", "50 rounds"),
    ]
    training = {"round": 50, "incarnation": 0, "modelDigest": "sha256:ab", "roundsPerSecond": "9"}
    view = look([], conditions=bad, state="Complete", completionTime=rfc3339(NOW), training=training)
    assert view.troubles == () and "  50 rounds\n  model sha256:ab" in text(view)
    assert {c.health for c in view.centers} == {Health.ENDED} and "rounds/s" not in text(view)


def test_what_was_replaced_last() -> None:
    entry = {"pod": "sleigh-mdc-1-0", "reason": "PodGone", "message": "is gone", "time": rfc3339(NOW - 60)}
    view = look(lastReplacements=[{**entry, "recoverySeconds": "2.5"}, {**entry, "pod": "sleigh-npdc-0"}])
    assert "  1m ago   sleigh-mdc-1-0   PodGone   healed in 2.5 s   is gone" in text(view)
    assert "  1m ago   sleigh-npdc-0    PodGone   not healed yet    is gone" in text(view)


def test_a_job_that_has_just_been_made() -> None:
    fresh = body()
    view = tree.look(fresh, (), None, NOW)
    assert (view.state, view.round, view.centers, view.homes) == ("Pending", 0, (), "-")
    assert text(view).startswith("sleigh  Pending  round 0 of ")


def test_nothing_is_changed_by_looking() -> None:
    made = job()
    before = copy.deepcopy(made)
    tree.look(made, PODS, WIRING, NOW)
    assert made == before


def test_on_a_pipe_a_line_when_something_changes() -> None:
    well = look()
    later = look(training={**job()["status"]["training"], "round": 8, "loss": "0.4"})
    assert tree_text.changes(None, well) == [tree_text.headline(well)]
    assert tree_text.changes(well, later) == []
    entry = {"pod": MDC, "reason": "PodGone", "message": "is gone", "time": rfc3339(NOW)}
    ill = look(
        without(MDC),
        state="Degraded",
        lastReplacements=[entry],
        conditions=[condition("Degraded", True, "Replacing", "1 of 2 MDCs serve")],
    )
    assert tree_text.changes(later, ill) == [
        tree_text.headline(ill),
        "MDC 1: missing: the next one is on its way",
        "Degraded is True: Replacing: 1 of 2 MDCs serve",
        f"{MDC} was replaced: PodGone: is gone",
    ]
    healed = look(lastReplacements=[{**entry, "recoverySeconds": "1.0"}])
    assert tree_text.changes(ill, healed)[-1] == f"{MDC}: healed in 1.0 s"


def test_the_table_of_jobs() -> None:
    rows = tree_text.table([job(), body("cookies")], NOW, with_namespace=True)
    assert rows[0].split() == ["NAMESPACE", *tree_text.HEADER]
    assert rows[1].split("   ")[0] == "pole" and "7/50" in rows[1] and rows[1].endswith("1m40s")
    assert "cookies" in rows[2] and "Pending" in rows[2]
    assert not tree_text.table([job()], NOW, with_namespace=False)[0].startswith("NAMESPACE")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "0s"),
        (0, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (386, "6m26s"),
        (3600, "1h"),
        (11520, "3h12m"),
        (187200, "2d4h"),
    ],
)
def test_ages(seconds: float, said: str) -> None:
    assert age(seconds) == said
