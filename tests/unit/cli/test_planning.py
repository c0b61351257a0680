"""`elf plan FILE`: what would be done, without doing it."""

from __future__ import annotations

import json
import pathlib
from dataclasses import replace

import pytest
import yaml
from typer.testing import CliRunner, Result

from builders import settled, with_pod
from elf_cli.main import app
from elf_cli.verbs import planning

SAMPLE = pathlib.Path(__file__).parents[3] / "manifests" / "samples" / "digits.yaml"


def elf(*args: str) -> Result:
    return CliRunner().invoke(app, ["plan", *args], env={"COLUMNS": "120", "KUBECONFIG": "/nowhere"})


def test_a_new_job_is_told_whole() -> None:
    found = json.loads(elf(str(SAMPLE), "-o", "json").output)
    assert found["state"] == "Pending"
    assert len(found["create"]) == 1 + 3 + 12
    assert "ConfigMap/digits-wiring" in found["apply"]
    said = elf(str(SAMPLE)).output
    assert "once every MDC serves: mdc 0: homes 0-3; mdc 1: homes 4-7; mdc 2: homes 8-11" in said


def test_groups_stay_together(tmp_path: pathlib.Path) -> None:
    job = yaml.safe_load(SAMPLE.read_text())
    job["spec"] |= {"aggregation": {"method": "median", "groupSize": 5}, "miniDataCenters": {"replicas": 2}}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    assert "mdc 0: homes 0-5; mdc 1: homes 6-11" in elf(str(tmp_path / "job.yaml")).output


def test_capacity_is_obeyed(tmp_path: pathlib.Path) -> None:
    job = yaml.safe_load(SAMPLE.read_text())
    job["spec"]["miniDataCenters"] = {"replicas": 5, "capacity": 3}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    assert "mdc 0: homes 0-2; mdc 1: homes 3-5" in elf(str(tmp_path / "job.yaml")).output


def test_zones_are_shown_where_they_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = settled()
    for name, node in (("sleigh-mdc-0-0", "a"), ("sleigh-home-0", "a"), ("sleigh-home-2", "b")):
        seen = with_pod(seen, name, node=node)
    seen = replace(with_pod(seen, "sleigh-mdc-1-0", phase="Failed", ready=False), zones={"a": "east"})
    monkeypatch.setattr(planning, "_of_job", lambda *_: seen)
    said = " ".join(elf("sleigh").output.split())
    assert "mdc 0: homes 0-3 (1 of its zone, east)" in said
    assert "once every MDC serves: mdc 0: homes 0-1 (1 of its zone, east); mdc 1: homes 2-3" in said


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (["WRONG"], 2, "spec.homes.replicas: "),
        (["no-such-job"], 1, "no-such-job: is no file; no cluster is known: there is no kubeconfig /nowhere"),
        ([str(SAMPLE), "-o", "xml"], 2, "--output: is 'xml', json or yaml is expected"),
    ],
)
def test_what_cannot_be_planned_is_said_on_one_line(
    tmp_path: pathlib.Path, args: list[str], status: int, said: str
) -> None:
    job = yaml.safe_load(SAMPLE.read_text())
    job["spec"]["homes"]["replicas"] = 0
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(job))
    done = elf(*(str(tmp_path / "wrong.yaml") if arg == "WRONG" else arg for arg in args))
    assert done.exit_code == status
    assert said in done.stderr and done.stderr.count("\n") == 1
