"""Flower in its fastest mode: one server and 8 clients that live as long as it, over gRPC, FedAvg.

Clients compute nothing: each answers with a float32 vector that it has. Prints seconds of each round, as the
server's strategy sees them, as JSON.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings

import common

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"


def serve(port: int, size: int, rounds: int) -> list[float]:
    """Times at which rounds ended."""
    import numpy as np
    from flwr.common import ndarrays_to_parameters
    from flwr.server import ServerConfig, start_server
    from flwr.server.strategy import FedAvg

    marks: list[float] = []

    class Timed(FedAvg):  # type: ignore[misc]
        """`evaluate` is asked once before the first round, and then after each."""

        def evaluate(self, server_round: int, parameters: object) -> None:
            if server_round:
                marks.append(time.perf_counter())

    strategy = Timed(
        fraction_fit=1.0,
        fraction_evaluate=0.0,
        min_fit_clients=common.CLIENTS,
        min_available_clients=common.CLIENTS,
        initial_parameters=ndarrays_to_parameters([np.zeros(size // 4, np.float32)]),
        accept_failures=False,
    )
    start_server(
        server_address=f"127.0.0.1:{port}",
        config=ServerConfig(num_rounds=rounds + common.WARM_UP + 1),
        strategy=strategy,
    )
    return marks


def answer(port: int, size: int) -> None:
    """A client: until the server says that it is over."""
    import numpy as np
    from flwr.client import NumPyClient, start_client

    class Idle(NumPyClient):  # type: ignore[misc]
        vector = np.random.default_rng(os.getpid()).standard_normal(size // 4).astype(np.float32)

        def fit(self, parameters: object, config: object) -> tuple[list[np.ndarray], int, dict[str, float]]:
            return [self.vector], 1, {}

    start_client(
        server_address=f"127.0.0.1:{port}", client=Idle().to_client(), insecure=True, max_wait_time=60
    )


def main() -> None:
    given = common.options(__doc__).parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("flwr").setLevel(logging.ERROR)
    if given.be:
        answer(given.port, given.bytes)
        return
    port = common.free_port()
    me = [sys.executable, __file__, "--be", "client", "--port", str(port), "--bytes", str(given.bytes)]
    with common.children([me] * common.CLIENTS):
        marks = serve(port, given.bytes, given.rounds)
    if len(marks) != given.rounds + common.WARM_UP + 1:
        raise SystemExit(f"Flower ended after {len(marks)} rounds")
    common.tell(marks)


if __name__ == "__main__":
    main()
