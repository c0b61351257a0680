"""What a pod that has nothing to do with a job may try on the ports of its pods. Also runs by itself:

    python neighbour.py JOB-UID HOST...

prints what it got, as JSON. Needs nothing but the worker image.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import sys

from elf_worker import messages
from elf_worker.aggregation import ids
from elf_worker.contract import FIGURES_PORT, READY_PORT, WIRE_PORT, WIRE_VERSION
from elf_worker.transport import frame

PATIENCE = 3.0
"""Seconds to wait for an answer."""


def lies(job: str) -> bytes:
    """Frames that would do harm: every home's word, an MDC's place, and a question for both."""
    everybody = ids.to_wire(ids.mask_of(range(64)))
    said = [
        messages.Register(WIRE_VERSION, job, 0, 0, "uid", "10.0.0.1:7733", None),
        messages.Locate(WIRE_VERSION, job, everybody),
        messages.Hello(WIRE_VERSION, job, everybody, -1, None),
        messages.Fetch(),
    ]
    bodies = [messages.encode(message) for message in said]
    return b"".join(frame.header(len(body), 0) + body for body in bodies)


def attempts(job: str, host: str, identity: str = "") -> dict[str, str]:
    """What was tried → the answer's first bytes as hex; "unreachable" if there was no connection.

    `identity`: a folder with somebody's key and certificate; else there is none to show.
    """
    sent = lies(job)
    asked = b"GET /metrics HTTP/1.0\r\nX-Elf-Token: guess\r\nAuthorization: Bearer guess\r\n\r\n"
    return {
        "plain": _said(host, WIRE_PORT, sent, None),
        "tls": _said(host, WIRE_PORT, sent, _context(identity)),
        "ready": _said(host, READY_PORT, sent, None),
        "http": _said(host, FIGURES_PORT, asked, None),
        "https": _said(host, FIGURES_PORT, asked, _context("")),
    }


def _context(identity: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if identity:
        context.load_cert_chain(f"{identity}/tls.crt", f"{identity}/tls.key")
    return context


def _said(host: str, port: int, sent: bytes, context: ssl.SSLContext | None) -> str:
    try:
        connection = socket.create_connection((host, port), PATIENCE)
    except OSError:
        return "unreachable"
    got = b""
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        stack.enter_context(connection)
        if context is not None:
            connection = stack.enter_context(context.wrap_socket(connection))
        connection.sendall(sent)
        while (piece := connection.recv(4096)) and len(got) < 4096:
            got += piece
    return got[:64].hex()


def harmless(attempt: str, answer: str) -> bool:
    """Whether an answer tells nothing: none, a TLS alert (RFC 8446, 5.1: record type 21), or a 401."""
    refusal = b"HTTP/1.0 401 Unauthorized".hex()
    return answer in ("", "unreachable") or answer.startswith("1503" if attempt != "https" else refusal)


if __name__ == "__main__":
    print(json.dumps({host: attempts(sys.argv[1], host) for host in sys.argv[2:]}))
