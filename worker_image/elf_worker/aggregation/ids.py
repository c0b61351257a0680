"""Sets of home ids as bit masks: union, intersection and disjointness at machine speed, one bit a home."""

from __future__ import annotations

from collections.abc import Iterable


def mask_of(ids: Iterable[int]) -> int:
    """The set as an integer whose bit `i` says whether home `i` is in it."""
    mask = 0
    for i in ids:
        mask |= 1 << i
    return mask


def ids_of(mask: int) -> list[int]:
    """Inverse of `mask_of`, ascending."""
    ids = []
    while mask:
        low = mask & -mask
        ids.append(low.bit_length() - 1)
        mask ^= low
    return ids


def full(count: int) -> int:
    """All homes `0 .. count-1`."""
    return (1 << count) - 1


def to_wire(mask: int) -> bytes:
    """Little-endian bytes, as short as the highest member allows."""
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


def from_wire(data: bytes) -> int:
    """Inverse of `to_wire`."""
    return int.from_bytes(data, "little")
