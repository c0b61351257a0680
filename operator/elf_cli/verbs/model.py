"""`elf model JOB`: fetch the trained model of a job, and check that it is the one."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import pathlib
import secrets
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

import aiohttp
import typer

from elf_cli import output as formats
from elf_cli.cluster import reader
from elf_cli.cluster.session import Session, run
from elf_cli.cluster.target import Target
from elf_cli.options import Context, Job, Kubeconfig, Namespace
from elf_cli.refusal import EXIT_WRONG, TroubleError, refuse
from elf_cli.views import models, weights
from elf_cli.views.pod_states import pod_health
from elf_operator import names
from elf_operator.builders import Manifest
from elf_operator.kube import ApiError
from elf_operator.observation import Pod, parse_pod

PIECE = 4 << 20
"""Bytes that are read with one command in the pod: a connection that breaks off costs no more."""
ATTEMPTS = 3
_CUT = (
    "import sys; f = open(sys.argv[1], 'rb'); f.seek(int(sys.argv[2])); "
    "sys.stdout.buffer.write(f.read(int(sys.argv[3])))"
)


def model(
    job: Job,
    output: Annotated[
        pathlib.Path | None, typer.Option(help="Folder or file (safetensors) that receives the model.")
    ] = None,
    form: Annotated[str | None, typer.Option("--format", "-o", help="json or yaml: say where it is.")] = None,
    image: Annotated[
        str | None, typer.Option(help="The worker's image, if no pod of the job is left to tell.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for a pod to read the volume.")] = 300.0,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Fetch the trained model of a job, and check its SHA-256.

    It is on the job's checkpoint volume; a pod that lives for a moment reads it there. Without --output: say
    where the model is. Exit status: 0 the model is there, and is the one; 1 it is not; 2 the options make no
    sense.
    """
    formats.check(form)
    path = _place(job, output) if output is not None else None
    target = Target(namespace, context, kubeconfig)
    body = run(target, lambda session: session.job(job))
    kept = models.kept(body)
    if path is None and form:
        print(formats.as_text(kept.as_data(), form))
        return
    if kept.why_not:
        refuse(kept.why_not, 1)
    if path is None:
        print(f"{job}: the model of round {kept.round} is on the volume {kept.claim}: {kept.digest}")
        print(f"Fetch it: elf model {job}{target.flags()} --output {job}.safetensors")
        return
    size = run(target, lambda session: fetch(session, body, path, image, timeout))
    fetched = {"fetched": str(path), "bytes": size, "verified": True}
    if form:
        print(formats.as_text(kept.as_data() | fetched, form))
    else:
        print(
            f"{path}: {size} bytes, the model of round {kept.round}; its digest is the job's: {kept.digest}"
        )


def _place(job: str, output: pathlib.Path) -> pathlib.Path:
    path = output / f"{job}.safetensors" if output.is_dir() else output
    if not path.absolute().parent.is_dir():
        refuse(f"--output: there is no folder {path.absolute().parent}", EXIT_WRONG)
    return path


async def fetch(
    session: Session, body: dict[str, Any], path: pathlib.Path, image: str | None, seconds: float
) -> int:
    """Write the model to a file, whole and checked or not at all; its size in bytes."""
    kept = models.kept(body)
    selector = {"labelSelector": f"{names.selector(kept.job)},{names.LABEL_ROLE}=npdc"}
    pods, _ = await session.items(session.core_path("pods"), selector)
    manifest = models.reader_pod(body, models.image_of(body, pods, image), secrets.token_hex(3))
    partial = path.with_name(f".{path.name}.{manifest['metadata']['name']}")
    try:
        async with _reading(session, manifest, seconds) as pod:
            told = json.loads(await _read(session, pod, reader.SUMMARY, 0, PIECE))
            _expect("round", told["round"], kept.round)
            await _copy(session, pod, told, partial)
        _expect("digest", weights.digest(partial), kept.digest)
        os.replace(partial, path)
    except ValueError as error:
        raise TroubleError(f"{kept.job}: {error}") from error
    except OSError as error:
        if isinstance(error, (aiohttp.ClientError, TimeoutError)):
            raise
        raise TroubleError(f"{partial}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return int(told["bytes"])


def _expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise ValueError(
            f"this is not the job's model: its {what} is {found}, {expected} is expected; nothing was written"
        )


@contextlib.asynccontextmanager
async def _reading(session: Session, manifest: Manifest, seconds: float) -> AsyncIterator[str]:
    """The name of a pod that has the model in its hands. However it ends, the pod is deleted."""
    name = manifest["metadata"]["name"]
    print(f"elf: pod {name} reads the volume", file=sys.stderr)
    made = await session.api.request("POST", session.core_path("pods"), manifest)
    try:
        await _ready(session, name, seconds)
        yield name
    finally:
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": made["metadata"]["uid"]}}
        try:
            await session.api.request("DELETE", f"{session.core_path('pods')}/{name}", options)
        except ApiError as error:
            if error.status not in (404, 409):
                print(f"elf: pod {name} could not be deleted: {error.reason}", file=sys.stderr)


async def _ready(session: Session, name: str, seconds: float) -> None:
    """Return when the model is there. Raises TroubleError that says what the pod waits for, or died of."""
    seen = _Seen()
    try:
        async with asyncio.timeout(seconds):
            await _watch(session, name, seen)
    except TimeoutError:
        why = pod_health(seen.pod)[1] if seen.pod else "it was not seen"
        raise TroubleError(
            f"pod {name}: has no model after {seconds:g} s: {why or 'it is still reading'}; "
            "--timeout gives it more time"
        ) from None


@dataclass
class _Seen:
    pod: Pod | None = None


async def _watch(session: Session, name: str, seen: _Seen) -> None:
    one = {"fieldSelector": f"metadata.name={name}"}
    async with contextlib.aclosing(session.changes(session.core_path("pods"), one)) as changes:
        async for kind, what in changes:
            for body in what if kind == "LIST" else [what]:
                seen.pod = _parsed(body)
                if kind == "DELETED":
                    raise TroubleError(f"pod {name}: somebody has deleted it")
                if seen.pod.over:
                    raise TroubleError(
                        f"pod {name}: {seen.pod.exit_message or seen.pod.message or 'has ended'}"
                    )
                if seen.pod.ready:
                    return


def _parsed(body: dict[str, Any]) -> Pod:
    """The reader lacks the labels of the job's pods: as if it were an NPDC."""
    labels = {names.LABEL_ROLE: "npdc", names.LABEL_INDEX: "0", names.LABEL_INCARNATION: "0"}
    pod = parse_pod({**body, "metadata": {**body["metadata"], "labels": labels}})
    assert pod is not None
    return pod


async def _copy(session: Session, pod: str, told: dict[str, Any], path: pathlib.Path) -> None:
    """Piece by piece. Raises ValueError if other bytes arrive than were sent."""
    sha, done = hashlib.sha256(), 0
    with path.open("wb") as file:
        while done < told["bytes"]:
            size = min(PIECE, told["bytes"] - done)
            piece = await _read(session, pod, reader.MODEL, done, size, exact=True)
            file.write(piece)
            sha.update(piece)
            done += len(piece)
        file.flush()
        os.fsync(file.fileno())
    if sha.hexdigest() != told["sha256"]:
        raise ValueError("other bytes have arrived than were sent; try again")


async def _read(session: Session, pod: str, path: str, offset: int, size: int, exact: bool = False) -> bytes:
    """A piece of a file in the pod. A connection that breaks off is tried again."""
    command = ["python3", "-S", "-c", _CUT, path, str(offset), str(size)]
    for attempt in range(ATTEMPTS):
        try:
            piece = await session.execute(pod, names.CONTAINER, command)
        except TroubleError:
            if attempt == ATTEMPTS - 1:
                raise
            continue
        if len(piece) == size or not exact:
            return piece
    raise ValueError(f"the connection to pod {pod} breaks off; try again")
