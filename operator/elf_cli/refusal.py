"""How a command says that it cannot do what is asked."""

from __future__ import annotations

import sys
from typing import NoReturn

EXIT_NOTHING = 1
"""There is no such job, or it does not answer."""
EXIT_WRONG = 2
"""What is asked is wrong, or the job is."""


def refuse(message: str, status: int = EXIT_WRONG) -> NoReturn:
    """One line on standard error, and the end."""
    print(f"elf: {message}", file=sys.stderr)
    sys.exit(status)
