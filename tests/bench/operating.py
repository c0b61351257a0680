"""What the operator costs on a real API server: `make bench CONTEXT=NAME`.

    python tests/bench/operating.py --context NAME [--only create death start storm idle]

The cluster of the context may be changed; no kubelet is needed. Pods have no scheduler: they are puppets that
are said to run. Makes a namespace `elf-bench-…` and removes it, and leaves the CRD. The operator is a process
of this machine; its requests are read from its own metrics (kopf's few watches are not among them), its CPU
time and memory from /proc. Rates are of the same server in the same run, taken in turn with a bare client
that sends the same pods.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence

import harness
from harness import ROOT, Table

sys.path.insert(0, str(ROOT / "tests"))

from cluster.creation import create
from cluster.deaths import death
from cluster.ground import Ground, opened
from cluster.scale import QUICK, Scale
from cluster.starts import start
from cluster.storms import storm

from control_plane.api import connect

PARTS: Mapping[str, Callable[[Ground, int, Scale], Awaitable[Table]]] = {
    "create": create,
    "death": death,
    "start": start,
}
ALL = (*PARTS, "storm", "idle")


def main() -> None:
    options = harness.parser(__doc__, rounds=3)
    options.add_argument("--context", required=True, help="of the kubeconfig: a cluster that may be changed")
    options.add_argument(
        "--only", nargs="+", choices=ALL, default=list(ALL), metavar="PART", help=f"of {', '.join(ALL)}"
    )
    given = options.parse_args()
    scale, rounds = (QUICK, 1) if given.quick else (Scale(), given.rounds)
    tables = asyncio.run(measured(given.context, given.only, rounds, scale))
    harness.finish("operating", tables, given.quick or set(given.only) != set(ALL))


async def measured(context: str, parts: Sequence[str], rounds: int, scale: Scale) -> list[Table]:
    """The tables of these parts."""
    tables: list[Table] = []
    async with connect(context) as api, opened(api, context) as ground:
        tables += [await work(ground, rounds, scale) for part, work in PARTS.items() if part in parts]
        if {"storm", "idle"} & set(parts):
            tables += await storm(ground, rounds, scale, "idle" in parts)
    return tables


if __name__ == "__main__":
    main()
