"""`elf logs -f`: the logs of a job's pods as they grow, also of pods that come later."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import aiohttp

from elf_cli.cluster.session import Session, beside
from elf_cli.refusal import EXIT_WRONG, TroubleError
from elf_cli.verbs.logs import Asked, Out, expect, per_pod
from elf_cli.views import loglines
from elf_cli.views.loglines import Line
from elf_operator import names
from elf_operator.apiserver import ApiError
from elf_operator.observation import Pod, parse_pod

MOST_FOLLOWED = 100
AGAIN_SECONDS = 1.0
AT_LAST_SECONDS = 30.0
"""Between two attempts at a log that cannot be read."""


class Progress:
    """How far a log was told. `last`: the time of its last line."""

    def __init__(self) -> None:
        self.last = ""
        self._since = ""
        self._kubelet: set[str] = set()
        self._seconds = AGAIN_SECONDS

    def is_news(self, line: Line) -> bool:
        """Whether it was not told yet."""
        if not line.stamp:  # the kubelet's own words about why there is no log
            known = line.text in self._kubelet
            self._kubelet.add(line.text)
            return not known
        if line.stamp <= self._since:  # a server may read `sinceTime` in whole seconds: some come twice
            return False
        self.last, self._seconds = line.stamp, AGAIN_SECONDS
        return True

    def pause(self) -> float:
        """The connection broke off: seconds to wait before the next one, longer and longer without news."""
        self._since = self.last
        seconds, self._seconds = self._seconds, min(2 * self._seconds, AT_LAST_SECONDS)
        return seconds


class Followers:
    """One task for each container that runs or has run."""

    def __init__(self, session: Session, asked: Asked, per_pod: int) -> None:
        self._session, self._asked, self._per_pod = session, asked, per_pod
        self._out = Out(asked.stamps)
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self.pods: dict[str, Pod] = {}
        self._first = True

    def take(self, kind: str, what: Any) -> None:
        """A change, or all pods."""
        if kind == "LIST":
            self.pods.clear()
        for body in what if kind == "LIST" else [what]:
            pod = parse_pod(body)
            if pod is None or not loglines.wanted([pod], self._asked.role, self._asked.index, self._per_pod):
                continue
            self.pods.pop(pod.uid, None)
            if kind != "DELETED":
                self.pods[pod.uid] = pod
        if len(self.pods) > MOST_FOLLOWED:
            raise TroubleError(
                f"{self._asked.job}: has {len(self.pods)} such pods, {MOST_FOLLOWED} can be followed: "
                "say --role npdc, --role mdc or --role home --index N",
                EXIT_WRONG,
            )
        for pod in self.pods.values():
            self._attend(pod)
        self._first = False

    def _attend(self, pod: Pod) -> None:
        """`restarts` counts the containers of a pod: a home that is restarted has a new log."""
        key = (pod.uid, pod.restarts)
        if key in self._tasks or pod.waiting or pod.phase == "Pending":
            return
        tail = self._asked.tail if self._first else None  # whoever comes later is told from the beginning
        self._tasks[key] = asyncio.create_task(self._tell(pod, tail))

    async def _tell(self, pod: Pod, tail: int | None) -> None:
        """Until the container ends; again from where it broke off, if the connection did."""
        progress = Progress()
        path = f"{self._session.core_path('pods')}/{pod.name}/log"
        while True:
            query = {"container": names.CONTAINER, "timestamps": "true", "follow": "true"}
            query |= {"tailLines": str(tail)} if tail is not None and not progress.last else {}
            query |= {"sinceTime": progress.last} if progress.last else {}
            try:
                async with contextlib.aclosing(self._session.lines(path, query)) as lines:
                    async for raw in lines:
                        line = loglines.parse(pod.name, raw)
                        if progress.is_news(line):
                            self._out.say(line)
                            self._out.flush()
            except ApiError as error:
                if error.status == 404:
                    return
                if error.status not in (400, 500, 503):
                    raise
            except (aiohttp.ClientError, TimeoutError):
                pass
            now = self.pods.get(pod.uid)
            if now is None or now.over or now.restarts != pod.restarts or now.exit_code is not None:
                return
            await asyncio.sleep(progress.pause())

    @property
    def silent(self) -> bool:
        """Every pod is over, and everything is said."""
        over = all(pod.over for pod in self.pods.values())
        return not self._first and over and all(task.done() for task in self._tasks.values())

    def failures(self) -> None:
        """Raise what has gone wrong in a task."""
        for task in self._tasks.values():
            if task.done():
                task.result()

    async def close(self) -> None:
        """Stop following."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


async def keep_telling(session: Session, asked: Asked) -> None:
    """Until the job has ended and everything is said."""
    body = await session.job(asked.job)
    expect(body, asked)
    followers = Followers(session, asked, per_pod(body))
    try:
        query = {"labelSelector": names.selector(asked.job)}
        await beside(_until_over(session, asked.job, followers), [_attend(session, query, followers)])
    finally:
        await followers.close()


async def _until_over(session: Session, name: str, followers: Followers) -> None:
    while not await _over(session, name, followers):
        await asyncio.sleep(AGAIN_SECONDS)
        followers.failures()


async def _attend(session: Session, query: dict[str, str], followers: Followers) -> None:
    async with contextlib.aclosing(session.changes(session.core_path("pods"), query)) as changes:
        async for kind, what in changes:
            followers.take(kind, what)


async def _over(session: Session, name: str, followers: Followers) -> bool:
    if not followers.silent:
        return False
    found = await session.api.get(session.job_path(name))
    return found is None or bool((found.get("status") or {}).get("completionTime"))
