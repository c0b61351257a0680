"""Memory of an MDC with all statistics on, from 10 homes to 10,000: each count in a process of its own."""

from __future__ import annotations

import subprocess
import sys

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


def main() -> None:
    """Print MiB at the peak, and bytes of statistics on the wire."""
    print(f"{'homes':>7} {'MiB at the peak':>16} {'above 10 homes':>15} {'statistics, bytes':>18}")
    base = None
    for homes in COUNTS:
        done = subprocess.run(
            [sys.executable, __file__, str(homes)], capture_output=True, text=True, check=True
        )
        peak, extra = map(float, done.stdout.split())
        base = peak if base is None else base
        print(f"{homes:7d} {peak:16.1f} {peak - base:+15.1f} {extra:18.0f}")


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
    if len(sys.argv) > 1:
        print(*serve(int(sys.argv[1])))
    else:
        main()
