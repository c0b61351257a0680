"""Owners of links that note what they are told, and how long tests wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from elf_worker.contract import MAX_PAYLOAD
from elf_worker.messages import Message, Stamp, Work
from elf_worker.transport import Link

DEADLINE = 20.0
"""Seconds until a wait is given up: far more than any of them takes."""
LONG = 60.0
"""A silence no test lasts for."""
SHORT = 0.3
MOST = 100
"""Connections at a time: more than any test makes, unless it says so."""
HOST = "127.0.0.1"
WORK = Work(1, Stamp(3, 1))


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.002)


class Owner:
    """Records what its links tell it."""

    def __init__(self, silence: float = LONG) -> None:
        self.silence = silence
        self.opened: list[Link] = []
        self.received: list[tuple[Message, Any]] = []
        self.closed: list[Link] = []
        self.on_message: Callable[[Link], None] = lambda link: None
        self.room: Callable[[Message], int] = lambda message: MAX_PAYLOAD

    def link_opened(self, link: Link) -> None:
        self.opened.append(link)

    def link_room(self, link: Link, message: Message) -> int:
        return self.room(message)

    def link_received(self, link: Link, message: Message, payload: Any) -> None:
        self.received.append((message, payload))
        self.on_message(link)

    def link_closed(self, link: Link) -> None:
        self.closed.append(link)

    @property
    def link(self) -> Link:
        (only,) = self.opened
        return only

    @property
    def messages(self) -> list[Message]:
        return [message for message, _ in self.received]
