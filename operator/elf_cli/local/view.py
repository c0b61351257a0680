"""A run in the terminal: a live tree, or plain lines where there is no terminal."""

from __future__ import annotations

import re
import time
from collections import deque
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from elf_cli.local.account import Account
from elf_cli.local.cluster import LocalCluster
from elf_cli.local.pods import LocalPod
from elf_operator import names
from elf_operator.spec import Spec
from elf_worker.contract import Role, format_ids

_LINES = 8
_PLAIN_SECONDS = 2.0
_DOT = {True: ("●", "green"), False: ("○", "yellow")}


class PlainView:
    """A line when something happened, and one every two seconds while training."""

    def __init__(self, console: Console, spec: Spec) -> None:
        self._console, self._spec = console, spec
        self._began = self._last = time.monotonic()
        self._shown = ""

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, cluster: LocalCluster) -> None:
        """See `View.update`."""
        if time.monotonic() - self._last < _PLAIN_SECONDS:
            return
        self._last = time.monotonic()
        line = headline(cluster, self._spec)
        if line != self._shown:
            self._shown = line
            self.say(line)

    def say(self, text: str) -> None:
        """See `View.say`."""
        elapsed = time.monotonic() - self._began
        self._console.print(f"{elapsed:6.1f} s  {text}", highlight=False, markup=False, soft_wrap=True)


class LiveView:
    """The tree NPDC, MDCs, homes; below it what happened last."""

    def __init__(self, console: Console, spec: Spec) -> None:
        self._console, self._spec = console, spec
        self._began = time.monotonic()
        self._said: deque[str] = deque(maxlen=_LINES)
        self._live = Live(console=console, refresh_per_second=8, transient=False)

    def __enter__(self) -> LiveView:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def update(self, cluster: LocalCluster) -> None:
        """See `View.update`."""
        lines = [Text(line, style="dim") for line in self._said]
        round_ = int(cluster.training().get("round", 0))
        bar = Padding(ProgressBar(total=self._spec.rounds, completed=round_, width=50), 0)  # ends the line
        head = Text(headline(cluster, self._spec))
        self._live.update(Group(head, bar, self._tree(cluster), _figures(cluster), *lines))

    def say(self, text: str) -> None:
        """See `View.say`."""
        self._said.append(f"{time.monotonic() - self._began:6.1f} s  {text}")

    def _tree(self, cluster: LocalCluster) -> Tree:
        newest = _newest(cluster)
        wiring = cluster.wiring()
        npdc = newest.get((Role.NPDC, 0))
        tree = Tree(_label(npdc, "npdc"))
        wanted = [
            entry["mdc"] for entry in cluster.status.get("assignments") or ()
        ]  # it may have been scaled
        for index in wanted or range(self._spec.mdcs):
            slot = wiring.mdcs.get(index) if wiring else None
            homes = sorted(slot.homes) if slot else []
            branch = tree.add(_label(newest.get((Role.MDC, index)), f"mdc {index}"))
            if homes:
                branch.add(_home_dots(cluster, homes, self._spec.per_pod))
        return tree


def _figures(cluster: LocalCluster) -> Table:
    """The statistics of the last round, in a few words."""
    table = Table.grid(padding=(0, 2))
    for name, words in (cluster.training().get("statistics") or {}).items():
        title = re.sub("([A-Z])", lambda found: " " + found[1].lower(), name)
        table.add_row(Text(title, style="dim"), Text(words))
    return table


def headline(cluster: LocalCluster, spec: Spec) -> str:
    """One line: state, round, loss, metric, pods."""
    status, training = cluster.status, cluster.training()
    parts = [
        f"{status.get('state', 'Pending'):9}",
        f"round {training.get('round', 0)}/{spec.rounds}",
        f"loss {training['loss']}" if "loss" in training else "",
        training.get("metric", ""),
        f"homes {(status.get('homes') or {}).get('summary', '-')}",
        f"MDCs {(status.get('miniDataCenters') or {}).get('summary', '-')}",
        f"replaced {status.get('replaced', 0)}",
        f"{training['roundsPerSecond']} rounds/s" if "roundsPerSecond" in training else "",
    ]
    return "  ".join(filter(None, parts))


def account_table(account: Account) -> Table:
    """What died, when, and how long it took."""
    table = Table(title="What died, and how long it took", title_justify="left")
    for column in ("at", "round", "pod"):
        table.add_column(column, no_wrap=True)
    for column in ("noticed", "replaced", "next round"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in account.rows():
        in_place = row["successor"] is None
        table.add_row(
            f"{row['atSeconds']:.1f} s",
            str(row["atRound"]),
            row["pod"],
            "-" if in_place else _seconds(row["noticedAfter"]),
            "in place" if in_place else _seconds(row["servingAfter"]),
            _seconds(row["nextRoundAfter"]),
        )
    return table


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"+{value:.2f} s"


def _newest(cluster: LocalCluster) -> dict[tuple[Role, int], LocalPod]:
    newest: dict[tuple[Role, int], LocalPod] = {}
    for pod in cluster.pods.values():
        labels = pod.manifest["metadata"]["labels"]
        newest[Role(labels[names.LABEL_ROLE]), int(labels[names.LABEL_INDEX])] = pod
    return newest


def _label(pod: LocalPod | None, fallback: str) -> Text:
    if pod is None:
        return Text(f"○ {fallback}", style="red")
    if pod.phase in ("Failed", "Succeeded") or pod.deleting:
        return Text(f"✗ {pod.name}", style="red" if pod.exit_code else "dim")
    dot, style = _DOT[pod.ready]
    return Text(f"{dot} {pod.name}", style=style)


def _home_dots(cluster: LocalCluster, homes: list[int], per_pod: int) -> Text:
    newest = _newest(cluster)
    text = Text(f"{len(homes)} homes ")
    for home in homes[:60]:
        pod = newest.get((Role.HOME, home // per_pod))
        well = pod is not None and pod.ready
        text.append("■", style="green" if well else "red")
    text.append(f"  {format_ids(homes)}", style="dim")
    return text
