"""`elf status [JOB]`: how jobs are, once or live."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from elf_cli import output as formats
from elf_cli.cluster import completion, watching
from elf_cli.cluster.session import Session, run
from elf_cli.cluster.target import Target
from elf_cli.options import Context, Kubeconfig, Namespace, Output
from elf_cli.refusal import EXIT_WRONG, refuse
from elf_cli.views import tree, tree_text
from elf_cli.views.tree_text import Line
from elf_operator import names
from elf_operator.apiserver import ApiError
from elf_operator.observation import parse_pod
from elf_worker.contract import Wiring


def status(
    job: Annotated[
        str | None,
        typer.Argument(
            help="Name of a job on the cluster. Default: a table of all jobs.",
            autocompletion=completion.complete_job,
        ),
    ] = None,
    everywhere: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="The jobs of all namespaces.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on showing it, until the job ends.")
    ] = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = None,
) -> None:
    """How jobs are; with JOB: its NPDC, MDCs and homes, as a tree.

    Exit status: 0, however the job is; 1 there is no such job; 2 the options make no sense.
    """
    formats.check(output)
    if watch and output:
        refuse("--watch and --output: give one of them", EXIT_WRONG)
    if everywhere and (job or namespace):
        refuse("--all-namespaces shows a table of all jobs: give neither JOB nor --namespace", EXIT_WRONG)
    target = Target(namespace, context, kubeconfig)
    if watch:
        run(target, lambda session: watching.watch(session, job, everywhere))
    elif job:
        view = run(target, lambda session: look(session, job))
        if output:
            print(formats.as_text(tree_text.as_data(view), output))
        else:
            _show(tree_text.lines(view))
    else:
        bodies, where = run(target, lambda session: _jobs(session, everywhere))
        _show_jobs(bodies, where, everywhere, output)


async def look(session: Session, name: str) -> tree.JobView:
    """One job, as it is now."""
    body, (pods, _), wiring = await asyncio.gather(
        session.job(name),
        session.items(session.core_path("pods"), {"labelSelector": names.selector(name)}),
        _wiring(session, name),
    )
    seen = [pod for found in pods if (pod := parse_pod(found)) is not None]
    return tree.look(body, seen, wiring, time.time())


async def _wiring(session: Session, name: str) -> Wiring | None:
    """None where there is none, or without the right to read it."""
    try:
        found = await session.api.get(f"{session.core_path('configmaps')}/{names.wiring(name)}")
    except ApiError as error:
        if error.status != 403:
            raise
        return None
    return watching.parse_wiring(found)


async def _jobs(session: Session, everywhere: bool) -> tuple[list[dict[str, Any]], str]:
    """(all jobs, the namespace that was looked in)."""
    found, _ = await session.items(session.jobs_path(everywhere))
    return found, session.namespace


def _show_jobs(bodies: list[dict[str, Any]], where: str, everywhere: bool, output: str | None) -> None:
    bodies.sort(key=lambda body: (body["metadata"]["namespace"], body["metadata"]["name"]))
    if output:
        print(
            formats.as_text(
                [tree_text.as_data(tree.look(body, (), None, time.time())) for body in bodies], output
            )
        )
    elif bodies:
        print("\n".join(tree_text.table(bodies, time.time(), everywhere)))
    else:
        print(f"no jobs in {'any namespace' if everywhere else f'namespace {where}'}")


def _show(lines: list[Line]) -> None:
    console = Console(highlight=False)
    for text, style in lines:
        console.print(Text(text, style=style), soft_wrap=True)
