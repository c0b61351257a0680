"""`elf logs JOB`: the logs of a job's pods as one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from elf_cli.cluster.session import Session, run
from elf_cli.cluster.target import Target
from elf_cli.options import Context, Job, Kubeconfig, Namespace
from elf_cli.refusal import EXIT_WRONG, TroubleError, refuse
from elf_cli.views import loglines
from elf_cli.views.loglines import Line
from elf_operator import names
from elf_operator.apiserver import ApiError
from elf_operator.observation import Pod, parse_pod
from elf_worker.contract import Role

AT_ONCE = 16
"""Logs that are read at the same time."""
MANY = 20
"""Above so many pods a few lines of each say more than all of one."""
FEW_LINES = 10


@dataclass(frozen=True)
class Asked:
    """What the options say."""

    job: str
    role: Role | None = None
    index: int | None = None
    tail: int | None = None
    previous: bool = False
    stamps: bool = False


def logs(
    job: Job,
    role: Annotated[Role | None, typer.Option(help="Only of the NPDC, of MDCs, or of homes.")] = None,
    index: Annotated[
        int | None, typer.Option(min=0, help="Only of the MDC or the home of this number.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on, also with pods that come later.")
    ] = False,
    tail: Annotated[
        int | None,
        typer.Option(
            min=0, help="The last so many lines of each pod. Default: all, or 10 where there are many pods."
        ),
    ] = None,
    previous: Annotated[
        bool, typer.Option("--previous", "-p", help="Of the containers before, of homes that were restarted.")
    ] = False,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="When each line was written.")] = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Logs of a job's pods as one, also of pods that come later (-f).

    Exit status: 0; 1 there is no such job or log; 2 the options make no sense.
    """
    if index is not None and role not in (Role.MDC, Role.HOME):
        refuse("--index: of what? Say --role mdc or --role home", EXIT_WRONG)
    if follow and previous:
        refuse("--follow and --previous: give one of them, what is over does not go on", EXIT_WRONG)
    asked = Asked(job, role, index, tail, previous, timestamps)
    target = Target(namespace, context, kubeconfig)
    if follow:
        from elf_cli.cluster.log_following import keep_telling

        run(target, lambda session: keep_telling(session, asked))
    else:
        run(target, lambda session: show(session, asked))


async def show(session: Session, asked: Asked) -> None:
    """What there is now, in the order of time."""
    body = await session.job(asked.job)
    expect(body, asked)
    pods = await _pods(session, asked, body)
    if not pods:
        raise TroubleError(_nobody(body, asked, session.target))
    few = FEW_LINES if asked.tail is None and len(pods) > MANY else asked.tail
    turn = asyncio.Semaphore(AT_ONCE)

    async def read(pod: Pod) -> list[Line] | None:
        async with turn:
            return await _log(session, pod.name, few, asked.previous)

    found = await asyncio.gather(*(read(pod) for pod in pods))
    if all(log is None for log in found):
        raise TroubleError(_no_log(asked, pods))
    out = Out(asked.stamps, pods)
    for line in loglines.merged(log for log in found if log is not None):
        out.say(line)


async def _pods(session: Session, asked: Asked, body: dict[str, Any]) -> list[Pod]:
    selector = names.selector(asked.job) + (f",{names.LABEL_ROLE}={asked.role}" if asked.role else "")
    found, _ = await session.items(session.core_path("pods"), {"labelSelector": selector})
    pods = [pod for one in found if (pod := parse_pod(one)) is not None]
    return loglines.wanted(pods, asked.role, asked.index, per_pod(body))


def per_pod(body: dict[str, Any]) -> int:
    """Homes in a pod of homes."""
    return int((body["spec"].get("homes") or {}).get("perPod", 1))


def _no_such(body: dict[str, Any], asked: Asked) -> str:
    """What is wrong with the number that was asked for; empty if nothing is."""
    part = {Role.MDC: "miniDataCenters", Role.HOME: "homes"}.get(asked.role or Role.NPDC)
    if part is None or asked.index is None:
        return ""
    count = int((body["spec"].get(part) or {}).get("replicas", 1))
    if asked.index < count:
        return ""
    return f"{asked.job}: there is no {asked.role} {asked.index}, they are numbered 0 to {count - 1}"


def expect(body: dict[str, Any], asked: Asked) -> None:
    """Raise TroubleError if the job has no such MDC or home."""
    if wrong := _no_such(body, asked):
        raise TroubleError(wrong, EXIT_WRONG)


def _nobody(body: dict[str, Any], asked: Asked, target: Target) -> str:
    """Why there is no pod to read from."""
    who = f"{asked.role or 'any role'}{'' if asked.index is None else f' {asked.index}'}"
    state = (body.get("status") or {}).get("state", "not started yet")
    more = f"elf status {asked.job}{target.flags()} says more"
    return f"{asked.job}: is {state}, there is no pod of {who}; {more}"


def _no_log(asked: Asked, pods: Sequence[Pod]) -> str:
    if asked.previous:
        return (
            f"{asked.job}: none of {len(pods)} pods has a container before this one: only homes are "
            "restarted in place; a data center is replaced, and the log of its pod goes with it"
        )
    return f"{asked.job}: none of {len(pods)} pods has written anything yet"


async def _log(session: Session, pod: str, tail: int | None, previous: bool) -> list[Line] | None:
    """Of one pod; None if it has left, has not begun, or has no container before."""
    query = {"container": names.CONTAINER, "timestamps": "true"}
    query |= {"tailLines": str(tail)} if tail is not None else {}
    query |= {"previous": "true"} if previous else {}
    try:
        path = f"{session.core_path('pods')}/{pod}/log"
        return [loglines.parse(pod, raw) async for raw in session.lines(path, query)]
    except ApiError as error:
        if error.status in (400, 404):
            return None
        raise


class Out:
    """Standard output."""

    def __init__(self, stamps: bool, pods: Sequence[Pod] = ()) -> None:
        self._stamps = stamps
        self._colours = sys.stdout.isatty()
        self._width = max((len(pod.name) for pod in pods), default=0)

    def say(self, line: Line) -> None:
        """Print one line; names of pods are below each other."""
        self._width = max(self._width, len(line.pod))
        print(loglines.printed(line, self._width, self._colours, self._stamps), flush=self._colours)

    def flush(self) -> None:
        """Nobody who reads a pipe has to wait."""
        sys.stdout.flush()
