"""`mdc/1`, `npdc`, `home/3`: one data center or home of a job, as people write it."""

from __future__ import annotations

import re

from elf_operator.spec import Spec
from elf_worker.contract import Role

_FORM = re.compile(r"(?P<role>npdc|mdc|home)(?:/(?P<index>\d+))?")


def parse(text: str, suffix: str = "") -> tuple[Role, int]:
    """(role, number), whatever the job has. Raises ValueError saying what is expected.

    `suffix` is what the whole option has behind it, for the message.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(expected(suffix))
    role = Role(match["role"])
    if match["index"] is None and role is not Role.NPDC:
        raise ValueError(f"which {role}? Say {role}/INDEX{suffix}")
    return role, int(match["index"] or 0)


def expected(suffix: str = "") -> str:
    """What may be written."""
    example = suffix.replace("N", "10")
    return f"mdc/INDEX{suffix}, npdc{suffix} or home/INDEX{suffix} is expected, such as mdc/1{example}"


def slot(role: Role, number: int, spec: Spec) -> int:
    """Index of the pod: for homes, of the pod that holds the home. Raises ValueError if there is none."""
    count = {Role.NPDC: 1, Role.MDC: spec.mdcs, Role.HOME: spec.homes}[role]
    if number >= count:
        raise ValueError(f"there is no {role} {number}, they are numbered 0 to {count - 1}")
    return number // spec.per_pod if role is Role.HOME else number
