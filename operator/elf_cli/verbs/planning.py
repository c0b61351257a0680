"""`elf plan FILE|JOB`: what the operator would do now, and why, without doing it."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import time
from dataclasses import replace
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from elf_cli import output as formats
from elf_cli.cluster import completion
from elf_cli.cluster.target import Target
from elf_cli.files import FileError, read_job
from elf_cli.options import Context, Kubeconfig, Namespace, Output
from elf_cli.refusal import EXIT_NOTHING, EXIT_WRONG, TroubleError, refuse
from elf_operator.assignment import zones_of
from elf_operator.builders import Defaults
from elf_operator.observation import Observation
from elf_operator.planner import plan
from elf_operator.plans import Plan
from elf_operator.rebalance import Zones, rebalance_units
from elf_operator.spec import parse_job
from elf_worker.contract import WIRING_KEY, Wiring, format_ids


def show_plan(
    job: Annotated[
        str,
        typer.Argument(
            help="YAML file of a job that does not run yet, or name of a job on the cluster.",
            autocompletion=completion.complete_job,
        ),
    ],
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = None,
) -> None:
    """What the operator would do now, and why, without doing it.

    Exit status: 0 also when there is much to do; 1 there is no such job; 2 the job is wrong.
    """
    formats.check(output)
    target = Target(namespace, context, kubeconfig)
    seen = _of_file(job) if pathlib.Path(job).is_file() or job == "-" else _of_job(job, target)
    if seen.job.spec is None:
        refuse(f"{job}: {'; '.join(seen.job.errors)}", EXIT_WRONG)
    if seen.wiring is not None:  # who vouches for pods is not ours to know, and moves none of them
        seen = replace(seen, wiring=replace(seen.wiring, authority=""))
    decided = plan(seen, time.time(), Defaults())
    if output:
        print(formats.as_text(_as_data(decided), output))
    else:
        _print(seen, decided)


def _of_file(path: str) -> Observation:
    try:
        return Observation(job=parse_job(read_job(path)))
    except FileError as error:
        refuse(str(error), EXIT_WRONG)


def _of_job(name: str, target: Target) -> Observation:
    from elf_cli.cluster.session import Session, connect
    from elf_operator import apiserver, kube
    from elf_operator.watchmen import Nodes, Pulse

    async def look(session: Session) -> Observation | None:
        await session.job(name)  # says what there is instead, if there is none
        nodes = Nodes(time.monotonic)
        with contextlib.suppress(apiserver.ApiError):  # without the right to see nodes: as if without zones
            for node in (await session.items("api/v1/nodes"))[0]:
                nodes.note(None, node)
        return await kube.KubeCluster(session.api, Pulse(time.monotonic), nodes).observe(
            session.namespace, name
        )

    async def whole() -> Observation | None:
        async with connect(target) as session:
            return await look(session)

    try:
        seen = asyncio.run(whole())
    except TroubleError as error:
        refuse(f"{name}: is no file; {error}", error.status)
    if seen is None:
        refuse(f"{name}: the ElfTrainingJob of this name is being deleted", EXIT_NOTHING)
    return seen


def _as_data(decided: Plan) -> dict[str, Any]:
    return {
        "delete": [{"pod": d.name, "reason": d.reason} for d in decided.delete],
        "create": [{"pod": c.name, "reason": c.reason} for c in decided.create],
        "apply": [f"{kind}/{name}" for kind, name in _applied(decided)],
        "remove": [f"{kind}/{name}" for kind, name in decided.remove],
        "assignment": {str(i): format_ids(homes) for i, homes in sorted(_assignment(decided).items())},
        "events": [{"type": e.type, "reason": e.reason, "message": e.message} for e in decided.events],
        "state": decided.status["state"],
        "lookAgainAfterSeconds": decided.again_after,
    }


def _applied(decided: Plan) -> list[tuple[str, str]]:
    """(kind, name)."""
    objects = [(m["kind"], m["metadata"]["name"]) for m in decided.apply]
    return objects + [("Secret", issue.name) for issue in decided.issue]


def _assignment(decided: Plan) -> dict[int, frozenset[int]]:
    """Homes of each MDC as the plan would wire them; nothing if it leaves the wiring alone."""
    for manifest in decided.apply:
        if manifest["kind"] == "ConfigMap":
            wiring = Wiring.from_json(manifest["data"][WIRING_KEY])
            return {index: slot.homes for index, slot in wiring.mdcs.items()}
    return {}


def _print(seen: Observation, decided: Plan) -> None:
    console = Console(highlight=False)
    before = {i: slot.homes for i, slot in seen.wiring.mdcs.items()} if seen.wiring else {}
    zones = zones_of(seen, seen.job.spec) if seen.job.spec is not None else Zones()
    table = Table(title=f"{seen.job.name}: would be {decided.status['state']}")
    for column in ("", "what", "why"):
        table.add_column(column, overflow="fold")
    for delete in decided.delete:
        table.add_row("delete", delete.name, delete.reason)
    for create in decided.create:
        table.add_row("create", create.name, create.reason)
    for kind, name in _applied(decided):
        table.add_row("apply", f"{kind} {name}", "")
    for index, homes in sorted(_assignment(decided).items()):
        came = homes - before.get(index, frozenset())
        table.add_row("wire", _served(index, homes, zones), f"{len(came)} of them new")
    for kind, name in decided.remove:
        table.add_row("remove", f"{kind} {name}", "")
    for event in decided.events:
        table.add_row("event", event.reason, event.message)
    if decided.idle:
        console.print(f"{seen.job.name}: nothing to do; {decided.status['state']}")
    else:
        console.print(table)
    if seen.job.spec is not None and decided.status["state"] in ("Pending", "Running", "Degraded"):
        spec = seen.job.spec
        now = _assignment(decided) or before
        final = rebalance_units(now, range(spec.mdcs), spec.units, spec.mdc_capacity, zones)
        parts = [_served(index, homes, zones) for index, homes in sorted(final.items())]
        console.print("once every MDC serves: " + "; ".join(parts))


def _served(index: int, homes: frozenset[int], zones: Zones) -> str:
    said = f"mdc {index}: homes {format_ids(homes) or 'none'}"
    if not homes or index not in zones.mdcs:
        return said
    return f"{said} ({sum(zones.near(home, index) for home in homes)} of its zone, {zones.mdcs[index]})"
