"""How a command says that it cannot do what is asked."""

from __future__ import annotations

import sys
from typing import NoReturn

EXIT_NOTHING = 1
"""There is no such job, it does not answer, or it is not in a state to do this."""
EXIT_WRONG = 2
"""What is asked is wrong, or the job is."""


class TroubleError(Exception):
    """It cannot be done; the message says why, and what would help. `status` is the exit status."""

    def __init__(self, message: str, status: int = EXIT_NOTHING) -> None:
        super().__init__(message)
        self.status = status


def refuse(message: str, status: int = EXIT_WRONG) -> NoReturn:
    """One line on standard error, and the end."""
    print(f"elf: {message}", file=sys.stderr)
    sys.exit(status)
