"""`elf suspend JOB`, `elf resume JOB`: stop a job for now, and let it go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elf_cli.cluster.session import Session, run
from elf_cli.cluster.target import Target
from elf_cli.options import Context, Job, Kubeconfig, Namespace
from elf_cli.refusal import TroubleError

MERGE = "application/merge-patch+json"


def suspend(
    job: Job, namespace: Namespace = None, context: Context = None, kubeconfig: Kubeconfig = None
) -> None:
    """Stop a job for now: no pods, its state is kept.

    Exit status: 0 it is suspended, or was already; 1 there is no such job, or it has ended.
    """
    print(run(Target(namespace, context, kubeconfig), lambda session: switch(session, job, True)))


def resume(
    job: Job, namespace: Namespace = None, context: Context = None, kubeconfig: Kubeconfig = None
) -> None:
    """Let a suspended job go on.

    Exit status: 0 it goes on, or did already; 1 there is no such job, or it has ended.
    """
    print(run(Target(namespace, context, kubeconfig), lambda session: switch(session, job, False)))


async def switch(session: Session, name: str, suspended: bool) -> str:
    """Set spec.suspend if it is otherwise; what comes next, in words."""
    body = await session.job(name)
    held = bool(body["spec"].get("suspend"))
    state = (body.get("status") or {}).get("state")
    if state in ("Complete", "Failed"):
        raise TroubleError(f"{name}: is {state}: there is nothing to {'suspend' if suspended else 'resume'}")
    if held == suspended:
        return f"{name}: {'is suspended already' if suspended else 'is not suspended'}; nothing is changed"
    await session.api.request(
        "PATCH", session.job_path(name), {"spec": {"suspend": suspended}}, content=MERGE
    )
    told = f"elf status {name}{session.target.flags()} --watch"
    return f"{name}: {consequence(body, suspended)}\nWatch it: {told}"


def consequence(body: Mapping[str, Any], suspended: bool) -> str:
    """What suspending or resuming this job leads to."""
    checkpoint = (body["spec"].get("northPole") or {}).get("checkpoint") or {}
    claim = checkpoint.get("volumeClaim")
    done = int(((body.get("status") or {}).get("training") or {}).get("round", 0))
    if suspended:
        text = f"will be suspended: all its pods leave, after {done} rounds so far. "
        if not done:
            return text + "Resuming it will start it from the beginning."
        if claim:
            return text + f"Resuming it will go on from the newest checkpoint on {claim}, bit for bit."
        return text + (
            "It has no checkpoint volume (spec.northPole.checkpoint.volumeClaim): "
            "resuming it will start over from round 0, and end with the same bits."
        )
    if not done:
        return "is resumed: it starts from the beginning."
    if claim:
        return f"is resumed: it goes on from the newest checkpoint on {claim}; {done} rounds were done."
    return (
        f"is resumed: it starts over from round 0, as it has no checkpoint volume; {done} rounds were done."
    )
