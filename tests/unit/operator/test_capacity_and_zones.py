"""What the planner makes of an MDC's capacity, and of the zones of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from builders import (
    JOB,
    NOW,
    condition,
    decide,
    job,
    observation,
    pod,
    service,
    settled,
    wiring_of,
    with_pod,
    with_spec,
    with_training,
)
from elf_operator.observation import Observation
from elf_operator.plans import Plan
from elf_worker.contract import Role

MDC = "sleigh-mdc-1-0"
FAILED = {"phase": "Failed", "ready": False, "exit_code": 1}
ROOM_FOR_TWO = {"capacity": 2, "replicas": 2}


def homes_of(decided: Plan) -> dict[int, set[int]]:
    wiring = wiring_of(decided)
    assert wiring is not None
    return {index: set(slot.homes) for index, slot in wiring.mdcs.items()}


# -- capacity ----------------------------------------------------------------------------------------------


def test_homes_beyond_the_capacity_wait_and_the_status_says_so() -> None:
    decided = decide(with_pod(settled(miniDataCenters=ROOM_FOR_TWO), MDC, **FAILED))
    assert homes_of(decided) == {0: {0, 2}, 1: set()}
    degraded = condition(decided.status, "Degraded")
    assert (decided.status["state"], degraded["reason"]) == ("Degraded", "OverCapacity")
    waiting = "2 of 4 homes wait for an MDC: 1 serves, spec.miniDataCenters.capacity is 2"
    assert degraded["message"] == f"{waiting}; 1 of 2 MDCs serve, not MDC 1"
    assert condition(decided.status, "Ready")["status"] == "False"


def test_several_mdcs_serve() -> None:
    seen = settled(homes={"replicas": 12}, miniDataCenters={"replicas": 3, "capacity": 4})
    message = condition(decide(with_pod(seen, MDC, **FAILED)).status, "Degraded")["message"]
    assert message.startswith("4 of 12 homes wait for an MDC: 2 serve, spec.miniDataCenters.capacity is 4")


def test_a_pod_that_needs_a_person_is_told_first() -> None:
    decided = decide(with_pod(settled(miniDataCenters=ROOM_FOR_TWO), MDC, waiting="ErrImagePull"))
    assert condition(decided.status, "Ready")["status"] == "False"
    degraded = condition(decided.status, "Degraded")
    assert degraded["reason"] == "ImageNotPullable" and "2 of 4 homes wait for an MDC" in degraded["message"]


def test_before_the_first_round_waiting_is_part_of_starting() -> None:
    seen = with_training(settled(miniDataCenters=ROOM_FOR_TWO), round=0, phase="Recovering")
    decided = decide(with_pod(seen, MDC, ready=False, created=NOW - 61))
    assert homes_of(decided) == {0: {0, 2}, 1: set()}
    ready, degraded = (condition(decided.status, kind) for kind in ("Ready", "Degraded"))
    assert (ready["status"], ready["reason"], degraded["status"]) == ("False", "Starting", "False")


def test_who_waits_is_served_when_the_successor_is_there() -> None:
    seen = with_pod(settled(miniDataCenters=ROOM_FOR_TWO), MDC, **FAILED)
    fenced = replace(seen, wiring=wiring_of(decide(seen)))
    successor = pod(Role.MDC, 1, 1)
    back = replace(fenced, pods=(*(p for p in fenced.pods if p.name != MDC), successor))
    decided = decide(back)
    assert homes_of(decided) == {0: {0, 2}, 1: {1, 3}}
    assert decided.status["state"] == "Running"


def test_without_any_mdc_nobody_speaks_of_capacity() -> None:
    seen = settled(miniDataCenters=ROOM_FOR_TWO)
    for name in ("sleigh-mdc-0-0", MDC):
        seen = with_pod(seen, name, **FAILED)
    assert condition(decide(seen).status, "Degraded")["reason"] == "Replacing"


def test_the_capacity_may_change_while_the_job_runs() -> None:
    seen = with_spec(settled(), miniDataCenters={"capacity": 2})
    assert decide(seen).idle, "there is room for all, so nobody moves"


def test_a_robust_method_fills_an_mdc_with_whole_groups() -> None:
    aggregation = {"method": "median", "groupSize": 3}
    seen = settled(
        homes={"replicas": 12}, miniDataCenters={"replicas": 4, "capacity": 5}, aggregation=aggregation
    )
    first = homes_of(decide(seen))  # `settled` has split the groups
    assert sorted(map(len, first.values())) == [3, 3, 3, 3]
    lost = homes_of(decide(with_pod(seen, MDC, **FAILED)))
    assert sorted(map(len, lost.values())) == [0, 3, 3, 3]


# -- zones ----------------------------------------------------------------------------------------------

EAST, WEST = "node-e", "node-w"
ZONES = {EAST: "east", WEST: "west"}


def young(nodes: Mapping[str, str], **spec: Any) -> Observation:
    """The usual job when all pods have been created and none works yet; nodes of some are known."""
    parsed = job(**spec)
    made = [pod(Role.NPDC), *(pod(Role.MDC, i) for i in range(2)), *(pod(Role.HOME, i) for i in range(4))]
    fields = {"ready": False, "phase": "Pending", "created": NOW - 1, "node": ""}
    pods = tuple(replace(p, **fields | {"node": nodes.get(p.name, "")}) for p in made)
    return observation(parsed, pods=pods, service=service(parsed), zones=ZONES)


def on(**nodes: str) -> dict[str, str]:
    """`on(mdc_0_0=EAST)`: names of pods and their nodes."""
    return {f"{JOB}-{name.replace('_', '-')}": node for name, node in nodes.items()}


BOUND = on(mdc_0_0=WEST, mdc_1_0=EAST, home_0=EAST, home_1=WEST, home_2=EAST, home_3=WEST)


def test_at_the_first_start_homes_get_into_their_zone_when_their_nodes_are_known() -> None:
    unbound = young({})
    assert homes_of(decide(unbound)) == {0: {0, 1}, 1: {2, 3}}
    bound = replace(young(BOUND), wiring=wiring_of(decide(unbound)))
    assert homes_of(decide(bound)) == {0: {1, 3}, 1: {0, 2}}
    again = replace(bound, wiring=wiring_of(decide(bound)))
    assert wiring_of(decide(again)) is None, "once is enough"


def test_without_zones_the_first_assignment_stays() -> None:
    unbound = replace(young({}), zones={})
    wiring = wiring_of(decide(unbound))
    assert wiring is not None
    odd = {i: replace(wiring.mdcs[i], homes=wiring.mdcs[1 - i].homes) for i in range(2)}
    bound = replace(young(BOUND), zones={}, wiring=replace(wiring, mdcs=odd))
    assert wiring_of(decide(bound)) is None


def in_zones(seen: Observation, nodes: Mapping[str, str]) -> Observation:
    for name, node in nodes.items():
        seen = with_pod(seen, name, node=node)
    return replace(seen, zones=ZONES)


def test_who_works_never_moves_just_to_get_into_its_zone() -> None:
    assert decide(in_zones(settled(), BOUND)).idle


def test_an_mdc_that_is_heard_works_whatever_its_probe_says() -> None:
    seen = in_zones(settled(), BOUND)
    for name in ("sleigh-mdc-0-0", MDC):
        seen = with_pod(seen, name, ready=False, created=NOW - 30)
    serving = [{"mdc": i, "incarnation": 0, "homes": 2} for i in (0, 1)]
    assert wiring_of(decide(with_training(seen, serving=serving))) is None
    assert homes_of(decide(seen)) == {0: {1, 3}, 1: {0, 2}}, "neither has begun: there is nothing to lose"


def test_a_new_mdc_gets_homes_of_its_zone() -> None:
    nodes = on(mdc_0_0=EAST, mdc_1_0=EAST, home_0=WEST, home_1=EAST, home_2=EAST, home_3=EAST)
    before = with_pod(in_zones(settled(), nodes), MDC, **FAILED)
    fenced = replace(before, wiring=wiring_of(decide(before)))
    assert fenced.wiring is not None and fenced.wiring.mdcs[0].homes == frozenset(range(4))
    successor = replace(pod(Role.MDC, 1, 1), node=WEST)
    back = replace(fenced, pods=(*(p for p in fenced.pods if p.name != MDC), successor))
    assert homes_of(decide(back)) == {0: {1, 2}, 1: {0, 3}}
    blind = homes_of(decide(replace(back, zones={})))
    assert blind == {0: {0, 1}, 1: {2, 3}}, "as if nobody knew"


def test_a_home_that_starts_anew_may_get_into_its_zone_and_takes_nobody_along() -> None:
    nodes = on(mdc_0_0=EAST, mdc_1_0=WEST, home_0=EAST, home_1=WEST, home_2=WEST, home_3=WEST)
    seen = in_zones(settled(), nodes)  # homes 0 and 2 are served by MDC 0
    down = with_pod(seen, "sleigh-home-2", ready=False)
    assert decide(down).idle, "there is no room in its zone"
    five = in_zones(settled(homes={"replicas": 5}), nodes | on(home_4=WEST))  # 0, 2 and 4 by MDC 0
    moved = homes_of(decide(with_pod(five, "sleigh-home-2", ready=False)))
    assert moved == {0: {0, 4}, 1: {1, 2, 3}}


def test_a_group_of_which_one_home_works_stays() -> None:
    nodes = on(mdc_0_0=EAST, mdc_1_0=WEST) | {f"{JOB}-home-{i}": (WEST if i < 3 else EAST) for i in range(6)}
    spec: dict[str, Any] = {
        "homes": {"replicas": 6},
        "aggregation": {"method": "median", "groupSize": 3},
    }
    seen = in_zones(settled(**spec), nodes)
    first = replace(seen, zones={}, wiring=None)
    assert homes_of(decide(first)) == {0: {0, 1, 2}, 1: {3, 4, 5}}
    wired = replace(seen, wiring=wiring_of(decide(first)))
    for home in range(5):
        wired = with_pod(wired, f"{JOB}-home-{home}", ready=False)
    assert wiring_of(decide(with_pod(wired, f"{JOB}-home-1", ready=True))) is None
    wired = with_pod(wired, f"{JOB}-home-5", ready=False)
    assert homes_of(decide(wired)) == {0: {3, 4, 5}, 1: {0, 1, 2}}


def test_homes_of_one_pod_are_in_one_zone_and_only_the_newest_pod_of_a_slot_counts() -> None:
    spec = {"homes": {"perPod": 2}}
    parsed = job(**spec)
    pods = (
        pod(Role.NPDC),
        *(replace(pod(Role.MDC, i, 1), node=node) for i, node in enumerate((EAST, WEST))),
        *(replace(pod(Role.MDC, i, 0), node=node, deleting=True) for i, node in enumerate((WEST, EAST))),
        *(replace(pod(Role.HOME, i), node=node) for i, node in enumerate((WEST, EAST))),
    )
    seen = observation(parsed, pods=pods, service=service(parsed), zones=ZONES)
    assert homes_of(decide(seen)) == {0: {2, 3}, 1: {0, 1}}
