"""Identities of pods, as a kubelet mounts them."""

from __future__ import annotations

import pathlib

from elf_operator.authority import MASTER_BYTES, Authority
from elf_worker import contract
from elf_worker.contract import Peer, Role

AUTHORITY = Authority(bytes(MASTER_BYTES))
OTHER_AUTHORITY = Authority(b"x" * MASTER_BYTES)
JOB = "0f6c1f9e-7d0a-4bb5-9a6e-3f3f52f8a001"


def mounted(
    folder: pathlib.Path,
    role: Role,
    index: int = 0,
    incarnation: int = 0,
    job: str = JOB,
    authority: Authority = AUTHORITY,
) -> str:
    """A folder with the identity of this pod."""
    made = authority.identity(Peer(job, role, index, incarnation))
    place = folder / f"{role}-{index}-{incarnation}-{job[:4]}-{authority.fingerprint(job)[:4]}"
    place.mkdir(exist_ok=True)
    (place / contract.CERTIFICATE_FILE).write_bytes(made.certificate)
    (place / contract.KEY_FILE).write_bytes(made.key)
    (place / contract.AUTHORITY_FILE).write_bytes(made.authority)
    return str(place)
