"""`elf run --dashboard`: the run in a browser while it lasts."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elf_operator.dashboard.gallery import Gallery

DEFAULT = "127.0.0.1:8080"
FAREWELL_SECONDS = 2.0
_FORM = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):(?P<port>\d{1,5})")


class DashboardError(Exception):
    """It cannot be served; the message names the flag."""


def parse_address(text: str) -> tuple[str, int]:
    """(address, port) from ADDRESS:PORT. Raises ValueError saying what is expected."""
    match = _FORM.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise ValueError(f"--dashboard {text!r}: ADDRESS:PORT is expected, such as {DEFAULT}")
    return match["host"].strip("[]"), int(match["port"])


def with_default(arguments: Sequence[str]) -> list[str]:
    """A bare `--dashboard` gets the default address: typer knows no options whose value may be left out."""
    out: list[str] = []
    for place, argument in enumerate(arguments):
        out.append(argument)
        follows = arguments[place + 1] if place + 1 < len(arguments) else ""
        if argument == "--dashboard" and not _FORM.fullmatch(follows):
            out.append(DEFAULT)
    return out


@contextlib.asynccontextmanager
async def shown(where: tuple[str, int] | None, say: Callable[[str], None]) -> AsyncIterator[Gallery | None]:
    """A gallery that people see, and a moment at the end for them to see that. None: nobody asked for it.

    Raises DashboardError if the address cannot be had.
    """
    if where is None:
        yield None
        return
    from elf_operator.dashboard.gallery import Gallery
    from elf_operator.dashboard.server import served  # aiohttp takes its time, and most runs do without

    gallery = Gallery(time.time)
    async with contextlib.AsyncExitStack() as stack:
        try:
            board = await stack.enter_async_context(served(gallery, *where))
        except OSError as error:
            why = error.strerror or str(error)
            raise DashboardError(
                f"--dashboard {where[0]}:{where[1]}: {why}; another address is chosen with "
                f"--dashboard {where[0]}:PORT (0: any that is free)"
            ) from error
        say(f"dashboard: {board.url}")
        yield gallery
        await board.farewell(FAREWELL_SECONDS)
