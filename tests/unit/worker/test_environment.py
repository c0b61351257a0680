"""The environment of a pod: read whole, or refused by the name of the variable."""

from __future__ import annotations

import pytest

from elf_worker import contract
from elf_worker.contract import JobConfig
from elf_worker.roles.environment import BadEnvironmentError, Environment, read

JOB = JobConfig(job="night", uid="u", homes=4, per_pod=2, rounds=9, seed=0, entrypoint="a:B")
NEEDED = {
    contract.ENV_JOB: JOB.to_json(),
    contract.ENV_UID: "pod-uid",
    contract.ENV_ADDRESS: "127.0.0.2",
    contract.ENV_INDEX: "1",
    contract.ENV_INCARNATION: "3",
}


def test_what_only_some_roles_have_may_be_absent():
    assert read(NEEDED) == Environment(
        job=JOB, uid="pod-uid", address="127.0.0.2", index=1, incarnation=3, homes=frozenset({2, 3}),
        npdc="", board="", checkpoint="", model_out="", history="",
    )  # fmt: skip


def test_every_variable_ends_where_it_belongs():
    env = read(
        NEEDED
        | {
            contract.ENV_NPDC: "npdc:7733",
            contract.ENV_BOARD: "file:board",
            contract.ENV_CHECKPOINT: "/volume",
            contract.ENV_MODEL_OUT: "model.safetensors",
            "PATH": "/bin",
        }
    )
    assert (env.npdc, env.board) == ("npdc:7733", "file:board")
    assert (env.checkpoint, env.model_out) == ("/volume", "model.safetensors")


@pytest.mark.parametrize(("text", "homes"), [("4-6,9", {4, 5, 6, 9}), ("7", {7}), ("", set())])
def test_a_pod_holds_the_homes_that_it_is_told(text, homes):
    """Also those that the job did not begin with."""
    assert read(NEEDED | {contract.ENV_HOMES: text}).homes == homes


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_variable_is_named(name):
    with pytest.raises(BadEnvironmentError, match=f"^{name} is not set"):
        read({k: v for k, v in NEEDED.items() if k != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (contract.ENV_INDEX, "one"),
        (contract.ENV_INCARNATION, ""),
        (contract.ENV_JOB, "{"),
        (contract.ENV_JOB, '{"job": "night"}'),
        (contract.ENV_JOB, "[]"),
        (contract.ENV_HOMES, "4-"),
        (contract.ENV_HOMES, "6-4"),
    ],
)
def test_a_variable_that_makes_no_sense_is_named(name, value):
    """A worker image and an operator of two versions meet here first."""
    with pytest.raises(BadEnvironmentError, match=name):
        read(NEEDED | {name: value})
