"""What a run looks like in the terminal."""

from __future__ import annotations

import io
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from builders import DEFAULTS, job, slot, valid
from elf_cli.local import view
from elf_cli.local.account import Account
from elf_operator import podbuilder
from elf_operator.status import Replacement
from elf_worker.contract import Role, Wiring

JOB = job()
SPEC = valid(JOB)
TRAINING = {"round": 7, "loss": "0.5", "metric": "f1 0.9", "roundsPerSecond": "12"}


def fake_pod(role: Role, index: int, **fields: Any) -> SimpleNamespace:
    manifest = podbuilder.pod(JOB, SPEC, DEFAULTS, role, index, 0)
    usual = {"phase": "Running", "ready": True, "deleting": False, "exit_code": None}
    return SimpleNamespace(name=manifest["metadata"]["name"], manifest=manifest, **usual | fields)


class Run:
    """What views ask of a cluster."""

    def __init__(self, *pods: SimpleNamespace, training: Mapping[str, Any] = TRAINING) -> None:
        self.pods = {pod.name: pod for pod in pods}
        self.status: dict[str, Any] = {}
        self._training = training

    def training(self) -> Mapping[str, Any]:
        return self._training

    def wiring(self) -> Wiring | None:
        split = {0: slot(Role.MDC, 0, homes=[0, 1]), 1: slot(Role.MDC, 1, homes=[2, 3])}
        return Wiring(1, slot(Role.NPDC), split) if self.pods else None


def whole() -> Run:
    homes = (fake_pod(Role.HOME, i) for i in range(4))
    return Run(fake_pod(Role.NPDC, 0), fake_pod(Role.MDC, 0), fake_pod(Role.MDC, 1), *homes)


def console() -> Console:
    return Console(file=io.StringIO(), width=100, force_terminal=False)


def shown(on: Console) -> str:
    assert isinstance(on.file, io.StringIO)
    return on.file.getvalue()


def test_the_headline() -> None:
    run = whole()
    run.status = {
        "state": "Running",
        "replaced": 2,
        "homes": {"summary": "4/4"},
        "miniDataCenters": {"summary": "1/2"},
    }
    assert view.headline(run, SPEC) == (
        "Running    round 7/100  loss 0.5  f1 0.9  homes 4/4  MDCs 1/2  replaced 2  12 rounds/s"
    )


def test_the_headline_of_a_run_that_has_just_begun() -> None:
    assert view.headline(Run(training={}), SPEC) == "Pending    round 0/100  homes -  MDCs -  replaced 0"


def test_the_tree_shows_who_lives() -> None:
    run = whole()
    run.pods["sleigh-mdc-1-0"].phase, run.pods["sleigh-mdc-1-0"].exit_code = "Failed", 137
    run.pods["sleigh-mdc-0-0"].ready = False
    on = console()
    live = view.LiveView(on, SPEC)
    with live:
        live.say("something happened")
        live.update(run)
    text = shown(on)
    for expected in (
        "● sleigh-npdc-0",
        "○ sleigh-mdc-0-0",
        "✗ sleigh-mdc-1-0",
        "2 homes ■■  0-1",
        "2 homes ■■  2-3",
        "something happened",
    ):
        assert expected in text


def test_the_tree_of_a_run_that_has_just_begun() -> None:
    on = console()
    with view.LiveView(on, SPEC) as live:
        live.update(Run(training={}))
    assert "○ npdc" in shown(on) and "○ mdc 1" in shown(on)


def test_plain_lines_come_seldom_and_only_when_they_say_something(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(view.time, "monotonic", lambda: now)
    on = console()
    with view.PlainView(on, SPEC) as plain:
        plain.update(whole())
        plain.say("[red]killed[/red]")
        now = 103.0
        plain.update(whole())
        now = 106.0
        plain.update(whole())
    lines = shown(on).splitlines()
    assert lines[0] == "   0.0 s  [red]killed[/red]", "messages are no markup"
    assert lines[1].startswith("   3.0 s  Pending    round 7/100")
    assert len(lines) == 2


def test_the_table_of_deaths() -> None:
    account = Account(1000.0)
    account.died(1010.0, "sleigh-mdc-1-0", "c", 3)
    account.replaced(Replacement("sleigh-mdc-1-0", "R", "m", 1010.25, 1.5), "sleigh-mdc-1-1")
    account.died(1011.0, "sleigh-home-0", "c", 3)
    account.sample(1012.0, {"round": 4})
    on = console()
    on.print(view.account_table(account))
    rows = [line for line in shown(on).splitlines() if "sleigh" in line]
    assert [word for word in rows[0].split() if word != "│"] == [
        *("10.0", "s", "3", "sleigh-mdc-1-0", "+0.25", "s", "+1.75", "s", "+2.00", "s")
    ]
    assert "in place" in rows[1] and "+1.00 s" in rows[1]
