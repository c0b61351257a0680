"""The wire: frames of one message and an optional payload over TCP, with or without mutual TLS."""

from elf_worker.transport.host import Host, connect, listen
from elf_worker.transport.link import Limits, Link
from elf_worker.transport.security import Credentials, IdentityError, load

__all__ = ["Credentials", "Host", "IdentityError", "Limits", "Link", "connect", "listen", "load"]
