"""Mutual TLS: who we are, and who is at the other end of a connection.

TLS 1.3 alone. Both ends show a certificate of the job's own authority; names of hosts say nothing here, the
SPIFFE ID in the certificate does (https://github.com/spiffe/spiffe, X509-SVID).
"""

from __future__ import annotations

import pathlib
import socket
import ssl
from dataclasses import dataclass
from typing import Any

from elf_worker.contract import AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE, Peer


class IdentityError(ValueError):
    """The key or a certificate of this pod cannot be used; the message says which and why."""


class StrangerError(ValueError):
    """A certificate of the job's authority that names no pod of the job."""


@dataclass(frozen=True)
class Credentials:
    """Settings for connections that we take, that we make, and that anybody may make to look."""

    accepting: ssl.SSLContext
    dialling: ssl.SSLContext
    showing: ssl.SSLContext
    """Shows who we are and asks for no certificate: for figures."""


def load(directory: str) -> Credentials:
    """From the files of a mounted Secret. Raises IdentityError."""
    folder = pathlib.Path(directory)
    try:
        return Credentials(
            accepting=_context(ssl.PROTOCOL_TLS_SERVER, folder, mutual=True),
            dialling=_context(ssl.PROTOCOL_TLS_CLIENT, folder, mutual=True),
            showing=_context(ssl.PROTOCOL_TLS_SERVER, folder, mutual=False),
        )
    except (OSError, ssl.SSLError) as error:
        raise IdentityError(f"no identity in {directory}: {error}") from error


def _context(protocol: int, folder: pathlib.Path, mutual: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # pods have no names that last; see `peer_of`
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # a connection lives as long as its pod: nobody resumes one
    context.load_cert_chain(folder / CERTIFICATE_FILE, folder / KEY_FILE)
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(folder / AUTHORITY_FILE)
    return context


def peer_of(connection: socket.socket) -> Peer | None:
    """Who is at the other end, by its certificate; None on a connection without TLS. Raises StrangerError."""
    if not isinstance(connection, ssl.SSLSocket):
        return None
    shown: dict[str, Any] = dict(connection.getpeercert() or {})
    named = [str(value) for kind, value in shown.get("subjectAltName", ()) if kind == "URI"]
    if len(named) != 1:
        raise StrangerError(f"{len(named)} SPIFFE IDs in its certificate, one is expected")
    try:
        return Peer.from_uri(named[0])
    except ValueError as error:
        raise StrangerError(str(error)) from None
