"""Which lines of an operator's log have a cause that a test makes."""

from __future__ import annotations

import json

import pytest

from e2e.operator_log import unexplained


def record(level: str, logger: str, message: str) -> str:
    return json.dumps({"levelname": level, "name": logger, "message": message, "timestamp": "now"})


KNOWN = [
    record("INFO", "elf_operator.reconcile", "digits: creating digits-npdc-0: first start"),
    record("INFO", "elf_operator.workqueue", "a/b: HTTP 409 the spec has been edited meanwhile: ; again"),
    record("WARNING", "elf_operator.workqueue", "a/b: ClientConnectorError Cannot connect; again in 0.4 s"),
    record("WARNING", "elf_operator.workqueue", "a/b: HTTP 503 Service Unavailable: ; again in 0.4 s"),
    record(
        "WARNING", "elf_operator.workqueue", "a/b: RefusedError Pod b-home-0: unknown field; again in 1 s"
    ),
    record("WARNING", "kopf._cogs.clients.api", "Request attempt 3 failed; will retry: GET /api/v1/nodes"),
    record(
        "WARNING",
        "elf_operator.workqueue",
        "a/b: HTTP 403 Forbidden: User system:serviceaccount:elf-e2e-release-1:elf; again in 0.6 s",
    ),
    "",
]
UNKNOWN = [
    record("WARNING", "elf_operator.workqueue", "a/b: HTTP 409 Conflict: has been modified; again in 0.9 s"),
    record("WARNING", "elf_operator.workqueue", "a/b: HTTP 403 Forbidden: no; again in 0.4 s"),
    record(
        "WARNING", "elf_operator.workqueue", "a/b: StaleViewError generation 1, wiring 5 are shown; again"
    ),
    record("WARNING", "elf_operatorish", "leader election: TimeoutError"),
    record("ERROR", "elf_operator.workqueue", "a/b: the plan failed"),
    record("ERROR", "asyncio", "Unclosed client session"),
    "Traceback (most recent call last):",
    "[1, 2]",
    '{"message": "of nobody"}',
]


@pytest.mark.parametrize("line", KNOWN)
def test_what_is_no_trouble_or_has_a_cause_is_passed_over(line: str) -> None:
    assert not list(unexplained([line]))


def test_whatever_else_there_is_is_found() -> None:
    mixed = [line for pair in zip(UNKNOWN, [*KNOWN, *KNOWN], strict=False) for line in pair]
    assert list(unexplained(mixed)) == UNKNOWN
