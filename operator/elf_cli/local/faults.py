"""`--kill mdc/1@round:10`: faults on request, to see that they do no harm."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from elf_cli import who
from elf_operator.spec import Spec
from elf_worker.contract import Role

_FORM = re.compile(r"(?P<who>(?:npdc|mdc|home)(?:/\d+)?)@round:(?P<round>\d+)")


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
        try:
            kills.append(_parse(text, spec, after))
        except ValueError as error:
            raise ValueError(f"--kill {text!r}: {error}") from None
    return kills


def _parse(text: str, spec: Spec, after: Callable[[int], Spec] | None) -> Kill:
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(who.expected("@round:N"))
    role, number = who.parse(match["who"], f"@round:{match['round']}")
    round_ = int(match["round"])
    if round_ >= spec.rounds:
        raise ValueError(f"training ends after {spec.rounds} rounds")
    return Kill(role, who.slot(role, number, after(round_) if after is not None else spec), round_, text)
