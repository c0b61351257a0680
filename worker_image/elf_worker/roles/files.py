"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import pathlib
import tempfile
from typing import Any


def write_atomically(path: pathlib.Path, data: Any, durable: bool = True) -> None:
    """Write bytes to a new file beside `path` and rename it over `path`.

    `durable`: it survives a power cut; else only a crash of this process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    if durable:
        _flush_directory(path.parent)


def _flush_directory(path: pathlib.Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
