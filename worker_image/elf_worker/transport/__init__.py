"""The wire: frames of one message and an optional payload over TCP."""

from elf_worker.transport.tcp import Link, connect, listen

__all__ = ["Link", "connect", "listen"]
