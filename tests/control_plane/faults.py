"""Which fault strikes which call: a pure function of seed, verb, resource and a running number."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

from control_plane.calls import Target

EVERYWHERE = ("drop request", "drop answer", "delay", "429", "500", "503", "403 burst", "hang")
WRITES = ("409", "422")
WATCHES = ("truncated line", "end of stream", "silence", "in-stream 410", "in-stream 500")
LONGEST_BURST = 6


@dataclass(frozen=True)
class Fault:
    """What is done to one call. `seconds`: of a delay or a silence. `lines`: of a watch, before it."""

    kind: str
    seconds: float = 0.0
    lines: int = 0


class Schedule:
    """At most `faults` of them, so that every run can come to rest.

    The n-th call of a verb to a resource meets the same fault in every run of a seed, however calls of
    different kinds interleave.
    """

    def __init__(self, seed: int, faults: int | None = None, patience: float = 3.0) -> None:
        drawn = random.Random(f"{seed}")
        self.seed = seed
        self.left = faults if faults is not None else drawn.randint(4, 24)
        self._share = drawn.uniform(0.05, 0.25)
        self._patience = patience
        self._seen: Counter[tuple[str, str]] = Counter()
        self._burst = 0

    def next(self, target: Target) -> Fault | None:
        """What happens to this call."""
        key = (target.verb, target.resource)
        number = self._seen[key]
        self._seen[key] += 1
        if self._burst:
            self._burst -= 1
            return Fault("403")
        drawn = random.Random(f"{self.seed}:{target.verb}:{target.resource}:{number}")
        share = 2 * self._share if target.verb == "watch" else self._share
        if self.left <= 0 or drawn.random() >= share:
            return None
        self.left -= 1
        kind = drawn.choice(kinds_for(target))
        if kind == "403 burst":
            self._burst = drawn.randint(1, LONGEST_BURST)
            return Fault("403")
        short = kind == "delay"
        seconds = drawn.uniform(0.05, 0.8 if short else self._patience)
        return Fault(kind, seconds, drawn.randint(0, 5))

    def stop(self) -> None:
        """No more of them."""
        self.left = self._burst = 0


def kinds_for(target: Target) -> tuple[str, ...]:
    """The faults that a call of this kind can meet."""
    if target.verb == "watch":
        return (*(kind for kind in EVERYWHERE if kind != "drop answer"), *WATCHES)
    return (*EVERYWHERE, *WRITES) if target.mutating else EVERYWHERE


def refusal(code: int, target: Target) -> dict[str, Any]:
    """The `Status` a server sends. Its 409 is that of a write that lost a race, such as one for a quota."""
    reasons = {
        403: "Forbidden",
        409: "Conflict",
        410: "Expired",
        422: "Invalid",
        429: "TooManyRequests",
        500: "InternalError",
        503: "ServiceUnavailable",
    }
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f"a fault was injected into {target}",
        "reason": reasons[code],
        "details": {"retryAfterSeconds": 1} if code == 429 else {},
        "code": code,
    }
