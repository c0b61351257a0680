"""The MDC's process. No torch here: it has to serve within a second of its start."""

from __future__ import annotations

from typing import Any

import msgspec

from elf_worker import statistics
from elf_worker.aggregation.datacenter import DataCenter, Identity
from elf_worker.aggregation.effects import Effect, Stop
from elf_worker.aggregation.tally import Intake
from elf_worker.contract import FIGURES_PORT, WIRE_PORT, JobConfig, injected
from elf_worker.messages import Assign, Message, Work
from elf_worker.roles import tracing
from elf_worker.roles.adder import Adder
from elf_worker.roles.environment import Environment
from elf_worker.roles.shell import Shell
from elf_worker.roles.window import Window
from elf_worker.transport import Link

QUEUED_BYTES, LEAST_QUEUED = 1 << 26, 1 << 16
"""Bytes that the kernel may hold for connections that wait unread: all of them together, but so many each."""
FEW_HOMES = 16
"""For so many connections it may do as it likes: one fast connection over a long way needs megabytes."""


class MdcShell(Shell):
    """One incarnation of one MDC over TCP."""

    def __init__(self, env: Environment) -> None:
        identity = Identity(
            job=env.job.uid,
            index=env.index,
            incarnation=env.incarnation,
            uid=env.uid,
            address=f"{env.address}:{WIRE_PORT}",
            node=env.node,
        )
        adder = Adder()
        center = DataCenter(identity, env.npdc, _intake(env.job, env.index, adder))
        super().__init__(center, env, env.job.homes, adder)
        self._center = center
        self._env = env
        self._tracer = tracing.open_tracer("mdc", env.job.job)
        self._span: tracing.Span | None = None

    async def serve(self) -> Stop:
        """Until the job ends or a successor has taken over."""
        await self.listen()
        window = Window(self._center.figures, {}, self._env.figures_tokens, self.showing)
        window.open(self._env.address, FIGURES_PORT)
        try:
            return await self.run()
        finally:
            window.close()
            if self._span is not None:
                self._span.end()
            self._tracer.close()

    def expect(self, homes: int) -> None:
        """So many homes may have something to say, most of them while others are heard."""
        super().expect(homes)
        self._limits.queued = max(QUEUED_BYTES // homes, LEAST_QUEUED) if homes > FEW_HOMES else 0

    def link_received(self, link: Link, message: Message, payload: Any) -> None:
        """A message has come; if a fault is rehearsed for this round, it is the last one."""
        job, me = self._env.job, self._env
        if isinstance(message, Work):
            who = ("mdc", me.index, message.stamp.round, me.incarnation)  # its successor need not die too
            if injected(job.mdc_failure_probability, job.failure_seed, *who):
                self.stop(Stop("Injected", "spec.faultInjection.mdcFailureProbability"))
                return
            if message.trace:
                message = self._begin_span(message)
        super().link_received(link, message, payload)
        if isinstance(message, Assign):
            self.expect(self._center.homes.bit_length())  # there may be more than the job began with

    def _begin_span(self, work: Work) -> Work:
        """The round's work here: from the weights' arrival to the next ones'."""
        if self._span is not None:
            self._span.end()
        about = {"mdc": self._env.index, "incarnation": self._env.incarnation, "round": work.stamp.round}
        self._span = self._tracer.begin("mdc", work.trace, **about)
        return msgspec.structs.replace(work, trace=self._span.context)

    def perform_own(self, effect: Effect) -> None:
        """An MDC has no effects of its own."""
        raise NotImplementedError(effect)


def _intake(job: JobConfig, index: int, adder: Adder) -> Intake:
    robust = job.aggregation != "mean"
    return Intake(
        homes=job.homes,
        mdc=index,
        precision=job.precision,
        clip_norm=job.clip_norm,
        method=job.aggregation,
        trim_percent=job.trim_percent,
        statistics=statistics.load_or_built_in(job.statistics),
        group_size=job.group_size if robust else 0,
        lane=adder,
    )


async def run(env: Environment) -> Stop:
    """Serve homes until the job ends or a successor has taken over."""
    return await MdcShell(env).serve()
