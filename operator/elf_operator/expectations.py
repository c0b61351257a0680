"""What a look must show at least, because it was seen or written before: a look that does not is stale.

A LIST without a resource version is answered from the newest state, so this does not happen with one
healthy API server. It does behind a load balancer in front of one that has lost its peers. Nothing here is
needed for safety (pods are created under names that are theirs alone and deleted by UID, the wiring is
replaced only if it is as it was seen): it spares pods that would be made and unmade. See docs/adr/0011.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

PATIENCE_SECONDS = 10.0
"""A view that stays behind for so long is the truth: somebody has restored or deleted something."""


class StaleViewError(Exception):
    """The cluster was shown as it has been some time ago."""


@dataclass(frozen=True)
class _Mark:
    generation: int = 0
    wiring: int = 0
    since: float | None = None
    """When a look first fell short of it."""


class Expectations:
    """Per job (UID): the newest generation of the spec that was seen, the newest wiring seen or written."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._marks: dict[str, _Mark] = {}

    def wrote(self, uid: str, wiring: int) -> None:
        """The server has taken a wiring of this version."""
        mark = self._marks.get(uid, _Mark())
        self._marks[uid] = replace(mark, wiring=max(mark.wiring, wiring), since=None)

    def removing(self, uid: str) -> None:
        """The server is asked to delete the wiring: from now on a look without one is as good."""
        if (mark := self._marks.get(uid)) is not None:
            self._marks[uid] = replace(mark, wiring=0)

    def check(self, uid: str, generation: int, wiring: int) -> None:
        """Take note of a look; raise StaleViewError if it shows less than is known."""
        mark = self._marks.get(uid, _Mark())
        behind = generation < mark.generation or wiring < mark.wiring
        since = self._clock() if mark.since is None else mark.since
        if behind and self._clock() - since < PATIENCE_SECONDS:
            self._marks[uid] = replace(mark, since=since)
            raise StaleViewError(
                f"generation {generation}, wiring {wiring} are shown; "
                f"{mark.generation} and {mark.wiring} have been there already"
            )
        self._marks[uid] = _Mark(generation, wiring)

    def forget(self, uid: str) -> None:
        """The job is gone."""
        self._marks.pop(uid, None)
