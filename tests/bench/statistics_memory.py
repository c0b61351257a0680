"""Memory of an MDC with all statistics on, from 10 homes to 10,000: each count in a process of its own."""

from __future__ import annotations

import argparse
import functools
import json
import sys

import harness
import numpy as np

from elf_worker import statistics
from elf_worker.aggregation import ids
from elf_worker.aggregation.datacenter import DataCenter, Identity
from elf_worker.aggregation.effects import Send
from elf_worker.aggregation.tally import Intake
from elf_worker.contract import WIRE_VERSION
from elf_worker.messages import Accepted, Assign, Facts, Hello, Offer, Stamp, Submit, Welcome, Work

PARAMETERS = 10_000
ROUNDS = 3
COUNTS = (10, 100, 1_000, 10_000)
PER_POD = 100
PATIENCE_SECONDS = 600.0


def main() -> None:
    options = harness.parser(__doc__, rounds=3)
    options.add_argument("--homes", type=int, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.homes is not None:
        print(json.dumps(serve(given.homes)))
        return
    extras: dict[int, int] = {}

    def peak(homes: int) -> float:
        found, extras[homes] = harness.run_json(
            [sys.executable, __file__, "--homes", str(homes)], PATIENCE_SECONDS
        )
        return float(found)

    counts = COUNTS[: 2 if given.quick else None]
    works = {f"{homes:,} homes": functools.partial(peak, homes) for homes in counts}
    taken = harness.side_by_side(works, 1 if given.quick else given.rounds)
    table = harness.Table(f"Peak of an MDC with all statistics on, {PARAMETERS:,} parameters")
    table.rows = [
        harness.Row(name, "MiB", taken[name], f"{extras[homes]:,} bytes of statistics in a Submit")
        for name, homes in zip(works, counts, strict=True)
    ]
    harness.finish("statistics_memory", [table], given.quick)


def serve(homes: int) -> tuple[float, int]:
    """(MiB of this process at its peak, bytes of statistics in a Submit) after some rounds."""
    product = statistics.load(())
    mdc = DataCenter(Identity("job", 0, 0, "uid", "here"), "npdc", Intake(homes=homes, statistics=product))
    mdc.tick(0.0)
    mdc.opened(0, 0.0)
    everyone = ids.to_wire(ids.full(homes))
    rng = np.random.default_rng(0)
    weights = np.zeros(PARAMETERS, "<f4").tobytes()
    mdc.received(0, Welcome(0), None, 0.0)
    pods = {
        -1 - first // PER_POD: range(first, min(homes, first + PER_POD)) for first in range(0, homes, PER_POD)
    }
    extra = 0
    for round_ in range(ROUNDS):
        stamp, now = Stamp(round_, 0), float(round_)
        mdc.received(0, Assign(stamp, everyone, b""), None, now)
        mdc.received(0, Work(0, stamp), weights, now)
        for link, pod in pods.items():
            if round_ == 0:
                mdc.opened(link, now)
                mdc.received(
                    link, Hello(WIRE_VERSION, "job", ids.to_wire(ids.mask_of(pod)), -1, None), None, now
                )
            for home in pod:
                vector = rng.standard_normal(PARAMETERS + 1).astype("<f4").tobytes()
                facts = Facts(rng.random(), rng.random(), (32,), {str(home % 10): 32})
                effects = mdc.received(
                    link, Offer(home, stamp, 32, "float32", facts), vector, now + rng.random()
                )
                for effect in effects:
                    if isinstance(effect, Send) and isinstance(effect.message, Submit):
                        extra = effect.message.extra
                        mdc.received(0, Accepted(stamp, effect.message.members), None, now)
    with open("/proc/self/status") as status:
        peak = next(line for line in status if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024, extra


if __name__ == "__main__":
    main()
