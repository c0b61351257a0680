"""Lines of several logs as one: whose they are, in which order, in which colour. Pure."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from elf_operator.observation import Pod
from elf_worker.contract import Role

_COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)
_ORDER = {Role.NPDC: 0, Role.MDC: 1, Role.HOME: 2}


_STAMP = re.compile(r"(?P<whole>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(?P<fraction>\d+))?Z(?: |$)")


@dataclass(frozen=True, order=True)
class Line:
    """One line of a container's log. `stamp`: RFC 3339 with all digits: its order is that of time."""

    stamp: str
    pod: str
    text: str


def parse(pod: str, raw: bytes) -> Line:
    """From a log with `timestamps=true`; a line without one comes first."""
    text = raw.decode(errors="replace").rstrip("\r")
    found = _STAMP.match(text)
    if found is None:
        return Line("", pod, text)
    # The server leaves out zeros at the end of the fraction; texts sort as times only with them.
    return Line(f"{found['whole']}.{found['fraction'] or '':0<9}Z", pod, text[found.end() :])


def merged(logs: Iterable[Sequence[Line]]) -> list[Line]:
    """All lines in the order of time; those of one pod stay in their order."""
    return sorted((line for log in logs for line in log), key=lambda line: line.stamp)


def wanted(pods: Iterable[Pod], role: Role | None, index: int | None, per_pod: int) -> list[Pod]:
    """Pods whose logs are asked for, data centers first. For homes `index` is that of the home."""
    found = [
        pod
        for pod in pods
        if (role is None or pod.role is role)
        and (index is None or pod.index == (index // per_pod if pod.role is Role.HOME else index))
    ]
    return sorted(found, key=lambda pod: (_ORDER[pod.role], pod.index, pod.incarnation))


def printed(line: Line, width: int, colours: bool, stamps: bool) -> str:
    """With its pod in front."""
    name = line.pod.ljust(width)
    if colours:
        name = f"\x1b[{colour(line.pod)}m{name}\x1b[0m"
    return f"{name}  {f'{line.stamp} ' if stamps else ''}{line.text}"


def colour(pod: str) -> int:
    """The same for the same pod each time; successors of one place differ."""
    return _COLOURS[zlib.crc32(pod.encode()) % len(_COLOURS)]
