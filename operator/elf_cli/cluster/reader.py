"""Runs in a pod with the worker's image, given to `python3 -c`: finds the model on a volume, or makes it.

Where `spec.output` has put it, the model is a file. A checkpoint holds one vector of weights. Which
parameters it is made of only the task knows, and the task is in the job's image: so the model is written
there, where it was trained. Uses nothing of `elf_cli`.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import sys
import time

MODEL = "/tmp/model.safetensors"
SUMMARY = "/tmp/model.json"
"""Comes last: once it is there, the model is whole."""


def export(directory: str, config_json: str, model: str, summary: str) -> None:
    """Write the model and what is known of it. Raises ValueError saying why there is none."""
    import safetensors
    import safetensors.torch

    from elf_worker import tasks
    from elf_worker.contract import JobConfig
    from elf_worker.roles import checkpoints, files
    from elf_worker.tasks import vectors

    config = JobConfig.from_json(config_json)
    path = checkpoints.path_in(directory)
    if path is None or not path.exists():
        raise ValueError(f"the volume holds no checkpoint ({checkpoints.CHECKPOINT_FILE})")
    with safetensors.safe_open(path, "numpy") as file:
        meta = checkpoints.parse_meta(file.get_tensor(checkpoints.META).tobytes())
        weights = file.get_tensor("weights")
    if meta["job"] != config.uid:
        raise ValueError("the volume holds the state of another job by now")
    task = tasks.load(config.entrypoint, config.task_args, homes=config.homes, seed=config.seed)
    made = vectors.build_model(task)
    vectors.unflatten(made, weights)
    state = {name: p.detach().contiguous() for name, p in made.named_parameters()}
    data = safetensors.torch.save(state)
    files.write_atomically(pathlib.Path(model), data, durable=False)
    _tell(summary, {"round": meta["stamp"][0], "file": model})


def find(folder: str, file: str, summary: str) -> None:
    """Say what is known of the model in this file of a folder. Raises ValueError if there is none."""
    path = os.path.join(folder, file)
    if not os.path.isfile(path):
        raise ValueError(f"the volume holds no {file}")
    _tell(summary, {"file": path})


def _tell(summary: str, told: dict[str, object]) -> None:
    sha, size = hashlib.sha256(), 0
    with open(str(told["file"]), "rb") as file:
        while piece := file.read(1 << 20):
            sha.update(piece)
            size += len(piece)
    text = json.dumps({**told, "bytes": size, "sha256": sha.hexdigest()})
    partial = pathlib.Path(f"{summary}.partial")
    partial.write_text(text)
    partial.replace(summary)


def main() -> None:
    """Then stay for as long as somebody may want to read it; the pod's deadline ends it."""
    try:
        if len(sys.argv) > 1:
            find(sys.argv[1], sys.argv[2], SUMMARY)
        else:
            export(os.environ["ELF_CHECKPOINT"], os.environ["ELF_JOB"], MODEL, SUMMARY)
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error))
    time.sleep(86400)


if __name__ == "__main__":
    main()
