"""Frame layout, little-endian: magic (4 bytes), message length (4), payload length (8), message, payload.

A frame with neither message nor payload is a heartbeat.
"""

from __future__ import annotations

import struct

from elf_worker.contract import MAX_PAYLOAD

MAGIC = b"ELF1"
HEADER = struct.Struct("<4sIQ")
MAX_MESSAGE = 1 << 20
"""Bytes. A bit mask of a million homes takes an eighth of it."""


class BadFrameError(ValueError):
    """Not a frame of ours: the connection is of no further use."""


def header(message: int, payload: int) -> bytes:
    """The header of a frame with these lengths in bytes."""
    return HEADER.pack(MAGIC, message, payload)


def parse_header(data: bytes | bytearray | memoryview) -> tuple[int, int]:
    """(message, payload) lengths. Raises BadFrameError for a foreign or oversized header."""
    magic, message, payload = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise BadFrameError(f"not an ELF1 frame: it begins with {bytes(magic)!r}")
    check_sizes(message, payload)
    return message, payload


def check_sizes(message: int, payload: int) -> None:
    """Raises BadFrameError for a frame that is larger than any of ours."""
    if message > MAX_MESSAGE or payload > MAX_PAYLOAD:
        raise BadFrameError(f"a frame of {message} + {payload} bytes, at most {MAX_MESSAGE} + {MAX_PAYLOAD}")


HEARTBEAT = header(0, 0)
