"""The watch of pods: which changes it tells of, and that it goes on after whatever ends it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from builders import DEFAULTS, JOB, job, valid
from elf_operator import podbuilder
from elf_operator.apiserver import ApiError
from elf_operator.podwatch import PodWatch
from elf_worker.contract import Role

Line = bytes | Exception


def pod(uid: str = "uid", version: str = "1", **status: Any) -> dict[str, Any]:
    body = podbuilder.pod(job(), valid(job()), DEFAULTS, Role.HOME, 1, 0)
    body["metadata"] |= {"uid": uid, "resourceVersion": version}
    return {**body, "status": {"phase": "Pending", **status}}


def line(kind: str, body: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": body}).encode() + b"\n"


class Streams:
    """Answers with these streams, one after the other, and then with silence."""

    def __init__(self, *streams: list[Line]) -> None:
        self._streams = list(streams)
        self.asked: list[str] = []
        self.over = asyncio.Event()

    async def lines(self, resource: str, seconds: float) -> AsyncGenerator[bytes, None]:
        self.asked.append(resource)
        if not self._streams:
            self.over.set()
            await asyncio.Event().wait()
        for said in self._streams.pop(0):
            if isinstance(said, Exception):
                raise said
            yield said


async def told(*streams: list[Line]) -> tuple[list[str], list[str]]:
    """(whom the watch woke, which resources it asked for)."""
    way, woken = Streams(*streams), []
    watch = PodWatch(
        way,  # type: ignore[arg-type]
        "pole",
        lambda key: woken.append("/".join(key)),
        lambda: woken.append("all"),
    )
    running = asyncio.create_task(watch.run([0.0] * 100))
    await asyncio.wait_for(way.over.wait(), 10)
    running.cancel()
    return woken, way.asked


ME = f"pole/{JOB}"


async def test_it_tells_of_pods_that_come_change_and_go() -> None:
    ready = [{"type": "Ready", "status": "True"}]
    stream = [
        line("ADDED", pod()),
        line("MODIFIED", pod(conditions=ready, phase="Running")),
        line("DELETED", pod()),
    ]
    woken, _ = await told(stream)
    assert woken == [ME] * 3


async def test_it_does_not_tell_of_what_no_decision_depends_on() -> None:
    starting = [{"name": "elf", "state": {"waiting": {"reason": "ContainerCreating"}}}]
    failing = [{"name": "elf", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]
    stream = [
        line("ADDED", pod()),
        line("MODIFIED", pod(containerStatuses=starting, podIP="192.0.2.1")),
        line("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": "7"}}),
        line("MODIFIED", pod(containerStatuses=failing)),
    ]
    woken, _ = await told(stream)
    assert woken == [ME] * 2


async def test_it_goes_on_where_it_was() -> None:
    woken, asked = await told([line("ADDED", pod(version="5"))], [TimeoutError()], [])
    assert woken == [ME]
    assert "resourceVersion" not in asked[0]
    assert all(resource.endswith("resourceVersion=5") for resource in asked[1:])


@pytest.mark.parametrize(
    "end",
    [
        line("ERROR", {"kind": "Status", "status": "Failure", "code": 410}),
        ApiError(410, "Gone"),
        line("MODIFIED", pod())[:100] + b"\n",
        ConnectionResetError("cut"),
    ],
    ids=["in-stream 410", "410", "truncated line", "connection lost"],
)
async def test_what_was_missed_is_looked_for(end: Line) -> None:
    woken, asked = await told([line("ADDED", pod(version="5")), end], [line("ADDED", pod(version="9"))])
    assert woken == [ME, "all", ME]
    assert "resourceVersion" not in asked[1]
