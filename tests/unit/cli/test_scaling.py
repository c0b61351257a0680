"""`--scale homes=16@round:20`."""

from __future__ import annotations

import copy

import pytest

from builders import body, job, valid
from elf_cli.local.faults import parse_kills
from elf_cli.local.scaling import Scale, applied, parse_scales, spec_after

BODY = body(homes={"replicas": 5, "perPod": 2}, rounds=20)

GOOD: dict[str, list[tuple[str, int, int]]] = {
    "homes=16@round:5": [("homes", 16, 5)],
    "homes=2@round:0": [("homes", 2, 0)],
    "mdcs=4@round:19": [("mdcs", 4, 19)],
    "homes=3@round:7, mdcs=1@round:2": [("mdcs", 1, 2), ("homes", 3, 7)],
    "homes=9@round:3,mdcs=9@round:3": [("homes", 9, 3), ("mdcs", 9, 3)],
}

BAD = {
    "": "homes=N@round:N or mdcs=N@round:N is expected, such as homes=16@round:20",
    "homes": "is expected, such as",
    "homes=16": "is expected, such as",
    "homes=16@20": "is expected, such as",
    "homes=-1@round:3": "is expected, such as",
    "home=16@round:3": "is expected, such as",
    "npdc=2@round:3": "is expected, such as",
    "homes=16@round:3,": "is expected, such as",
    "homes=16@round:20": "training ends after 20 rounds",
    "homes=0@round:3": "spec.homes.replicas: is 0, at least 1 is needed",
    "homes=1000001@round:3": "spec.homes.replicas: is 1000001, at most 1000000 is allowed",
    "mdcs=6@round:3": "spec.miniDataCenters.replicas: is 6, at most spec.homes.replicas (5) is allowed",
    "mdcs=4@round:3,homes=3@round:4": "--scale 'homes=3@round:4': spec.miniDataCenters.replicas: is 4",
    "mdcs=6@round:3,homes=6@round:4": "--scale 'mdcs=6@round:3': spec.miniDataCenters.replicas: is 6",
}


@pytest.mark.parametrize("text", GOOD)
def test_scaling_on_request(text: str) -> None:
    scales = parse_scales([text], BODY)
    assert [(s.what, s.count, s.round) for s in scales] == GOOD[text]


@pytest.mark.parametrize("text", BAD)
def test_scaling_that_makes_no_sense(text: str) -> None:
    with pytest.raises(ValueError, match="--scale ") as raised:
        parse_scales(["mdcs=1@round:1", text], BODY)
    assert BAD[text] in str(raised.value)


def test_homes_in_groups_are_not_scaled() -> None:
    robust = body(aggregation={"method": "median"}, homes={"replicas": 12})
    assert parse_scales(["mdcs=3@round:1"], robust)
    with pytest.raises(ValueError, match=r"cannot change while aggregation\.method is median"):
        parse_scales(["homes=16@round:1"], robust)


def test_an_edit_is_a_new_generation_and_the_old_job_stays_as_it_is() -> None:
    before = copy.deepcopy(BODY)
    after = applied(BODY, Scale("homes", 9, 3, ""))
    assert before == BODY
    assert after["spec"]["homes"] == {"replicas": 9, "perPod": 2}
    assert after["metadata"]["generation"] == BODY["metadata"]["generation"] + 1
    bare = {"metadata": {}, "spec": {"task": {}}}
    assert applied(bare, Scale("mdcs", 2, 0, ""))["spec"]["miniDataCenters"] == {"replicas": 2}


def test_a_kill_may_strike_whom_scaling_brings() -> None:
    scales = parse_scales(["homes=9@round:4,mdcs=3@round:8"], BODY)
    spec = valid(job(homes={"replicas": 5, "perPod": 2}, rounds=20))

    def kill(text: str) -> int:
        return parse_kills([text], spec, lambda round_: spec_after(BODY, scales, round_))[0].index

    assert (kill("home/8@round:4"), kill("mdc/2@round:8")) == (4, 2)
    with pytest.raises(ValueError, match="there is no home 8, they are numbered 0 to 4"):
        kill("home/8@round:3")
    with pytest.raises(ValueError, match="there is no mdc 2, they are numbered 0 to 1"):
        kill("mdc/2@round:7")
