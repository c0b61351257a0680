"""`elf kill JOB WHO`: a fault on request, to see that it does no harm."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from elf_cli import who
from elf_cli.cluster import completion
from elf_cli.cluster.session import Session, run
from elf_cli.cluster.target import Target
from elf_cli.options import Context, Job, Kubeconfig, Namespace
from elf_cli.refusal import EXIT_NOTHING, EXIT_WRONG, TroubleError, refuse
from elf_operator import names
from elf_operator.apiserver import ApiError
from elf_operator.observation import Pod, parse_pod
from elf_operator.spec import parse_job
from elf_worker.contract import Role


def kill(
    job: Job,
    victim: Annotated[
        str,
        typer.Argument(metavar="WHO", help="mdc/1, npdc or home/3.", autocompletion=completion.complete_who),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Rehearse a fault: kill one data center or home, now.

    The pod is deleted without a grace period, as if its node had lost it. It is replaced, and not one bit of
    the model changes. Exit status: 0 it is dead; 1 there is no such job or pod; 2 WHO makes no sense.
    """
    try:
        role, number = who.parse(victim)
    except ValueError as error:
        refuse(f"WHO: {victim!r}: {error}", EXIT_WRONG)
    if not yes and not sys.stdin.isatty():
        refuse("kill: asks before it kills, and there is nobody to ask: give --yes", EXIT_WRONG)
    target = Target(namespace, context, kubeconfig)
    pod = run(target, lambda session: find(session, job, role, number))
    if not yes:
        typer.confirm(f"Kill {pod.name} (on {pod.node or 'no node'})?", abort=True)
    run(target, lambda session: delete(session, pod))
    print(f"{pod.name} is dead. {aftermath(pod)}")
    print(f"Watch it heal: elf status {job}{target.flags()} --watch")


async def find(session: Session, name: str, role: Role, number: int) -> Pod:
    """The pod that fills this place. Raises TroubleError if there is no such place, or nobody in it."""
    body = await session.job(name)
    index = place(body, role, number)
    selector = f"{names.selector(name)},{names.LABEL_ROLE}={role},{names.LABEL_INDEX}={index}"
    found, _ = await session.items(session.core_path("pods"), {"labelSelector": selector})
    pod = newest(found)
    if pod is None:
        raise TroubleError(
            f"{name}: nobody is {role}/{number} now; elf status {name}{session.target.flags()} says why"
        )
    return pod


def place(body: dict[str, Any], role: Role, number: int) -> int:
    """Index of the pod that is meant. Raises TroubleError."""
    job, state = parse_job(body), (body.get("status") or {}).get("state", "not started yet")
    if job.spec is None:
        raise TroubleError(f"{job.name}: {'; '.join(job.errors)}", EXIT_WRONG)
    try:
        index = who.slot(role, number, job.spec)
    except ValueError as error:
        raise TroubleError(f"{job.name}: {error}", EXIT_WRONG) from error
    if state in ("Complete", "Failed", "Suspended"):
        raise TroubleError(f"{job.name}: is {state}: it has no pods to kill", EXIT_NOTHING)
    return index


def newest(bodies: Sequence[dict[str, Any]]) -> Pod | None:
    """Of the pods of one place the one that lives."""
    pods = [pod for body in bodies if (pod := parse_pod(body)) is not None]
    living = [pod for pod in pods if not pod.over and not pod.deleting]
    return max(living, key=lambda pod: pod.incarnation, default=None)


async def delete(session: Session, pod: Pod) -> None:
    """This very pod: a later one of its name is not touched."""
    options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod.uid}}
    try:
        await session.api.request("DELETE", f"{session.core_path('pods')}/{pod.name}", options)
    except ApiError as error:
        if error.status in (404, 409):
            raise TroubleError(f"{pod.name}: has left by itself meanwhile; nothing was killed") from error
        raise


def aftermath(pod: Pod) -> str:
    """What comes next."""
    if pod.role is Role.HOME:
        held = f" with homes {pod.homes}" if pod.homes else ""
        return f"The operator makes it anew{held}; a round waits for them, or goes on if its quorum is met."
    successor = pod.name.rpartition("-")[0] + f"-{pod.incarnation + 1}"
    if pod.role is Role.NPDC:
        return f"{successor} takes the newest state from the MDCs, or from the volume, and goes on."
    return f"Its homes move to the other MDCs at once; {successor} takes its place."
