"""Round trips side by side: our tree, plain and with mutual TLS, and its peers; 8 workers compute nothing.

    python tests/bench/transport.py [--sizes 40000 4000000] [--only star "the tree"]

A round: the weights go to everyone, everyone answers with a float32 vector of the same size, the sum becomes
the next weights. Each repetition runs every variant once, processes and all; its figure is the median of its
rounds. The peers (`peers/`): a bare asyncio star, which is the ceiling for one aggregator in Python, as one
would write it and tuned; Flower over gRPC; gloo's reduce and broadcast, which cannot lose a worker. The tree
is all of the product: messages, exact sums in two levels, statistics, the optimizer's step, state copies.
"""

from __future__ import annotations

import functools
import pathlib
import statistics
import sys
from collections.abc import Callable, Mapping

import harness
from harness import Ratio, Row, Table
from peers import environment

SIZES = {40_000: "40 KB", 4_000_000: "4 MB", 40_000_000: "40 MB"}
TREE, SECURE = "the tree", "the tree, mutual TLS"
STAR, TUNED, FLOWER, GLOO = "star", "star, tuned", "Flower", "gloo"
ROUNDS: Mapping[str, Mapping[int, int]] = {
    STAR: {40_000: 1000, 4_000_000: 60, 40_000_000: 8},
    TUNED: {40_000: 1000, 4_000_000: 60, 40_000_000: 8},
    FLOWER: {40_000: 60, 4_000_000: 12, 40_000_000: 4},
    GLOO: {40_000: 300, 4_000_000: 40, 40_000_000: 8},
    TREE: {40_000: 200, 4_000_000: 30, 40_000_000: 6},
    SECURE: {40_000: 200, 4_000_000: 20, 40_000_000: 4},
}
"""Rounds that are counted in one repetition, so that each takes seconds."""
FEWER: Mapping[int, int] = {40_000_000: 1}
"""Repetitions that are left out of what takes long."""
NOTES = {
    STAR: "plain TCP, float32 `+=`, no messages: the ceiling for one aggregator",
    TUNED: "the same, handing asyncio a megabyte at a time",
    FLOWER: "1.41, start_server and start_client, no TLS",
    GLOO: "reduce and broadcast; loses no worker, or the job",
    TREE: "2 MDCs, exact sums, statistics, state copies",
    SECURE: "the same, every link encrypted, both ends known",
}
TARGETS: Mapping[tuple[str, str], Mapping[int, float]] = {
    (TREE, FLOWER): {40_000: 15, 4_000_000: 5, 40_000_000: 8},
    (TREE, STAR): {40_000: 0.35, 4_000_000: 0.6, 40_000_000: 0.6},
    (TREE, TUNED): {},
    (SECURE, FLOWER): {40_000: 8, 4_000_000: 2.5, 40_000_000: 3},
    (TREE, GLOO): {},
    (SECURE, TREE): {},
}
WHOM = {"npdc": "the NPDC", "mdcs": "both MDCs", "homes": "all homes"}
PATIENCE_SECONDS = 300.0
_spent: dict[tuple[str, str], list[float]] = {}
"""Seconds of CPU a round of the trees, by (variant, whose), of the table that is being measured."""
_PEERS = pathlib.Path(environment.__file__).parent


def main() -> None:
    options = harness.parser(__doc__, rounds=3)
    options.add_argument("--sizes", type=int, nargs="+", choices=SIZES, default=list(SIZES))
    options.add_argument("--only", nargs="+", choices=NOTES, default=list(NOTES), metavar="VARIANT")
    given = options.parse_args()
    repetitions = 1 if given.quick else given.rounds
    sizes = given.sizes if not given.quick else given.sizes[:2]
    tables = [
        _table(size, given.only, max(1, repetitions - FEWER.get(size, 0)), given.quick) for size in sizes
    ]
    complete = list(sizes) == list(SIZES) and list(given.only) == list(NOTES)
    harness.finish("transport", tables, given.quick or not complete)


def _table(size: int, names: list[str], repetitions: int, quick: bool) -> Table:
    works = {name: functools.partial(_rate, name, size, quick) for name in names}
    _spent.clear()
    taken = harness.side_by_side(works, repetitions)
    rows = [Row(name, "rounds/s", taken[name], NOTES[name]) for name in names]
    rows += [
        Row(f"{name}: CPU of {whom}", "ms a round", [1e3 * each for each in samples])
        for (name, whom), samples in sorted(_spent.items(), key=lambda entry: names.index(entry[0][0]))
    ]
    ratios = [
        Ratio.paired(f"{over} / {under}", taken[over], taken[under], targets.get(size))
        for (over, under), targets in TARGETS.items()
        if over in taken and under in taken
    ]
    return Table(f"{SIZES[size]} a vector, 8 workers", rows, ratios)


def _rate(name: str, size: int, quick: bool) -> float:
    """Rounds a second: of the median round of one repetition."""
    rounds = ROUNDS[name][size]
    seconds = _VARIANTS[name](size, max(3, rounds // 4) if quick else rounds)
    rate = 1 / statistics.median(seconds)
    print(f"{SIZES[size]} {name}: {harness.short(rate)} rounds/s", file=sys.stderr, flush=True)
    return rate


def _peer(script: str, size: int, rounds: int, *more: str) -> list[float]:
    python = environment.python() if script == "flower" else sys.executable
    command = [python, str(_PEERS / f"{script}.py"), "--bytes", str(size), "--rounds", str(rounds), *more]
    return [float(seconds) for seconds in harness.run_json(command, PATIENCE_SECONDS)]


def _tree(mtls: bool, size: int, rounds: int) -> list[float]:
    import tree

    seconds = tree.measure(size, rounds, mtls)
    for role, cpu in tree.cpu_by_role().items():
        _spent.setdefault((SECURE if mtls else TREE, WHOM[role]), []).append(cpu)
    return seconds


_VARIANTS: Mapping[str, Callable[[int, int], list[float]]] = {
    STAR: functools.partial(_peer, "star"),
    TUNED: lambda size, rounds: _peer("star", size, rounds, "--tuned"),
    FLOWER: functools.partial(_peer, "flower"),
    GLOO: functools.partial(_peer, "gloo"),
    TREE: functools.partial(_tree, False),
    SECURE: functools.partial(_tree, True),
}


if __name__ == "__main__":
    main()
