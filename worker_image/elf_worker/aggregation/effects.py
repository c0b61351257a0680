"""What a state machine asks its shell to do. Data only; the shell performs them in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from elf_worker.messages import Message, Stamp

if TYPE_CHECKING:
    from elf_worker.exact import ExactSum

LinkId = int
"""Names one connection for as long as it lives. Incoming links are named by the shell, below zero; outgoing
ones by the state machine, from zero up."""
Payload = Any
"""Something with the buffer protocol, a `Discarded`, or None."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message, and a payload for those that have one."""

    link: LinkId
    message: Message
    payload: Payload = None


@dataclass(frozen=True, slots=True)
class Close:
    """Close a link after what was sent on it. No `closed` event follows."""

    link: LinkId


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect to `host:port`; `opened` or `closed` follows."""

    link: LinkId
    address: str
    mdc: tuple[int, int] | None = None
    """(index, incarnation) of the MDC that must be there; None: an NPDC must."""


@dataclass(frozen=True, slots=True)
class Serve:
    """This data center can take children now."""


@dataclass(frozen=True, slots=True)
class Stop:
    """This process has nothing left to do."""

    outcome: str
    message: str


@dataclass(frozen=True, slots=True)
class Compute:
    """Compute the gradient of one home; `computed` or `failed` follows."""

    home: int
    stamp: Stamp
    weights: Payload
    trace: str = ""


@dataclass(frozen=True, slots=True)
class ComputeMany:
    """Compute the gradients of these homes and add them up; `bundled` follows."""

    homes: int
    """Bit mask."""
    stamp: Stamp
    weights: Payload
    trace: str = ""
    mdc: int = 0
    """Index of the MDC that asks."""


@dataclass(frozen=True, slots=True)
class Initialise:
    """Make the first state, from the newest checkpoint on the volume if there is one; `ready` follows."""


@dataclass(frozen=True, slots=True)
class Restore:
    """Load this state copy; `ready` follows."""

    payload: Payload


@dataclass(frozen=True, slots=True)
class Step:
    """Step the optimizer with the mean of this round; `ready` follows."""

    stamp: Stamp
    total: ExactSum
    weight: int


Effect = Send | Close | Dial | Serve | Stop | Compute | ComputeMany | Initialise | Restore | Step
