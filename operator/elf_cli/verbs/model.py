"""`elf model JOB`: fetch the trained model of a job, and check that it is the one."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import secrets
from typing import Annotated, Any

import aiohttp
import typer

from elf_cli import output as formats
from elf_cli.cluster import reader, reading_pod
from elf_cli.cluster.session import Session, run
from elf_cli.cluster.target import Target
from elf_cli.options import Context, Job, Kubeconfig, Namespace
from elf_cli.refusal import EXIT_WRONG, TroubleError, refuse
from elf_cli.views import models, weights
from elf_operator import names
from elf_operator.apiserver import ApiError

PIECE = 4 << 20
"""Bytes that are read with one command in the pod: a connection that breaks off costs no more."""


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

    It is on the volume of spec.output, or else on the job's checkpoint volume; a pod that lives for a moment
    reads it there. Without --output: say where the model is. Exit status: 0 the model is there, and is the
    one; 1 it is not; 2 the options make no sense.
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
        place = f"the volume {kept.claim}, file {kept.file}"
        print(f"{job}: the model of round {kept.round} is on {place}: {kept.digest}")
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
    await _check_claim(session, kept)
    manifest = models.reader_pod(body, models.image_of(body, pods, image), secrets.token_hex(3))
    partial = path.with_name(f".{path.name}.{manifest['metadata']['name']}")
    try:
        async with reading_pod.living(session, manifest, seconds) as pod:
            told = json.loads(await reading_pod.read(session, pod, reader.SUMMARY, 0, PIECE))
            _expect("round", told.get("round", kept.round), kept.round)
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


async def _check_claim(session: Session, kept: models.Kept) -> None:
    """Raise TroubleError if there is no such claim: no node would ever take the pod."""
    try:
        await session.api.request("GET", f"{session.core_path('persistentvolumeclaims')}/{kept.claim}")
    except ApiError as error:
        if error.status == 404:
            raise TroubleError(
                f"{kept.job}: its model was on the volume claim {kept.claim}, and there is none of this name "
                f"in namespace {session.namespace} any more"
            ) from error
        if error.status != 403:  # the pod will tell
            raise


async def _copy(session: Session, pod: str, told: dict[str, Any], path: pathlib.Path) -> None:
    """Piece by piece. Raises ValueError if other bytes arrive than were sent."""
    sha, done = hashlib.sha256(), 0
    with path.open("wb") as file:
        while done < told["bytes"]:
            size = min(PIECE, told["bytes"] - done)
            piece = await reading_pod.read(session, pod, told["file"], done, size, exact=True)
            file.write(piece)
            sha.update(piece)
            done += len(piece)
        file.flush()
        os.fsync(file.fileno())
    if sha.hexdigest() != told["sha256"]:
        raise ValueError("other bytes have arrived than were sent; try again")
