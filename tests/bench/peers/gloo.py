"""PyTorch's gloo: 8 processes reduce a vector to the first and broadcast what it has.

What a job gets that cannot lose a worker and does not mind the order in which it adds. Prints seconds of each
round as JSON.
"""

from __future__ import annotations

import os
import sys
import time

import common


def take_part(rank: int, port: int, size: int, rounds: int) -> list[float]:
    """Times at which rounds ended."""
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=common.CLIENTS
    )
    vector = torch.zeros(size // 4)  # zeros stay zeros, however often they are added up
    distributed.barrier()
    marks = []
    for _ in range(rounds + common.WARM_UP + 1):
        distributed.reduce(vector, dst=0)
        distributed.broadcast(vector, src=0)
        marks.append(time.perf_counter())
    distributed.barrier()
    distributed.destroy_process_group()
    return marks


def main() -> None:
    given = common.options(__doc__).parse_args()
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    if given.be:
        take_part(int(given.be), given.port, given.bytes, given.rounds)
        return
    port = common.free_port()
    me = [sys.executable, __file__, "--port", str(port)]
    me += ["--bytes", str(given.bytes), "--rounds", str(given.rounds)]
    with common.children([[*me, "--be", str(rank)] for rank in range(1, common.CLIENTS)]):
        common.tell(take_part(0, port, given.bytes, given.rounds))


if __name__ == "__main__":
    main()
