"""A home's vector on the wire: the gradient in the job's element type, then the loss as float32.

Every float16 and bfloat16 is a float32 too, so what an MDC adds up is exact whatever the type; the one
rounding happens at the home, on its own vector alone, and does not depend on who adds it up.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

FLOAT32: Final = "float32"
BYTES: Final = {FLOAT32: 4, "float16": 2, "bfloat16": 2}
"""Bytes of an element, by the name of its type."""


def nbytes(size: int, kind: str) -> int:
    """Bytes on the wire of a vector with `size` elements, its last one (the loss) a float32."""
    return (size - 1) * BYTES[kind] + 4


def encode(vector: Floats, kind: str) -> memoryview:
    """To the wire: float32 of shape `(size,)`, rounded to nearest even. Too large becomes infinity."""
    if kind == FLOAT32:
        return memoryview(np.ascontiguousarray(vector, dtype="<f4").data).cast("B")
    body = _to_bfloat16(vector[:-1]) if kind == "bfloat16" else _to_float16(vector[:-1])
    return memoryview(body.tobytes() + vector[-1:].astype("<f4").tobytes())


def decode(payload: Any, kind: str) -> Floats:
    """From the wire, exactly. The caller has checked that the payload has `nbytes(size, kind)` bytes."""
    if kind == FLOAT32:
        return np.frombuffer(payload, dtype="<f4")
    raw = memoryview(payload).cast("B")
    head, loss = raw[:-4], np.frombuffer(raw[-4:], dtype="<f4")
    if kind == "bfloat16":
        body = (np.frombuffer(head, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        body = np.frombuffer(head, dtype="<f2").astype(np.float32)
    return np.concatenate((body, loss))


def as_sent(rows: Floats, kind: str) -> Floats:
    """What `decode` gives of each of these vectors when `encode` has sent it."""
    if kind == FLOAT32:
        return rows
    out = rows.copy()
    if kind == "bfloat16":
        out[:, :-1] = (_to_bfloat16(rows[:, :-1]).astype(np.uint32) << 16).view(np.float32)
    else:
        out[:, :-1] = _to_float16(rows[:, :-1])
    return out


def _to_float16(values: Floats) -> npt.NDArray[np.float16]:
    with np.errstate(over="ignore"):
        return values.astype("<f2")


def _to_bfloat16(values: Floats) -> npt.NDArray[np.uint16]:
    """The upper halves of the float32 patterns, rounded to nearest even; NaN stays NaN."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)
    return np.where(np.isnan(values), np.uint32(0x7FC0), rounded >> 16).astype("<u2")
