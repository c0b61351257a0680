"""Vectors in 16 bits: the same rounding as PyTorch's, at every float32 there is a word for."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from elf_worker.aggregation.precision import BYTES, FLOAT32, decode, encode, nbytes

Floats = npt.NDArray[np.float32]
TORCH = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
NARROW = ["float16", "bfloat16"]
KINDS = [FLOAT32, *NARROW]
LOSS = np.float32(0.1)
"""No 16-bit type holds it."""

patterns = st.one_of(
    st.integers(0, 2**32 - 1),
    # Around every tie of bfloat16, and (in the exponents that float16 has) of float16.
    st.builds(
        lambda top, low: top << 16 | low, st.integers(0, 0xFFFF), st.sampled_from([0x7FFF, 0x8000, 0x8001])
    ),
    st.builds(
        lambda sign, exponent, top, low: sign << 31 | exponent << 23 | top << 13 | low,
        st.integers(0, 1),
        st.integers(127 - 26, 127 + 17),
        st.integers(0, 0x3FF),
        st.sampled_from([0, 0x0FFF, 0x1000, 0x1001, 0x1FFF]),
    ),
)
vectors = st.lists(patterns, max_size=40).map(lambda bits: np.array([*bits, 0], np.uint32).view(np.float32))


def with_loss(values: object, loss: np.float32 = LOSS) -> Floats:
    return np.append(np.asarray(values, np.float32), loss)


def there_and_back(vector: Floats, kind: str) -> Floats:
    return decode(bytes(encode(vector, kind)), kind)


def rounded_by_torch(values: Floats, kind: str) -> Floats:
    found: Floats = torch.from_numpy(values.copy()).to(TORCH[kind]).to(torch.float32).numpy()
    return found


def assert_same(found: Floats, expected: Floats) -> None:
    """Bit for bit; of a NaN only that it is one."""
    assert found.dtype == expected.dtype == np.float32
    nan = np.isnan(expected)
    assert np.array_equal(np.isnan(found), nan)
    assert found[~nan].tobytes() == expected[~nan].tobytes()


@pytest.mark.parametrize("kind", KINDS)
@given(vector=vectors)
def test_the_way_over_the_wire_rounds_as_torch_does(kind: str, vector: Floats) -> None:
    found = there_and_back(vector, kind)
    assert_same(found[:-1], rounded_by_torch(vector[:-1], kind))
    assert found[-1:].tobytes() == vector[-1:].tobytes()


@pytest.mark.parametrize("kind", NARROW)
def test_every_value_of_the_narrow_type_passes_and_so_do_the_middles_between_two(kind: str) -> None:
    """All 65,536 patterns; the float32 just below, at and just above each tie with the next one."""
    every = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(TORCH[kind]).to(torch.float32).numpy()
    assert_same(there_and_back(with_loss(every), kind)[:-1], every)
    finite = np.unique(every[np.isfinite(every)])
    ties = ((finite[:-1].astype(np.float64) + finite[1:]) / 2).astype(np.float32)
    for near in (np.nextafter(ties, np.float32(-np.inf)), ties, np.nextafter(ties, np.float32(np.inf))):
        assert_same(there_and_back(with_loss(near), kind)[:-1], rounded_by_torch(near, kind))


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("bfloat16", 1 + 2.0**-8, 1.0),
        ("bfloat16", 1 + 3 * 2.0**-8, 1 + 2 * 2.0**-7),
        ("bfloat16", float(np.nextafter(np.float32(1 + 2.0**-8), np.float32(2))), 1 + 2.0**-7),
        ("bfloat16", 2.0**-133, 2.0**-133),
        ("bfloat16", 2.0**-134, 0.0),
        ("bfloat16", 2.0**-149, 0.0),
        ("bfloat16", float(np.finfo(np.float32).max), math.inf),
        ("bfloat16", -float(np.finfo(np.float32).max), -math.inf),
        ("float16", 1 + 2.0**-11, 1.0),
        ("float16", 1 + 3 * 2.0**-11, 1 + 2 * 2.0**-10),
        ("float16", 2.0**-24, 2.0**-24),
        ("float16", 2.0**-25, 0.0),
        ("float16", 3 * 2.0**-25, 2.0**-23),
        ("float16", 65519.0, 65504.0),
        ("float16", 65520.0, math.inf),
        ("float16", -1e30, -math.inf),
    ],
)
def test_ties_go_to_even_and_what_is_too_large_becomes_infinite(
    kind: str, value: float, expected: float
) -> None:
    assert there_and_back(with_loss([value]), kind)[0] == np.float32(expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [0x7FC00000, 0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F80FFFF])
def test_nan_stays_nan(kind: str, bits: int) -> None:
    """Also one whose upper half alone would be infinity, or that a carry would make zero."""
    vector = with_loss(np.array([1, bits, 2], np.uint32).view(np.float32))
    assert np.isnan(there_and_back(vector, kind)[1])
    assert np.isfinite(there_and_back(vector, kind)[[0, 2, 3]]).all()


@pytest.mark.parametrize("kind", NARROW)
@pytest.mark.parametrize("sign", [0.0, -0.0])
def test_a_zero_keeps_its_sign(kind: str, sign: float) -> None:
    assert there_and_back(with_loss([sign]), kind)[:1].tobytes() == np.float32(sign).tobytes()


@pytest.mark.parametrize("kind", KINDS)
@given(vector=vectors, loss=st.integers(0, 2**32 - 1))
def test_the_size_on_the_wire_and_the_loss(kind: str, vector: Floats, loss: int) -> None:
    """The loss is a float32 whatever the type: its bits are the last four bytes."""
    vector[-1:].view(np.uint32)[0] = loss
    sent = encode(vector, kind)
    assert (sent.nbytes, sent.itemsize) == (nbytes(vector.size, kind), 1)
    assert bytes(sent[-4:]) == vector[-1:].astype("<f4").tobytes()
    assert decode(bytes(sent), kind)[-1:].tobytes() == vector[-1:].tobytes()


@pytest.mark.parametrize(
    ("size", "kind", "expected"),
    [(1, "float32", 4), (5, "float32", 20), (1, "float16", 4), (5, "float16", 12), (5, "bfloat16", 12)],
)
def test_bytes_on_the_wire(size: int, kind: str, expected: int) -> None:
    assert nbytes(size, kind) == expected


@given(vectors)
def test_float32_is_the_identity(vector: Floats) -> None:
    sent = bytes(encode(vector, FLOAT32))
    assert sent == vector.astype("<f4").tobytes()
    assert decode(sent, FLOAT32).tobytes() == vector.tobytes()


@pytest.mark.parametrize("kind", NARROW)
@given(vector=vectors)
def test_what_was_rounded_once_is_not_rounded_again(kind: str, vector: Floats) -> None:
    """So an MDC adds up exactly what the home has sent."""
    once = there_and_back(vector, kind)
    assert_same(there_and_back(once, kind)[:-1], once[:-1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_any_buffer_is_read_and_no_argument_changed(kind: str, wrap: type) -> None:
    vector = with_loss(np.arange(12, dtype=np.float32)[::2] / 7)
    before = vector.tobytes()
    payload = wrap(bytes(encode(vector, kind)))
    assert_same(decode(payload, kind), with_loss(rounded_by_torch(vector[:-1], kind)))
    assert vector.tobytes() == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_vector_that_is_a_view_with_gaps_is_read_right(kind: str) -> None:
    whole = np.arange(24, dtype=np.float32)
    assert_same(there_and_back(whole[::3], kind), whole[::3].copy())


def test_the_sizes_of_elements_are_those_of_torch() -> None:
    assert set(BYTES) == set(TORCH)
    assert {kind: torch.finfo(TORCH[kind]).bits // 8 for kind in BYTES} == BYTES
