"""Events of a job and its pods: which are its own, in which order, as rows. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from elf_operator.observation import parse_time

HEADER = ("LAST SEEN", "TYPE", "REASON", "OBJECT", "COUNT", "MESSAGE")


@dataclass(frozen=True)
class Happening:
    """One Event. Times are as the API writes them."""

    first: str
    last: str
    type: str
    reason: str
    object: str
    count: int
    message: str

    def cells(self) -> list[str]:
        """In the order of HEADER."""
        return [self.last, self.type, self.reason, self.object, str(self.count), self.message]


def of_job(job: Mapping[str, Any], bodies: Iterable[Mapping[str, Any]]) -> list[Happening]:
    """Those of this very job and of its pods, the oldest first; not those of an earlier job of its name."""
    name, born = job["metadata"]["name"], parse_time(job["metadata"].get("creationTimestamp"))
    mine = re.compile(rf"{re.escape(name)}-(npdc-\d+|mdc-\d+-\d+|home-\d+)")
    found = []
    for body in bodies:
        about = body.get("involvedObject") or body.get("regarding") or {}
        itself = about.get("kind") == "ElfTrainingJob" and about.get("uid") == job["metadata"]["uid"]
        pod = about.get("kind") == "Pod" and mine.fullmatch(about.get("name", ""))
        happening = parse(body)
        if itself or (pod and parse_time(happening.last) >= born):
            found.append(happening)
    return sorted(found, key=lambda happening: parse_time(happening.last))


def parse(body: Mapping[str, Any]) -> Happening:
    """From the API's JSON: an Event as the operator and the kubelet write them, or with a series."""
    about = body.get("involvedObject") or body.get("regarding") or {}
    series = body.get("series") or {}
    created = body["metadata"].get("creationTimestamp") or ""
    first = body.get("firstTimestamp") or body.get("eventTime") or created
    return Happening(
        first=first,
        last=series.get("lastObservedTime") or body.get("lastTimestamp") or first,
        type=body.get("type") or "Normal",
        reason=body.get("reason") or "",
        object=f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}",
        count=int(series.get("count") or body.get("count") or 1),
        message=" ".join((body.get("message") or body.get("note") or "").split()),
    )


def as_data(happening: Happening) -> dict[str, Any]:
    """For `-o json`."""
    return {
        "firstSeen": happening.first,
        "lastSeen": happening.last,
        "type": happening.type,
        "reason": happening.reason,
        "object": happening.object,
        "count": happening.count,
        "message": happening.message,
    }
