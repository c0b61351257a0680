"""What adding up costs: the compiled loops, numpy's, and a plain float32 `+=`, in turn in one process.

    python tests/bench/sums.py

Two figures a second are shown. GB/s of float32 are four bytes an element, whatever memory is touched and
whatever travels. GB/s of payload are the bytes of a packed sum as it comes from the wire, here that of eight
gradients; reading and writing the 16 bytes an element that it is added to is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import harness
import numpy as np
from harness import Ratio, Row, Table

from elf_worker.aggregation import robust
from elf_worker.exact import (
    ExactSum,
    arithmetic,
    check_packed,
    check_vector,
    kernel,
    measures_of_packed,
)
from elf_worker.exact import portable as in_numpy

SIZE = 2_500_000
"""Elements: 10 MB of float32, 40 MB of limbs."""
HOMES = 8
PLAIN, ADD, MERGE = "float32 `+=`", "add, with its check", "merge packed, with its check"
ADD_GBS, MERGE_GBS = 2.0, 3.0
"""Wanted of the compiled loops: GB/s of float32, and of payload."""
FLOATS, PAYLOAD = "GB/s of float32", "GB/s of payload"


def main() -> None:
    options = harness.parser(__doc__, rounds=15)
    given = options.parse_args()
    acts, sizes = works()
    compiled = kernel.load()
    loops = {"compiled": compiled, "numpy": in_numpy} if compiled is not None else {"numpy": in_numpy}
    timed = {PLAIN: _timed(in_numpy, acts.pop(PLAIN))}
    timed |= {f"{how} {name}": _timed(used, act) for name, act in acts.items() for how, used in loops.items()}
    for work in timed.values():
        work()  # the first touches the memory
    taken = harness.side_by_side(timed, 3 if given.quick else given.rounds)
    wire = [
        Row(f"{name} sum of {HOMES} gradients", "bytes an element", [nbytes / SIZE])
        for name, nbytes in sizes.items()
    ]
    plain = Row(PLAIN, FLOATS, _rates(taken[PLAIN], 4 * SIZE))
    tables = [_table(how, acts, taken, sizes["packed"], plain) for how in loops]
    harness.finish("sums", [*tables, Table("On the wire", wire)], given.quick)


def _table(
    how: str, acts: Mapping[str, object], taken: Mapping[str, list[float]], packed: int, plain: Row
) -> Table:
    """One kind of loops; what is wanted is wanted of the compiled ones, and they are set beside numpy's."""
    compiled = how == "compiled"
    table = Table(f"{SIZE:,} elements, one thread, {'compiled loops' if compiled else 'loops of numpy'}")
    table.rows.append(plain)
    for name in acts:
        target = ADD_GBS if compiled and name == ADD else None
        rates = _rates(taken[f"{how} {name}"], 4 * SIZE)
        table.rows.append(Row(name, FLOATS, rates, target=target, at_least=True))
        if name == MERGE:
            rates, target = _rates(taken[f"{how} {name}"], packed), MERGE_GBS if compiled else None
            note = f"{packed / SIZE:.2f} bytes an element"
            table.rows.append(Row(name, PAYLOAD, rates, note, target, at_least=True))
        if compiled:
            pair = (taken[f"numpy {name}"], taken[f"compiled {name}"])
            table.ratios.append(Ratio.paired(f"{name}: compiled / numpy, speed", *pair))
    return table


def _rates(seconds: list[float], nbytes: int) -> list[float]:
    return [nbytes / 1e9 / each for each in seconds]


def _timed(loops: arithmetic.Arithmetic, act: Callable[[], object]) -> Callable[[], float]:
    """How long it takes once, with these loops."""

    def seconds() -> float:
        before, arithmetic.current = arithmetic.current, loops
        try:
            began = time.perf_counter()
            act()
            return time.perf_counter() - began
        finally:
            arithmetic.current = before

    return seconds


def works() -> tuple[dict[str, Callable[[], object]], dict[str, int]]:
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
        PLAIN: lambda: np.add(plain, values, out=plain),
        ADD: lambda: exact.add(values),
        "its check": lambda: check_vector(values),
        "its fold": lambda: exact.fold(values),
        "add bfloat16": lambda: exact.add(halves),
        MERGE: lambda: exact.merge_packed(packed, bound),
        "the check of what is packed": lambda: check_packed(SIZE, packed, bound),
        "merge limbs": lambda: exact.merge_bytes(limbs, bound),
        "pack": pack,
        "mean": lambda: other.mean(HOMES),
        "norm and loss of what is packed": lambda: measures_of_packed(SIZE, packed, HOMES),
        "norm": lambda: robust.norm(values),
    }
    return acts, {"whole": len(limbs), "packed": len(packed)}


if __name__ == "__main__":
    main()
