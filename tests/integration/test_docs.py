"""What the docs show of runs on one machine, run as it stands there."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest

import documents
from documents import ROOT
from elf_cli.views import weights


def elf(folder: pathlib.Path, *words: str) -> str:
    """What the command prints, in a folder whose modules can be imported."""
    command = [sys.executable, "-m", "elf_cli", *words]
    path = ":".join([str(folder), *filter(None, sys.path)])
    done = subprocess.run(
        command,
        cwd=folder,
        env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def words_of(page: str, beginning: str) -> list[str]:
    """The words of the one command of a page that begins so, without `elf`."""
    found = [c for b in documents.read(page) for c in documents.commands(b) if c.text.startswith(beginning)]
    assert len(found) == 1
    return found[0].words[1:]


def written(page: str, folder: pathlib.Path) -> list[str]:
    """The files that a page shows, written into a folder."""
    shown = [block for block in documents.read(page) if block.file]
    for block in shown:
        (folder / str(block.file)).write_text(block.text)
    return [str(block.file) for block in shown]


@pytest.mark.slow
def test_the_run_of_the_readme_and_its_plot(tmp_path: pathlib.Path) -> None:
    (tmp_path / "manifests").symlink_to(ROOT / "manifests")
    said = elf(tmp_path, *words_of("README.md", ".venv/bin/elf run"))
    assert "digits-mdc-1-0" in said and "digits-npdc-0" in said
    report = json.loads((tmp_path / "report.json").read_text())
    assert weights.digest(tmp_path / "model.safetensors") == report["modelDigest"]
    elf(tmp_path, *words_of("docs/statistics.md", "elf plot"))
    [plot] = tmp_path.glob("*.png")
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_task_of_ones_own(tmp_path: pathlib.Path) -> None:
    assert written("docs/own-task.md", tmp_path) == ["lines.py", "lines.yaml"]
    assert "Complete: fit" in elf(tmp_path, "run", "lines.yaml")


def test_the_statistic_of_ones_own(tmp_path: pathlib.Path) -> None:
    [code] = [block for block in documents.read("docs/statistics.md") if block.language == "python"]
    (tmp_path / "largest.py").write_text(code.text)
    assert elf(tmp_path, *words_of("docs/statistics.md", "elf check-statistic"))
