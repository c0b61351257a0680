"""`elf plot REPORT`: a run as one picture."""

from __future__ import annotations

import itertools
import json
import pathlib
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elf_cli.figures import read_history
from elf_worker.roles.chronicle import HISTORY_FILE

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot(
    report: Annotated[
        pathlib.Path,
        typer.Argument(help="Report of `elf run --report`, a history.jsonl, or the folder of a run."),
    ],
    output: Annotated[
        pathlib.Path | None, typer.Option("--output", "-o", help="Default: the report's name with .png.")
    ] = None,
) -> None:
    """Draw loss, metrics, round times with faults marked, and homes per MDC over the rounds."""
    try:
        rounds, deaths, title = _read(report)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"elf: {report}: is no report and no history of a run: {error}", file=sys.stderr)
        sys.exit(2)
    if not rounds:
        print(f"elf: {report}: no round was done, there is nothing to draw", file=sys.stderr)
        sys.exit(1)
    target = output or report.with_suffix(".png")
    draw(rounds, deaths, title, target)
    print(target)


def _read(path: pathlib.Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]], str]:
    """(records of rounds, deaths, title)."""
    if path.is_dir():
        return read_history(path / HISTORY_FILE), [], path.name
    if path.suffix == ".jsonl":
        return read_history(path), [], path.stem
    found = json.loads(path.read_text())
    return found["perRound"], found["replacements"], str(found["job"])


def draw(
    rounds: list[dict[str, Any]], deaths: list[dict[str, Any]], title: str, target: pathlib.Path
) -> None:
    """Four panels over the rounds, as PNG."""
    from matplotlib import figure
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    picture = figure.Figure(figsize=(9, 10), layout="constrained")
    FigureCanvasAgg(picture)
    panels = picture.subplots(4, 1, sharex=True)
    numbers = [r["round"] for r in rounds]
    panels[0].plot(numbers, [r["loss"] for r in rounds])
    panels[0].set_ylabel("loss")
    _draw_metrics(panels[1], rounds)
    # From one round's end to the next: what an NPDC that died in between has cost is in it.
    taken = [b["at"] - a["at"] for a, b in itertools.pairwise(rounds)]
    panels[2].plot(numbers[1:], taken, linewidth=0.8)
    if any(seconds > 0 for seconds in taken):
        panels[2].set_yscale("log")
    panels[2].set_ylabel("seconds a round took")
    mdcs = sorted({index for r in rounds for index in r["byMdc"]}, key=int)
    counts = [[r["byMdc"].get(index, 0) for r in rounds] for index in mdcs]
    panels[3].stackplot(numbers, counts, labels=[f"MDC {index}" for index in mdcs], step="mid")
    panels[3].set_ylabel("homes counted by each MDC")
    panels[3].set_xlabel("round")
    if len(mdcs) <= 12:
        panels[3].legend(loc="lower left", fontsize="small", ncols=4)
    for death in deaths:
        for panel in panels:
            panel.axvline(death["atRound"], color="tab:red", linestyle=":", linewidth=0.8)
        panels[2].annotate(
            death["pod"],
            (death["atRound"], 1.0),
            xycoords=("data", "axes fraction"),
            rotation=90,
            fontsize="x-small",
            va="top",
        )
    panels[0].set_title(title)
    picture.savefig(target, dpi=120)


def _draw_metrics(panel: Axes, rounds: list[dict[str, Any]]) -> None:
    measured = [r for r in rounds if r.get("metrics")]
    for name in sorted({name for r in measured for name in r["metrics"]}):
        points = [(r["round"], r["metrics"][name]) for r in measured if name in r["metrics"]]
        panel.plot(*zip(*points, strict=True), marker=".", label=name)
    panel.set_ylabel("held-out metrics")
    if measured:
        panel.legend(fontsize="small")
