"""What conditions say of pods that do not serve: each is named, or counted, and none is passed over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from builders import NOW, condition, decide, settled, with_pod, with_spec, with_training, without
from elf_operator.observation import Observation
from elf_operator.situation import ALL_SERVE
from elf_worker.contract import Role

FAILED = {"phase": "Failed", "ready": False, "exit_code": 137}
NPDC, MDC, HOME = "sleigh-npdc-0", "sleigh-mdc-1-0", "sleigh-home-2"


def serving(*mdcs: int, incarnation: int = 0) -> list[dict[str, int]]:
    """What the NPDC says of those that have a connection to it."""
    return [{"mdc": index, "incarnation": incarnation, "homes": 2} for index in mdcs]


def busy(**training: Any) -> Observation:
    return settled({"serving": serving(0, 1), **training})


def unheard(uid: str = f"uid-{MDC}") -> Observation:
    """The NPDC has lost an MDC, and says for how long by now."""
    lost = [{"mdc": 1, "incarnation": 0, "uid": uid}]
    return with_training(busy(), serving=serving(0), unreachable=lost)


def waiting(name: str, **fields: Any) -> Observation:
    return with_pod(busy(), name, ready=False, phase="Pending", **fields)


SAID: dict[str, tuple[Callable[[], Observation], str, str]] = {
    "an MDC has died, and nobody but the NPDC has noticed": (
        lambda: with_training(busy(), serving=serving(0)),
        "Unreachable",
        "the NPDC has no connection to MDC 1",
    ),
    "all have, at once": (
        lambda: with_training(busy(), serving=[]),
        "Unreachable",
        "the NPDC has no connection to MDCs 0-1",
    ),
    "the NPDC means an earlier incarnation": (
        lambda: with_training(busy(), serving=serving(0, 1, incarnation=1)),
        "Unreachable",
        "the NPDC has no connection to MDCs 0-1",
    ),
    "an MDC is given up": (unheard, "Replacing", "1 of 2 MDCs serve, not MDC 1"),
    "an MDC has failed": (
        lambda: with_pod(busy(), MDC, **FAILED),
        "Replacing",
        "1 of 2 MDCs serve, not MDC 1",
    ),
    "an MDC is gone": (lambda: without(busy(), MDC), "Replacing", "1 of 2 MDCs serve, not MDC 1"),
    "an MDC is being deleted, and still ready": (
        lambda: with_pod(busy(), MDC, deleting=True),
        "Replacing",
        "1 of 2 MDCs serve, not MDC 1",
    ),
    "an MDC's node is lost": (
        lambda: replace(with_pod(busy(), MDC, node="n9"), lost_nodes=frozenset({"n9"})),
        "Replacing",
        "1 of 2 MDCs serve, not MDC 1",
    ),
    "an MDC is not ready, nor is it heard": (
        lambda: with_training(with_pod(busy(), MDC, ready=False, created=NOW - 5.0), serving=serving(0)),
        "Replacing",
        "1 of 2 MDCs serve, not MDC 1",
    ),
    "an MDC finds no node": (
        lambda: with_training(waiting(MDC, unschedulable="0/3 nodes"), serving=serving(0)),
        "Unschedulable",
        "sleigh-mdc-1-0: 0/3 nodes; 1 of 2 MDCs serve, not MDC 1",
    ),
    "no MDC is left": (
        lambda: without(busy(), "sleigh-mdc-0-0", MDC),
        "Replacing",
        "0 of 2 MDCs serve, not MDCs 0-1",
    ),
    "one more MDC is wanted": (
        lambda: with_spec(busy(), miniDataCenters={"replicas": 3}),
        "Replacing",
        "2 of 3 MDCs serve, not MDC 2",
    ),
    "the NPDC has failed": (
        lambda: with_pod(busy(), NPDC, **FAILED),
        "Replacing",
        "the NPDC does not serve yet",
    ),
    "the NPDC has said nothing for too long": (
        lambda: replace(busy(), npdc_silence=60.0),
        "Replacing",
        "the NPDC does not serve yet",
    ),
    "so it has, and its node cannot say how it is": (
        lambda: replace(with_pod(busy(), NPDC, ready=False, phase="Unknown"), npdc_silence=60.0),
        "Replacing",
        "nothing is heard from the NPDC",
    ),
    "what is said of training is of the NPDC before": (
        lambda: with_training(busy(), incarnation=-1),
        "Replacing",
        "the NPDC does not train yet",
    ),
    "a home has failed": (
        lambda: with_pod(busy(), HOME, **FAILED),
        "ContainerKilled",
        "sleigh-home-2 was killed by signal 9; 3 of 4 homes are ready",
    ),
    "a home is not ready": (
        lambda: with_pod(busy(), HOME, ready=False),
        "Replacing",
        "3 of 4 homes are ready",
    ),
    "a home is gone": (lambda: without(busy(), HOME), "Replacing", "3 of 4 homes are ready"),
}


@pytest.mark.parametrize("sentence", SAID)
def test_who_does_not_serve_is_named(sentence: str) -> None:
    make, reason, message = SAID[sentence]
    told = decide(make()).status
    for kind, holds in (("Ready", "False"), ("Degraded", "True")):
        said = condition(told, kind)
        assert (said["status"], said["reason"], said["message"]) == (holds, reason, message)
    assert told["state"] == "Degraded"


@pytest.mark.parametrize("said", [{}, {"serving": serving(0, 1)}], ids=["by its pods", "by its NPDC"])
def test_a_job_of_which_every_pod_serves_is_called_so(said: Mapping[str, Any]) -> None:
    told = decide(settled(said)).status
    assert (condition(told, "Ready")["status"], condition(told, "Ready")["message"]) == ("True", ALL_SERVE)


def test_of_a_job_that_has_not_begun_it_is_not_said() -> None:
    told = decide(with_training(settled(), phase="Starting", round=0)).status
    assert condition(told, "Ready")["message"] == "every pod is ready, training is about to begin"


FATES: list[dict[str, Any]] = [
    {"ready": False},
    {"phase": "Unknown", "ready": False},
    {"phase": "Pending", "ready": False},
    {"phase": "Pending", "ready": False, "unschedulable": "0/3 nodes"},
    {"phase": "Pending", "ready": False, "waiting": "ErrImagePull"},
    {"deleting": True},
    {"deleting": True, "ready": False},
    {"node": "lost"},
    FAILED,
    {"phase": "Failed", "ready": True, "reason": "Evicted"},
    {"phase": "Succeeded", "ready": False, "exit_code": 0},
]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Observation, bool]:
    """A job that trains, whatever has happened to its pods; whether all of them are as they should be."""
    seen, well = busy(incarnation=draw(st.sampled_from([0, 0, 0, -1]))), True
    suffering = draw(st.lists(st.sampled_from(seen.pods), unique=True, max_size=2))
    for pod in suffering:
        fate = draw(st.none() | st.sampled_from(FATES))
        seen = without(seen, pod.name) if fate is None else with_pod(seen, pod.name, **fate)
        # What the NPDC says of itself and of MDCs is newer than their last probe.
        well &= pod.role is not Role.HOME and fate in FATES[:3]
    heard_of = draw(st.sets(st.sampled_from([0, 1]), min_size=1))
    silence = draw(st.sampled_from([0.0, 0.0, 60.0]))
    seen = with_training(seen, serving=serving(*heard_of))
    seen = replace(seen, npdc_silence=silence, lost_nodes=frozenset({"lost"}))
    return seen, well and heard_of == {0, 1} and not silence


@given(worlds())
def test_nobody_says_that_every_pod_serves_where_one_does_not(world: tuple[Observation, bool]) -> None:
    seen, well = world
    told = decide(seen).status
    assert well or ALL_SERVE not in str(told["conditions"])
    if ALL_SERVE in str(told["conditions"]):
        assert [condition(told, kind)["status"] for kind in ("Ready", "Degraded")] == ["True", "False"]
        assert told["state"] == "Running"
