"""Where the trained model and the report land: a folder on any file system that fsspec knows.

Credentials are the file system's own: environment variables, or files that the pod's template mounts.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from elf_worker.roles import files

MODEL_FILE = "model.safetensors"
REPORT_FILE = "report.json"
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 2.0, 60.0


class DeliveryError(Exception):
    """The folder cannot be written, and why."""


def waits() -> Iterator[float]:
    """Seconds between one attempt and the next, for ever: what is trained is not thrown away."""
    wait = FIRST_WAIT_SECONDS
    while True:
        yield wait
        wait = min(2 * wait, LONGEST_WAIT_SECONDS)


def write(url: str, contents: Mapping[str, bytes]) -> None:
    """Each file whole or not at all where the file system can do that, in this order.

    The last of them tells that all are there. Raises DeliveryError for whatever goes wrong.
    """
    import fsspec  # not before it is needed: most jobs have no such folder
    from fsspec.implementations.local import LocalFileSystem

    try:
        system, folder = fsspec.url_to_fs(url)
        for name, data in contents.items():
            if isinstance(system, LocalFileSystem):
                files.write_atomically(pathlib.Path(folder) / name, data)
            else:
                system.makedirs(folder, exist_ok=True)
                system.pipe_file(f"{folder.rstrip('/')}/{name}", data)
    except Exception as error:  # every file system raises its own
        raise DeliveryError(f"{url}: {_said(error)}") from error


def report(job: str, uid: str, progress: Mapping[str, Any], statistics: Mapping[str, Any]) -> bytes:
    """What `status.training` says, and all statistics, for people and programs."""
    found = {"job": job, "uid": uid, "training": dict(progress), "statistics": dict(statistics)}
    return json.dumps(found, indent=2, sort_keys=True).encode() + b"\n"


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:500] if text else type(error).__name__
