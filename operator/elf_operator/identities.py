"""The Secrets by which pods learn who they are, and how pods mount them.

A data center's incarnation has a Secret of its own, which goes when it is replaced. Pods of homes have no
incarnations, and there may be thousands: they share Secrets, of which each mounts its own two keys alone.
Names carry a digest of the job's UID: what an earlier job of the same name has left is never taken for ours.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from elf_operator import names
from elf_operator.authority import Authority
from elf_worker import contract
from elf_worker.contract import Peer, Role

HOMES_PER_SECRET = 64
"""Pods. A larger Secret would cost a small job more keys than it has pods."""
MODE = 0o400
TOKEN_KEY = "token"
_AUTHORITY = contract.AUTHORITY_FILE


def secret_name(job: str, uid: str, role: Role, index: int, incarnation: int) -> str:
    """The Secret that holds the identity of this pod."""
    if role is Role.HOME:
        return f"{job}-homes-{index // HOMES_PER_SECRET}-{_tag(uid)}"
    return f"{names.pod(job, role, index, incarnation)}-{_tag(uid)}"


def figures_name(job: str, uid: str) -> str:
    """The Secret that holds the token for the job's figures."""
    return f"{job}-figures-{_tag(uid)}"


def secret_data(
    authority: Authority, uid: str, role: Role, index: int, incarnation: int
) -> tuple[str, dict[str, str]]:
    """(type, data) of that Secret."""
    if role is not Role.HOME:
        made = authority.identity(Peer(uid, role, index, incarnation))
        data = {contract.CERTIFICATE_FILE: made.certificate, contract.KEY_FILE: made.key}
        return "kubernetes.io/tls", _encoded({**data, _AUTHORITY: made.authority})
    first = index // HOMES_PER_SECRET * HOMES_PER_SECRET
    shared: dict[str, bytes] = {}
    for pod in range(first, first + HOMES_PER_SECRET):
        made = authority.identity(Peer(uid, role, pod, 0))
        certificate, key = _home_keys(pod)
        shared |= {certificate: made.certificate, key: made.key, _AUTHORITY: made.authority}
    return "Opaque", _encoded(shared)


def volume(job: str, uid: str, role: Role, index: int, incarnation: int) -> dict[str, Any]:
    """The pod's volume: its own key and certificate, and the one it trusts."""
    files = (contract.CERTIFICATE_FILE, contract.KEY_FILE)
    keys = _home_keys(index) if role is Role.HOME else files
    items = [{"key": key, "path": path} for key, path in zip(keys, files, strict=True)]
    items.append({"key": _AUTHORITY, "path": _AUTHORITY})
    name = secret_name(job, uid, role, index, incarnation)
    return {
        "name": names.IDENTITY_VOLUME,
        "secret": {"secretName": name, "defaultMode": MODE, "items": items},
    }


def figures_tokens(authority: Authority, uid: str) -> str:
    """The value of `ENV_FIGURES_TOKENS`: whoever reads it cannot use it."""
    tokens = (authority.figures_token(uid), authority.scrape_token())
    return ",".join(hashlib.sha256(token.encode()).hexdigest() for token in tokens)


def figures_data(authority: Authority, uid: str) -> dict[str, str]:
    """The data of the Secret with the token for the job's figures."""
    return _encoded({TOKEN_KEY: authority.figures_token(uid).encode()})


def _home_keys(index: int) -> tuple[str, str]:
    return f"home-{index}.crt", f"home-{index}.key"


def _encoded(data: Mapping[str, bytes]) -> dict[str, str]:
    return {key: base64.b64encode(value).decode() for key, value in data.items()}


def _tag(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:8]
