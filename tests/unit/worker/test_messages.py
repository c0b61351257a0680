"""Every message survives the wire, and nothing else is taken for one."""

from __future__ import annotations

import typing

import msgspec
import pytest

from elf_worker import messages
from elf_worker.messages import Stamp

STAMP = Stamp(3, 1)
EXAMPLES = [
    messages.Register(1, "job", 2, 3, "uid", "10.0.0.1:7733", (1, STAMP)),
    messages.Register(1, "job", 2, 3, "uid", "10.0.0.1:7733", None),
    messages.Welcome(1),
    messages.Turned("Fenced", "why", True),
    messages.Assign(None, b"\x01", b""),
    messages.Assign(STAMP, b"\x01", b"\xff\x00\x01"),
    messages.Work(1, STAMP),
    messages.Work(1, STAMP, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    messages.Watch(b"\x03"),
    messages.Submit(STAMP, b"\x03", b"\x04", 7, 9, {"NonFinite": 1}, "home 2: NaN", {"StaleRound": 2}),
    messages.Accepted(STAMP, b"\x07"),
    messages.Rejected(STAMP, "Overlap", "why", b"\x01"),
    messages.Flush(STAMP),
    messages.Keep(1, STAMP),
    messages.Fetch(),
    messages.Copy(1, STAMP),
    messages.Locate(1, "job", b"\x01"),
    messages.Located(b"\x01", "10.0.0.2:7733"),
    messages.Hello(1, "job", b"\x01", -1, None),
    messages.Hello(1, "job", b"\x01", 0, STAMP),
    messages.Want(STAMP, b"\x01"),
    messages.Offer(5, STAMP, 12),
    messages.Offer(5, STAMP, 12, "bfloat16", messages.Facts(0.5, 0.25, (32, 7), {"3": 12})),
    messages.Bundle(
        8, messages.Submit(STAMP, b"\x03", b"\x04", 7, 9, {"NonFinite": 1}, "home 10: NaN", {}, 5), 1, 0.25
    ),
    messages.Failed(5, STAMP, "TaskFailed", "why"),
    messages.Refused(5, STAMP, "NotMine", "why"),
    messages.Moved(b"\x01"),
    messages.Finish("Complete", "done"),
]


def test_there_is_an_example_of_every_message() -> None:
    assert {type(m) for m in EXAMPLES} == set(typing.get_args(messages.Message))


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_the_wire_changes_nothing(message: messages.Message) -> None:
    """Types included: a stamp that came back as a list would equal no other."""
    back = messages.decode(messages.encode(message))
    assert back == message
    assert type(back) is type(message)
    stamp = getattr(back, "stamp", None)
    assert stamp is None or isinstance(stamp, Stamp)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode(["Nonsense", 1]),
        msgspec.msgpack.encode(["Welcome", "one"]),
        msgspec.msgpack.encode(["Welcome"]),
        msgspec.msgpack.encode(["Work", 1, [3]]),
        msgspec.msgpack.encode(["Accepted", [3, 1], "text"]),
        msgspec.msgpack.encode({"type": "Welcome", "epoch": 1}),
        messages.encode(messages.Welcome(1)) + b"\x00",
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        messages.decode(data)


def test_stamps_order_by_round_first() -> None:
    assert max(Stamp(2, 5), Stamp(3, 0)) == Stamp(3, 0)
    assert max((2, Stamp(1, 0)), (1, Stamp(9, 1))) == (2, Stamp(1, 0))
