"""Which helm the tests take."""

from __future__ import annotations

import pathlib

import pytest

import helm as finder


def program(path: pathlib.Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def nowhere(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """No helm in the environment, on PATH, or in the cache."""
    monkeypatch.delenv("HELM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(finder, "CACHED", tmp_path / "cache" / "helm")
    return tmp_path


def test_the_environment_comes_before_path_and_path_before_the_cache(
    nowhere: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert finder.find() is None
    cached = program(nowhere / "cache" / "helm")
    assert finder.find() == cached
    on_path = program(nowhere / "bin" / "helm")
    assert finder.find() == on_path
    told = program(nowhere / "mine")
    monkeypatch.setenv("HELM", told)
    assert finder.find() == told


def test_a_relative_path_holds_in_other_folders(
    nowhere: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = program(nowhere / "mine")
    monkeypatch.chdir(nowhere)
    monkeypatch.setenv("HELM", "./mine")
    assert finder.find() == told


def test_a_wrong_one_is_refused_by_the_name_of_the_variable(
    nowhere: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program(nowhere / "bin" / "helm")
    monkeypatch.setenv("HELM", "/nowhere/helm")
    with pytest.raises(ValueError, match=r"HELM: is '/nowhere/helm'"):
        finder.find()
    assert finder.main() == 2
    assert "HELM: is '/nowhere/helm'" in capsys.readouterr().err


def test_without_one_the_test_is_skipped_and_says_how_to_get_it(nowhere: pathlib.Path) -> None:
    with pytest.raises(pytest.skip.Exception, match=r"set HELM.*PATH.*tests/helm\.py"):
        finder.found_or_skipped()
