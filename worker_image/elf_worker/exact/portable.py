"""The loops of exact sums in numpy. `kernel.c` has the same, with the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from elf_worker.exact.form import (
    BAD_HEADER,
    BLOCK,
    FINE,
    HALF,
    HIGH_BITS,
    HIGH_MAGIC,
    LOW_BITS,
    LOW_MAGIC,
    MASK,
    MOST_TRAILING,
    NOT_CANONICAL,
    OUT_OF_BOUND,
    RATIO,
    WIDE,
    WRONG_SIZE,
    Bytes,
    Floats,
    Halves,
    Ints,
    blocks_of,
)

Wide = npt.NDArray[np.float64]

_CHUNK: Final = 16 * BLOCK  # elements: the temporaries of one chunk stay in the cache; whole rows of squares


def largest(values: Floats | Halves) -> float:
    """See `Arithmetic.largest`."""
    most = 0.0
    for part in _parts(values.size):
        chunk = values[part]
        exact = _widened(chunk.view(np.uint16)) if chunk.dtype == np.uint16 else chunk
        low, high = float(exact.min()), float(exact.max())
        if low != low or high != high:
            return float("nan")
        most = max(most, -low, high)
    return most


def fold(values: Floats | Halves, high: Ints, low: Ints, fresh: bool = False) -> None:
    """See `Arithmetic.fold`."""
    if fresh:
        _clear(high, low)
    length = min(values.size, _CHUNK)
    all_wide, all_top = np.empty(length), np.empty(length)
    for part in _parts(values.size):
        chunk = values[part]
        wide, top = all_wide[: chunk.size], all_top[: chunk.size]
        wide[:] = _widened(chunk.view(np.uint16)) if chunk.dtype == np.uint16 else chunk
        np.add(wide, HIGH_MAGIC, out=top)
        high[part] += top.view(np.int64)
        top -= HIGH_MAGIC
        wide -= top
        wide += LOW_MAGIC
        low[part] += wide.view(np.int64)


def settle(high: Ints, low: Ints, more_high: int, more_low: int) -> None:
    """See `Arithmetic.settle`."""
    for part in _parts(high.size):
        high[part] -= more_high
        low[part] -= more_low
        carry = low[part] + HALF
        carry >>= RATIO
        if carry.any():
            high[part] += carry
            carry <<= RATIO
            low[part] -= carry


def merge(high: Ints, low: Ints, other_high: Ints, other_low: Ints) -> None:
    """See `Arithmetic.merge`."""
    high += other_high
    low += other_low


def within(values: Ints, most: int) -> bool:
    """See `Arithmetic.within`."""
    return all(
        -most <= int(chunk.min()) and int(chunk.max()) <= most
        for chunk in (values[part] for part in _parts(values.size))
    )


def norm2(values: Floats) -> float:
    """See `Arithmetic.norm2`."""
    row = np.zeros(BLOCK)
    for part in _parts(values.size):
        _add_squares(values[part], row)
    return _halved(row)


def mean(high: Ints, low: Ints, weight: float, mean: Floats) -> None:
    """See `Arithmetic.mean`."""
    for part in _parts(high.size):
        mean[part] = _quotient(high[part], low[part], weight)


def pack(
    high: Ints, low: Ints, more_high: int, more_low: int, tail: bytes = b"", room: Bytes | None = None
) -> memoryview:
    """See `Arithmetic.pack`."""
    settle(high, low, more_high, more_low)
    headers = bytearray()
    bodies: list[bytes] = []
    for part in _parts(high.size, BLOCK):
        width, trailing = _form_of(high[part], low[part])
        headers += bytes((width, trailing))
        if width == WIDE:
            bodies += (high[part].astype("<i8").tobytes(), low[part].astype("<i8").tobytes())
        elif width:
            bodies += _planes(_shifted_right(high[part], low[part], trailing), width)
    return memoryview(b"".join((headers, *bodies, tail)))


def check_packed(payload: Bytes, size: int, bound: int) -> int:
    """See `Arithmetic.check_packed`."""
    trouble = _check_length(payload, size)
    if trouble:
        return trouble
    for _, width, trailing, body in _packed_blocks(payload, size):
        if width == WIDE:
            trouble = _check_limbs(*_limbs(body), bound)
        elif width:
            trouble = _check_planes(_values(body, width), width, (bound << LOW_BITS) >> trailing)
        if trouble:
            return trouble
    return FINE


def merge_packed(payload: Bytes, high: Ints, low: Ints, fresh: bool = False) -> int:
    """See `Arithmetic.merge_packed`."""
    trouble = _check_length(payload, high.size)
    if not trouble:
        if fresh:
            _clear(high, low)
        for part, width, trailing, body in _packed_blocks(payload, high.size):
            if width:
                merge(high[part], low[part], *_unpacked(body, width, trailing))
    return trouble


def mean_packed(payload: Bytes, size: int, weight: float, mean: Floats | None, counted: int) -> float:
    """See `Arithmetic.mean_packed`."""
    if _check_length(payload, size):
        return -1.0
    row = np.zeros(BLOCK)
    for part, width, trailing, body in _packed_blocks(payload, size):
        if width:
            quotient = _quotient(*_unpacked(body, width, trailing), weight)
        else:
            zeros = np.zeros(part.stop - part.start, np.int64)
            quotient = _quotient(zeros, zeros, weight)
        if mean is not None:
            mean[part] = quotient
        _add_squares(quotient[: max(0, counted - part.start)], row)
    return _halved(row)


# -- parts ------------------------------------------------------------------------------------------------


def _parts(size: int, length: int | None = None) -> Iterator[slice]:
    step = length or _CHUNK
    return (slice(start, min(size, start + step)) for start in range(0, size, step))


def _packed_blocks(payload: Bytes, size: int) -> Iterator[tuple[slice, int, int, Bytes]]:
    """(elements, width, trailing zeros, bytes) of each block; the length has been checked."""
    at = 2 * blocks_of(size)
    for index, part in enumerate(_parts(size, BLOCK)):
        width, trailing = int(payload[2 * index]), int(payload[2 * index + 1])
        end = at + width * (part.stop - part.start)
        yield part, width, trailing, payload[at:end]
        at = end


def _clear(high: Ints, low: Ints) -> None:
    high.fill(0)
    low.fill(0)


def _widened(values: Halves) -> Floats:
    return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)


# -- norms and means --------------------------------------------------------------------------------------


def _quotient(high: Ints, low: Ints, weight: float) -> Floats:
    total = high * 2.0**-HIGH_BITS
    total += low * 2.0**-LOW_BITS
    total /= weight
    with np.errstate(over="ignore"):
        return total.astype(np.float32)


def _add_squares(values: Floats, row: Wide) -> None:
    squares = values.astype(np.float64)
    squares *= squares
    for start in range(0, squares.size, BLOCK):
        part = squares[start : start + BLOCK]
        row[: part.size] += part


def _halved(row: Wide) -> float:
    while row.size > 1:
        half = row.size // 2
        row = row[:half] + row[half:]
    return float(row[0])


# -- the packed form --------------------------------------------------------------------------------------


def _form_of(high: Ints, low: Ints) -> tuple[int, int]:
    """(width, trailing zeros): the one form that a block of canonical limbs has."""
    upper, lower = high + (low >> RATIO), low & MASK
    sign = upper >> 63
    any_high, any_low = _any(upper), _any(lower)
    if not any_high and not any_low:
        return 0, 0
    trailing = _zeros_below(any_low) if any_low else RATIO + _zeros_below(any_high)
    upper ^= sign
    lower ^= sign & MASK
    more = _any(upper)
    bits = RATIO + more.bit_length() if more else _any(lower).bit_length()
    width = (bits - trailing + 8) // 8
    return (width, trailing) if width <= 8 else (WIDE, 0)


def _any(values: Ints) -> int:
    return int(np.bitwise_or.reduce(values))


def _zeros_below(value: int) -> int:
    return (value & -value).bit_length() - 1


def _shifted_right(high: Ints, low: Ints, trailing: int) -> Ints:
    if trailing >= RATIO:
        return high >> (trailing - RATIO)
    return (high << (RATIO - trailing)) + (low >> trailing)


def _shifted_left(values: Ints, trailing: int) -> tuple[Ints, Ints]:
    if trailing >= RATIO:
        return values << (trailing - RATIO), np.zeros_like(values)
    high = ((values >> (RATIO - 1 - trailing)) + 1) >> 1
    return high, (values - (high << (RATIO - trailing))) << trailing


def _planes(values: Ints, width: int) -> Iterator[bytes]:
    """The lowest 4 bytes of all elements, then the next 2, then the last one; or 8."""
    done = 0
    for plane in (8, 4, 2, 1):
        if width & plane:
            yield (values >> 8 * done).astype(f"<u{plane}").tobytes()
            done += plane


def _values(body: Bytes, width: int) -> Ints:
    count = body.size // width
    total = np.zeros(count, np.int64)
    done = 0
    for plane in (8, 4, 2, 1):
        if width & plane:
            kind = "i" if done + plane == width else "u"  # the sign is in the highest
            part = body[done * count : (done + plane) * count].view(f"<{kind}{plane}")
            total |= part.astype(np.int64) << 8 * done
            done += plane
    return total


def _limbs(body: Bytes) -> tuple[Ints, Ints]:
    both = body.view("<i8")
    return both[: both.size // 2], both[both.size // 2 :]


def _unpacked(body: Bytes, width: int, trailing: int) -> tuple[Ints, Ints]:
    return _limbs(body) if width == WIDE else _shifted_left(_values(body, width), trailing)


def _check_length(payload: Bytes, size: int) -> int:
    blocks = blocks_of(size)
    if payload.size < 2 * blocks:
        return WRONG_SIZE
    headers = payload[: 2 * blocks].reshape(blocks, 2)
    width, trailing = headers[:, 0].astype(np.int64), headers[:, 1]
    narrow = (width >= 1) & (width <= 8) & (trailing <= MOST_TRAILING)
    if not (narrow | ((width == 0) | (width == WIDE)) & (trailing == 0)).all():
        return BAD_HEADER
    needed = 2 * blocks + BLOCK * int(width.sum())
    if blocks:
        needed -= (blocks * BLOCK - size) * int(width[-1])
    return FINE if needed == payload.size else WRONG_SIZE


def _check_limbs(high: Ints, low: Ints, bound: int) -> int:
    if int(low.min()) < -HALF or int(low.max()) >= HALF:
        return NOT_CANONICAL
    most = bound << HIGH_BITS
    if ((high > most) | (high < -most) | (high == most) & (low > 0) | (high == -most) & (low < 0)).any():
        return OUT_OF_BOUND
    return FINE if _form_of(high, low)[0] == WIDE else NOT_CANONICAL


def _check_planes(values: Ints, width: int, most: int) -> int:
    low, high = int(values.min()), int(values.max())
    reach = max(~low, high)
    if not _any(values) & 1 or (reach.bit_length() + 8) // 8 != width:
        return NOT_CANONICAL
    return FINE if max(-low, high) <= most else OUT_OF_BOUND
