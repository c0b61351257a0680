"""Each law, broken once: an oracle that does not notice is worth nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from control_plane.calls import Call, Target
from control_plane.oracle import Oracle
from elf_operator import names
from elf_worker.contract import WIRING_KEY, Role, Slot, Wiring

OWNER = {"ownerReferences": [{"uid": "job"}]}


def pod(uid: str, role: Role = Role.MDC, index: int = 0, incarnation: int = 0, **meta: Any) -> dict[str, Any]:
    labels = names.pod_labels("sleigh", role, index, incarnation)
    name = names.pod("sleigh", role, index, incarnation)
    metadata = {"name": name, "uid": uid, "labels": labels, **OWNER, **meta}
    return {"metadata": metadata, "status": {"phase": "Running"}}


def wiring(version: int, npdc: Slot | None = None, **mdcs: Slot) -> dict[str, Any]:
    made = Wiring(version, npdc or Slot(0, "n"), {int(k[1:]): slot for k, slot in mdcs.items()})
    return {"metadata": {"name": "sleigh-wiring", **OWNER}, "data": {WIRING_KEY: made.to_json()}}


def job(generation: int, *held: str) -> dict[str, Any]:
    conditions = [{"type": kind, "status": "True"} for kind in held]
    return {
        "metadata": {"uid": "job"},
        "status": {"observedGeneration": generation, "conditions": conditions},
    }


def call(verb: str, body: dict[str, Any], answer: dict[str, Any], status: int = 200) -> Call:
    return Call("operator", Target(verb, "pods", "town", "x"), 0.0, body, status, answer)


def well(oracle: Oracle) -> None:
    """A life without a breach: an MDC is replaced, the job grows and ends."""
    oracle.saw("Pod", "ADDED", pod("n", Role.NPDC))
    oracle.saw("Pod", "ADDED", pod("m0"))
    one = Slot(0, "m0", frozenset({0, 1}))
    oracle.saw("ConfigMap", "ADDED", wiring(1, m0=one))
    oracle.saw("ConfigMap", "MODIFIED", wiring(2, m0=Slot(1)))
    oracle.called(call("delete", {"preconditions": {"uid": "m0"}}, {}))
    oracle.saw("Pod", "ADDED", pod("m1", incarnation=1))
    oracle.saw("Pod", "DELETED", pod("m0"))
    oracle.called(call("create", {}, pod("m1", incarnation=1), 201))
    oracle.saw("ConfigMap", "MODIFIED", wiring(3, m0=replace(one, incarnation=1, uid="m1")))
    for body in (job(1), job(2), job(2, "Complete")):
        oracle.saw("ElfTrainingJob", "MODIFIED", body)


def two_live_pods(oracle: Oracle) -> None:
    oracle.saw("Pod", "ADDED", pod("other", incarnation=1))


def the_wiring_falls(oracle: Oracle) -> None:
    oracle.saw("ConfigMap", "MODIFIED", wiring(2, m0=Slot(1)))


def two_wirings_of_a_version(oracle: Oracle) -> None:
    oracle.saw("ConfigMap", "MODIFIED", wiring(3, m0=Slot(1)))


def an_incarnation_falls(oracle: Oracle) -> None:
    oracle.saw("ConfigMap", "MODIFIED", wiring(4, m0=Slot(0)))


def a_replaced_pod_is_named_again(oracle: Oracle) -> None:
    oracle.saw("ConfigMap", "MODIFIED", wiring(4, m0=Slot(2, "m0")))


def a_home_is_served_twice(oracle: Oracle) -> None:
    oracle.saw("Pod", "ADDED", pod("k", index=1))
    both = frozenset({1})
    oracle.saw("ConfigMap", "MODIFIED", wiring(4, m0=Slot(1, "m1", both), m1=Slot(0, "k", both)))


def nobody_serves_a_home(oracle: Oracle) -> None:
    oracle.saw("ConfigMap", "MODIFIED", wiring(4, m0=Slot(1, "", frozenset({1}))))


def a_home_does_not_exist(oracle: Oracle) -> None:
    oracle.saw("ConfigMap", "MODIFIED", wiring(4, m0=Slot(1, "m1", frozenset({9}))))


def the_wiring_names_a_stranger(oracle: Oracle) -> None:
    oracle.saw("ConfigMap", "MODIFIED", wiring(4, m0=Slot(2, "stranger")))


def a_stranger_is_deleted(oracle: Oracle) -> None:
    oracle.called(call("delete", {"preconditions": {"uid": "stranger"}}, {}))


def a_pod_is_deleted_by_name(oracle: Oracle) -> None:
    oracle.called(call("delete", {}, {}))


def a_pod_without_an_owner_is_created(oracle: Oracle) -> None:
    oracle.called(call("create", {}, pod("x", ownerReferences=[]), 201))


def the_generation_falls(oracle: Oracle) -> None:
    oracle.saw("ElfTrainingJob", "MODIFIED", job(1, "Complete"))


def the_end_is_taken_back(oracle: Oracle) -> None:
    oracle.saw("ElfTrainingJob", "MODIFIED", job(2))


BREACHES: dict[Callable[[Oracle], None], str] = {
    two_live_pods: "two live pods",
    the_wiring_falls: "fell from version 3 to 2",
    two_wirings_of_a_version: "two wirings of version 3",
    an_incarnation_falls: "fell from incarnation 1 to 0",
    a_replaced_pod_is_named_again: "names m0 again",
    a_home_is_served_twice: "served by 2 MDCs",
    nobody_serves_a_home: "has homes and no pod",
    a_home_does_not_exist: "does not exist",
    the_wiring_names_a_stranger: "is no pod of that slot",
    a_stranger_is_deleted: "not the job's was deleted",
    a_pod_is_deleted_by_name: "without the pod's UID",
    a_pod_without_an_owner_is_created: "not the job's was created",
    the_generation_falls: "observedGeneration fell",
    the_end_is_taken_back: "was Complete",
}


@pytest.mark.parametrize("breach", BREACHES, ids=lambda b: b.__name__)
def test_a_breach_is_told(breach: Callable[[Oracle], None]) -> None:
    oracle = Oracle("sleigh", "job", 6)
    well(oracle)
    assert oracle.at_the_end() == []
    breach(oracle)
    assert any(BREACHES[breach] in sentence for sentence in oracle.at_the_end())


def test_what_is_not_the_jobs_is_not_judged() -> None:
    oracle = Oracle("sleigh", "job", 6)
    for uid in ("a", "b"):
        oracle.saw("Pod", "ADDED", pod(uid, ownerReferences=[{"uid": "another"}]))
    oracle.saw("ConfigMap", "ADDED", {"metadata": {"name": "sleigh-notes"}, "data": {}})
    oracle.called(call("delete", {"preconditions": {"uid": "a"}}, {}, 409))
    assert oracle.at_the_end() == []
