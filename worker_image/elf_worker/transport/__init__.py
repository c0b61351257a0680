"""The wire: frames of one message and an optional payload over TCP, with or without mutual TLS."""

from elf_worker.transport.security import Credentials, IdentityError, load
from elf_worker.transport.tcp import Host, Limits, Link, connect, listen

__all__ = ["Credentials", "Host", "IdentityError", "Limits", "Link", "connect", "listen", "load"]
