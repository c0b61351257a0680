"""Everything that travels between home, MDC and NPDC. The codec is msgspec's MessagePack.

A frame is one message and, for some, a payload: raw little-endian bytes that never pass through the codec
(weights and gradients as float32, sums as `ExactSum.to_bytes`, state copies as the NPDC wrote them).
Sets of homes travel as `elf_worker.aggregation.ids.to_wire`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import msgspec


class Stamp(NamedTuple):
    """Names one published model: the weights after `round` rounds, computed by NPDC incarnation `born`.

    Equal stamps of one job mean equal weights, so a gradient computed for a stamp stays good for as long as
    that stamp is current, whichever NPDC asks.
    """

    round: int
    born: int


@dataclass(frozen=True, slots=True)
class Discarded:
    """Stands for a payload of so many bytes that there was no room for. It was read and forgotten."""

    size: int
    crowded: bool = False
    """It would have been taken, but it came so slowly that others were given its room: ask again."""


class _Message(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    pass


class Register(_Message, frozen=True):
    """MDC → NPDC, first on a connection: who I am, where my homes can reach me, which state copy I hold."""

    version: int
    job: str
    index: int
    incarnation: int
    uid: str
    address: str
    holds: tuple[int, Stamp] | None
    """(epoch that wrote the copy, its stamp)."""
    node: str = ""
    """The cluster's node that it runs on, for copies of the state shall not all be on one. Empty: unknown."""
    acted: bool = False
    """It has been welcome before, so homes may be with it: it does not wait for a predecessor."""


class Welcome(_Message, frozen=True):
    """NPDC → MDC: you are current. `epoch` is the NPDC's incarnation."""

    epoch: int


class Turned(_Message, frozen=True):
    """Parent → child, last on a connection: I will not talk to you, and why. `final`: do not come back."""

    reason: str
    message: str
    final: bool


class Assign(_Message, frozen=True):
    """NPDC → MDC: the homes you serve, and those of all homes that are settled in the round of `stamp`."""

    stamp: Stamp | None
    homes: bytes
    settled: bytes
    absent: bytes = b""
    """Homes not to wait for. If one has something to say all the same, it counts."""


class Work(_Message, frozen=True):
    """Parent → child, payload the weights: compute this round."""

    epoch: int
    stamp: Stamp
    trace: str = ""
    """W3C `traceparent` of the span that this work belongs to, or empty."""


class Pace(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What an MDC tells of its time in a round, so that it is not blamed for its homes'. Part of no sum."""

    held: float
    """Seconds from having the weights to sending the sum."""
    way: float = 0.0
    """Seconds that vectors needed beyond their homes' own work: the lower middle of its pods of homes."""


class Submit(_Message, frozen=True):
    """MDC → NPDC, payload an exact sum (`ExactSum.pack`): what these members add up to.

    `failed` homes have none in it.
    After the sum (which is absent without members) come the statistics of all these homes.
    """

    stamp: Stamp
    members: bytes
    failed: bytes
    weight: int
    bound: int
    reasons: dict[str, int]
    """Why homes failed, counted."""
    sample: str
    """One failure in words, or empty."""
    refused: dict[str, int]
    """Messages of homes that were not counted, by reason, since the last Submit that was accepted."""
    extra: int = 0
    """Bytes at the end of the payload that are statistics."""
    pace: Pace | None = None


class Accepted(_Message, frozen=True):
    """NPDC → MDC: these members are settled; forget them."""

    stamp: Stamp
    members: bytes


class Rejected(_Message, frozen=True):
    """NPDC → MDC: nothing of that Submit was taken. `settled` says who needs no counting any more."""

    stamp: Stamp
    reason: str
    message: str
    settled: bytes


class Flush(_Message, frozen=True):
    """NPDC → MDC: the deadline is past; send what you have, and what still comes as it comes."""

    stamp: Stamp


class Watch(_Message, frozen=True):
    """NPDC → MDC, and on to pods that bundle: keep the paths of these homes in the statistics."""

    homes: bytes


class Keep(_Message, frozen=True):
    """NPDC → MDC, payload what belongs to a state beside the weights: hold both for my successor."""

    epoch: int
    stamp: Stamp


class Fetch(_Message, frozen=True):
    """NPDC → MDC: give me the state you hold."""


class Copy(_Message, frozen=True):
    """MDC → NPDC, payload the state that it holds: weights, then the rest."""

    epoch: int
    stamp: Stamp


class Locate(_Message, frozen=True):
    """Home → NPDC: which MDC serves these homes? Answered when there is one."""

    version: int
    job: str
    homes: bytes


class Located(_Message, frozen=True):
    """NPDC → home: these homes belong to the MDC at `address`, and this is who must be there."""

    homes: bytes
    address: str
    index: int = -1
    incarnation: int = -1


class Hello(_Message, frozen=True):
    """Home → MDC: these homes are here, and this is the newest model they have."""

    version: int
    job: str
    homes: bytes
    epoch: int
    stamp: Stamp | None


class Want(_Message, frozen=True):
    """MDC → home: you have the weights; I lack the gradients of these homes."""

    stamp: Stamp
    homes: bytes


class Facts(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a home tells about its work on one vector. It is not part of any sum."""

    waiting: float = 0.0
    """Seconds in its pod before its turn came."""
    computing: float = 0.0
    """Seconds of work."""
    batch_sizes: tuple[int, ...] = ()
    classes: dict[str, int] = {}
    """Examples of each class."""


class Offer(_Message, frozen=True):
    """Home → MDC, payload the vector: gradient times weight, then loss times weight.

    `precision` names the element type of the gradient, as in `elf_worker.aggregation.precision`.
    """

    home: int
    stamp: Stamp
    weight: int
    precision: str = "float32"
    facts: Facts = Facts()


class Bundle(_Message, frozen=True):
    """Home → MDC, payload as of a Submit: what these homes of one pod add up to, none of them said otherwise.

    The sets of homes in `sum` begin at `first`: its bit 0 is that home.
    """

    first: int
    sum: Submit
    mdc: int
    """Index of the MDC that it was made for: its statistics say so."""
    held: float = 0.0
    """Seconds from having the weights to sending this. Part of no sum."""


class Failed(_Message, frozen=True):
    """Home → MDC: this home has no gradient for this round, and why."""

    home: int
    stamp: Stamp
    reason: str
    message: str


class Refused(_Message, frozen=True):
    """MDC → home: that offer was not counted, and why."""

    home: int
    stamp: Stamp
    reason: str
    message: str


class Moved(_Message, frozen=True):
    """MDC → home: these homes are not mine; ask the NPDC."""

    homes: bytes


class Finish(_Message, frozen=True):
    """Parent → child: the job has ended."""

    outcome: str
    message: str


Message = (
    Register
    | Welcome
    | Turned
    | Assign
    | Work
    | Submit
    | Accepted
    | Rejected
    | Flush
    | Watch
    | Keep
    | Fetch
    | Copy
    | Locate
    | Located
    | Hello
    | Want
    | Offer
    | Bundle
    | Failed
    | Refused
    | Moved
    | Finish
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """The message as MessagePack."""
    return _encoder.encode(message)


def decode(data: bytes | bytearray | memoryview) -> Message:
    """Inverse of `encode`. Raises msgspec.DecodeError for anything else."""
    return _decoder.decode(data)
