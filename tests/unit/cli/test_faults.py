"""`--kill mdc/1@round:10`."""

from __future__ import annotations

import pytest

from builders import job, valid
from elf_cli.local.faults import Kill, parse_kills
from elf_worker.contract import Role

SPEC = valid(job(homes={"replicas": 5, "perPod": 2}, rounds=20))

GOOD: dict[str, list[tuple[Role, int, int]]] = {
    "npdc@round:5": [(Role.NPDC, 0, 5)],
    "npdc/0@round:5": [(Role.NPDC, 0, 5)],
    "mdc/1@round:10": [(Role.MDC, 1, 10)],
    "mdc/0@round:0": [(Role.MDC, 0, 0)],
    "mdc/0@round:19": [(Role.MDC, 0, 19)],
    "home/0@round:7": [(Role.HOME, 0, 7)],
    "home/3@round:7": [(Role.HOME, 1, 7)],
    "home/4@round:7": [(Role.HOME, 2, 7)],
    "mdc/1@round:10, npdc@round:5": [(Role.MDC, 1, 10), (Role.NPDC, 0, 5)],
}

BAD = {
    "": "mdc/INDEX@round:N, npdc@round:N or home/INDEX@round:N is expected, such as mdc/1@round:10",
    "mdc": "is expected, such as mdc/1@round:10",
    "mdc/1": "is expected, such as",
    "mdc/1@10": "is expected, such as",
    "mdc/x@round:1": "is expected, such as",
    "mdc/-1@round:1": "is expected, such as",
    "elf/1@round:1": "is expected, such as",
    "mdc/1@round:1 and more": "is expected, such as",
    "mdc/1@round:1,": "is expected, such as",
    "mdc@round:3": "which mdc? Say mdc/INDEX@round:3",
    "home@round:3": "which home? Say home/INDEX@round:3",
    "mdc/2@round:1": "there is no mdc 2, they are numbered 0 to 1",
    "npdc/1@round:1": "there is no npdc 1, they are numbered 0 to 0",
    "home/5@round:1": "there is no home 5, they are numbered 0 to 4",
    "mdc/1@round:20": "training ends after 20 rounds",
}


@pytest.mark.parametrize("text", GOOD)
def test_a_kill_on_request(text: str) -> None:
    kills = parse_kills([text], SPEC)
    assert [(k.role, k.index, k.round) for k in kills] == GOOD[text]
    assert [k.text for k in kills] == [part.strip() for part in text.split(",")]


@pytest.mark.parametrize("text", BAD)
def test_a_kill_that_makes_no_sense(text: str) -> None:
    with pytest.raises(ValueError, match="--kill ") as raised:
        parse_kills(["npdc@round:1", text], SPEC)
    assert BAD[text] in str(raised.value)


def test_kills_come_in_the_order_given() -> None:
    texts = ["mdc/1@round:9,mdc/0@round:3", "npdc@round:1"]
    assert [k.round for k in parse_kills(texts, SPEC)] == [9, 3, 1]
    assert parse_kills([], SPEC) == []
    assert parse_kills(["mdc/1@round:9"], SPEC) == [Kill(Role.MDC, 1, 9, "mdc/1@round:9")]
