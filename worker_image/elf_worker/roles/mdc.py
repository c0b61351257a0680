"""The MDC's process. No torch here: it has to serve within a second of its start."""

from __future__ import annotations

from elf_worker.aggregation.datacenter import DataCenter, Identity
from elf_worker.aggregation.effects import Effect, Stop
from elf_worker.contract import WIRE_PORT
from elf_worker.roles.environment import Environment
from elf_worker.roles.shell import Shell


class MdcShell(Shell):
    """One incarnation of one MDC over TCP."""

    def __init__(self, env: Environment) -> None:
        identity = Identity(
            job=env.job.uid,
            index=env.index,
            incarnation=env.incarnation,
            uid=env.uid,
            address=f"{env.address}:{WIRE_PORT}",
        )
        super().__init__(DataCenter(identity, env.npdc), env.address, env.job.silence_seconds)

    def perform_own(self, effect: Effect) -> None:
        """An MDC has no effects of its own."""
        raise NotImplementedError(effect)


async def run(env: Environment) -> Stop:
    """Serve homes until the job ends or a successor has taken over."""
    shell = MdcShell(env)
    await shell.listen()
    return await shell.run()
