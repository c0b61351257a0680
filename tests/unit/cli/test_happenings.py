"""Events of a job and its pods."""

from __future__ import annotations

from typing import Any

import pytest

from builders import NOW, body
from elf_cli.views import happenings
from elf_operator.status import rfc3339, rfc3339_micro


def event(kind: str, name: str, at: float, **fields: Any) -> dict[str, Any]:
    about = {"kind": kind, "name": name, "uid": "uid-of-sleigh" if kind == "ElfTrainingJob" else "p"}
    usual = {"reason": "Why", "message": f"{name} at {at - NOW:g}", "type": "Warning", "count": 1}
    times = {"firstTimestamp": rfc3339(at), "lastTimestamp": rfc3339(at)}
    return {"metadata": {"name": "e"}, "involvedObject": about, **usual, **times, **fields}


def job() -> dict[str, Any]:
    made = body()
    made["metadata"]["creationTimestamp"] = rfc3339(NOW)
    return made


def test_those_of_the_job_and_its_pods_the_oldest_first() -> None:
    found = happenings.of_job(
        job(),
        [
            event("Pod", "sleigh-mdc-1-0", NOW + 30),
            event("ElfTrainingJob", "sleigh", NOW + 10),
            event("Pod", "sleigh-home-3", NOW + 20),
            event("Pod", "sleigh-npdc-2", NOW + 5),
        ],
    )
    assert [h.object for h in found] == [
        "pod/sleigh-npdc-2",
        "elftrainingjob/sleigh",
        "pod/sleigh-home-3",
        "pod/sleigh-mdc-1-0",
    ]
    assert found[0].cells() == [
        rfc3339(NOW + 5),
        "Warning",
        "Why",
        "pod/sleigh-npdc-2",
        "1",
        "sleigh-npdc-2 at 5",
    ]


@pytest.mark.parametrize(
    "other",
    [
        event("Pod", "sleigh-2-mdc-1-0", NOW + 1),
        event("Pod", "sleigh-mdc-1-0-x", NOW + 1),
        event("Pod", "sleigh-wiring", NOW + 1),
        event("Service", "sleigh-npdc-0", NOW + 1),
        event("Pod", "sleigh-mdc-1-0", NOW - 1),  # of an earlier job of this name
        {
            **event("ElfTrainingJob", "sleigh", NOW + 1),
            "involvedObject": {"kind": "ElfTrainingJob", "uid": "old"},
        },
    ],
)
def test_those_of_others_are_left_out(other: dict[str, Any]) -> None:
    assert happenings.of_job(job(), [other]) == []


def test_an_event_with_a_series_and_no_old_times() -> None:
    raw = event("Pod", "sleigh-npdc-0", NOW, firstTimestamp=None, lastTimestamp=None, count=None)
    raw["eventTime"] = rfc3339_micro(NOW + 1)
    assert happenings.parse(raw).last == rfc3339_micro(NOW + 1)
    raw["series"] = {"count": 7, "lastObservedTime": rfc3339_micro(NOW + 9)}
    found = happenings.parse(raw)
    assert (found.count, found.last, found.first) == (7, rfc3339_micro(NOW + 9), rfc3339_micro(NOW + 1))
