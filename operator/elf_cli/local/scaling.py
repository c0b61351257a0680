"""`--scale homes=16@round:20`: another number of homes or MDCs while the job runs."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elf_operator.spec import Job, Spec, parse_job, refusals

_FORM = re.compile(r"(?P<what>homes|mdcs)=(?P<count>\d{1,9})@round:(?P<round>\d{1,9})")
_PARTS = {"homes": "homes", "mdcs": "miniDataCenters"}


@dataclass(frozen=True)
class Scale:
    """An edit of the job once this many rounds are done."""

    what: str
    """homes or mdcs."""
    count: int
    round: int
    text: str


def parse_scales(texts: Iterable[str], body: Mapping[str, Any]) -> list[Scale]:
    """From `homes=N@round:N` or `mdcs=N@round:N`, several in one text with commas; in order of their rounds.

    Raises ValueError saying what is wrong, also when the job would not be valid after one of them.
    """
    scales = sorted((_parse(text.strip()) for whole in texts for text in whole.split(",")), key=_round)
    first = _valid(parse_job(body))
    edited = dict(body)
    for scale in scales:
        if scale.round >= first.rounds:
            raise ValueError(f"--scale {scale.text!r}: training ends after {first.rounds} rounds")
        edited = applied(edited, scale)
        job = parse_job(edited)
        if found := job.errors or refusals(parse_job(body).recipe, job.recipe):
            raise ValueError(f"--scale {scale.text!r}: {'; '.join(found)}")
    return scales


def applied(body: Mapping[str, Any], scale: Scale) -> dict[str, Any]:
    """The job as edited, of the next generation; `body` stays as it is."""
    out = copy.deepcopy(dict(body))
    part = out["spec"].get(_PARTS[scale.what]) or {}
    out["spec"][_PARTS[scale.what]] = {**part, "replicas": scale.count}
    out["metadata"]["generation"] = out["metadata"].get("generation", 1) + 1
    return out


def spec_after(body: Mapping[str, Any], scales: Sequence[Scale], round_: int) -> Spec:
    """The spec when so many rounds are done."""
    out = dict(body)
    for scale in scales:
        if scale.round <= round_:
            out = applied(out, scale)
    return _valid(parse_job(out))


def _parse(text: str) -> Scale:
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(
            f"--scale {text!r}: homes=N@round:N or mdcs=N@round:N is expected, such as homes=16@round:20"
        )
    return Scale(match["what"], int(match["count"]), int(match["round"]), text)


def _round(scale: Scale) -> int:
    return scale.round


def _valid(job: Job) -> Spec:
    if job.spec is None:
        raise ValueError("; ".join(job.errors))
    return job.spec
