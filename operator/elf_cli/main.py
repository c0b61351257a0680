"""The `elf` command: one verb a file."""

from __future__ import annotations

import sys

import typer

from elf_cli import check, look, planning, plot, run
from elf_cli.local.browser import with_default

app = typer.Typer(
    name="elf",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train over many unreliable workers, with or without a Kubernetes cluster.",
)


@app.callback()
def _root() -> None:
    """Train over many unreliable workers, with or without a Kubernetes cluster."""


app.command("run")(run.run)
app.command("plan")(planning.show_plan)
app.command("stats")(look.stats)
app.command("homes")(look.homes)
app.command("trace")(look.trace)
app.command("plot")(plot.plot)
app.command("check-statistic")(check.check_statistic)


def main() -> None:
    """Entry point of `elf` and `kubectl elf`."""
    app(with_default(sys.argv[1:]))
