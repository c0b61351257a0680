"""The checkpoint on the volume, as far as it can be read without torch."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import safetensors

CHECKPOINT_FILE = "state.safetensors"
META = "meta.json"


def path_in(directory: str) -> pathlib.Path | None:
    """Where the checkpoint is or will be; None without a volume."""
    return pathlib.Path(directory, CHECKPOINT_FILE) if directory else None


def parse_meta(raw: bytes) -> dict[str, Any]:
    """What stands beside the tensors."""
    return dict(json.loads(raw))


def rounds_in(directory: str, job: str) -> int:
    """Rounds in this job's checkpoint; -1 without one, or without one that can be read."""
    path = path_in(directory)
    if path is None or not path.exists():
        return -1
    try:
        with safetensors.safe_open(path, "numpy") as file:
            meta = parse_meta(file.get_tensor(META).tobytes())
        return int(meta["stamp"][0]) if meta["job"] == job else -1
    except Exception:
        return -1  # `Trainer.initialise` says so where it matters
