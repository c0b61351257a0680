"""`elf stats`, `elf homes`, `elf trace`: what a job's homes and data centers do."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich import filesize
from rich.console import Console
from rich.table import Table

from elf_cli import figures
from elf_cli import output as formats
from elf_cli.cluster.target import Target
from elf_cli.figures import Figures, FiguresError
from elf_cli.options import Context, JobOrRun, Kubeconfig, Namespace, Output
from elf_cli.refusal import EXIT_NOTHING, EXIT_WRONG, refuse

WAIT_SECONDS = 60.0


def stats(
    job: JobOrRun,
    all_rounds: Annotated[bool, typer.Option("--all", help="Of all rounds together.")] = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = None,
) -> None:
    """Statistics of the last round (or of all together), and of each MDC."""
    found = _ask(_figures(job, Target(namespace, context, kubeconfig), output), "/statistics", {})
    if output:
        print(formats.as_text(found, output))
        return
    console = Console()
    shown = found["total"] if all_rounds else found["lastRound"]
    what = f"rounds 1 .. {found['round']}" if all_rounds else f"round {found['round']}"
    console.print(_numbers_table(f"{job}, {what}", shown))
    for name, report in shown.items():
        if not _is_distribution(report):
            line = f"{name.replace('_', ' ')}: {_words(name, report)}"
            console.print(line, markup=False, highlight=False)
    if found["mdcs"]:
        console.print(_mdc_table(f"MDCs in round {found['round']}", found["mdcs"]))
    for name, count in found.get("errors", {}).items():
        console.print(f"statistic {name} has failed {count} times; see the log of the NPDC", markup=False)


def _is_distribution(report: Any) -> bool:
    return isinstance(report, dict) and {"count", "mean", "p50", "maxId"} <= set(report)


def _numbers_table(title: str, reports: Mapping[str, Any]) -> Table:
    table = Table(title=title)
    table.add_column("")
    for column in ("mean", "± deviation", "p50", "p90", "p99", "least (who)", "most (who)"):
        table.add_column(column, justify="right")
    for name, r in reports.items():
        if _is_distribution(r):
            cells = [r["mean"], math.sqrt(r["variance"]), r["p50"], r["p90"], r["p99"]]
            ends = [f"{r[end]:.4g} ({r[end + 'Id']})" for end in ("min", "max")]
            table.add_row(name.replace("_", " "), *(f"{x:.4g}" for x in cells), *ends)
    return table


def _mdc_table(title: str, mdcs: Mapping[str, Any]) -> Table:
    table = Table(title=title)
    for column in ("MDC", "served", "failed", "seconds", "slowest home", "loss", "gradient norm", "classes"):
        table.add_column(column, justify="left" if column == "classes" else "right")
    for index, r in mdcs.items():
        homes = r.get("homes", {"served": 0, "failed": {}})
        seconds, loss, norm = (r.get(k, {}) for k in ("home_seconds", "loss", "gradient_norm"))
        slowest = f"{seconds['maxId']} ({seconds['max']:.3g} s)" if seconds.get("count") else ""
        table.add_row(
            index,
            str(homes["served"]),
            str(sum(homes["failed"].values())),
            _short(r.get("mdc_seconds", {}).get("max")),
            slowest,
            _short(loss.get("mean")),
            _short(norm.get("mean")),
            _words("classes", dict(list(r.get("classes", {}).items())[:4])),
        )
    return table


def _short(number: float | None) -> str:
    return "" if number is None else f"{number:.4g}"


def homes(
    job: JobOrRun,
    loss_between: Annotated[
        tuple[float, float], typer.Option(help="Homes whose loss in the last round lies between these.")
    ] = (0.0, math.inf),
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = None,
) -> None:
    """How many homes had a loss between two values in the last round, and who some of them are."""
    low, high = loss_between
    if not low <= high:
        refuse(f"--loss-between: {low:g} is above {high:g}", EXIT_WRONG)
    query = {"above": str(low), "below": str(high)}
    found = _ask(_figures(job, Target(namespace, context, kubeconfig), output), "/homes", query)
    if output:
        print(formats.as_text(found, output))
        return
    ids = ", ".join(map(str, found["homes"]))
    some = "" if found["all"] or not ids else "among them "
    print(f"round {found['round']}: {found['count']} homes with a loss in {low:g} .. {high:g}")
    if ids:
        print(f"{some}{ids}")


def trace(
    job: JobOrRun,
    round: Annotated[int | None, typer.Option(help="Of this round. Default: the last one.")] = None,
    home: Annotated[int | None, typer.Option(help="Of this home, from the next round on.")] = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    output: Output = None,
) -> None:
    """What the slowest home of a round, its MDC and the NPDC did, and how long each step took."""
    if round is not None and home is not None:
        refuse("--round and --home: give one of them", EXIT_WRONG)
    source = _figures(job, Target(namespace, context, kubeconfig), output)
    query = {"home": str(home)} if home is not None else {} if round is None else {"round": str(round)}
    record = _ask(source, "/trace", query)
    deadline = time.monotonic() + WAIT_SECONDS
    while record is None and home is not None and time.monotonic() < deadline:
        time.sleep(0.2)
        record = _ask(source, "/trace", query)
    if record is None:
        what = "no round is done yet" if round is None else f"round {round}: is not known"
        if home is not None:
            what = f"home {home}: no round since the question"
        refuse(f"{job}: {what}", EXIT_NOTHING)
    if output:
        print(formats.as_text(record, output))
        return
    path = record["asked"][str(home)] if home is not None else record.get("slowest")
    Console().print(_timeline(record, path))


def _timeline(record: Mapping[str, Any], path: Mapping[str, Any] | None) -> Table:
    """The steps of one path through a round, in their order."""
    table = Table(
        title=f"round {record['round']}: {record['seconds']:.3f} s, {record['counted']} homes counted"
    )
    table.add_column("who")
    table.add_column("what")
    table.add_column("seconds", justify="right")
    if path is not None:
        who = f"home {path['home']}"
        table.add_row(who, "waits in its pod for its turn", f"{path['waitingInPod']:.4f}")
        table.add_row(who, "computes", f"{path['computing']:.4f}")
        table.add_row(f"{who}, MDC {path['mdc']}", "weights and vector on the way", f"{path['onTheWay']:.4f}")
        rest = max(0.0, record["seconds"] - path["seconds"])
        table.add_row(f"MDC {path['mdc']}, NPDC", "wait for the others, add up, hand in", f"{rest:.4f}")
    for step, seconds in record.get("npdc", {}).items():
        table.add_row("NPDC", step, f"{seconds:.4f}")
    return table


def _words(name: str, report: Any) -> str:
    """A statistic that is no distribution, on one line."""
    if name == "homes":
        failed = ", ".join(f"{count} {reason}" for reason, count in report["failed"].items())
        return f"{report['served']} served, " + (f"failed: {failed}" if failed else "none failed")
    if name == "classes":
        return ", ".join(f"{label} {entry['share']:.0%}" for label, entry in report.items())
    if name in ("bytes", "mdc_bytes"):
        return f"{filesize.decimal(report['up'])} up, {filesize.decimal(report['down'])} down"
    if name == "slowest_path" and report.get("slowest"):
        path = report["slowest"]
        return (
            f"home {path['home']} of MDC {path['mdc']}, {path['seconds']:.3g} s (elf trace says what it did)"
        )
    return json.dumps(report)


def _figures(job: str, target: Target, output: str | None) -> Figures:
    formats.check(output)
    return figures.of(job, target)


def _ask(source: Figures, page: str, query: Mapping[str, str]) -> Any:
    try:
        return source.ask(page, query)
    except FiguresError as error:
        refuse(str(error), EXIT_NOTHING)
