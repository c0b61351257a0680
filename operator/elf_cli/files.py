"""Reading a job from a YAML file."""

from __future__ import annotations

import pathlib
import sys
import uuid
from typing import Any

import yaml

from elf_worker.contract import API_GROUP, API_VERSION


class FileError(ValueError):
    """The file is of no use; the message names the file and, where there is one, the line."""


def read_job(path: str) -> dict[str, Any]:
    """The one ElfTrainingJob in a file (`-`: standard input), with a UID for this run. Raises FileError."""
    try:
        text = sys.stdin.read() if path == "-" else pathlib.Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        documents = [d for d in yaml.safe_load_all(text) if d is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise FileError(f"{path}{line}: not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise FileError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    jobs = [d for d in documents if isinstance(d, dict) and d.get("kind") == "ElfTrainingJob"]
    if len(jobs) != 1:
        raise FileError(f"{path}: holds {len(jobs)} objects of kind ElfTrainingJob, one is expected")
    job: dict[str, Any] = jobs[0]
    expected = f"{API_GROUP}/{API_VERSION}"
    if job.get("apiVersion") != expected:
        raise FileError(f"{path}: apiVersion: is {job.get('apiVersion')!r}, {expected!r} is expected")
    if not isinstance(job.get("metadata"), dict):
        raise FileError(f"{path}: metadata.name: is required")
    job = _as_kubectl_sends(job)
    job["metadata"] = {"namespace": "default", "generation": 1, **job["metadata"], "uid": str(uuid.uuid4())}
    return job


def _as_kubectl_sends(value: Any) -> Any:
    """4 for 4.0, everywhere: what a file says has to mean the same here and on a cluster."""
    if isinstance(value, dict):
        return {key: _as_kubectl_sends(found) for key, found in value.items()}
    if isinstance(value, list):
        return [_as_kubectl_sends(found) for found in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
