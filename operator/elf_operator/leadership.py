"""One operator acts at a time: whoever holds a Lease (coordination.k8s.io); see docs/adr/0010.

Clocks of different machines are not compared: a Lease has expired when it has not changed for its duration,
by this process's own monotonic clock. A holder that could not renew in time writes nothing any more, well
before another may act, and goes on when it has renewed after all; one that sees another holder is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from elf_operator.status import rfc3339_micro

_log = logging.getLogger(__name__)
DURATION_SECONDS = 10.0
"""How long a Lease that is not renewed keeps others from acting."""
ENTITLED_SECONDS = 6.0
"""For so long after a renewal its holder may begin to write; a write may take the rest of the duration."""
RENEW_SECONDS = 1.5
ATTEMPT_SECONDS = 3.0


class Leases(Protocol):
    """One Lease on a server."""

    async def get(self) -> dict[str, Any] | None:
        """As it is; None if there is none."""

    async def create(self, spec: Mapping[str, Any]) -> bool:
        """Make it; False if somebody else was faster."""

    async def update(self, lease: Mapping[str, Any]) -> bool:
        """Replace it if it is still as it was; False if it has changed since."""


class Election:
    """One candidate, for as long as its process lives."""

    def __init__(self, leases: Leases, identity: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._leases = leases
        self._identity = identity
        self._clock = clock
        self._seen: tuple[tuple[str, Any], float] | None = None
        """((holder, renewal) of the Lease, when that was seen first)."""
        self._renewed: float | None = None
        self.leading = asyncio.Event()
        """Set once this candidate has led; from then on `entitled` decides."""

    def entitled(self) -> bool:
        """Whether a write may begin now."""
        return self._renewed is not None and self._clock() - self._renewed < ENTITLED_SECONDS

    async def run(self, lost: Callable[[], None]) -> None:
        """Try to lead, then stay leader; `lost` is called once, when another leads instead."""
        while not await self._deposed():
            await asyncio.sleep(RENEW_SECONDS)
        _log.error("another operator leads")
        lost()

    async def _deposed(self) -> bool:
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                held = await self.attempt()
        except Exception as error:  # whatever the client and its transport raise
            _log.warning("leader election: %s: %s", type(error).__name__, str(error)[:200])
            return False
        if held and not self.leading.is_set():
            _log.info("%s leads", self._identity)
            self.leading.set()
        holder = self._seen[0][0] if self._seen else ""
        return self.leading.is_set() and not held and holder not in ("", self._identity)

    async def attempt(self) -> bool:
        """Take or renew the Lease; whether it is ours now."""
        asked = self._clock()  # a renewal counts from before it was asked for
        lease = await self._leases.get()
        if lease is None:
            return self._won(asked, await self._leases.create(self._spec({}, changes=0)))
        spec = lease.get("spec") or {}
        mark = (str(spec.get("holderIdentity") or ""), spec.get("renewTime"))
        if self._seen is None or mark != self._seen[0]:
            self._seen = (mark, self._clock())
        ours = mark[0] == self._identity
        duration = float(spec.get("leaseDurationSeconds") or DURATION_SECONDS)
        free = not mark[0] or self._clock() - self._seen[1] >= duration
        if not ours and not free:
            return False
        changes = int(spec.get("leaseTransitions") or 0) + (not ours)
        taken = await self._leases.update({**lease, "spec": self._spec(spec if ours else {}, changes)})
        return self._won(asked, taken)

    async def resign(self) -> None:
        """Let others act at once."""
        self._renewed = None
        with contextlib.suppress(Exception):  # it expires anyway
            async with asyncio.timeout(ATTEMPT_SECONDS):
                lease = await self._leases.get()
                if lease is not None and (lease.get("spec") or {}).get("holderIdentity") == self._identity:
                    await self._leases.update({**lease, "spec": {**lease["spec"], "holderIdentity": ""}})

    def _won(self, asked: float, taken: bool) -> bool:
        if taken:
            self._renewed = asked
        return taken

    def _spec(self, before: Mapping[str, Any], changes: int) -> dict[str, Any]:
        now = rfc3339_micro(time.time())
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(DURATION_SECONDS),
            "acquireTime": before.get("acquireTime") or now,
            "renewTime": now,
            "leaseTransitions": changes,
        }
