"""The process of a pod of homes: the protocol on the event loop, gradients in one thread beside it."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from elf_worker.aggregation.effects import Compute, Effect, Stop
from elf_worker.aggregation.household import Answer, Household
from elf_worker.aggregation.tally import SAMPLE_CHARS
from elf_worker.contract import JobConfig, injected
from elf_worker.roles import tracing
from elf_worker.roles.environment import Environment
from elf_worker.roles.shell import Shell

if TYPE_CHECKING:
    from elf_worker.roles.computer import Computer

_log = logging.getLogger(__name__)
ATTEMPTS = 3
RETRY_SECONDS = 0.5


class HomeShell(Shell):
    """The homes of one pod over TCP."""

    def __init__(self, env: Environment) -> None:
        self._config: JobConfig = env.job
        self._household = Household(env.job.uid, env.homes, env.npdc, env.job.precision)
        super().__init__(self._household, env)
        self._thread = ThreadPoolExecutor(1, "gradient")
        self._computer: Computer | None = None
        self._tracer = tracing.open_tracer("home", env.job.job)

    async def live(self) -> Stop:
        """Compute until the job ends."""
        self._thread.submit(self._make_computer)  # import torch while the MDC is being found
        stop = await self.run()
        self._tracer.close()
        self._thread.shutdown(wait=False, cancel_futures=True)
        return stop

    def perform_own(self, effect: Effect) -> None:
        """Gradients are computed one after the other, in the thread."""
        assert isinstance(effect, Compute)
        self.spawn(self._compute(effect))

    async def _compute(self, work: Compute) -> None:
        config = self._config
        who = ("home", work.home, work.stamp.round)
        if injected(config.home_failure_probability, config.failure_seed, *who):
            rehearsed = "spec.faultInjection.homeFailureProbability"
            self.perform(
                self._household.computed(work.home, Answer(work.stamp, 0, None, "Injected", rehearsed))
            )
            return
        loop = asyncio.get_running_loop()
        pause = RETRY_SECONDS
        asked = loop.time()  # the monotonic clock
        span = self._tracer.begin("home", work.trace, home=work.home, round=work.stamp.round)
        for attempt in range(1, ATTEMPTS + 1):
            if work.stamp != self._household.stamp:
                span.end(outdated=True)
                return
            try:
                answer = await loop.run_in_executor(self._thread, self._gradient, work, asked)
                break
            except Exception as error:
                _log.warning("attempt %d of %d: %s", attempt, ATTEMPTS, error)
                answer = Answer(work.stamp, 0, None, "TaskFailed", str(error)[:SAMPLE_CHARS])
            if attempt < ATTEMPTS:
                await asyncio.sleep(pause)
                pause *= 2
        span.end(weight=answer.weight, failed=answer.reason)
        self.perform(self._household.computed(work.home, answer))

    def _gradient(self, work: Compute, asked: float) -> Answer:
        if work.stamp != self._household.stamp:
            return Answer(work.stamp, 0, None)  # out of date; `computed` drops it
        computer = self._computer or self._make_computer()
        return computer.gradient(work, asked)

    def _make_computer(self) -> Computer:
        from elf_worker.roles.computer import Computer  # torch takes seconds to import

        if self._computer is None:
            self._computer = Computer(self._config)
        return self._computer


async def run(env: Environment) -> Stop:
    """Compute until the job ends."""
    return await HomeShell(env).live()
