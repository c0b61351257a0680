"""`elf events JOB`: what happened to a job and its pods."""

from __future__ import annotations

import contextlib
import json
from typing import Annotated

import typer

from elf_cli import output as formats
from elf_cli.cluster.session import Session, run
from elf_cli.cluster.target import Target
from elf_cli.options import Context, Job, Kubeconfig, Namespace, Output
from elf_cli.refusal import EXIT_WRONG, refuse
from elf_cli.views import happenings
from elf_cli.views.happenings import HEADER, Happening
from elf_cli.views.tree_text import columns

WIDTHS = (24, 7, 20, 36, 5)
"""Of the columns while lines come one by one: nobody knows how long the next one is."""


def events(
    job: Job,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with those that come.")] = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = None,
) -> None:
    """What happened to a job and its pods, the oldest first.

    With -f and -o json: one line of JSON an event. Exit status: 0, also if nothing happened; 1 there is no
    such job.
    """
    formats.check(output)
    if follow and output == "yaml":
        refuse("--follow and -o yaml: give one of them, or -o json", EXIT_WRONG)
    target = Target(namespace, context, kubeconfig)
    if follow:
        run(target, lambda session: _follow(session, job, output))
        return
    found = run(target, lambda session: look(session, job))
    if output:
        print(formats.as_text([happenings.as_data(happening) for happening in found], output))
    elif found:
        print("\n".join(columns([HEADER, *(happening.cells() for happening in found)])))
    else:
        print(f"{job}: no events; Kubernetes forgets them after an hour")


async def look(session: Session, name: str) -> list[Happening]:
    """All there are."""
    job = await session.job(name)
    bodies, _ = await session.items(session.core_path("events"))
    return happenings.of_job(job, bodies)


async def _follow(session: Session, name: str, output: str | None) -> None:
    """Those that are there, then those that come; an event that happens again is a line again."""
    job = await session.job(name)
    said: set[Happening] = set()
    async with contextlib.aclosing(session.changes(session.core_path("events"))) as changes:
        async for kind, found in changes:
            if kind == "DELETED":
                continue
            for happening in happenings.of_job(job, found if kind == "LIST" else [found]):
                if happening not in said:
                    said.add(happening)
                    _say(happening, output)


def _say(happening: Happening, output: str | None) -> None:
    if output:
        print(json.dumps(happenings.as_data(happening)), flush=True)
        return
    *cells, message = happening.cells()
    padded = [cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)]
    print("   ".join([*padded, message]), flush=True)
