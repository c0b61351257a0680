"""The wire: frames of one message and an optional payload over TCP."""

from elf_worker.transport.tcp import Limits, Link, connect, listen

__all__ = ["Limits", "Link", "connect", "listen"]
