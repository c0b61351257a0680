"""The process of a pod of homes: the protocol on the event loop, gradients in one thread beside it."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import TYPE_CHECKING

from elf_worker import statistics
from elf_worker.aggregation import bundles, ids
from elf_worker.aggregation.effects import Compute, ComputeMany, Effect, Stop
from elf_worker.aggregation.household import Answer, Household
from elf_worker.aggregation.tally import SAMPLE_CHARS, Intake, Tally
from elf_worker.contract import JobConfig, injected
from elf_worker.roles import tracing
from elf_worker.roles.desk import Desk
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
        width = bundles.MOST_HOMES if bundles.together(env.job) else 0
        self._household = Household(env.job.uid, env.homes, env.npdc, env.job.precision, width)
        self._statistics = statistics.load_or_built_in(env.job.statistics) if width else None
        super().__init__(self._household, env)
        self._desk = Desk("gradient")
        self._computer: Computer | None = None
        self._tracer = tracing.open_tracer("home", env.job.job)

    async def live(self) -> Stop:
        """Compute until the job ends."""
        self._desk.thread.submit(self._make_computer)  # import torch while the MDC is being found
        stop = await self.run()
        self._tracer.close()
        self._desk.close()
        return stop

    def perform_own(self, effect: Effect) -> None:
        """Gradients are computed one after the other."""
        if isinstance(effect, ComputeMany):
            self.spawn(self._compute_many(effect))
            return
        assert isinstance(effect, Compute)
        config = self._config
        who = ("home", effect.home, effect.stamp.round)
        if injected(config.home_failure_probability, config.failure_seed, *who):
            rehearsed = "spec.faultInjection.homeFailureProbability"
            answer = Answer(effect.stamp, 0, None, "Injected", rehearsed)
            self._loop.call_soon(self._answer, effect, answer)
        elif self._desk.quick(self._gradient):
            self._loop.call_soon(self._compute_at_once, effect)
        else:
            self.spawn(self._compute(effect))

    def _answer(self, work: Compute, answer: Answer) -> None:
        self.perform(self._household.computed(work.home, answer))

    def _compute_at_once(self, work: Compute) -> None:
        """Without a task and a thread: they cost more than a small model's gradient."""
        if work.stamp != self._household.stamp:
            return
        span = self._tracer.begin("home", work.trace, home=work.home, round=work.stamp.round)
        try:
            answer = self._desk.timed(self._gradient, work, self.now())
        except Exception as error:
            _log.warning("%s", error)
            span.end(failed="TaskFailed")
            self.spawn(self._compute(work))
            return
        span.end(weight=answer.weight, failed=answer.reason)
        self._answer(work, answer)

    async def _compute(self, work: Compute) -> None:
        loop = self._loop
        pause = RETRY_SECONDS
        asked = loop.time()  # the monotonic clock
        span = self._tracer.begin("home", work.trace, home=work.home, round=work.stamp.round)
        for attempt in range(1, ATTEMPTS + 1):
            if work.stamp != self._household.stamp:
                span.end(outdated=True)
                return
            try:
                answer = await self._desk.do(self._gradient, work, asked)
                break
            except Exception as error:
                _log.warning("attempt %d of %d: %s", attempt, ATTEMPTS, error)
                answer = Answer(work.stamp, 0, None, "TaskFailed", str(error)[:SAMPLE_CHARS])
            if attempt < ATTEMPTS:
                await asyncio.sleep(pause)
                pause *= 2
        span.end(weight=answer.weight, failed=answer.reason)
        self._answer(work, answer)

    # -- many at once -------------------------------------------------------------------------------------

    async def _compute_many(self, work: ComputeMany) -> None:
        """As `_compute` of each home, added up."""
        loop = self._loop
        came = loop.time()
        homes = ids.ids_of(work.homes)
        span = self._tracer.begin(
            "homes", work.trace, first=homes[0], homes=len(homes), round=work.stamp.round
        )
        tally: Tally | None = None
        left, why = homes, dict[int, str]()
        pause = RETRY_SECONDS
        for attempt in range(1, ATTEMPTS + 1):
            if work.stamp != self._household.stamp:
                span.end(outdated=True)
                return
            tally, why = await loop.run_in_executor(self._desk.thread, self._add, work, left, tally, came)
            left = sorted(why)
            if not left:
                break
            _log.warning("attempt %d of %d: %d homes: %s", attempt, ATTEMPTS, len(left), why[left[0]])
            if attempt < ATTEMPTS:
                await asyncio.sleep(pause)
                pause *= 2
        if tally is None or work.stamp != self._household.stamp:
            span.end(outdated=True)
            return
        for home in left:
            tally.fail(home, "TaskFailed", why[home][:SAMPLE_CHARS])
        bundle, payload = bundles.make(tally, work.stamp, work.mdc, loop.time() - came)
        span.end(weight=tally.weight, failed=tally.failed.bit_count())
        self.perform(self._household.bundled(work, work.homes, bundle, payload))

    def _add(
        self, work: ComputeMany, homes: list[int], tally: Tally | None, came: float
    ) -> tuple[Tally | None, dict[int, str]]:
        """Into a new tally, or into this one. Runs in the thread."""
        if work.stamp != self._household.stamp:
            return None, {}
        try:
            computer = self._computer or self._make_computer()
        except Exception as error:
            return tally or self._tally(work, 0), dict.fromkeys(homes, str(error))
        if tally is None or not tally.size:
            tally = self._tally(work, computer.size)
            homes = self._spared(work, homes, tally)
        why: dict[int, str] = {}
        for start in range(0, len(homes), computer.step):
            why |= computer.add(work, homes[start : start + computer.step], tally, came)
        return tally, why

    def _tally(self, work: ComputeMany, size: int) -> Tally:
        config, product = self._config, self._statistics
        if product is not None:
            product.watch(ids.ids_of(self._household.watched))
        intake = Intake(config.homes, work.mdc, config.precision, statistics=product)
        return Tally(size, intake, work.stamp.round)

    def _spared(self, work: ComputeMany, homes: list[int], tally: Tally) -> list[int]:
        """Those that no rehearsed fault strikes; the others have failed."""
        config = self._config
        if not config.home_failure_probability:
            return homes
        spared = []
        for home in homes:
            who = ("home", home, work.stamp.round)
            if injected(config.home_failure_probability, config.failure_seed, *who):
                tally.fail(home, "Injected", "spec.faultInjection.homeFailureProbability")
            else:
                spared.append(home)
        return spared

    # -- one by one ---------------------------------------------------------------------------------------

    def _gradient(self, work: Compute, asked: float) -> Answer:
        if work.stamp != self._household.stamp:
            return Answer(work.stamp, 0, None)  # out of date; `computed` drops it
        computer = self._computer or self._make_computer()
        return computer.gradient(work, asked)

    def _make_computer(self) -> Computer:
        from elf_worker.roles.computer import Computer  # torch takes seconds to import

        if self._computer is None:
            self._computer = Computer(self._config)
            gc.freeze()  # what torch has imported stays: looking through it takes tenths of a second
        return self._computer


async def run(env: Environment) -> Stop:
    """Compute until the job ends."""
    return await HomeShell(env).live()
