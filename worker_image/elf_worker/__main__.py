"""`python -m elf_worker ROLE`: the process of a pod."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from elf_worker.contract import Role
from elf_worker.roles import environment
from elf_worker.transport import IdentityError

EXIT_INJECTED = 1
EXIT_FENCED = 3
"""A successor has taken over: nothing is wrong, and nobody needs this process any more."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one role until the job ends. 0: it ended well or badly, as the NPDC says; 3: fenced."""
    parser = argparse.ArgumentParser(prog="elf_worker", description="Runs one pod of an ElfTrainingJob.")
    parser.add_argument("role", choices=[role.value for role in Role], help="what this pod is")
    role = parser.parse_args(argv).role
    logging.basicConfig(
        level=os.environ.get("ELF_LOG_LEVEL", "INFO"),
        format=f"%(asctime)s {role} %(levelname)s %(message)s",
        stream=sys.stdout,
    )
    try:
        env = environment.read(os.environ)
    except environment.BadEnvironmentError as error:
        parser.error(str(error))
    # Each role is imported only when it runs: an MDC must not pay for torch.
    module = importlib.import_module(f"elf_worker.roles.{role}")
    signal.signal(signal.SIGTERM, lambda *_: leave(143))  # as PID 1 there is no default action
    try:
        stop = asyncio.run(module.run(env))
    except IdentityError as error:
        parser.error(str(error))
    logging.info("%s: %s", stop.outcome, stop.message)
    if stop.outcome == "Fenced":
        return EXIT_FENCED
    return EXIT_INJECTED if stop.outcome == "Injected" else 0


def leave(status: int) -> NoReturn:
    """End this process at once.

    Taking an interpreter with PyTorch in it apart costs half a second of CPU, and all pods of a job on a node
    would pay it in the same moment.
    """
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    leave(main())
