"""The compiled loops and numpy's: the same bits, on every instruction set, at every address."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from elf_worker.exact import ExactSum, NotSummableError, arithmetic, kernel, max_packed_bytes, portable
from elf_worker.exact.form import BLOCK, FINE, HALF, OUT_OF_BOUND
from kernels import compiled, using

SIZES = (0, 1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 700)
LARGE_BOUND = 2**32 - 1

special = st.sampled_from(
    [
        *(0.0, -0.0, 2.0**-149, -(2.0**-149), 2.0**-126, -(2.0**-127), 2.0**-75, -(2.0**-75)),
        *(1.5 * 2.0**-75, 2.5 * 2.0**-75, -1.5 * 2.0**-75, 2.0**-76, 1.5 * 2.0**-76, 2.0**-52),
        *(2.0**-31, 1.5 * 2.0**-30, float(np.float32(2.0**21 - 0.125)), -(2.0**20)),
    ]
)
INSTRUCTIONS = {1: "AVX2", 2: "AVX-512 (F, DQ, VL, BW)"}
"""By the kernel's level; level 0 needs none."""
patterns = st.integers(0, 2**32 - 1)
sizes = st.sampled_from(SIZES)
offsets = st.integers(0, 7)


@pytest.fixture(scope="module", params=[0, 1, 2])
def loops(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[kernel.Kernel]:
    """The compiled loops with each set of instructions that this processor has."""
    found = compiled(lambda: tmp_path_factory.mktemp("kernel"))
    if found.level(request.param) < request.param:
        found.level(2)
        pytest.skip(f"this processor lacks {INSTRUCTIONS[request.param]}: run it on a machine that has it")
    yield found
    found.level(2)


def moved(array: np.ndarray, offset: int) -> np.ndarray:
    """The same elements at an address of this remainder."""
    room = np.zeros(array.nbytes + 16, np.uint8)
    start = -room.ctypes.data % 8 + offset
    at = room[start : start + array.nbytes]
    at[:] = array.view(np.uint8)
    return at.view(array.dtype)


def spread(size: int, some: list[int], seed: int) -> np.ndarray:
    """`size` elements of float32: these patterns at places drawn from a seed, among all magnitudes."""
    rng = np.random.default_rng(seed)
    values = (rng.standard_normal(size) * 10.0 ** rng.uniform(-40, 5, size)).astype(np.float32)
    if size and some:
        values[rng.integers(0, size, len(some))] = np.array(some, np.uint32).view(np.float32)
    return values


def as_patterns(values: list[float]) -> list[int]:
    return [int(x) for x in np.array(values, np.float32).view(np.uint32)]


finite = st.builds(
    spread,
    sizes,
    st.lists(special, max_size=20).map(as_patterns),
    st.integers(0, 2**32),
)


def folded(
    loops: arithmetic.Arithmetic, values: list[np.ndarray], size: int
) -> tuple[np.ndarray, np.ndarray]:
    high, low = np.zeros(size, np.int64), np.zeros(size, np.int64)
    for part in values:
        loops.fold(part, high, low)
    return high, low


def limbs_of(values: list[np.ndarray], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Canonical limbs of their sum."""
    with using(portable):
        total = ExactSum(size)
        for part in values:
            total.fold(part)
        total._settle()
        return total._high, total._low


def same(a: float, b: float) -> bool:
    """Bit for bit, but one NaN is as good as another."""
    return np.float64(a).tobytes() == np.float64(b).tobytes() or (a != a and b != b)


# -- vectors ----------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(sizes, st.lists(patterns, max_size=5), st.integers(0, 2**32), offsets)
def test_the_largest_magnitude(loops, size, some, seed, offset):
    values = moved(spread(size, some, seed), offset)
    halves = moved((values.view(np.uint32) >> 16).astype(np.uint16), offset)
    assert same(loops.largest(values), portable.largest(values))
    assert same(loops.largest(halves), portable.largest(halves))


@settings(max_examples=60)
@given(finite, offsets)
def test_folding(loops, values, offset):
    values = moved(values, offset)
    halves = moved((values.view(np.uint32) >> 16).astype(np.uint16), offset)
    for given_values in (values, halves):
        ours, theirs = (folded(which, [given_values] * 3, values.size) for which in (loops, portable))
        assert np.array_equal(ours, theirs)


@settings(max_examples=40)
@given(finite, offsets)
def test_folding_into_limbs_that_mean_nothing(loops, values, offset):
    values = moved(values, offset)
    for part in (values, moved((values.view(np.uint32) >> 16).astype(np.uint16), offset)):
        for which in (loops, portable):
            high, low = np.full(part.size, -7, np.int64), np.full(part.size, 1 << 62, np.int64)
            which.fold(part, high, low, fresh=True)
            assert np.array_equal((high, low), folded(portable, [part], part.size))


@settings(max_examples=30)
@given(finite)
def test_bfloat16_is_folded_as_the_float32_that_it_is(loops, values):
    halves = (values.view(np.uint32) >> 16).astype(np.uint16)
    widened = (halves.astype(np.uint32) << 16).view(np.float32)
    for which in (loops, portable):
        with using(which):
            sums = [ExactSum(values.size) for _ in range(2)]
            sums[0].add(halves)
            sums[1].add(widened)
            assert sums[0].bound == sums[1].bound
            assert sums[0].to_bytes() == sums[1].to_bytes()


@settings(max_examples=40)
@given(sizes, st.lists(patterns, max_size=5), st.integers(0, 2**32), offsets)
def test_the_sum_of_squares(loops, size, some, seed, offset):
    values = moved(spread(size, some, seed), offset)
    with np.errstate(all="ignore"):
        assert same(loops.norm2(values), portable.norm2(values))


def test_the_sum_of_squares_is_made_in_rows_and_halves():
    """Written down once more: digests of models depend on it."""
    values = np.random.default_rng(1).standard_normal(3 * BLOCK + 100).astype(np.float32)
    row = np.zeros(BLOCK)
    for start in range(0, values.size, BLOCK):
        part = values[start : start + BLOCK].astype(np.float64)
        row[: part.size] += part * part
    while row.size > 1:
        half = row.size // 2
        row = row[:half] + row[half:]
    assert portable.norm2(values) == row[0]


# -- limbs ------------------------------------------------------------------------------------------------

any_limb = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**46), 2**46),
    st.sampled_from([HALF, -HALF, HALF - 1, -HALF - 1, 2**63 - 1, -(2**63)]),
)
any_limbs = st.integers(0, 600).flatmap(
    lambda n: arrays.arrays(np.int64, n, elements=any_limb, fill=st.just(0))
)


@settings(max_examples=60)
@given(any_limbs, any_limb, any_limb, offsets)
def test_settling_and_merging_limbs(loops, limbs, more_high, more_low, offset):
    others = moved(limbs[::-1].copy(), offset)
    found = []
    for which in (loops, portable):
        high, low = limbs.copy(), np.roll(limbs, 1)
        which.merge(high, low, others, limbs)
        which.settle(high, low, more_high, more_low)
        found.append((high, low))
    assert np.array_equal(found[0], found[1])


@settings(max_examples=60)
@given(any_limbs, any_limb.map(abs).filter(lambda most: most < 2**63), offsets)
def test_limits_of_limbs(loops, limbs, most, offset):
    limbs = moved(limbs, offset)
    expected = all(abs(int(x)) <= most for x in limbs)
    assert loops.within(limbs, most) == portable.within(limbs, most) == expected


@settings(max_examples=60)
@given(any_limbs, st.one_of(st.integers(1, 2**24), st.floats(1e-30, 1e30)), offsets)
def test_means_of_limbs(loops, limbs, weight, offset):
    low, high, found = moved(limbs[::-1].copy(), offset), moved(limbs, offset), []
    with np.errstate(over="ignore"):
        for which in (loops, portable):
            mean = moved(np.zeros(limbs.size, np.float32), offset)
            which.mean(high, low, float(weight), mean)
            found.append(mean.tobytes())
    assert found[0] == found[1]


@settings(max_examples=30)
@given(finite, st.integers(1, 100), st.integers(0, 3 * BLOCK))
def test_means_of_vectors_longer_than_a_block(loops, values, weight, counted):
    high, low = limbs_of([values, values[::-1].copy()], values.size)
    with using(loops):
        packed = np.frombuffer(
            ExactSum.from_bytes(values.size, np.concatenate((high, low)).tobytes(), LARGE_BOUND).pack(),
            np.uint8,
        )
    found = []
    for which in (loops, portable):
        mean, of_packed = np.zeros(values.size, np.float32), np.zeros(values.size, np.float32)
        which.mean(high, low, float(weight), mean)
        norm2 = which.mean_packed(packed, values.size, float(weight), of_packed, counted)
        assert norm2 == which.mean_packed(packed, values.size, float(weight), None, counted)
        assert norm2 == portable.norm2(mean[:counted])
        found += [mean.tobytes(), of_packed.tobytes()]
    assert len(set(found)) == 1


# -- the packed form --------------------------------------------------------------------------------------


def blocky(draw: Callable[..., int], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Canonical limbs of integers with as many zeros below and as many digits as is drawn for each block."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values: list[int] = []
    while len(values) < size:
        count = min(BLOCK, size - len(values))
        digits = draw(st.integers(0, 107))
        zeros = draw(st.integers(0, digits))
        sign = draw(st.sampled_from([-1, 1, 0]))
        for raw in (rng.bytes(14 * count),):
            for i in range(count):
                part = (
                    int.from_bytes(raw[14 * i : 14 * i + 14], "little") % 2 ** max(digits, 0)
                    >> zeros
                    << zeros
                )
                values.append(part * (sign or (1 if raw[14 * i] & 1 else -1)))
        if count and draw(st.booleans()):  # the ends of a width
            values[-1] = draw(st.sampled_from([-(2**digits), 2**digits - 1 >> zeros << zeros]))
    low = [(value + HALF) % (2 * HALF) - HALF for value in values]
    high = [(value - part) >> 45 for value, part in zip(values, low, strict=True)]
    return np.array(high, np.int64), np.array(low, np.int64)


@st.composite
def canonical(draw: Callable[..., int]) -> tuple[np.ndarray, np.ndarray]:
    return blocky(draw, draw(st.sampled_from([0, 1, 7, 100, BLOCK + 1])))


@settings(max_examples=80)
@given(canonical(), offsets)
def test_packing(loops, limbs, offset):
    high, low = limbs
    found = []
    for which in (loops, portable):
        mine = high.copy(), low.copy()
        found.append(bytes(which.pack(*mine, 0, 0)))
        assert np.array_equal(mine, limbs)
    assert found[0] == found[1]
    assert len(found[0]) <= max_packed_bytes(high.size)
    payload = moved(np.frombuffer(found[0], np.uint8), offset)
    for which in (loops, portable):
        assert which.check_packed(payload, high.size, LARGE_BOUND) in (FINE, OUT_OF_BOUND)  # -2^107 is beyond
        mine = np.ones_like(high), np.full_like(low, -5)
        assert which.merge_packed(payload, *mine) == FINE
        assert np.array_equal(mine[0] - 1, high)
        assert np.array_equal(mine[1] + 5, low)
        assert which.merge_packed(payload, *mine, fresh=True) == FINE
        assert np.array_equal(mine, (high, low))


@settings(max_examples=80)
@given(canonical(), st.data())
def test_a_magnitude_may_reach_the_bound_and_not_pass_it(loops, limbs, data):
    high, low = limbs
    payload = np.frombuffer(portable.pack(high, low, 0, 0), np.uint8)
    largest = max((abs((int(h) << 45) + int(x)) for h, x in zip(high, low, strict=True)), default=0)
    least = -(-largest // 2**75)
    for bound in (least, least - 1, data.draw(st.integers(0, LARGE_BOUND))):
        if 0 <= bound <= LARGE_BOUND:
            expected = FINE if largest <= bound << 75 else OUT_OF_BOUND
            for which in (loops, portable):
                assert which.check_packed(payload, high.size, bound) == expected


@settings(max_examples=300)
@given(canonical(), st.data())
def test_hostile_bytes(loops, limbs, data):
    """They are refused by both for the same reason, or they are a sum, and then its only form."""
    size = limbs[0].size
    wire = bytearray(portable.pack(*limbs, 0, 0))
    for _ in range(data.draw(st.integers(1, 3))):
        act = data.draw(st.sampled_from(["set", "header", "cut", "insert"]))
        at = data.draw(st.integers(0, max(0, len(wire) - 1)))
        if act == "header":
            at = data.draw(st.integers(0, 3))
        if act in ("set", "header") and at < len(wire):
            wire[at] = data.draw(st.one_of(st.integers(0, 20), st.integers(0, 255)))
        elif act == "cut":
            del wire[at : at + data.draw(st.sampled_from([1, 8, len(wire)]))]
        elif act == "insert":
            wire[at:at] = data.draw(st.binary(min_size=1, max_size=8))
    bound = data.draw(st.sampled_from([0, 1, 2**20, LARGE_BOUND]))
    payload = np.frombuffer(bytes(wire), np.uint8)
    words = [which.check_packed(payload, size, bound) for which in (loops, portable)]
    assert words[0] == words[1]
    for which in (loops, portable):
        with using(which):
            total = ExactSum(size)
            total.add(np.full(size, 0.25, np.float32))
            before = bytes(total.pack()), total.bound
            try:
                total.merge_packed(bytes(wire), bound)
            except NotSummableError as error:
                assert error.reason in ("WrongSize", "OutOfRange", "Overflow")
                assert (bytes(total.pack()), total.bound) == before
                continue
            assert words[0] == FINE
            total._settle()
            assert all(
                abs((int(h) << 45) + int(x)) <= total.bound << 75
                for h, x in zip(total._high, total._low, strict=True)
            )
            total.fold(np.full(size, -0.25, np.float32))
            assert total.pack() == wire


@settings(max_examples=60)
@given(canonical(), st.data())
def test_a_fold_of_unchecked_bytes_stays_within_them(loops, limbs, data):
    """What nobody may do; it adds nonsense or refuses, and reads no byte that is not there."""
    size = limbs[0].size
    wire = bytearray(portable.pack(*limbs, 0, 0))
    if wire:
        wire[data.draw(st.integers(0, min(len(wire), 8) - 1))] = data.draw(st.integers(0, 255))
    payload = np.frombuffer(bytes(wire), np.uint8)
    results = []
    for which in (loops, portable):
        high, low, mean = np.zeros(size, np.int64), np.zeros(size, np.int64), np.ones(size, np.float32)
        word = which.merge_packed(payload, high, low)
        norm2 = which.mean_packed(payload, size, 3.0, mean, size)
        assert (norm2 < 0) == (word != FINE)
        if word != FINE:
            assert not high.any() and not low.any() and (mean == 1).all()
        results.append((word, high.tobytes(), low.tobytes(), mean.tobytes()))
    assert results[0] == results[1]


# -- which loops ------------------------------------------------------------------------------------------


def test_the_environment_chooses_the_loops(monkeypatch, tmp_path):
    assert arithmetic.choose("portable") is portable
    with pytest.raises(ValueError, match="compiled or portable"):
        arithmetic.choose("fast")
    kernel.load.cache_clear()
    try:
        monkeypatch.setattr(kernel, "LIBRARY", tmp_path / "none.so")
        assert arithmetic.choose("") is portable
        assert not kernel.available()
        with pytest.raises(RuntimeError, match="missing"):
            arithmetic.choose("compiled")
    finally:
        kernel.load.cache_clear()


@pytest.mark.parametrize("content", [b"", b"no library"])
def test_a_file_that_is_no_kernel_is_left_alone(monkeypatch, tmp_path, content):
    (tmp_path / "odd.so").write_bytes(content)
    monkeypatch.setattr(kernel, "LIBRARY", tmp_path / "odd.so")
    kernel.load.cache_clear()
    try:
        assert arithmetic.choose("") is portable
    finally:
        kernel.load.cache_clear()
