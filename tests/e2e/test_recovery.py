"""How long faults cost: figures, printed as medians. What is asserted is that they cost nothing else."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial

import pytest

from e2e.faults import Breaker, Patient, replaced, show

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]


@pytest.mark.parametrize(
    ("what", "number"),
    [("MDC killed", signal.SIGKILL), ("MDC frozen", signal.SIGSTOP)],
    ids=["killed", "frozen"],
)
def test_a_faulty_mdc(patient: Patient, request: pytest.FixtureRequest, what: str, number: int) -> None:
    before, took = patient.homes(), []
    for turn in range(request.config.getoption("--repeat")):
        index = turn % 3
        incarnation, round_ = patient.serving()[index][0], patient.round()
        over = partial(replaced, patient, index, incarnation, round_)
        took.append(patient.timed(partial(patient.signal, "mdc", index, number), over))
        patient.wait_until_well()
    show(f"{what}: its successor has served a round", took)
    assert patient.homes() == before, "no home was restarted"


def test_a_partitioned_mdc(patient: Patient, breaker: Breaker, request: pytest.FixtureRequest) -> None:
    before, took = patient.homes(), []
    for turn in range(request.config.getoption("--repeat")):
        index = turn % 3
        incarnation, round_ = patient.serving()[index][0], patient.round()
        address = patient.pod("mdc", index)["status"]["podIP"]
        over = partial(replaced, patient, index, incarnation, round_)
        took.append(patient.timed(partial(breaker, "partition", address), over))
        breaker("heal", address)
        patient.wait_until_well()
    show("MDC partitioned: its successor has served a round", took)
    assert patient.homes() == before, "no home was restarted"


def test_a_killed_npdc(admit: Callable[..., Patient], request: pytest.FixtureRequest) -> None:
    def goes_on(patient: Patient, incarnation: int, round_: int) -> bool:
        training = patient.look().get("training", {})
        return training.get("incarnation", 0) > incarnation and training["round"] > round_

    took: list[float] = []
    while len(took) < request.config.getoption("--repeat"):
        patient = admit()
        before = patient.homes()
        for _ in range(2):  # a third one in a row would have to wait
            training = patient.look()["training"]
            over = partial(goes_on, patient, training["incarnation"], training["round"])
            took.append(patient.timed(partial(patient.signal, "npdc", 0, signal.SIGKILL), over))
            patient.wait_until_well()
        assert patient.homes() == before, "no home was restarted"
    show("NPDC killed: the next round is done", took)
