"""Every command in the docs is typed by a test or excused, and says only what its program knows."""

from __future__ import annotations

import itertools
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import click
import pytest
import yaml

from documents import ROOT, Command, all_commands
from elf_cli import main as elf_main
from walks import IN_FILES, NOT_WALKED, REPLACED, WALKS, excuses, walked

COMMANDS = all_commands()
VALUES = yaml.safe_load((ROOT / "charts/elf-training-operator/values.yaml").read_text())
PAGES_WITH_COMMANDS = sorted({command.page for command in COMMANDS})


def bare(command: Command) -> str:
    """Without its comment."""
    return re.sub(r"\s+# .*", "", command.text)


def of(*programs: str) -> list[Command]:
    """The commands that call one of these, whatever is set for them and wherever they lie."""
    return [c for c in COMMANDS if called(c)[:1] and pathlib.Path(called(c)[0]).name in programs]


def called(command: Command) -> list[str]:
    """The words without variables, and without what sends it to the background or into another program."""
    words = command.words
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    for end in ("|", "&", ">"):
        if end in words:
            words = words[: words.index(end)]
    return words


# -- who types them ---------------------------------------------------------------------------------------


def test_every_command_is_typed_by_a_test_or_excused() -> None:
    typed = set(walked())
    left = [str(c) for c in COMMANDS if c not in typed and not excuses(c)]
    assert not left, "type them in a walk (tests/walks.py), or say there why not"


def test_no_command_is_both_typed_and_excused() -> None:
    assert not [str(c) for c in walked() if excuses(c)]


def test_every_excuse_is_needed() -> None:
    used = {excuses(c)[0] for c in COMMANDS if excuses(c)}
    assert [entry for entry in NOT_WALKED if entry not in used] == []


def test_what_is_replaced_is_on_a_page() -> None:
    assert set(REPLACED) <= {bare(c) for c in walked()}


def test_what_is_written_otherwise_is_in_a_file() -> None:
    files = "".join(b.text for walk in WALKS.values() for b in walk.blocks() if b.file)
    assert all(written in files for written in IN_FILES)


def test_programs_are_those_that_are_checked_here() -> None:
    """A new one wants a check of its own."""
    found = {pathlib.Path(called(c)[0]).name for c in COMMANDS}
    assert found == {"curl", "docker", "elf", "export", "helm", "kill", "kind", "kubectl", "make"} | {
        "pip",
        "pytest",
        "python3",
    }


# -- elf --------------------------------------------------------------------------------------------------


def verbs() -> Iterator[tuple[Command, list[str]]]:
    for command in of("elf"):
        yield command, called(command)[1:]
    for command in of("kubectl"):
        if called(command)[1:2] == ["elf"]:
            yield command, called(command)[2:]


@pytest.mark.parametrize(("command", "words"), [pytest.param(*v, id=str(v[0])) for v in verbs()])
def test_elf_knows_the_verb_and_its_options(command: Command, words: list[str]) -> None:
    assert understood(words) is None


def understood(words: list[str]) -> str | None:
    """What the parser of `elf` has against it."""
    if words[0] not in elf_main.VERBS:
        return f"no verb {words[0]}"
    try:
        elf_main.load(words[0]).make_context(words[0], words[1:])
    except click.exceptions.ClickException as error:
        return error.format_message()
    except Exception as error:
        if hasattr(error, "format_message"):  # typer may bring a click of its own
            return str(error.format_message())
        raise
    return None


def test_a_wrong_option_is_noticed() -> None:
    assert "No such option" in str(understood(["status", "digits", "--wach"]))
    assert understood(["stauts"]) == "no verb stauts"
    assert "Missing argument" in str(understood(["kill", "digits"]))


# -- make, pytest -----------------------------------------------------------------------------------------


def targets() -> set[str]:
    lines = (ROOT / "Makefile").read_text().splitlines()
    return {m[1] for line in lines if (m := re.match(r"([a-z0-9]+):", line))}


def make_words() -> set[str]:
    """Targets, and variables that the Makefile lets others set, of every `make …` on every page."""
    text = "\n".join((ROOT / page).read_text() for page in PAGES_WITH_COMMANDS)
    found = re.findall(r"(?:`|\$ )make((?: [\w=./:…'\"-]+)+)", text)
    return {word for words in found for word in words.split()}


def test_make_knows_its_targets_and_variables() -> None:
    settable = set(re.findall(r"^([A-Z0-9_]+) \?=", (ROOT / "Makefile").read_text(), re.M)) | {"HELM"}
    for word in make_words():
        name, _, value = word.partition("=")
        assert (name in settable) if value or "=" in word else (word in targets()), f"make {word}"


def test_pytest_knows_its_options() -> None:
    folders = {w for c in of("pytest") for w in called(c)[1:] if w.startswith("tests/")}
    assert folders and all((ROOT / folder).exists() for folder in folders)
    asked = [sys.executable, "-m", "pytest", *sorted(folders), "--help"]
    listed = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    for command in of("pytest"):
        for word in called(command):
            if word.startswith("--"):
                assert re.search(rf"{re.escape(word)}\b", listed), command


# -- helm, kubectl ----------------------------------------------------------------------------------------


def settings(command: Command) -> Iterator[str]:
    """The keys of its `--set`."""
    words = called(command)
    for flag, value in itertools.pairwise(words):
        if flag == "--set":
            yield from (setting.partition("=")[0] for setting in value.split(","))


def known(key: str, values: Mapping[str, Any] = VALUES) -> bool:
    """values.yaml has all values; that the schema has the same is tested elsewhere."""
    name, _, rest = key.partition(".")
    return name in values and (not rest or (isinstance(values[name], Mapping) and known(rest, values[name])))


def test_helm_sets_what_the_chart_has() -> None:
    set_somewhere = {(str(c), key) for c in of("helm") for key in settings(c)}
    assert len({key for _, key in set_somewhere}) >= 3
    assert [found for found in set_somewhere if not known(found[1])] == []
    assert not known("image.tga") and not known("image.tag.more")


MADE_BY_THE_READER = {"night.yaml", "mine/sleighs.yaml", "mine"}


def test_files_and_folders_that_are_named_exist() -> None:
    for command in of("kubectl", "helm", "elf"):
        for word in called(command):
            if re.fullmatch(r"(manifests|charts|docs|tests)(/\S*)?|\S+\.ya?ml", word):
                assert word in MADE_BY_THE_READER or (ROOT / word).exists(), command


def test_kubectl_waits_are_bounded() -> None:
    waits = [c for c in of("kubectl") if called(c)[1] == "wait"]
    assert waits and all(any(w.startswith("--timeout=") for w in called(c)) for c in waits)


def test_patterns_of_excuses_match_whole_commands() -> None:
    assert fnmatchcase("make test ", "make test *") and not fnmatchcase("make testing ", "make test *")
