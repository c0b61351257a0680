"""`elf status --watch`: what watches say of jobs, shown live; on a pipe a line when something changes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from elf_cli.cluster.session import Session, beside
from elf_cli.refusal import EXIT_NOTHING, TroubleError
from elf_cli.views import tree, tree_text
from elf_cli.views.tree_text import Line
from elf_operator import names
from elf_operator.apiserver import ApiError
from elf_operator.observation import Pod, parse_pod
from elf_worker.contract import WIRING_KEY, Wiring

LOOK_SECONDS = 1.0
"""Ages grow and waits shrink while nothing happens: a live view is drawn again this often."""
CALM_SECONDS = 0.25
"""However much happens, a live view is drawn no more often than this."""


def parse_wiring(found: Mapping[str, Any] | None) -> Wiring | None:
    """From its ConfigMap; None if there is none, or none of this version."""
    with contextlib.suppress(KeyError, ValueError):
        return Wiring.from_json(found["data"][WIRING_KEY]) if found is not None else None
    return None


@dataclass
class _World:
    """What watches have said so far."""

    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By namespace/name."""
    pods: dict[str, Pod] = field(default_factory=dict)
    wiring: Wiring | None = None
    known: set[str] = field(default_factory=set)
    """Which watches have begun to tell."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def take_jobs(self, kind: str, what: Any) -> None:
        """Of jobs."""
        _take(self.jobs, kind, what, lambda body: body)

    def take_pods(self, kind: str, what: Any) -> None:
        """Of pods."""
        _take(self.pods, kind, what, parse_pod)

    def take_wiring(self, kind: str, what: Any) -> None:
        """Of the ConfigMap."""
        found = what[0] if kind == "LIST" and what else None if kind in ("LIST", "DELETED") else what
        self.wiring = parse_wiring(found)


def _take(held: dict[str, Any], kind: str, what: Any, parse: Callable[[Any], Any]) -> None:
    if kind == "LIST":
        held.clear()
    for body in what if kind == "LIST" else [what]:
        key = f"{body['metadata'].get('namespace')}/{body['metadata']['name']}"
        held.pop(key, None)
        if kind != "DELETED" and (parsed := parse(body)) is not None:
            held[key] = parsed


async def watch(session: Session, job: str | None, everywhere: bool) -> None:
    """Show one job until it ends, or the table of all for as long as somebody looks."""
    if job:
        await session.job(job)  # says so, if there is none
    world = _World()
    works = _watches(session, world, job, everywhere)
    if job:
        await beside(_show_job(world, session.namespace, job, len(works)), works)
    else:
        await beside(_show_table(world, everywhere), works)


def _watches(session: Session, world: _World, job: str | None, everywhere: bool) -> list[Any]:
    if job is None:
        return [_follow(session, world, "jobs", session.jobs_path(everywhere), {}, world.take_jobs)]
    one = {"fieldSelector": f"metadata.name={job}"}
    wiring = {"fieldSelector": f"metadata.name={names.wiring(job)}"}
    pods = {"labelSelector": names.selector(job)}
    return [
        _follow(session, world, "jobs", session.jobs_path(), one, world.take_jobs),
        _follow(session, world, "pods", session.core_path("pods"), pods, world.take_pods),
        _follow(session, world, "wiring", session.core_path("configmaps"), wiring, world.take_wiring),
    ]


async def _follow(
    session: Session,
    world: _World,
    what: str,
    path: str,
    query: Mapping[str, str],
    take: Callable[[str, Any], None],
) -> None:
    try:
        async with contextlib.aclosing(session.changes(path, query)) as changes:
            async for kind, found in changes:
                take(kind, found)
                world.known.add(what)
                world.changed.set()
    except ApiError as error:
        if what != "wiring" or error.status != 403:
            raise
        world.known.add(what)  # without it the tree says less


async def _moments(world: _World) -> AsyncIterator[None]:
    """Whenever something has changed, and every second."""
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):  # Python 3.11's wait_for may swallow a cancellation
                await world.changed.wait()
        world.changed.clear()
        yield
        await asyncio.sleep(CALM_SECONDS)


async def _show_job(world: _World, namespace: str, name: str, watches: int) -> None:
    """Until the job ends, or is deleted."""
    console = Console(highlight=False)
    before: tree.JobView | None = None
    with _live(console) as live:
        async for _ in _moments(world):
            if len(world.known) < watches:
                continue
            body = world.jobs.get(f"{namespace}/{name}")
            if body is None:
                raise TroubleError(f"{name}: was deleted", EXIT_NOTHING)
            view = tree.look(body, list(world.pods.values()), world.wiring, time.time())
            if live is not None:
                live.update(_text(tree_text.lines(view)), refresh=True)
            else:
                _say(tree_text.changes(before, view))
            before = view
            if view.state in ("Complete", "Failed"):
                return


async def _show_table(world: _World, everywhere: bool) -> None:
    """For as long as somebody looks."""
    console = Console(highlight=False)
    before: dict[str, list[str]] = {}
    with _live(console) as live:
        async for _ in _moments(world):
            if not world.known:
                continue
            bodies = [world.jobs[key] for key in sorted(world.jobs)]
            if live is not None:
                shown = tree_text.table(bodies, time.time(), everywhere) if bodies else ["no jobs"]
                live.update(_text([(line, "") for line in shown]), refresh=True)
                continue
            now = {key: _stable(tree_text.row(world.jobs[key], 0.0, True)) for key in world.jobs}
            changed = [world.jobs[key] for key in now if now[key] != before.get(key)]
            _say(["   ".join(tree_text.row(body, time.time(), everywhere)) for body in changed])
            _say([f"{key} is gone" for key in before if key not in now])
            before = now


def _live(console: Console) -> contextlib.AbstractContextManager[Live | None]:
    """Only where there is a terminal."""
    return Live(console=console, auto_refresh=False) if console.is_terminal else contextlib.nullcontext()


def _stable(cells: list[str]) -> list[str]:
    """Of a row of the table what does not change in every round: name, state and counts."""
    return [*cells[:3], *cells[6:9]]


def _say(lines: list[str]) -> None:
    for line in lines:
        print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


def _text(lines: list[Line]) -> Text:
    return Text("\n", no_wrap=True, overflow="ellipsis").join(
        Text(text, style=style) for text, style in lines
    )
