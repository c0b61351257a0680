"""`make bench`: what adding up costs, measured side by side. Nothing is asserted."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from elf_worker.aggregation import robust
from elf_worker.exact import ExactSum, arithmetic, check_packed, check_vector, kernel, mean_of, mean_of_packed
from elf_worker.exact import portable as in_numpy

SIZE = 2_500_000
"""Elements: 10 MB of float32, 40 MB of limbs."""
HOMES = 8
ROUNDS = 15


class Work(NamedTuple):
    """What is timed, with the loops that it is timed with."""

    name: str
    loops: arithmetic.Arithmetic
    act: Callable[[], object]


def seconds(work: Work) -> float:
    """How long it takes once."""
    before, arithmetic.current = arithmetic.current, work.loops
    try:
        began = time.perf_counter()
        work.act()
        return time.perf_counter() - began
    finally:
        arithmetic.current = before


def side_by_side(works: list[Work]) -> list[list[float]]:
    """Seconds of each, taken in turn, so that a noisy moment hits all of them."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(ROUNDS + 1):
        for taken, work in zip(times, works, strict=True):
            taken.append(seconds(work))
    return [taken[1:] for taken in times]  # the first touches the memory


def works() -> tuple[list[Work], dict[str, int]]:
    """What is timed, and how large a sum is on the wire in bytes."""
    rng = np.random.default_rng(0)
    gradients = [(rng.standard_normal(SIZE) * 1e-3).astype(np.float32) for _ in range(HOMES)]
    values = gradients[0]
    halves = (values.view(np.uint32) >> 16).astype(np.uint16)
    plain, exact, other = np.zeros(SIZE, np.float32), ExactSum(SIZE), ExactSum(SIZE)
    for gradient in gradients:
        other.add(gradient)
    limbs, packed, bound = bytes(other.to_bytes()), bytes(other.pack()), other.bound

    def pack() -> None:
        other._grown = 1  # as after a round
        other.pack()

    acts: dict[str, Callable[[], object]] = {
        "add": lambda: exact.add(values),
        "add: its check": lambda: check_vector(values),
        "add: its fold": lambda: exact.fold(values),
        "add bfloat16": lambda: exact.add(halves),
        "merge packed": lambda: exact.merge_packed(packed, bound),
        "merge packed: its check": lambda: check_packed(SIZE, packed, bound),
        "merge limbs": lambda: exact.merge_bytes(limbs, bound),
        "pack": pack,
        "mean": lambda: other.mean(HOMES),
        "mean of limbs": lambda: mean_of(SIZE, limbs, bound, HOMES),
        "mean of packed": lambda: mean_of_packed(SIZE, packed, bound, HOMES),
        "norm": lambda: robust.norm(values),
        "clear": exact.clear,
    }
    out = [Work("float32 +=", in_numpy, lambda: np.add(plain, values, out=plain))]
    compiled = kernel.load()
    if compiled is not None:
        out += [Work(name, compiled, act) for name, act in acts.items()]
    out += [Work(f"{name} (numpy)", in_numpy, act) for name, act in acts.items()]
    return out, {"limbs": len(limbs), "packed": len(packed)}


def main() -> None:
    """Print a table: time, and how much float32 that is a second, whatever the bytes that were touched."""
    timed, sizes = works()
    times = side_by_side(timed)
    base = statistics.median(times[0])
    print(f"{'':32} {'median':>9} {'min':>9} {'max':>9}   GB/s of float32   times plain")
    for work, taken in zip(timed, times, strict=True):
        middle = statistics.median(taken)
        row = f"{work.name:32} {middle * 1e3:7.2f}ms {min(taken) * 1e3:7.2f}ms {max(taken) * 1e3:7.2f}ms"
        print(f"{row}   {4 * SIZE / 1e9 / middle:15.2f}   {middle / base:11.2f}")
    for name, nbytes in sizes.items():
        print(f"{name} of {HOMES} gradients on the wire: {nbytes / SIZE:.2f} bytes an element")


if __name__ == "__main__":
    main()
