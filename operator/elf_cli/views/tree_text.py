"""What `elf status` prints: rows of the table, lines of the tree, the same as data. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from elf_cli.views.ages import age
from elf_cli.views.pod_states import Health, Homes
from elf_cli.views.tree import Center, JobView
from elf_operator.observation import parse_time
from elf_worker.contract import Role

Line = tuple[str, str]
"""(text, style of rich)."""
HEADER = ("NAME", "STATE", "ROUND", "LOSS", "METRIC", "HOMES", "MDCS", "REPLACED", "ROUNDS/S", "AGE")
_DOTS = {
    Health.SERVES: ("●", "green"),
    Health.STARTS: ("○", "yellow"),
    Health.WAITS: ("○", "yellow"),
    Health.SILENT: ("◐", "yellow"),
    Health.LEAVES: ("✗", "dim"),
    Health.ENDED: ("✗", "dim"),
    Health.MISSING: ("○", "red"),
}
_STATES = {
    "Running": "green",
    "Complete": "green",
    "Degraded": "yellow",
    "Pending": "yellow",
    "Suspended": "cyan",
    "Failed": "red",
}


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with columns below each other, as kubectl prints them: nothing is cut."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    return [
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def row(body: Mapping[str, Any], now: float, with_namespace: bool) -> list[str]:
    """One job in the table of jobs."""
    status, meta = body.get("status") or {}, body["metadata"]
    training = status.get("training") or {}
    stopped = bool(status.get("completionTime")) or status.get("state") == "Suspended"
    cells = [
        meta["name"],
        status.get("state", "Pending"),
        f"{training.get('round', 0)}/{body['spec'].get('rounds', '?')}",
        training.get("loss", "-"),
        training.get("metric", "-"),
        (status.get("homes") or {}).get("summary", "-"),
        (status.get("miniDataCenters") or {}).get("summary", "-"),
        str(status.get("replaced", 0)),
        "-" if stopped else training.get("roundsPerSecond", "-"),
        age(now - parse_time(meta.get("creationTimestamp"))),
    ]
    return [meta["namespace"], *map(str, cells)] if with_namespace else list(map(str, cells))


def table(bodies: Iterable[Mapping[str, Any]], now: float, with_namespace: bool) -> list[str]:
    """The table of jobs."""
    header = ["NAMESPACE", *HEADER] if with_namespace else list(HEADER)
    return columns([header, *(row(body, now, with_namespace) for body in bodies)])


def headline(view: JobView) -> str:
    """One line: state, round, figures, counts."""
    rate = view.figures.get("roundsPerSecond")
    parts = (
        view.name,
        view.state,
        f"round {view.round} of {view.rounds}",
        f"{rate} rounds/s" if rate else "",
        f"loss {view.figures['loss']}" if "loss" in view.figures else "",
        view.figures.get("metric", ""),
        *counts(view),
        f"age {age(view.age)}",
    )
    return "  ".join(filter(None, parts))


def counts(view: JobView) -> tuple[str, str, str]:
    """Of homes, of MDCs, of replacements."""
    return f"homes {view.homes}", f"MDCs {view.mdcs}", f"replaced {view.replaced}"


def lines(view: JobView) -> list[Line]:
    """The job, its tree, and what was replaced last."""
    out: list[Line] = [(headline(view), _STATES.get(view.state, ""))]
    if view.note:
        out.append((f"  {view.note}", "green"))
    if digest := view.figures.get("modelDigest"):
        out.append((f"  model {digest}", ""))
    for found in view.troubles:
        text = f"  {', '.join(found.conditions)} for {age(found.since)}: {found.reason}: {found.message}"
        out.append((text, "yellow"))
    out.append(("", ""))
    out += _tree(view)
    if view.statistics:
        out.append(("", ""))
        out += [(f"{name}: {words}", "dim") for name, words in view.statistics.items()]
    if view.losses:
        rows = [[f"  {age(x.ago)} ago", x.pod, x.reason, _healed(x.recovery), x.message] for x in view.losses]
        out += [("", ""), ("last replacements", "bold"), *((line, "") for line in columns(rows))]
    return out


def _healed(seconds: float | None) -> str:
    return "not healed yet" if seconds is None else f"healed in {seconds:.1f} s"


def _tree(view: JobView) -> Iterator[Line]:
    centers = list(_centers(view))
    last = centers[-1] if centers and not view.others.count else None
    branches = ["" if c is view.npdc else "└─ " if c is last else "├─ " for c in centers]
    texts = columns([_cells(center, branch) for center, branch in zip(centers, branches, strict=True)])
    for center, text in zip(centers, texts, strict=True):
        yield text, _DOTS[center.health][1]
        yield from _homes(center.homes, " " if center is last else "│")
    if view.others.count:
        what = "homes without an MDC" if view.wired else "homes (who serves them is not known)"
        yield f"└─ {view.others.count} {what}: {view.others.well} ready", "yellow" if view.wired else "dim"
        yield from _names(view.others, " ")


def _cells(center: Center, branch: str) -> list[str]:
    seen = center.phase and f"{center.phase}{', ready' if center.ready else ', not ready'}"
    return [
        f"{branch}{_DOTS[center.health][0]} {_title(center)}",
        center.pod or "-",
        str(seen),
        center.node,
        age(center.age) if center.age is not None else "",
        f"incarnation {center.incarnation}, replaced {center.replaced}",
        _state(center),
    ]


def _title(center: Center) -> str:
    return "NPDC" if center.role is Role.NPDC else f"MDC {center.index}"


def _state(center: Center) -> str:
    return f"{center.health}: {center.why}" if center.why else str(center.health)


def _homes(homes: Homes, guide: str) -> Iterator[Line]:
    if homes.count:
        ill = homes.count - homes.well
        yield f"{guide}     {homes.count} homes: {homes.well} ready" + (f", {ill} not" if ill else ""), "dim"
        yield from _names(homes, guide)


def _names(homes: Homes, guide: str) -> Iterator[Line]:
    for name in homes.ill:
        yield f"{guide}       {name}", "yellow"
    if homes.ill_pods > len(homes.ill):
        yield f"{guide}       and {homes.ill_pods - len(homes.ill)} more pods", "yellow"


def as_data(view: JobView) -> dict[str, Any]:
    """What `-o json` prints: the same facts, in the names of the status."""
    return {
        "namespace": view.namespace,
        "name": view.name,
        "state": view.state,
        "ageSeconds": round(view.age),
        "round": view.round,
        "rounds": view.rounds,
        **view.figures,
        "homes": view.homes,
        "miniDataCenters": view.mdcs,
        "replaced": view.replaced,
        "message": view.note,
        "troubles": [
            {
                "conditions": list(found.conditions),
                "reason": found.reason,
                "message": found.message,
                "forSeconds": round(found.since),
            }
            for found in view.troubles
        ],
        "tree": {
            **(_center_data(view.npdc) if view.npdc else {}),
            "mdcs": [_center_data(c) | {"homes": _homes_data(c.homes)} for c in view.centers],
        },
        "homesWithoutMdc" if view.wired else "homesOfUnknownMdc": _homes_data(view.others),
        "lastReplacements": [
            {
                "pod": lost.pod,
                "reason": lost.reason,
                "message": lost.message,
                "agoSeconds": round(lost.ago),
                "recoverySeconds": lost.recovery,
            }
            for lost in view.losses
        ],
        "statistics": dict(view.statistics),
    }


def _center_data(center: Center) -> dict[str, Any]:
    return {
        "role": str(center.role),
        "index": center.index,
        "incarnation": center.incarnation,
        "health": str(center.health),
        "why": center.why,
        "pod": center.pod,
        "phase": center.phase,
        "ready": center.ready,
        "node": center.node,
        "ageSeconds": None if center.age is None else round(center.age),
        "replaced": center.replaced,
    }


def _homes_data(homes: Homes) -> dict[str, Any]:
    return {
        "count": homes.count,
        "ready": homes.well,
        "notReady": list(homes.ill),
        "notReadyPods": homes.ill_pods,
    }


def changes(before: JobView | None, after: JobView) -> list[str]:
    """For a pipe: lines when something but the round and the figures has changed."""
    out = []
    if before is None or _summary(before) != _summary(after):
        out.append(headline(after))
    if before is not None:
        held = {_place(center) for center in _centers(before)}
        for center in _centers(after):
            if _place(center) not in held:
                out.append(f"{_title(center)}: {' '.join(filter(None, (center.pod, _state(center))))}")
    said = set() if before is None else {t.message for t in before.troubles}
    for found in after.troubles:
        if found.message not in said:
            out.append(f"{', '.join(found.conditions)}: {found.reason}: {found.message}")
    known = {x.pod: x.recovery for x in (before or after).losses}
    for lost in after.losses:
        if lost.pod not in known:
            out.append(f"{lost.pod} was replaced: {lost.reason}: {lost.message}")
        if lost.recovery is not None and lost.pod in known and known[lost.pod] is None:
            out.append(f"{lost.pod}: {_healed(lost.recovery)}")
    return out


def _summary(view: JobView) -> tuple[object, ...]:
    return (view.state, counts(view), view.note)


def _centers(view: JobView) -> Iterator[Center]:
    yield from [view.npdc] if view.npdc else []
    yield from view.centers


def _place(center: Center) -> tuple[object, ...]:
    return (center.role, center.index, center.pod, center.health)
