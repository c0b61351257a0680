"""Which namespace is meant."""

from __future__ import annotations

from typing import Any

import pytest

from elf_cli.cluster import target
from elf_cli.cluster.target import Target, namespace_of
from elf_cli.refusal import EXIT_WRONG, TroubleError

TOWN: dict[str, Any] = {"name": "town", "context": {"namespace": "streets"}}
POLE: dict[str, Any] = {"name": "pole", "context": {}}


@pytest.mark.parametrize(
    ("asked", "active", "found"),
    [
        (Target(), TOWN, "streets"),
        (Target(), POLE, "default"),
        (Target("asked"), TOWN, "asked"),
        (Target(context="town"), POLE, "streets"),
        (Target(context="pole"), TOWN, "default"),
        (Target("asked", "town"), POLE, "asked"),
    ],
)
def test_as_asked_else_of_the_context_else_default(asked: Target, active: dict[str, Any], found: str) -> None:
    assert namespace_of(asked, [TOWN, POLE], active) == found


def test_a_context_that_is_not_there() -> None:
    with pytest.raises(TroubleError, match="no context 'moon'; it has: town, pole") as caught:
        namespace_of(Target(context="moon"), [TOWN, POLE], TOWN)
    assert caught.value.status == EXIT_WRONG


def test_in_a_pod_it_is_that_of_the_pod(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "IN_POD", tmp_path / "namespace")
    assert target.namespace_in_pod(Target()) == "default"
    (tmp_path / "namespace").write_text("around\n")
    assert target.namespace_in_pod(Target()) == "around"
    assert target.namespace_in_pod(Target("asked")) == "asked"


def test_a_proposed_command_means_the_same_cluster() -> None:
    assert Target().flags() == ""
    assert Target("a", "b", "c").flags() == " -n a --context b --kubeconfig c"
