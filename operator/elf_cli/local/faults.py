"""`--kill mdc/1@round:10`: faults on request, to see that they do no harm."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from elf_operator.spec import Spec
from elf_worker.contract import Role

_FORM = re.compile(r"(?P<role>npdc|mdc|home)(?:/(?P<index>\d+))?@round:(?P<round>\d+)")


@dataclass(frozen=True)
class Kill:
    """Kill one pod once this many rounds are done."""

    role: Role
    index: int
    """Index of the pod: for homes, of the pod that holds the home."""
    round: int
    text: str


def parse_kills(texts: Iterable[str], spec: Spec, after: Callable[[int], Spec] | None = None) -> list[Kill]:
    """From `ROLE[/INDEX]@round:N`, several in one text with commas.

    `after` is the spec when so many rounds are done, where that changes. Raises ValueError saying what is
    wrong.
    """
    kills = []
    for text in (part.strip() for whole in texts for part in whole.split(",")):
        match = _FORM.fullmatch(text)
        if match is None:
            raise ValueError(
                f"--kill {text!r}: mdc/INDEX@round:N, npdc@round:N or home/INDEX@round:N is expected, "
                "such as mdc/1@round:10"
            )
        role = Role(match["role"])
        if match["index"] is None and role is not Role.NPDC:
            raise ValueError(f"--kill {text!r}: which {role}? Say {role}/INDEX@round:{match['round']}")
        index, round_ = int(match["index"] or 0), int(match["round"])
        if round_ >= spec.rounds:
            raise ValueError(f"--kill {text!r}: training ends after {spec.rounds} rounds")
        then = after(round_) if after is not None else spec
        count = {Role.NPDC: 1, Role.MDC: then.mdcs, Role.HOME: then.homes}[role]
        if index >= count:
            raise ValueError(
                f"--kill {text!r}: there is no {role} {index}, they are numbered 0 to {count - 1}"
            )
        kills.append(Kill(role, index // spec.per_pod if role is Role.HOME else index, round_, text))
    return kills
