"""The `elf` command: one verb a file, which is imported only when it is its turn."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from elf_cli.local.browser import with_default

HERE, THERE, BOTH = "On this machine", "On a cluster", "Figures, of a run here or a job on a cluster"


@dataclass(frozen=True)
class Verb:
    """Where a verb is, and its first line of help, so that `elf --help` need not import it."""

    place: str
    """module:function, within `elf_cli.verbs`."""
    panel: str
    help: str


VERBS = {
    "run": Verb(
        "run:run", HERE, "Train a job on this machine, without a cluster: every pod is a local process."
    ),
    "plan": Verb("planning:show_plan", BOTH, "What the operator would do now, and why, without doing it."),
    "status": Verb("status:status", THERE, "How jobs are; with JOB: its NPDC, MDCs and homes, as a tree."),
    "events": Verb("events:events", THERE, "What happened to a job and its pods, the oldest first."),
    "logs": Verb("logs:logs", THERE, "Logs of a job's pods as one, also of pods that come later (-f)."),
    "kill": Verb("kill:kill", THERE, "Rehearse a fault: kill one data center or home, now."),
    "suspend": Verb("suspending:suspend", THERE, "Stop a job for now: no pods, its state is kept."),
    "resume": Verb("suspending:resume", THERE, "Let a suspended job go on."),
    "model": Verb("model:model", THERE, "Fetch the trained model of a job, and check its SHA-256."),
    "stats": Verb("look:stats", BOTH, "Statistics of the last round (or of all together), and of each MDC."),
    "homes": Verb(
        "look:homes",
        BOTH,
        "How many homes had a loss between two values in the last round, and who some of them are.",
    ),
    "trace": Verb(
        "look:trace",
        BOTH,
        "What the slowest home of a round, its MDC and the NPDC did, and how long each step took.",
    ),
    "plot": Verb(
        "plot:plot",
        HERE,
        "Draw loss, metrics, round times with faults marked, and homes per MDC over the rounds.",
    ),
    "check-statistic": Verb(
        "check:check_statistic", HERE, "Test the laws of a statistic with random observations."
    ),
}


def load(name: str) -> Any:
    """The command itself."""
    module, function = VERBS[name].place.split(":")
    one = typer.Typer(add_completion=False)
    one.command(name)(getattr(importlib.import_module(f"elf_cli.verbs.{module}"), function))
    return typer.main.get_command(one)


class _Verbs(TyperGroup):
    """Lists verbs by the table above, and imports the one that is to run."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in VERBS:
            return None
        verb = VERBS[cmd_name]
        return TyperCommand(cmd_name, help=verb.help, rich_help_panel=verb.panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, found, rest = super().resolve_command(ctx, args)
        return name, load(name) if name is not None and found is not None else found, rest


app = typer.Typer(
    name="elf",
    cls=_Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train over many unreliable workers, with or without a Kubernetes cluster.",
)


@app.callback()
def _root() -> None:
    """Train over many unreliable workers, with or without a Kubernetes cluster."""


def main() -> None:
    """Entry point of `elf` and `kubectl elf`."""
    app(with_default(sys.argv[1:]))
