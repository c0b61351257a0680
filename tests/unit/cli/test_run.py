"""`elf run`: what is refused before anything is trained."""

from __future__ import annotations

import asyncio
import pathlib
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from builders import body
from elf_cli.main import app
from elf_cli.refusal import EXIT_WRONG

REFUSED: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "a job that is wrong": ({"rounds": 0}, [], "job.yaml: spec.rounds: is 0, at least 1 is needed"),
    "a job that is suspended": ({"suspend": True}, [], "job.yaml: spec.suspend: is true: there is nothing"),
    "a kill of nobody": ({}, ["--kill", "mdc/9@round:1"], "--kill 'mdc/9@round:1': there is no mdc 9"),
    "a scale of nothing": ({}, ["--scale", "elves=3@round:1"], "--scale 'elves=3@round:1': homes=N@round:N"),
    "a page nowhere": ({}, ["--dashboard", "here"], "--dashboard 'here': ADDRESS:PORT is"),
    "a report nowhere": ({}, ["--report", "no/where.json"], "no/where.json: there is no folder"),
    "a model nowhere": ({}, ["--model", "no/where"], "no/where: there is no folder"),
}


@pytest.mark.parametrize(("spec", "flags", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_wrong_is_said_before_anything_is_trained(
    spec: dict[str, Any],
    flags: list[str],
    said: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(asyncio, "run", lambda work: pytest.fail(f"it is not refused: {work}"))
    made = {"apiVersion": "northpole.dev/v1alpha1", "kind": "ElfTrainingJob", **body(**spec)}
    pathlib.Path("job.yaml").write_text(yaml.safe_dump(made))
    done = CliRunner().invoke(app, ["run", "job.yaml", *flags])
    assert (done.exit_code, done.stdout) == (EXIT_WRONG, "")
    assert done.stderr.startswith(f"elf: {said}") and done.stderr.count("\n") == 1
    assert not pathlib.Path("runs").exists()
