"""Who may say what: a pod speaks for itself alone. Asked only where connections prove who is there."""

from __future__ import annotations

from elf_worker.aggregation import ids
from elf_worker.contract import Peer, Role
from elf_worker.messages import Hello, Locate, Message, Register, Welcome


def wrong_host(peer: Peer, job: str, mdc: tuple[int, int] | None) -> str:
    """Why this is not whom we meant to reach: an MDC (index, incarnation), else an NPDC. Empty: it is."""
    if peer.job != job:
        return f"is of job {peer.job}"
    if mdc is None:
        return "" if peer.role is Role.NPDC else "is no NPDC"
    if peer.role is not Role.MDC:
        return "is no MDC"
    meant = Peer(job, Role.MDC, *mdc)
    return "" if peer == meant else f"is not {meant}"


def wrong_guest(peer: Peer, job: str) -> str:
    """Why this one has nothing to ask of us. Empty: it may have."""
    if peer.job != job:
        return f"is of job {peer.job}"
    return "" if peer.role is not Role.NPDC else "is an NPDC, which dials nobody"


def objection(peer: Peer, message: Message, per_pod: int) -> str:
    """Why this peer may not say this; `per_pod`: homes that share a pod. Empty: it may.

    Messages that name nobody pass: the state machines take them only from those who have named themselves.
    """
    match message:
        case Register():
            named = Peer(peer.job, Role.MDC, message.index, message.incarnation)
            return "" if peer == named else f"says it is {named}"
        case Hello() | Locate():
            if peer.role is not Role.HOME:
                return "speaks for homes"
            theirs = ((1 << per_pod) - 1) << (peer.index * per_pod)
            return "speaks for homes of other pods" if ids.from_wire(message.homes) & ~theirs else ""
        case Welcome():
            named = Peer(peer.job, Role.NPDC, 0, message.epoch)
            return "" if peer == named else f"says it is {named}"
    return ""
