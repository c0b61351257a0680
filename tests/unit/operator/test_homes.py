"""Homes that come and go: who has a pod, how many take part, who is not waited for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from builders import (
    JOB,
    NOW,
    actions,
    condition,
    decide,
    pod,
    settled,
    wiring_of,
    with_pod,
    with_spec,
    with_training,
    without,
    written,
)
from elf_operator.homes import UNSCHEDULABLE_SECONDS, WELL_SECONDS
from elf_operator.observation import Observation
from elf_operator.plans import Plan
from elf_worker import contract
from elf_worker.contract import JobConfig, Role, Wiring, format_ids

HALF = {"round": {"quorum": "50%"}}


def home(index: int, per_pod: int = 1, homes: int = 99, **fields: Any) -> Any:
    held = range(index * per_pod, min((index + 1) * per_pod, homes))
    return pod(Role.HOME, index, homes=format_ids(held), **fields)


def holding(seen: Observation, homes: int, per_pod: int = 1, **fields: Any) -> Observation:
    """With pods for so many homes, those that are not there yet as `fields` say."""
    there = {p.index for p in seen.of(Role.HOME)}
    new = [home(i, per_pod, homes, **fields) for i in range(-(-homes // per_pod)) if i not in there]
    return replace(seen, pods=(*seen.pods, *new))


def wiring(decided: Plan, seen: Observation) -> Wiring:
    """In force after the plan."""
    found = wiring_of(decided) or seen.wiring
    assert found is not None
    return found


def told(decided: Plan) -> str:
    return str(condition(decided.status, "Ready")["message"])


def environment(decided: Plan, name: str) -> dict[str, str]:
    [made] = [c.manifest for c in decided.create if c.manifest["metadata"]["name"] == name]
    return {e["name"]: e.get("value", "") for e in made["spec"]["containers"][0]["env"]}


# -- more of them -----------------------------------------------------------------------------------------


def test_new_homes_get_their_pods_first_and_rounds_go_on_without_them() -> None:
    seen = with_spec(settled(), homes={"replicas": 7})
    decided = decide(seen)
    assert actions(decided) == ["apply ConfigMap", *(f"create {JOB}-home-{i}" for i in (4, 5, 6))]
    new = wiring(decided, seen)
    assert (new.homes, new.quorum, new.expected) == (4, 4, 7)
    assert sorted(new.home_of()) == [0, 1, 2, 3]
    assert told(decided) == "3 of 7 homes are not ready: rounds have 4 until they are"
    assert (decided.status["state"], condition(decided.status, "Degraded")["reason"]) == (
        "Degraded",
        "Scaling",
    )


@pytest.mark.parametrize(("late", "count"), [((), 7), ((6,), 4), ((4, 5, 6), 4)])
def test_they_take_part_once_all_of_them_are_ready(late: Iterable[int], count: int) -> None:
    seen = holding(with_spec(settled(), homes={"replicas": 7}), 7)
    for index in late:
        seen = with_pod(seen, f"{JOB}-home-{index}", ready=False)
    new = wiring(decide(seen), seen)
    assert (new.homes, new.quorum) == (count, count)
    assert sorted(new.home_of()) == list(range(count))


def test_an_old_home_that_is_not_well_holds_no_new_one_back() -> None:
    seen = holding(with_spec(settled(), homes={"replicas": 7}), 7)
    seen = with_pod(seen, f"{JOB}-home-1", ready=False, waiting="CrashLoopBackOff")
    assert wiring(decide(seen), seen).homes == 7


def test_an_npdc_of_an_earlier_version_is_given_no_home_that_it_does_not_know() -> None:
    seen = holding(with_spec(settled(), homes={"replicas": 7}), 7)
    training = {k: v for k, v in seen.training.items() if k != "homes"}
    old = replace(seen, status={**seen.status, "training": training})
    assert wiring(decide(old), old).homes == 4


def test_tasks_share_out_their_data_by_the_first_count() -> None:
    seen = with_spec(settled(**HALF), **HALF, homes={"replicas": 7})
    env = environment(decide(seen), f"{JOB}-home-5")
    job = JobConfig.from_json(env[contract.ENV_JOB])
    assert (job.homes, job.quorum) == (4, 2)
    assert env[contract.ENV_HOMES] == "5"


def test_a_percentage_is_one_of_the_homes_that_take_part() -> None:
    seen = holding(with_spec(settled(**HALF), **HALF, homes={"replicas": 7}), 7)
    assert wiring(decide(seen), seen).quorum == 4


# -- fewer ------------------------------------------------------------------------------------------------


def test_fewer_take_part_at_once_and_pods_go_when_the_npdc_has_begun_a_round_without_them() -> None:
    seen = with_spec(settled(), homes={"replicas": 2})
    decided = decide(seen)
    assert actions(decided) == ["apply ConfigMap"]
    new = wiring(decided, seen)
    assert (new.homes, new.quorum, new.expected) == (2, 2, 2)
    assert sorted(new.home_of()) == [0, 1]
    begun = with_training(replace(seen, wiring=new), homes=2)
    assert actions(decide(begun)) == [f"delete {JOB}-home-2", f"delete {JOB}-home-3"]


def test_a_home_of_the_present_round_is_made_anew_although_it_will_go() -> None:
    seen = without(with_spec(settled(), homes={"replicas": 2}), f"{JOB}-home-3")
    decided = decide(seen)
    assert actions(decided) == ["apply ConfigMap", f"create {JOB}-home-3"]
    assert environment(decided, f"{JOB}-home-3")[contract.ENV_HOMES] == "3"


@pytest.mark.parametrize("training", [{"phase": "Starting"}, {"incarnation": 3}])
def test_pods_go_at_once_where_no_npdc_trains(training: dict[str, Any]) -> None:
    seen = with_training(with_spec(settled(), homes={"replicas": 2}), **training)
    assert actions(decide(seen))[1:] == [f"delete {JOB}-home-2", f"delete {JOB}-home-3"]


def test_more_and_then_fewer_before_they_took_part() -> None:
    seen = holding(with_spec(settled(), homes={"replicas": 3}), 7)
    assert wiring(decide(seen), seen).homes == 3
    assert [a for a in actions(decide(seen)) if a.startswith("delete")] == [
        f"delete {JOB}-home-{i}" for i in (4, 5, 6)
    ]


# -- several in a pod -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wanted", "range_", "count"), [(6, "4-5", 5), (7, "4-5", 5)])
def test_a_last_pod_that_is_to_hold_more_is_made_anew(wanted: int, range_: str, count: int) -> None:
    seen = with_spec(settled(homes={"replicas": 5, "perPod": 2}), homes={"replicas": wanted, "perPod": 2})
    decided = decide(seen)
    [gone] = decided.delete
    assert (gone.name, gone.reason) == (f"{JOB}-home-2", f"holds homes 4, not {range_}")
    assert wiring(decided, seen).homes == count
    new = environment(decide(without(seen, f"{JOB}-home-2")), f"{JOB}-home-2")
    assert new[contract.ENV_HOMES] == range_
    full = replace(seen, pods=tuple(p for p in seen.pods if p.name != f"{JOB}-home-2"))
    full = holding(full, wanted, 2)
    assert wiring(decide(full), full).homes == wanted


def test_a_last_pod_that_is_to_hold_fewer_is_made_anew_when_they_take_no_part() -> None:
    six = {"replicas": 6, "perPod": 2}
    seen = with_spec(settled(homes=six), homes=six | {"replicas": 5})
    assert not decide(seen).delete
    later = with_training(replace(seen, wiring=wiring(decide(seen), seen)), homes=5)
    assert [d.name for d in decide(later).delete] == [f"{JOB}-home-2"]


# -- with groups ------------------------------------------------------------------------------------------


def test_where_homes_form_groups_their_number_cannot_change() -> None:
    robust = {"aggregation": {"method": "median", "groupSize": 3}, "miniDataCenters": {"replicas": 1}}
    decided = decide(with_spec(settled(**robust), **robust, homes={"replicas": 7}))
    assert condition(decided.status, "Degraded")["message"].startswith(
        "spec.homes.replicas: cannot change while aggregation.method is median: it decides which homes "
        "form a group; make a new job. Training goes on as before"
    )
    assert not decided.delete and not decided.apply, "what runs is left alone as long as it may be put right"


# -- a suspended job --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("population", "homes", "bits"),
    [
        ([], 4, "ends with the same bits"),
        ([{"round": 0, "homes": 4}], 4, "ends with the same bits"),
        ([{"round": 0, "homes": 4}], 6, "with 6 homes; there were others before, so it ends with other bits"),
        ([{"round": 0, "homes": 6}, {"round": 3, "homes": 4}], 4, "it ends with other bits"),
    ],
)
def test_a_suspended_job_says_which_bits_it_will_end_with(population: Any, homes: int, bits: str) -> None:
    seen = with_training(settled(), population=population)
    decided = decide(with_spec(seen, suspend=True, homes={"replicas": homes}))
    assert bits in condition(decided.status, "Suspended")["message"]


# -- absent homes -----------------------------------------------------------------------------------------

CRASHES = {"ready": False, "waiting": "CrashLoopBackOff", "restarts": 5}
STUCK = {"phase": "Pending", "ready": False}


@pytest.mark.parametrize(
    ("fields", "absent"),
    [
        (CRASHES, True),
        (STUCK | {"waiting": "ImagePullBackOff"}, True),
        (STUCK | {"waiting": "CreateContainerConfigError"}, True),
        (STUCK | {"unschedulable": "no node", "created": NOW - UNSCHEDULABLE_SECONDS}, True),
        (STUCK | {"unschedulable": "no node", "created": NOW - UNSCHEDULABLE_SECONDS + 1}, False),
        (STUCK, False),
        ({"ready": False, "deleting": True}, False),
        ({"phase": "Failed", "ready": False, "exit_code": 1}, False),
        ({}, False),
    ],
    ids=str,
)
def test_who_is_absent(fields: dict[str, Any], absent: bool) -> None:
    seen = with_pod(settled(), f"{JOB}-home-2", **fields)
    decided = decide(seen)
    assert wiring(decided, seen).absent == (frozenset({2}) if absent else frozenset())
    if fields.get("unschedulable") and not absent:
        assert decided.again_after == pytest.approx(1.0)


def test_homes_of_a_lost_node_are_absent_until_their_new_pod_is_well() -> None:
    seen = replace(
        with_pod(settled(**HALF), f"{JOB}-home-2", node="node-b"), lost_nodes=frozenset({"node-b"})
    )
    named = wiring(decide(seen), seen)
    assert named.absent == {2}
    gone = without(replace(seen, wiring=named), f"{JOB}-home-2")
    assert actions(decide(gone)) == [f"create {JOB}-home-2"]
    assert wiring(decide(gone), gone).absent == {2}
    for fields, expected in (
        ({"phase": "Pending", "ready": False, "created": NOW}, {2}),
        ({"created": NOW - 60, "ready_changed": NOW - 1}, {2}),
        ({"created": NOW - 60, "ready_changed": NOW - WELL_SECONDS}, set()),
    ):
        later = replace(gone, pods=(*gone.pods, home(2, **fields)))
        assert wiring(decide(later), later).absent == expected, fields


def test_one_that_is_ready_between_two_crashes_stays_absent_and_time_alone_changes_that() -> None:
    crashed = with_pod(settled(**HALF), f"{JOB}-home-2", **CRASHES)
    named = replace(crashed, wiring=wiring(decide(crashed), crashed))
    again = with_pod(named, f"{JOB}-home-2", ready=True, waiting="", ready_changed=NOW - 3)
    decided = decide(again)
    assert wiring(decided, again).absent == {2}
    assert decided.again_after == pytest.approx(WELL_SECONDS - 3)


def test_only_homes_that_take_part_are_absent() -> None:
    seen = holding(with_spec(settled(), homes={"replicas": 6}), 6, **CRASHES)
    assert wiring(decide(seen), seen).absent == frozenset()


def test_a_group_is_absent_with_one_of_its_homes() -> None:
    robust = {"aggregation": {"method": "median", "groupSize": 3}, "homes": {"replicas": 9}}
    seen = with_pod(settled(**robust), f"{JOB}-home-4", **CRASHES)
    assert wiring(decide(seen), seen).absent == {3, 4, 5}


@pytest.mark.parametrize(
    ("spec", "said"),
    [(HALF, "rounds do not wait for homes 2"), ({}, "rounds wait for homes 2: the quorum is 4 of 4")],
)
def test_the_message_says_whether_rounds_wait(spec: dict[str, Any], said: str) -> None:
    seen = with_pod(settled(**spec), f"{JOB}-home-2", **CRASHES)
    decided = decide(seen)
    assert told(decided) == f"{JOB}-home-2 has crashed 5 times; 3 of 4 homes are ready; {said}"
    assert decided.status["state"] == "Degraded"
    after = written(replace(seen, wiring=wiring(decided, seen)), decided)
    assert decide(after).idle


def test_of_many_absent_homes_some_are_named() -> None:
    seen = settled(homes={"replicas": 100, "perPod": 50}, **HALF)
    decided = decide(with_pod(seen, f"{JOB}-home-1", **CRASHES))
    assert told(decided).endswith("rounds do not wait for homes 50-69 and more")
