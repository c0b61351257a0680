"""The digest of a model file (safetensors), without torch: what `.status.training.modelDigest` is made of."""

from __future__ import annotations

import hashlib
import json
import pathlib
from typing import Any, BinaryIO

_DTYPES = {"F32": "torch.float32"}
_PIECE = 1 << 20
_MAX_HEADER = 1 << 27


def digest(path: pathlib.Path) -> str:
    """SHA-256 of the parameters: names, dtypes, shapes and bytes, in order of their names.

    The same as `elf_worker.tasks.vectors.digest` of the model. Raises ValueError for no model file.
    """
    sha = hashlib.sha256()
    with path.open("rb") as file:
        header, start = _header(file)
        for name, tensor in sorted(header.items()):
            if name == "__metadata__":
                continue
            dtype = _DTYPES.get(tensor["dtype"])
            if dtype is None:
                raise ValueError(f"{path}: parameter {name} is {tensor['dtype']}, F32 is expected")
            sha.update(f"{name} {dtype} {tuple(tensor['shape'])}\n".encode())
            first, end = tensor["data_offsets"]
            _update(sha, file, start + first, end - first)
    return f"sha256:{sha.hexdigest()}"


def _header(file: BinaryIO) -> tuple[dict[str, Any], int]:
    """(the header, where the data begins)."""
    size = int.from_bytes(file.read(8), "little")
    if not 0 < size < _MAX_HEADER:
        raise ValueError("this is no safetensors file")
    text = file.read(size)
    try:
        return dict(json.loads(text)), 8 + size
    except ValueError as error:
        raise ValueError("this is no safetensors file") from error


def _update(sha: Any, file: BinaryIO, start: int, size: int) -> None:
    file.seek(start)
    while size > 0:
        piece = file.read(min(size, _PIECE))
        if not piece:
            raise ValueError("the file is cut short")
        sha.update(piece)
        size -= len(piece)
