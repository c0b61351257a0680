"""What the operator logs as JSON."""

from __future__ import annotations

import json
import logging
import queue

import pytest

from elf_operator import logs


def test_a_record_that_holds_what_is_no_json_is_logged_all_the_same() -> None:
    """kopf gives its records the whole of its settings."""
    record = logging.makeLogRecord({"msg": "Handler %r succeeded.", "args": ("it",), "levelname": "DEBUG"})
    record.settings, record.thing = queue.SimpleQueue(), queue.SimpleQueue()
    said = json.loads(logs._json().format(record))
    assert said["message"] == "Handler 'it' succeeded." and said["levelname"] == "DEBUG"
    assert "SimpleQueue" in said["thing"] and "settings" not in said


@pytest.mark.parametrize("name", ["kopf.objects", "elf_operator"])
def test_only_kopfs_own_errors_that_pass_are_warnings(name: str) -> None:
    record = logging.makeLogRecord({"name": name, "levelno": logging.ERROR, "msg": "Request: will retry"})
    assert logs.demote_retries(record)
    assert (record.levelno == logging.WARNING) == name.startswith("kopf")
