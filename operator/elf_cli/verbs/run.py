"""`elf run FILE`: train a job on this machine, without a cluster."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from elf_cli.files import FileError, read_job
from elf_cli.refusal import refuse
from elf_operator.spec import Job, Spec, parse_job

if TYPE_CHECKING:
    from elf_cli.local.faults import Kill
    from elf_cli.local.runner import Outcome
    from elf_cli.local.scaling import Scale
    from elf_operator.dashboard.gallery import Gallery

EXIT_INTERRUPTED = 130


def run(
    file: Annotated[str, typer.Argument(help="YAML file with one ElfTrainingJob; - for standard input.")],
    kill: Annotated[
        list[str] | None,
        typer.Option(help="Kill a pod when a round is done: mdc/1@round:10, npdc@round:5, home/3@round:7."),
    ] = None,
    scale: Annotated[
        list[str] | None,
        typer.Option(help="Change a number when a round is done: homes=16@round:20, mdcs=4@round:30."),
    ] = None,
    report: Annotated[pathlib.Path | None, typer.Option(help="Write what happened as JSON.")] = None,
    model: Annotated[pathlib.Path | None, typer.Option(help="Write the model as safetensors.")] = None,
    directory: Annotated[
        pathlib.Path | None, typer.Option(help="Logs and state of the run. Default: runs/<time>-<pid>.")
    ] = None,
    plain: Annotated[bool, typer.Option(help="Plain lines even on a terminal.")] = False,
    mtls: Annotated[
        bool, typer.Option("--mtls", help="Encrypt all links and check who is there, as on a cluster.")
    ] = False,
    dashboard: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS:PORT]",
            help="Show the run in a browser while it lasts. Without an address: 127.0.0.1:8080.",
        ),
    ] = None,
) -> None:
    """Train a job on this machine, without a cluster: every pod is a local process.

    Exit status: 0 the job is complete; 1 it failed; 2 the job or a flag is wrong; 130 interrupted.
    """
    body, job, spec = _job(file)
    kills, scales = _rehearsed(body, spec, kill or [], scale or [])
    where = _address(dashboard)
    for path in (report, model):
        _check_folder(path)
    asked = _Request(job, spec, body, kills, scales, report, model, directory, plain, mtls, where)
    sys.exit(asyncio.run(_run(asked)))


def _job(file: str) -> tuple[dict[str, Any], Job, Spec]:
    """What is to be trained, or a refusal."""
    try:
        body = read_job(file)
    except FileError as error:
        refuse(str(error))
    job = parse_job(body)
    if job.spec is None:
        refuse(f"{file}: {'; '.join(job.errors)}")
    if job.spec.suspend:
        refuse(f"{file}: spec.suspend: is true: there is nothing to run")
    return body, job, job.spec


def _rehearsed(
    body: dict[str, Any], spec: Spec, kill: list[str], scale: list[str]
) -> tuple[list[Kill], list[Scale]]:
    """What is to happen on the way, or a refusal."""
    from elf_cli.local.faults import parse_kills
    from elf_cli.local.scaling import parse_scales, spec_after

    try:
        scales = parse_scales(scale, body)
        return parse_kills(kill, spec, lambda round_: spec_after(body, scales, round_)), scales
    except ValueError as error:
        refuse(str(error))


def _address(dashboard: str | None) -> tuple[str, int] | None:
    """Where the page is to be shown, or a refusal."""
    from elf_cli.local.browser import parse_address

    try:
        return parse_address(dashboard) if dashboard is not None else None
    except ValueError as error:
        refuse(str(error))


def _check_folder(path: pathlib.Path | None) -> None:
    """Before an hour of training, not after it."""
    if path is not None and not path.absolute().parent.is_dir():
        refuse(f"{path}: there is no folder {path.absolute().parent}")


@dataclass(frozen=True)
class _Request:
    job: Job
    spec: Spec
    body: dict[str, Any]
    kills: list[Kill]
    scales: list[Scale]
    report: pathlib.Path | None
    model: pathlib.Path | None
    directory: pathlib.Path | None
    plain: bool
    mtls: bool
    dashboard: tuple[str, int] | None


async def _run(asked: _Request) -> int:
    from elf_cli.local import browser

    console = Console()

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    try:
        async with browser.shown(asked.dashboard, say) as gallery:
            return await _train(asked, console, gallery)
    except browser.DashboardError as error:
        refuse(str(error))


async def _train(asked: _Request, console: Console, gallery: Gallery | None) -> int:
    from elf_cli.local import runner, view
    from elf_cli.local.cluster import LocalCluster
    from elf_operator.authority import MASTER_BYTES, Authority
    from elf_operator.builders import Defaults

    directory = (asked.directory or runner.default_directory()).absolute()
    model = str(asked.model.absolute()) if asked.model else None
    cluster = LocalCluster(asked.body, directory, model)
    live = console.is_terminal and not asked.plain
    shown = (view.LiveView if live else view.PlainView)(console, asked.spec)
    defaults = Defaults(authority=Authority(os.urandom(MASTER_BYTES)) if asked.mtls else None)
    work = runner.Runner(asked.job, cluster, shown, asked.kills, asked.scales, gallery, defaults)
    task = asyncio.ensure_future(work.run())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with shown:
        try:
            outcome = await task
        except asyncio.CancelledError:
            shown.say("interrupted; every process has been stopped")
            return EXIT_INTERRUPTED
    if asked.report:
        asked.report.write_text(
            json.dumps(runner.make_report(asked.job, outcome, directory), indent=2) + "\n"
        )
    _conclude(console, directory, outcome)
    return outcome.exit_code


def _conclude(console: Console, directory: pathlib.Path, outcome: Outcome) -> None:
    from elf_cli.local.view import account_table

    if outcome.state != "Complete":
        print(f"elf: {outcome.reason}: {outcome.message}", file=sys.stderr)
        console.print(f"logs: {directory}/logs", highlight=False, soft_wrap=True)
        return
    training = outcome.status["training"]
    if outcome.account.deaths:
        console.print(account_table(outcome.account))
    exact = (
        "every gradient of every home is in it"
        if training["exact"]
        else "not exact: rounds went on without some homes"
    )
    metrics = ", ".join(f"{name} {value}" for name, value in training["metrics"].items())
    for line in (
        f"Complete: {outcome.message}",
        *_population(training),
        metrics,
        f"model {training['modelDigest']} ({exact})",
        *([f"model and report: {output['url']}"] if (output := training.get("output")) else []),
        f"logs: {directory}/logs",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _population(training: Mapping[str, Any]) -> list[str]:
    """How many homes the rounds had, if that changed."""
    changes = [f"{entry['homes']} from round {entry['round']} on" for entry in training.get("population", ())]
    return [f"homes: {', '.join(changes)}"] if len(changes) > 1 else []
