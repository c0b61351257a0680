"""The table of verbs, and those parts of verbs that decide without a cluster."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from builders import body
from elf_cli import main, who
from elf_cli.main import VERBS, app
from elf_cli.refusal import EXIT_NOTHING, EXIT_WRONG, TroubleError
from elf_cli.verbs import suspending
from elf_cli.verbs.kill import aftermath, newest, place
from elf_operator.observation import parse_pod
from elf_worker.contract import Role


@pytest.mark.parametrize("name", VERBS)
def test_the_help_of_a_verb_is_the_one_in_the_table(name: str) -> None:
    command = main.load(name)
    assert command.help.splitlines()[0] == VERBS[name].help
    done = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "120"})
    assert done.exit_code == 0 and "Usage" in done.output


def test_help_imports_no_verb() -> None:
    """Its time is that of importing: numpy or a client of Kubernetes would double it."""
    asked = "import sys; from elf_cli.main import app\ntry: app(['--help'])\nexcept SystemExit: pass\n"
    heavy = ("numpy", "kubernetes", "aiohttp", "yaml", "elf_operator", "elf_cli.verbs.look")
    asked += f"print('HEAVY', [name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.rstrip().endswith("HEAVY []")


def test_a_verb_that_is_not_there() -> None:
    done = CliRunner().invoke(app, ["statsu"])
    assert done.exit_code == EXIT_WRONG


@pytest.mark.parametrize(
    ("text", "found"), [("npdc", (Role.NPDC, 0)), ("mdc/1", (Role.MDC, 1)), ("home/30", (Role.HOME, 30))]
)
def test_who(text: str, found: tuple[Role, int]) -> None:
    assert who.parse(text) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mdc", "which mdc? Say mdc/INDEX"),
        ("elf/1", "mdc/INDEX, npdc or home/INDEX is expected, such as mdc/1"),
        ("mdc/-1", "is expected, such as mdc/1"),
    ],
)
def test_who_makes_no_sense(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"expected|which") as caught:
        who.parse(text)
    assert said in str(caught.value)


def job(state: str = "Running", **spec: Any) -> dict[str, Any]:
    return {**body(**spec), "status": {"state": state, "training": {"round": 7}}}


@pytest.mark.parametrize(
    ("made", "role", "number", "status", "said"),
    [
        (job(), Role.MDC, 2, EXIT_WRONG, "there is no mdc 2, they are numbered 0 to 1"),
        (job(), Role.HOME, 4, EXIT_WRONG, "there is no home 4, they are numbered 0 to 3"),
        (job("Complete"), Role.MDC, 0, EXIT_NOTHING, "is Complete: it has no pods to kill"),
        (job("Suspended"), Role.NPDC, 0, EXIT_NOTHING, "is Suspended"),
        (job(homes={"replicas": 0}), Role.NPDC, 0, EXIT_WRONG, "spec.homes.replicas"),
    ],
)
def test_nobody_to_kill(made: dict[str, Any], role: Role, number: int, status: int, said: str) -> None:
    with pytest.raises(TroubleError) as caught:
        place(made, role, number)
    assert said in str(caught.value) and caught.value.status == status


def test_a_home_is_in_the_pod_that_holds_it() -> None:
    assert place(job(homes={"perPod": 3, "replicas": 9}), Role.HOME, 7) == 2


def pod_body(role: Role, index: int, incarnation: int, **status: Any) -> dict[str, Any]:
    labels = {
        "northpole.dev/role": str(role),
        "northpole.dev/index": str(index),
        "northpole.dev/incarnation": str(incarnation),
        "northpole.dev/homes": "3-5",
    }
    name = f"sleigh-{role}-{index}-{incarnation}"
    return {
        "metadata": {"name": name, "uid": name, "labels": labels},
        "status": {"phase": "Running", **status},
    }


def test_the_living_one_of_a_place_is_killed() -> None:
    ended = pod_body(Role.MDC, 1, 9, phase="Failed")
    leaving = pod_body(Role.MDC, 1, 8)
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    living = [pod_body(Role.MDC, 1, i) for i in (6, 7)]
    found = newest([ended, leaving, *living])
    assert found is not None and found.incarnation == 7
    assert newest([ended, leaving]) is None and newest([]) is None


@pytest.mark.parametrize(
    ("role", "said"),
    [
        (Role.MDC, "sleigh-mdc-1-3 takes its place"),
        (Role.NPDC, "goes on"),
        (Role.HOME, "with homes 3-5"),
    ],
)
def test_what_comes_after_a_death(role: Role, said: str) -> None:
    pod = parse_pod(pod_body(role, 1, 2))
    assert pod is not None and said in aftermath(pod)


CLAIM = {"checkpoint": {"volumeClaim": "states"}}


@pytest.mark.parametrize(
    ("made", "suspended", "said"),
    [
        (job(northPole=CLAIM), True, "go on from the newest checkpoint on states, bit for bit"),
        (job(), True, "start over from round 0, and end with the same bits"),
        (body(), True, "start it from the beginning"),
        (job(northPole=CLAIM), False, "goes on from the newest checkpoint on states; 7 rounds were done"),
        (job(), False, "starts over from round 0"),
        (body(), False, "starts from the beginning"),
    ],
)
def test_what_suspending_leads_to(made: dict[str, Any], suspended: bool, said: str) -> None:
    assert said in suspending.consequence(made, suspended)
