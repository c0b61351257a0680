"""What the peers' scripts share; standard library only, for each runs in its own environment."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence

CLIENTS = 8
WARM_UP = 3
"""Rounds at the beginning that are not counted."""


def options(doc: str | None) -> argparse.ArgumentParser:
    """What every peer is asked. From here on a SIGTERM, too, ends what this process has started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", type=int, default=4_000_000, help="of a client's float32 vector (4 MB)")
    parser.add_argument("--rounds", type=int, default=30, help="rounds that are counted (30)")
    parser.add_argument("--be", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    return parser


def free_port() -> int:
    """A port of the loopback that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextlib.contextmanager
def children(commands: Sequence[Sequence[str]]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that are gone afterwards, whatever happens. What they say goes to standard error."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            started.append(subprocess.Popen(command, stdout=sys.stderr))
        yield started
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()


def tell(marks: Sequence[float]) -> None:
    """Print seconds of each counted round, given the times at which rounds ended."""
    seconds = [after - before for before, after in itertools.pairwise(marks)]
    print(json.dumps(seconds[WARM_UP - 1 :]))
