"""The work queue: one worker a job, woken by events, retries and timers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from elf_operator.apiserver import OUTAGES, ApiError, brief
from elf_operator.builders import Defaults
from elf_operator.expectations import StaleViewError
from elf_operator.metrics import Metrics
from elf_operator.plans import Plan
from elf_operator.reconcile import Cluster, RefusedError, reconcile

_log = logging.getLogger(__name__)
RESYNC_SECONDS = 90.0
"""A look at a job that nothing has happened to: watches miss little, and each look is four requests."""
LONGEST_BACKOFF = 10.0
AT_ONCE = 16
"""Jobs that are looked at at the same time."""
REST, LEAST_REST, LONGEST_REST = 2.0, 0.05, 1.0
"""After a look at a job nobody looks at it again for twice as long as that took, in seconds within these
bounds: pods change in bursts, and a burst shall cost one look more, not one for each change."""
Key = tuple[str, str]
"""(namespace, name) of a job."""


class Queue:
    """One worker a job. Wakes that come while it works are one more pass, not many.

    Nobody works before `leading` is set.
    """

    def __init__(
        self,
        cluster: Cluster,
        defaults: Defaults,
        on_outage: Callable[[], None],
        leading: asyncio.Event,
        metrics: Metrics,
    ) -> None:
        self._cluster = cluster
        self._defaults = defaults
        self._on_outage = on_outage
        self._leading = leading
        self._metrics = metrics
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._wakes: dict[Key, asyncio.Event] = {}
        self._workers: dict[Key, asyncio.Task[None]] = {}
        self._marks: dict[Key, Any] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._states: dict[Key, str] = {}

    def __len__(self) -> int:
        """Jobs that are known."""
        return len(self._workers)

    def states(self) -> Counter[str]:
        """How many jobs are in which state, as last written."""
        return Counter(self._states.values())

    def wake_if_new(self, key: Key, mark: Any) -> None:
        """Look at this job soon, unless this mark was the last one seen of it.

        Progress is written twice a second; it must not cost a look at the cluster each time. A mark that
        was missed or lost costs nothing but the wait until the resync.
        """
        if self._marks.get(key) != mark:
            self._marks[key] = mark
            self.wake(key)

    def wake(self, key: Key) -> None:
        """Look at this job soon."""
        if key not in self._workers:
            self._wakes[key] = asyncio.Event()
            self._workers[key] = asyncio.get_running_loop().create_task(self._work(key))
        self._wakes[key].set()

    def wake_unless(self, key: Key, seconds: float) -> None:
        """Look at this job when so much time has passed since this was said last."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self.wake, key)

    def wake_all(self) -> None:
        """Look at every job soon."""
        for wake in self._wakes.values():
            wake.set()

    def forget(self, key: Key) -> None:
        """The job is gone; its objects go by their owner references."""
        if worker := self._workers.pop(key, None):
            worker.cancel()
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._wakes.pop(key, None)
        self._marks.pop(key, None)
        self._states.pop(key, None)

    def resync(self, namespace: str | None, existing: Iterable[Key]) -> None:
        """All jobs there are in a namespace (None: anywhere): find what no event has told of."""
        there = set(existing)
        for key in there - set(self._workers):
            self.wake(key)
        for key in [k for k in self._workers if namespace in (None, k[0]) and k not in there]:
            self.forget(key)

    async def close(self) -> None:
        """Stop all workers."""
        for timer in self._timers.values():
            timer.cancel()
        workers = list(self._workers.values())
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, key: Key) -> None:
        failures, rested = 0, 0.0
        pause: float | None = RESYNC_SECONDS
        await self._leading.wait()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wakes[key].wait()
            await asyncio.sleep(max(0.0, rested - time.monotonic()))
            async with self._turns:
                self._wakes[key].clear()
                began = time.monotonic()
                failed = await self._look(key)
            now = time.monotonic()
            rested = now + min(LONGEST_REST, max(LEAST_REST, REST * (now - began)))
            if isinstance(failed, Exception):
                failures += 1
                pause = min(LONGEST_BACKOFF, 0.25 * 2**failures) * random.uniform(0.75, 1.25)
                level = logging.INFO if failures == 1 and _is_overtaken(failed) else logging.WARNING
                _log.log(level, "%s/%s: %s; again in %.1f s", *key, brief(failed), pause, extra=_about(key))
            else:
                failures = 0
                after = failed.again_after if failed is not None else None
                pause = min(RESYNC_SECONDS, after) if after is not None else RESYNC_SECONDS

    async def _look(self, key: Key) -> Plan | Exception | None:
        """One pass; what came of it, or why it failed."""
        began = time.monotonic()
        outcome = "done"
        try:
            plan = await reconcile(self._cluster, *key, self._defaults, time.time)
            if plan is not None and key in self._workers:
                self._states[key] = str(plan.status["state"])
            for replaced in plan.replaced if plan is not None else ():
                self._metrics.replacements.labels(replaced.role, replaced.reason).inc()
            return plan
        except (StaleViewError, RefusedError) as error:
            outcome = "refused"
            return error
        except OUTAGES as error:
            outcome = "refused" if _is_answer(error) else "outage"
            if outcome == "outage":
                self._on_outage()
            return error
        except Exception as error:
            outcome = "bug"
            _log.exception("%s/%s: the plan failed", *key, extra=_about(key))
            return error
        finally:
            self._metrics.reconciles.labels(outcome).inc()
            self._metrics.reconcile_seconds.observe(time.monotonic() - began)


def _is_overtaken(error: Exception) -> bool:
    """Somebody has written between our look and our write, as happens to everyone: the next look sees it."""
    return isinstance(error, ApiError) and error.status == 409


def _is_answer(error: Exception) -> bool:
    """The server works, it only does not agree: a conflict, or a right that is missing."""
    return isinstance(error, ApiError) and 400 <= int(error.status) < 500 and error.status != 429


def _about(key: Key) -> dict[str, str]:
    return {"namespace": key[0], "job": key[1]}
