"""Where the model lands: on any file system, the report last, and a sentence when it cannot be."""

from __future__ import annotations

import itertools
import json
import pathlib

import fsspec
import pytest

from elf_worker.roles import delivery
from elf_worker.roles.delivery import DeliveryError

CONTENTS = {delivery.MODEL_FILE: b"weights", delivery.REPORT_FILE: b"{}"}


@pytest.mark.parametrize("end", ["", "/"])
def test_a_folder_is_made_and_written(tmp_path: pathlib.Path, end: str) -> None:
    delivery.write(f"file://{tmp_path}/a/b{end}", CONTENTS)
    assert {p.name: p.read_bytes() for p in (tmp_path / "a" / "b").iterdir()} == CONTENTS


@pytest.mark.parametrize("end", ["", "/"])
def test_any_other_file_system_will_do(end: str) -> None:
    delivery.write(f"memory://night{end}", CONTENTS)
    system = fsspec.filesystem("memory")
    assert {name: system.cat(f"/night/{name}") for name in CONTENTS} == CONTENTS


def test_what_was_there_is_replaced(tmp_path: pathlib.Path) -> None:
    for contents in ({"a": b"old, and longer"}, {"a": b"new"}):
        delivery.write(tmp_path.as_uri(), contents)
    assert (tmp_path / "a").read_bytes() == b"new"


def test_what_comes_after_a_failure_is_not_written(tmp_path: pathlib.Path) -> None:
    (tmp_path / delivery.MODEL_FILE).mkdir()
    with pytest.raises(DeliveryError):
        delivery.write(tmp_path.as_uri(), CONTENTS)
    assert not (tmp_path / delivery.REPORT_FILE).exists(), "the report says that the model is there"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("file:///proc/nobody", r"^file:///proc/nobody: \w*Error: .*/proc/nobody"),
        ("north://pole", r"^north://pole: ValueError: Protocol not known: north"),
    ],
)
def test_a_failure_names_the_folder_and_the_reason(url: str, sentence: str) -> None:
    with pytest.raises(DeliveryError, match=sentence):
        delivery.write(url, CONTENTS)


def test_attempts_come_less_and_less_often_but_never_end() -> None:
    waits = list(itertools.islice(delivery.waits(), 50))
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (delivery.FIRST_WAIT_SECONDS, delivery.LONGEST_WAIT_SECONDS)


def test_a_report_is_json_of_all_that_is_known() -> None:
    found = json.loads(delivery.report("night", "uid", {"round": 3}, {"lastRound": {}}))
    assert found == {"job": "night", "uid": "uid", "training": {"round": 3}, "statistics": {"lastRound": {}}}
