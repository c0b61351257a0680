"""Models as flat float32 vectors, gradients, and digests: what the protocol needs of torch.

Layout of a weight vector: the parameters in `named_parameters()` order, each in C order. A home's vector is
its gradient in the same layout, times its weight, then its loss times its weight.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from elf_worker.tasks.base import Task, TaskError, derive_seed, describe

Floats = npt.NDArray[np.float32]


def make_deterministic() -> None:
    """One thread and deterministic kernels: the same bits for the same input, on one kind of machine."""
    torch.set_num_threads(1)
    if "torch._inductor.config" in sys.modules:
        torch.use_deterministic_algorithms(True)
    else:
        # The same, but that imports torch's compiler to tell it: a second of CPU, and 70 MiB, for each pod.
        # Where a task compiles, it is imported later, and reads this then.
        os.environ["TORCHINDUCTOR_DETERMINISTIC"] = "1"
        torch.set_deterministic_debug_mode("error")


def _seed(seed: int) -> None:
    """What torch draws next, on all devices.

    `torch.manual_seed` writes down a stack trace for GPUs that are not there, which costs a tenth of a small
    gradient and more.
    """
    if _has_accelerator():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@functools.cache
def _has_accelerator() -> bool:
    return not hasattr(torch, "accelerator") or torch.accelerator.is_available()  # torch 2.6 has it


def build_model(task: Task) -> torch.nn.Module:
    """The task's first model. Raises TaskError for one that cannot be trained exactly."""
    _seed(derive_seed(task.seed, "model"))
    where = "spec.task.entrypoint"
    try:
        model = task.model()
    except Exception as error:
        raise TaskError(f"{where}: model() raised {describe(error)}") from error
    if not isinstance(model, torch.nn.Module):
        raise TaskError(f"{where}: model() gave {model!r}, a torch.nn.Module is expected")
    parameters = dict(model.named_parameters())
    if not parameters:
        raise TaskError(f"{where}: the model has no parameters to train")
    for name, parameter in parameters.items():
        if parameter.dtype != torch.float32:
            raise TaskError(f"{where}: parameter {name} is {parameter.dtype}, torch.float32 is needed")
    for name, module in model.named_modules():
        if getattr(module, "track_running_stats", False):
            kind = type(module).__name__
            raise TaskError(
                f"{where}: layer {name} ({kind}) keeps running statistics, which homes cannot share; "
                "use GroupNorm or LayerNorm"
            )
    return model.train()


def flatten(model: torch.nn.Module) -> Floats:
    """A copy of the parameters as one vector."""
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()]).numpy()


def unflatten(model: torch.nn.Module, weights: Any) -> None:
    """Set the parameters from a vector (anything with the buffer protocol)."""
    vector = torch.from_numpy(np.frombuffer(weights, dtype="<f4").copy())
    size = sum(p.numel() for p in model.parameters())
    if len(vector) != size:
        raise ValueError(f"{len(vector)} weights where {size} are expected")
    start = 0
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(vector[start : start + parameter.numel()].view_as(parameter))
            start += parameter.numel()


def digest(model: torch.nn.Module) -> str:
    """SHA-256 of the parameters: names, dtypes, shapes and little-endian bytes, in order of their names."""
    sha = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        sha.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}\n".encode())
        sha.update(parameter.detach().contiguous().numpy().astype("<f4", copy=False).tobytes())
    return f"sha256:{sha.hexdigest()}"


Seen = Callable[[Any], None]


def home_vector(
    task: Task, model: torch.nn.Module, home: int, round: int, seen: Seen | None = None
) -> tuple[Floats, int]:
    """One home's gradient for one round at the model's weights as a vector, and its weight (examples).

    `seen` is called with each batch.

    Raises TaskError naming the method of the task that raised, with home and round.
    """
    batch = first_batch(task, home, round)
    if seen is not None:
        seen(batch)
    loss, weight = _backward(task, model, batch, home, round)
    return (_joined(model, loss) * weight).numpy(), weight


def first_batch(task: Task, home: int, round: int) -> Any:
    """The batch of a home that takes one step. Raises TaskError as `home_vector` does."""
    _seed(derive_seed(task.seed, "home", home, round))  # for dropout and the like
    [batch] = _batches(task, home, round, 1)
    return batch


def gradient_of(task: Task, model: torch.nn.Module, batch: Any) -> Floats:
    """Gradient and loss of a batch, per example. Raises what the task raises."""
    model.zero_grad(set_to_none=True)
    loss = task.loss(model, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    return _joined(model, loss.detach().float()).numpy()


def _joined(model: torch.nn.Module, loss: torch.Tensor) -> torch.Tensor:
    pieces = [
        p.grad.reshape(-1) if p.grad is not None else torch.zeros(p.numel()) for p in model.parameters()
    ]
    return torch.cat([*pieces, loss.reshape(1)])


def pseudo_vector(
    task: Task,
    model: torch.nn.Module,
    home: int,
    round: int,
    steps: int,
    optimize: Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer],
    seen: Seen | None = None,
) -> tuple[Floats, int]:
    """How far a home comes from the model's weights in so many steps of its own, and its weight (examples).

    The vector holds weights before minus weights after (Reddi et al., "Adaptive Federated Optimization",
    2021), and the mean loss of the steps. The model is left at the weights after. `optimize` makes the
    optimizer of the steps, anew each round: nothing of a home outlives a round. Raises TaskError as
    `home_vector` does.
    """
    _seed(derive_seed(task.seed, "home", home, round))
    before = torch.from_numpy(flatten(model))
    optimizer = optimize(model.parameters())
    total, losses = 0, torch.zeros(())
    for batch in _batches(task, home, round, steps):
        if seen is not None:
            seen(batch)
        loss, weight = _backward(task, model, batch, home, round)
        optimizer.step()
        total, losses = total + weight, losses + loss
    moved = before - torch.from_numpy(flatten(model))
    vector = torch.cat([moved, (losses / steps).reshape(1)])
    return (vector * total).numpy(), total


def _backward(
    task: Task, model: torch.nn.Module, batch: Any, home: int, round: int
) -> tuple[torch.Tensor, int]:
    """Gradients of one batch into the parameters; the loss, and the examples it was taken over."""
    model.zero_grad(set_to_none=True)
    with _blame("loss", home, round):
        loss = task.loss(model, batch)
        weight = int(task.examples(batch))
        loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach().float(), weight


def _batches(task: Task, home: int, round: int, count: int) -> list[Any]:
    with _blame("batches", home, round):
        found = list(itertools.islice(iter(task.batches(home, round)), count))
    if len(found) < count:
        call = f"batches(home={home}, round={round})"
        needed = "one batch is" if count == 1 else f"{count} batches are"
        have = "is empty" if not found else f"gives {len(found)}"
        raise TaskError(f"spec.task.entrypoint: {call} {have}, {needed} needed")
    return found


class _blame:  # noqa: N801 - reads as a statement
    """Turns whatever a task's method raises into a TaskError that says which method, home and round."""

    def __init__(self, method: str, home: int, round: int) -> None:
        self._call = f"{method}() for home {home} in round {round}"

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):
            raise TaskError(f"spec.task.entrypoint: {self._call} raised {describe(error)}") from error
