"""A pod that lives for a moment, and files that are read from it with commands in it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from elf_cli.cluster.session import Session
from elf_cli.refusal import TroubleError
from elf_cli.views.pod_states import Health, pod_health
from elf_operator import names
from elf_operator.apiserver import ApiError
from elf_operator.builders import Manifest
from elf_operator.observation import Pod, parse_pod

ATTEMPTS = 3
_CUT = (
    "import sys; f = open(sys.argv[1], 'rb'); f.seek(int(sys.argv[2])); "
    "sys.stdout.buffer.write(f.read(int(sys.argv[3])))"
)


@contextlib.asynccontextmanager
async def living(session: Session, manifest: Manifest, seconds: float) -> AsyncIterator[str]:
    """The name of a pod that has the model in its hands. However it ends, the pod is deleted."""
    name = manifest["metadata"]["name"]
    print(f"elf: pod {name} reads the volume", file=sys.stderr)
    made: dict[str, Any] | None = None
    try:
        made = await session.api.request("POST", session.core_path("pods"), manifest)
        await _ready(session, name, seconds)
        yield name
    finally:
        if made is not None or not _refused(sys.exception()):
            await _delete(session, name, made)


def _refused(error: BaseException | None) -> bool:
    """Whether no pod was made. What breaks off before the answer may have been made all the same."""
    return isinstance(error, ApiError) and 400 <= int(error.status or 0) < 500


async def _delete(session: Session, name: str, made: Mapping[str, Any] | None) -> None:
    options: dict[str, Any] = {"gracePeriodSeconds": 0}
    if made is not None:
        options["preconditions"] = {"uid": made["metadata"]["uid"]}
    try:
        await session.api.request("DELETE", f"{session.core_path('pods')}/{name}", options)
    except ApiError as error:
        if error.status not in (404, 409):
            print(f"elf: pod {name} could not be deleted: {error.reason}", file=sys.stderr)
    except (aiohttp.ClientError, TimeoutError) as error:
        why = str(error) or type(error).__name__
        print(f"elf: pod {name} could not be deleted, and ends within an hour: {why}", file=sys.stderr)


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
    told: str = ""

    def tell(self) -> None:
        """What keeps the pod, once; that it starts is no news."""
        assert self.pod is not None
        health, why = pod_health(self.pod)
        if health is Health.WAITS and why != self.told:
            print(f"elf: pod {self.pod.name}: {why}", file=sys.stderr)
            self.told = why


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
                seen.tell()


def _parsed(body: dict[str, Any]) -> Pod:
    """The reader lacks the labels of the job's pods: as if it were an NPDC."""
    labels = {names.LABEL_ROLE: "npdc", names.LABEL_INDEX: "0", names.LABEL_INCARNATION: "0"}
    pod = parse_pod({**body, "metadata": {**body["metadata"], "labels": labels}})
    assert pod is not None
    return pod


async def read(session: Session, pod: str, path: str, offset: int, size: int, exact: bool = False) -> bytes:
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
