"""The planner: what is seen → what shall be done, a sentence a row; then laws over simulated worlds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest

from builders import (
    NOW,
    actions,
    condition,
    decide,
    job,
    observation,
    pod,
    service,
    settled,
    slot,
    wired,
    wiring_of,
    with_pod,
    with_spec,
    with_training,
    without,
    written,
)
from elf_operator.assignment import FIRST_START_SECONDS
from elf_operator.endings import GOODBYE_SECONDS
from elf_operator.observation import Observation
from elf_worker.contract import Loss, Role, Slot, Wiring
from fakes import World, carry_out, settle

ACCOUNT = ["apply ServiceAccount", "apply Role", "apply RoleBinding"]
HOMES = [f"create sleigh-home-{i}" for i in range(4)]
EVERYTHING = ["create sleigh-npdc-0", "create sleigh-mdc-0-0", "create sleigh-mdc-1-0", *HOMES]
REPLACE_MDC_1 = ["apply ConfigMap", "delete sleigh-mdc-1-0", "create sleigh-mdc-1-1"]
REPLACE_GONE_MDC_1 = ["apply ConfigMap", "create sleigh-mdc-1-1"]
REPLACE_NPDC = ["apply Service", *ACCOUNT, "apply ConfigMap", "delete sleigh-npdc-0", "create sleigh-npdc-1"]
REPLACE_GONE_NPDC = [a for a in REPLACE_NPDC if not a.startswith("delete")]
MDC = "sleigh-mdc-1-0"
FAILED = {"phase": "Failed", "ready": False, "exit_code": 1}
PODS = ["sleigh-npdc-0", "sleigh-mdc-0-0", "sleigh-mdc-1-0", *(f"sleigh-home-{i}" for i in range(4))]


def first_wiring(**npdc: object) -> Wiring:
    empty = Slot(0)
    return replace(wired(job(), {0: empty, 1: empty}), version=0, npdc=replace(empty, **npdc))


def half_started(*pods: str) -> Observation:
    """The first plan was carried out up to the creation of these pods; no status was written."""
    seen = settled()
    alive = tuple(replace(p, ready=False, phase="Pending") for p in seen.pods if p.name in pods)
    return replace(seen, pods=alive, wiring=first_wiring(), status={})


def fenced_mdc() -> Observation:
    """The wiring fences MDC 1's dead pod; the operator died before it did anything else."""
    seen = with_pod(settled(), MDC, **FAILED)
    after = wiring_of(decide(seen))
    return replace(seen, wiring=after)


def suspended() -> Observation:
    seen = with_spec(settled(), suspend=True)
    decided = decide(seen)
    return written(replace(seen, pods=(), wiring=wiring_of(decided)), decided)


def ended(phase: str = "Complete", **progress: object) -> Observation:
    seen = with_training(settled(), phase=phase, message="it is done", **progress)
    return written(seen, decide(seen, NOW - 1.0))


def mdcs(count: int) -> dict[str, dict[str, int]]:
    return {"miniDataCenters": {"replicas": count}}


ROWS: dict[str, tuple[Callable[[], Observation], list[str]]] = {
    "stable: nothing to do": (settled, []),
    "nothing exists: the account, the address and the wiring come before the pods": (
        observation,
        ["apply Service", *ACCOUNT, "apply ConfigMap", *EVERYTHING],
    ),
    "the operator died after the account and the address": (
        lambda: observation(service=service(job())),
        [*ACCOUNT, "apply ConfigMap", *EVERYTHING],
    ),
    "the operator died before it made any pod": (
        lambda: half_started(),
        [*ACCOUNT, *EVERYTHING],
    ),
    "the operator died while it made pods": (
        lambda: half_started(*PODS[:2], "sleigh-home-0"),
        ["apply ConfigMap", "create sleigh-mdc-1-0", *HOMES[1:]],
    ),
    "the operator died after it made the pods: their UIDs go into the wiring": (
        lambda: half_started(*PODS),
        ["apply ConfigMap"],
    ),
    "an MDC has failed": (lambda: with_pod(settled(), MDC, **FAILED), REPLACE_MDC_1),
    "an MDC was killed for memory": (
        lambda: with_pod(settled(), MDC, **FAILED | {"exit_code": 137, "exit_reason": "OOMKilled"}),
        REPLACE_MDC_1,
    ),
    "an MDC was evicted": (
        lambda: with_pod(settled(), MDC, phase="Failed", ready=False, reason="Evicted"),
        REPLACE_MDC_1,
    ),
    "an MDC has left early": (
        lambda: with_pod(settled(), MDC, phase="Succeeded", ready=False, exit_code=0),
        REPLACE_MDC_1,
    ),
    "an MDC is gone": (lambda: without(settled(), MDC), REPLACE_GONE_MDC_1),
    "an MDC is being deleted": (lambda: with_pod(settled(), MDC, deleting=True), REPLACE_GONE_MDC_1),
    "an MDC runs, but the NPDC hears nothing from it": (
        lambda: with_training(settled(), unreachable=[{"mdc": 1, "incarnation": 0, "uid": f"uid-{MDC}"}]),
        REPLACE_MDC_1,
    ),
    "the NPDC hears nothing from a pod that is fenced already": (
        lambda: with_training(settled(), unreachable=[{"mdc": 1, "incarnation": 0, "uid": "uid-of-old"}]),
        [],
    ),
    "an MDC is not ready for a moment: it keeps its place": (
        lambda: with_pod(settled(), MDC, ready=False, created=NOW - 5.0),
        [],
    ),
    "an MDC's image cannot be pulled: a new pod would not help": (
        lambda: with_pod(settled(), MDC, phase="Pending", ready=False, waiting="ImagePullBackOff"),
        ["apply ConfigMap"],
    ),
    "an MDC finds no node: a new pod would not help": (
        lambda: with_pod(settled(), MDC, phase="Pending", ready=False, unschedulable="0/3 nodes"),
        ["apply ConfigMap"],
    ),
    "both MDCs are gone": (
        lambda: without(settled(), "sleigh-mdc-0-0", MDC),
        ["apply ConfigMap", "create sleigh-mdc-0-1", "create sleigh-mdc-1-1"],
    ),
    "the NPDC has failed: its address leads to the next one": (
        lambda: with_pod(settled(), "sleigh-npdc-0", **FAILED),
        REPLACE_NPDC,
    ),
    "the NPDC is gone": (lambda: without(settled(), "sleigh-npdc-0"), REPLACE_GONE_NPDC),
    "the NPDC is being deleted": (
        lambda: with_pod(settled(), "sleigh-npdc-0", deleting=True),
        REPLACE_GONE_NPDC,
    ),
    "the NPDC's Service was deleted": (
        lambda: replace(settled(), service=None),
        ["apply Service", *ACCOUNT],
    ),
    "the NPDC's Service leads elsewhere": (
        lambda: replace(settled(), service=service(job(), incarnation=3)),
        ["apply Service"],
    ),
    "everything is gone but the wiring": (
        lambda: replace(settled(), pods=()),
        [
            "apply Service",
            *ACCOUNT,
            "apply ConfigMap",
            "create sleigh-npdc-1",
            "create sleigh-mdc-0-1",
            "create sleigh-mdc-1-1",
            *HOMES,
        ],
    ),
    "the operator died between the fence and the new pod": (
        fenced_mdc,
        ["delete sleigh-mdc-1-0", "create sleigh-mdc-1-1"],
    ),
    "a pod of an older incarnation is still there": (
        lambda: replace(
            settled(),
            pods=(*without(settled(), MDC).pods, pod(Role.MDC, 1, 2), pod(Role.MDC, 1, 1)),
            wiring=replace(
                settled().wiring, mdcs={**settled().wiring.mdcs, 1: slot(Role.MDC, 1, 2, [1, 3], 2)}
            ),
        ),
        ["delete sleigh-mdc-1-1"],
    ),
    "a pod of an older incarnation is leaving": (
        lambda: replace(
            settled(),
            pods=(
                *settled().pods[:2],
                pod(Role.MDC, 1, 1),
                pod(Role.MDC, 1, 0, deleting=True),
                *settled().pods[3:],
            ),
            wiring=replace(
                settled().wiring, mdcs={**settled().wiring.mdcs, 1: slot(Role.MDC, 1, 1, [1, 3], 1)}
            ),
        ),
        [],
    ),
    "a home is gone": (lambda: without(settled(), "sleigh-home-2"), ["create sleigh-home-2"]),
    "a home has failed: it goes first, its name is needed": (
        lambda: with_pod(settled(), "sleigh-home-2", **FAILED),
        ["delete sleigh-home-2"],
    ),
    "a home has left early": (
        lambda: with_pod(settled(), "sleigh-home-2", phase="Succeeded", ready=False),
        ["delete sleigh-home-2"],
    ),
    "a failed home is being deleted": (
        lambda: with_pod(settled(), "sleigh-home-2", deleting=True, **FAILED),
        [],
    ),
    "a home crashes again and again, and is restarted in its place: the NPDC hears of it": (
        lambda: with_pod(settled(), "sleigh-home-2", ready=False, waiting="CrashLoopBackOff", restarts=5),
        ["apply ConfigMap"],
    ),
    "a pod holds no home of the job": (
        lambda: replace(settled(), pods=(*settled().pods, pod(Role.HOME, 4))),
        ["delete sleigh-home-4"],
    ),
    "an MDC more is wanted": (
        lambda: with_spec(settled(), **mdcs(3)),
        ["apply ConfigMap", "create sleigh-mdc-2-0"],
    ),
    "an MDC less is wanted": (
        lambda: with_spec(settled(), **mdcs(1)),
        ["apply ConfigMap", "delete sleigh-mdc-1-0"],
    ),
    "the job is suspended": (
        lambda: with_spec(settled(), suspend=True),
        ["apply ConfigMap", *(f"delete {name}" for name in PODS)],
    ),
    "the job is suspended and its pods are leaving": (
        lambda: replace(suspended(), pods=tuple(replace(p, deleting=True) for p in settled().pods)),
        [],
    ),
    "the job stays suspended": (suspended, []),
    "the job was never started and is suspended": (
        lambda: with_spec(observation(), suspend=True),
        [],
    ),
    "the job is resumed: new incarnations": (
        lambda: replace(suspended(), job=job()),
        [
            "apply Service",
            *ACCOUNT,
            "create sleigh-npdc-1",
            "create sleigh-mdc-0-1",
            "create sleigh-mdc-1-1",
            *HOMES,
        ],
    ),
    "the job is complete: pods leave by themselves": (ended, []),
    "the job is complete and suspended": (lambda: with_spec(ended(), suspend=True), []),
    "the job is complete and its spec is broken": (lambda: with_spec(ended(), rounds=0), []),
    "the job is complete and an MDC is gone": (lambda: without(ended(), MDC), []),
    "the job is complete and its progress report is lost": (
        lambda: replace(ended(), status={k: v for k, v in ended().status.items() if k != "training"}),
        [],
    ),
    "the spec is invalid: nothing is created": (lambda: observation(job(rounds=0)), []),
    "the spec is invalid before the first round: nothing stays": (
        lambda: with_training(with_spec(settled(), rounds=0), round=0),
        [
            *(f"delete {name}" for name in PODS),
            "remove ConfigMap sleigh-wiring",
            *(f"remove {kind} sleigh-npdc" for kind in ("Service", "RoleBinding", "Role", "ServiceAccount")),
        ],
    ),
    "the task could not start: nothing stays": (
        lambda: with_training(settled(), phase="Failed", reason="TaskFailed", round=0),
        [
            *(f"delete {name}" for name in PODS),
            "remove ConfigMap sleigh-wiring",
            *(f"remove {kind} sleigh-npdc" for kind in ("Service", "RoleBinding", "Role", "ServiceAccount")),
        ],
    ),
}


@pytest.mark.parametrize("sentence", ROWS)
def test_what_is_seen_decides_what_is_done(sentence: str) -> None:
    make, expected = ROWS[sentence]
    done = actions(decide(make()))
    if "nothing stays" in sentence:  # pods and objects of a job that never got going: in which order is free
        done, expected = sorted(done), sorted(expected)
    assert done == expected


@pytest.mark.parametrize("sentence", ROWS)
def test_inputs_are_unmutated_and_equal_inputs_give_equal_plans(sentence: str) -> None:
    seen = ROWS[sentence][0]()
    before = copy.deepcopy(seen)
    first = decide(seen)
    assert seen == before
    assert decide(before) == first


@pytest.mark.parametrize("sentence", ["stable: nothing to do", "the job stays suspended"])
def test_a_settled_job_gets_no_writes(sentence: str) -> None:
    seen = ROWS[sentence][0]()
    decided = decide(seen)
    assert decided.idle and not decided.events and decided.again_after is None
    assert decided.status == {k: v for k, v in seen.status.items() if k != "training"}


@pytest.mark.parametrize("kind", ["apply", "delete", "remove", "issue", "create"])
def test_a_plan_with_anything_to_do_is_not_idle(kind: str) -> None:
    assert not replace(decide(settled()), **{kind: ("something",)}).idle


# -- what the wiring says -----------------------------------------------------------------------------------


def test_a_failed_mdc_is_fenced_and_its_homes_go_to_the_others() -> None:
    wiring = wiring_of(decide(with_pod(settled(), MDC, **FAILED)))
    loss = Loss(MDC, "ContainerFailed", f"{MDC} ended with exit code 1", NOW)
    assert wiring.mdcs[1] == Slot(1, "", frozenset(), 1, failures=1, nodes=wiring.mdcs[1].nodes, loss=loss)
    assert wiring.mdcs[0].homes == frozenset(range(4))
    assert wiring.version == 6


def test_a_replacement_is_told_by_whoever_comes_next() -> None:
    """The operator died after it had fenced: what is in the wiring is in the status of the next look."""
    seen = with_pod(settled(), MDC, **FAILED)
    first = decide(seen)
    second = decide(replace(seen, wiring=wiring_of(first)))
    assert second.status["lastReplacements"] == first.status["lastReplacements"] != []
    third = written(replace(seen, wiring=wiring_of(first)), second)
    assert decide(third).status["lastReplacements"] == first.status["lastReplacements"]


def test_homes_of_an_mdc_without_an_image_go_to_the_others() -> None:
    wiring = wiring_of(decide(with_pod(settled(), MDC, ready=False, waiting="ErrImagePull")))
    assert (wiring.mdcs[1].uid, wiring.mdcs[1].homes) == (f"uid-{MDC}", frozenset())
    assert wiring.mdcs[0].homes == frozenset(range(4))


def test_a_failed_npdc_is_fenced_and_the_mdcs_keep_their_homes() -> None:
    before = settled().wiring
    wiring = wiring_of(decide(with_pod(settled(), "sleigh-npdc-0", **FAILED)))
    left = wiring.npdc
    assert left == Slot(1, "", frozenset(), 1, failures=1, nodes=left.nodes, loss=left.loss)
    assert wiring.mdcs == before.mdcs


def test_without_any_mdc_the_homes_wait() -> None:
    wiring = wiring_of(decide(without(settled(), "sleigh-mdc-0-0", MDC)))
    assert wiring.home_of() == {}


def test_a_replacement_gets_homes_only_when_it_serves() -> None:
    seen = with_pod(settled(), MDC, **FAILED)
    fresh = pod(Role.MDC, 1, 1, ready=False, created=NOW)
    seen = replace(without(seen, MDC), wiring=wiring_of(decide(seen)))
    starting = replace(seen, pods=(*seen.pods, fresh))
    wiring = wiring_of(decide(starting))
    assert (wiring.mdcs[1].uid, len(wiring.mdcs[1].homes)) == (fresh.uid, 0)
    serving = replace(seen, wiring=wiring, pods=(*seen.pods, replace(fresh, ready=True)))
    assert len(wiring_of(decide(serving)).mdcs[1].homes) == 2


@pytest.mark.parametrize(("incarnation", "homes"), [(1, 2), (0, 0), (2, 0)])
def test_a_replacement_that_the_npdc_hears_need_not_wait_for_its_probe(incarnation: int, homes: int) -> None:
    seen = with_pod(settled(), MDC, **FAILED)
    fresh = pod(Role.MDC, 1, 1, ready=False, created=NOW)
    seen = replace(without(seen, MDC), wiring=wiring_of(decide(seen)))
    said = {"phase": "Training", "serving": [{"mdc": 1, "incarnation": incarnation, "homes": 0}]}
    decided = decide(replace(seen, pods=(*seen.pods, fresh), status={**seen.status, "training": said}))
    assert len(wiring_of(decided).mdcs[1].homes) == homes
    assert decided.status["miniDataCenters"]["ready"] == (2 if homes else 1)


@pytest.mark.parametrize("version", ["", "7", None])
def test_a_wiring_goes_only_onto_the_one_it_was_made_from(version: str | None) -> None:
    decided = decide(replace(observation(), wiring_resource=version))
    (found,) = [m for m in decided.apply if m["kind"] == "ConfigMap"]
    assert found["metadata"].get("resourceVersion") == version


def test_what_an_earlier_job_left_is_waited_for() -> None:
    decided = decide(replace(observation(), taken=frozenset({"sleigh-npdc-0", "sleigh-home-1", "other"})))
    created = {c.manifest["metadata"]["name"] for c in decided.create}
    assert created.isdisjoint({"sleigh-npdc-0", "sleigh-home-1"}) and {"sleigh-home-0", MDC} <= created
    said = condition(decided.status, "Ready")["message"]
    assert "sleigh-npdc-0 of an earlier job of this name is still there" in said


def test_at_the_first_start_homes_are_assigned_before_the_mdcs_serve() -> None:
    seen = half_started(*PODS)
    young = replace(seen, pods=tuple(replace(p, created=NOW - 1.0) for p in seen.pods))
    assert [len(s.homes) for s in wiring_of(decide(young)).mdcs.values()] == [2, 2]


def test_a_suspended_job_is_fenced_and_no_replacement_is_counted() -> None:
    decided = decide(with_spec(settled(), suspend=True))
    wiring = wiring_of(decided)
    for each in (wiring.npdc, *wiring.mdcs.values()):
        assert (each.incarnation, each.uid, each.homes, each.replaced) == (1, "", frozenset(), 0)
    assert decided.status["replaced"] == 0


def test_a_retired_mdc_is_fenced_and_comes_back_as_a_later_incarnation() -> None:
    seen = with_spec(settled(), **mdcs(1))
    wiring = wiring_of(decide(seen))
    assert wiring.mdcs[1] == Slot(1, "", frozenset(), 0)
    assert wiring.mdcs[0].homes == frozenset(range(4))
    again = with_spec(replace(without(seen, MDC), wiring=wiring), **mdcs(2))
    assert "create sleigh-mdc-1-1" in actions(decide(again))


def test_the_wiring_remembers_the_recipe_as_first_seen() -> None:
    seen = observation()
    assert wiring_of(decide(seen)).recipe == seen.job.recipe


def test_a_lost_wiring_is_followed_again() -> None:
    """An NPDC ignores versions below the one it knows, so a new wiring must be later or name a new NPDC."""
    known = settled().wiring
    wiring = wiring_of(decide(replace(settled(), wiring=None)))
    assert wiring.version > known.version or wiring.npdc.incarnation > known.npdc.incarnation


# -- what the status says -----------------------------------------------------------------------------------


def state_of(seen: Observation) -> tuple[str, str]:
    decided = decide(seen)
    return decided.status["state"], condition(decided.status, "Ready")["reason"]


STATES: dict[str, tuple[Callable[[], Observation], tuple[str, str]]] = {
    "nothing exists yet": (observation, ("Pending", "Starting")),
    "every pod serves": (settled, ("Running", "AllServing")),
    "no round has been done yet": (
        lambda: with_training(settled(), phase="Starting", round=0),
        ("Pending", "Starting"),
    ),
    "an MDC is being replaced": (lambda: without(settled(), MDC), ("Degraded", "Replacing")),
    "a home crashes": (
        lambda: with_pod(settled(), "sleigh-home-0", ready=False, waiting="CrashLoopBackOff"),
        ("Degraded", "CrashLooping"),
    ),
    "an image cannot be pulled": (
        lambda: with_pod(settled(), MDC, ready=False, waiting="ErrImagePull"),
        ("Degraded", "ImageNotPullable"),
    ),
    "an image cannot be pulled at the first start": (
        lambda: with_training(
            with_pod(settled(), MDC, ready=False, waiting="ErrImagePull"), phase="Starting", round=0
        ),
        ("Pending", "ImageNotPullable"),
    ),
    "suspended": (lambda: with_spec(settled(), suspend=True), ("Suspended", "Suspended")),
    "complete": (lambda: with_training(settled(), phase="Complete"), ("Complete", "Trained")),
    "complete before": (ended, ("Complete", "Trained")),
    "failed": (lambda: with_training(settled(), phase="Failed", reason="Diverged"), ("Failed", "Diverged")),
    "failed before": (lambda: ended("Failed", reason="Diverged"), ("Failed", "Diverged")),
    "invalid": (lambda: observation(job(rounds=0)), ("Failed", "InvalidSpec")),
    "invalid while it trains": (
        lambda: with_training(with_spec(settled(), rounds=0), round=3),
        ("Degraded", "InvalidSpec"),
    ),
    "invalid before, mended now": (
        lambda: replace(settled(), status=ended_by_bad_spec() | {"training": settled().training}),
        ("Running", "AllServing"),
    ),
}


def ended_by_bad_spec() -> dict[str, object]:
    return dict(decide(observation(job(rounds=0))).status)


@pytest.mark.parametrize("sentence", STATES)
def test_state_and_reason(sentence: str) -> None:
    make, expected = STATES[sentence]
    assert state_of(make()) == expected


def test_counts_are_of_what_serves() -> None:
    seen = with_pod(with_pod(settled(), MDC, **FAILED), "sleigh-home-3", **FAILED)
    new = decide(seen).status
    assert new["miniDataCenters"] == {"desired": 2, "ready": 1, "replaced": 1, "summary": "1/2"}
    assert new["homes"] == {"desired": 4, "ready": 3, "failed": 1, "summary": "3/4"}
    assert new["northPole"] == {"ready": True, "replaced": 0}
    assert new["replaced"] == 1


def test_homes_are_counted_not_their_pods() -> None:
    seen = settled(homes={"replicas": 5, "perPod": 2}, miniDataCenters={"replicas": 2})
    assert decide(seen).status["homes"]["ready"] == 5
    assert decide(without(seen, "sleigh-home-2")).status["homes"]["summary"] == "4/5"
    assert decide(without(seen, "sleigh-home-0")).status["homes"]["summary"] == "3/5"


def test_a_replacement_is_told_in_history_event_and_reason_of_deletion_alike() -> None:
    decided = decide(with_pod(settled(), MDC, **FAILED))
    [entry], [event], [delete] = decided.status["lastReplacements"], decided.events, decided.delete
    assert entry["pod"] == MDC
    assert entry["reason"] == event.reason == "ContainerFailed"
    assert event.type == "Warning"
    assert entry["message"] == delete.reason == "sleigh-mdc-1-0 ended with exit code 1"
    assert event.message == f"{entry['message']}; replaced by sleigh-mdc-1-1"
    assert "recoverySeconds" not in entry


def test_the_history_says_how_long_a_slot_did_not_serve() -> None:
    broken = with_pod(settled(), MDC, **FAILED)
    decided = decide(broken)
    fresh = pod(Role.MDC, 1, 1, created=NOW)
    mended = replace(written(without(broken, MDC), decided), wiring=wiring_of(decided))
    waiting = replace(mended, pods=(*mended.pods, replace(fresh, ready=False)))
    assert "recoverySeconds" not in decide(waiting, NOW + 2.0).status["lastReplacements"][0]
    serving = replace(mended, pods=(*mended.pods, fresh))
    assert decide(serving, NOW + 3.5).status["lastReplacements"][0]["recoverySeconds"] == "3.5"
    later = written(serving, decide(serving, NOW + 3.5))
    assert decide(later, NOW + 9.0).status["lastReplacements"][0]["recoverySeconds"] == "3.5"


def test_the_npdc_may_say_that_it_serves_before_its_probe_does() -> None:
    seen = with_pod(settled(), "sleigh-npdc-0", ready=False)
    assert decide(seen).status["northPole"]["ready"]
    assert not decide(with_training(seen, phase="Recovering")).status["northPole"]["ready"]
    assert not decide(with_training(seen, incarnation=9)).status["northPole"]["ready"], "another one said it"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "starts over from round 0"),
        ({"northPole": {"checkpoint": {"volumeClaim": "deep-freeze"}}}, "newest checkpoint on deep-freeze"),
    ],
)
def test_a_suspended_job_says_what_resuming_will_do(change: dict[str, object], expected: str) -> None:
    decided = decide(with_spec(settled(), suspend=True, **change))
    assert expected in condition(decided.status, "Suspended")["message"]
    assert [e.reason for e in decided.events] == ["Suspended"]


def test_a_suspended_job_that_never_ran_says_so() -> None:
    decided = decide(with_spec(observation(), suspend=True))
    assert condition(decided.status, "Suspended")["message"] == "not started yet"
    assert "startTime" not in decided.status


def test_assignments_show_how_many_homes_each_mdc_serves() -> None:
    assert decide(settled()).status["assignments"] == [
        {"mdc": 0, "incarnation": 0, "homes": 2},
        {"mdc": 1, "incarnation": 0, "homes": 2},
    ]


def test_replacements_of_a_retired_mdc_stay_counted() -> None:
    """`replaced` counts what was replaced because of a fault; fewer MDCs do not undo faults."""
    seen = settled()
    worn = replace(seen.wiring, mdcs={**seen.wiring.mdcs, 1: slot(Role.MDC, 1, 0, [1, 3], replaced=3)})
    seen = replace(seen, wiring=worn)
    assert decide(seen).status["replaced"] == 3
    assert decide(with_spec(seen, **mdcs(1))).status["replaced"] == 3


# -- ends ---------------------------------------------------------------------------------------------------


def test_pods_that_do_not_leave_by_themselves_are_helped_and_those_that_did_are_kept() -> None:
    seen = with_pod(ended(), MDC, phase="Succeeded", ready=False)
    early, late = NOW - 1.0 + GOODBYE_SECONDS - 0.5, NOW - 1.0 + GOODBYE_SECONDS
    assert actions(decide(seen, early)) == []
    assert decide(seen, early).again_after == GOODBYE_SECONDS
    assert actions(decide(seen, late)) == [f"delete {name}" for name in PODS if name != MDC]
    gone = replace(seen, pods=tuple(p for p in seen.pods if p.name == MDC))
    assert decide(gone, late).idle and decide(gone, late).again_after is None


def test_a_finished_job_keeps_its_counts_its_time_and_its_assignments() -> None:
    first = ended()
    later = decide(replace(first, pods=()), NOW + 1000.0).status
    assert later == {k: v for k, v in first.status.items() if k != "training"}
    assert later["homes"]["summary"] == "4/4" and len(later["assignments"]) == 2


@pytest.mark.parametrize(("phase", "kind"), [("Complete", "Normal"), ("Failed", "Warning")])
def test_the_end_is_told_once(phase: str, kind: str) -> None:
    assert [e.type for e in decide(with_training(settled(), phase=phase)).events] == [kind]
    assert decide(ended(phase)).events == ()


def test_a_changed_recipe_is_refused_by_name() -> None:
    decided = decide(with_training(with_spec(settled(), seed=8, round={"quorum": 3}), round=0))
    failed = condition(decided.status, "Failed")
    assert failed["reason"] == "InvalidSpec"
    assert failed["message"] == (
        "spec.round: cannot change once the job has started; make a new job; "
        "spec.seed: cannot change once the job has started; make a new job"
    )
    assert not decided.create and not decided.apply


@pytest.mark.parametrize("change", [{"seed": 8}, {"rounds": 0}, {"homes": {"replicas": "many"}}])
def test_a_wrong_edit_of_a_job_that_trains_costs_nothing(change: dict[str, object]) -> None:
    seen = with_pod(with_training(settled(), round=3), MDC, **FAILED)
    decided = decide(with_spec(seen, **change))
    assert decided.idle and not decided.create
    assert decided.status["state"] == "Degraded" and decided.status["homes"] == seen.status["homes"]
    for kind in ("Ready", "Degraded"):
        [said] = [c for c in decided.status["conditions"] if c["type"] == kind]
        assert said["reason"] == "InvalidSpec" and next(iter(change)) in said["message"]
        assert "Training goes on as before" in said["message"]
    [event] = decided.events
    assert (event.type, event.reason) == ("Warning", "InvalidSpec")
    again = decide(with_spec(written(seen, decided), **change))
    assert again.events == () and again.status == decided.status
    mended = decide(written(seen, decided))
    assert [c.manifest["metadata"]["name"] for c in mended.create] == ["sleigh-mdc-1-1"]


def test_a_changed_recipe_stays_refused() -> None:
    """Not refused in one pass and trained in the next."""
    world = World()
    settle(world)
    world.body["spec"]["seed"] = 8
    states = []
    for _ in range(4):
        carry_out(world, decide(world.observe(), world.now))
        world.vanish()
        states.append(world.status["state"])
    assert states == ["Failed"] * 4


def test_pods_of_one_recipe_never_serve_another() -> None:
    """Whatever part of a clean-up was done: pods carry the old recipe, so no wiring may name a new one."""
    world = World()
    settle(world)
    world.body["spec"]["seed"] = 8
    decided = decide(world.observe(), world.now)
    carry_out(world, replace(decided, delete=()))  # the server refused to delete pods, and nothing else
    carry_out(world, decide(world.observe(), world.now))
    adopted = [slot for slot in world.wiring().mdcs.values() if slot.uid] if world.wiring() else []
    assert not adopted or world.wiring().recipe["seed"] == 0


@pytest.mark.parametrize("allowed", [0, 1])
def test_too_many_replacements_fail_the_job(allowed: int) -> None:
    seen = settled(failurePolicy={"maxReplacements": allowed})
    worn = {**seen.wiring.mdcs, 0: replace(seen.wiring.mdcs[0], replaced=allowed)}
    seen = replace(seen, wiring=replace(seen.wiring, mdcs=worn))
    decided = decide(with_pod(seen, MDC, **FAILED))
    failed = condition(decided.status, "Failed")
    assert failed["reason"] == "ReplacementsExhausted"
    assert failed["message"] == (
        f"data centers were replaced {allowed + 1} times, spec.failurePolicy.maxReplacements is {allowed}; "
        "the last: sleigh-mdc-1-0 ended with exit code 1"
    )
    assert not decided.create


def test_as_many_replacements_as_allowed_are_made() -> None:
    seen = settled(failurePolicy={"maxReplacements": 1})
    assert actions(decide(with_pod(seen, MDC, **FAILED))) == REPLACE_MDC_1


def test_a_lowered_limit_ends_a_job_whose_history_was_lost() -> None:
    """The wiring remembers the count; the history in the status may be missing."""
    seen = settled(failurePolicy={"maxReplacements": 0})
    worn = replace(seen.wiring, npdc=replace(seen.wiring.npdc, replaced=1))
    decided = decide(replace(seen, wiring=worn, status={"training": seen.training}))
    assert condition(decided.status, "Failed")["reason"] == "ReplacementsExhausted"


# -- time ---------------------------------------------------------------------------------------------------


def test_at_the_first_start_time_alone_changes_the_plan() -> None:
    seen = half_started(*PODS)
    seen = replace(seen, pods=tuple(replace(p, created=NOW - 20.0) for p in seen.pods))
    assert decide(seen).again_after == FIRST_START_SECONDS - 20.0


def test_a_late_mdc_does_not_make_the_plan_forget_a_young_one() -> None:
    seen = with_pod(settled(), "sleigh-mdc-0-0", ready=False, created=NOW - 900.0)
    seen = with_pod(seen, MDC, ready=False, created=NOW - 20.0)
    assert decide(seen).again_after == FIRST_START_SECONDS - 20.0


def test_homes_do_not_wait_longer_for_an_mdc_that_never_starts() -> None:
    """Others take them after FIRST_START_SECONDS, also where they were assigned to it before."""
    seen = half_started(*PODS)
    seen = replace(seen, pods=tuple(replace(p, created=NOW, ready=p.name != MDC) for p in seen.pods))
    first = wiring_of(decide(seen, NOW + 1.0))
    assert len(first.mdcs[1].homes) == 2
    later = wiring_of(decide(replace(seen, wiring=first), NOW + FIRST_START_SECONDS + 1.0))
    assert later is not None, "the homes of an MDC that never started wait for ever"
    assert later.mdcs[0].homes == frozenset(range(4))
