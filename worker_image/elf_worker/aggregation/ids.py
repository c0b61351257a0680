"""Sets of home ids as bit masks: union, intersection and disjointness at machine speed, one bit a home."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

_FEW = 64
"""So many ids and fewer are quicker one by one."""


def mask_of(ids: Iterable[int]) -> int:
    """The set as an integer whose bit `i` says whether home `i` is in it. Time linear in the highest id."""
    if isinstance(ids, range) and ids.step == 1:
        return span(ids.start, len(ids))
    found = list(ids)
    if len(found) > _FEW:
        present = np.zeros(max(found) + 1, np.bool_)
        present[found] = True
        return int.from_bytes(np.packbits(present, bitorder="little").tobytes(), "little")
    mask = 0
    for i in found:
        mask |= 1 << i
    return mask


def ids_of(mask: int) -> list[int]:
    """Inverse of `mask_of`, ascending. Time linear in the highest id."""
    if mask.bit_count() > _FEW:
        start = lowest(mask)
        bits = np.unpackbits(np.frombuffer(to_wire(mask >> start), np.uint8), bitorder="little")
        found: list[int] = (np.flatnonzero(bits) + start).tolist()
        return found
    ids = []
    while mask:
        low = mask & -mask
        ids.append(low.bit_length() - 1)
        mask ^= low
    return ids


def full(count: int) -> int:
    """All homes `0 .. count-1`."""
    return (1 << count) - 1


def span(first: int, count: int) -> int:
    """Homes `first .. first+count-1`."""
    return full(count) << first


def lowest(mask: int) -> int:
    """The smallest id of a set that is not empty."""
    return (mask & -mask).bit_length() - 1


def windows(mask: int, width: int) -> Iterator[int]:
    """The set cut where ids are multiples of `width`, ascending; nothing that is empty."""
    if not mask:
        return
    first = lowest(mask) // width * width
    rest, inner = mask >> first, full(width)
    data = to_wire(rest)
    if width % 8 == 0:  # one look at each byte; shifting the rest down again and again would be quadratic
        step = width // 8
        for place in range(0, len(data), step):
            if part := int.from_bytes(data[place : place + step], "little"):
                yield part << (first + 8 * place)
        return
    while rest:
        if part := rest & inner:
            yield part << first
        rest >>= width
        first += width


def to_wire(mask: int) -> bytes:
    """Little-endian bytes, as short as the highest member allows."""
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


def from_wire(data: bytes) -> int:
    """Inverse of `to_wire`."""
    return int.from_bytes(data, "little")
