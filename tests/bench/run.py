"""`make bench`: what adding up costs, as ratios measured side by side. Nothing is asserted."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from elf_worker.exact import ExactSum

SIZE = 2_500_000
"""Elements: 10 MB of float32."""
ROUNDS = 15


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def side_by_side(works: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Seconds of each, taken in turn, so that a noisy moment hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            times[name].append(seconds(work))
    return times


def main() -> None:
    values = np.random.default_rng(0).standard_normal(SIZE).astype(np.float32)
    plain, exact, other = np.zeros(SIZE, np.float32), ExactSum(SIZE), ExactSum(SIZE)
    other.add(values)
    wire = bytes(other.to_bytes())
    times = side_by_side(
        {
            "float32 +=": lambda: np.add(plain, values, out=plain),
            "exact add": lambda: exact.add(values),
            "exact merge": lambda: exact.merge(other),
            "exact from the wire": lambda: ExactSum.from_bytes(SIZE, wire, other.bound),
        }
    )
    gigabytes = values.nbytes / 1e9
    base = statistics.median(times["float32 +="])
    print(f"{'':22} {'median':>9} {'min':>9} {'max':>9}   GB/s of float32   times plain")
    for name, taken in times.items():
        middle = statistics.median(taken)
        row = f"{name:22} {middle * 1e3:7.2f}ms {min(taken) * 1e3:7.2f}ms {max(taken) * 1e3:7.2f}ms"
        print(f"{row}   {gigabytes / middle:15.2f}   {middle / base:11.2f}")


if __name__ == "__main__":
    main()
