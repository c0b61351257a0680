"""Optimizers by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from elf_worker.tasks.base import TaskError, describe


def make_optimizer(
    field: str, name: str, args: Mapping[str, Any], parameters: Iterable[torch.nn.Parameter]
) -> torch.optim.Optimizer:
    """`torch.optim.<name>(parameters, **args)`. Raises TaskError naming the field of the spec."""
    names = [n for n, c in vars(torch.optim).items() if _is_optimizer(c)]
    if name not in names:
        hint = difflib.get_close_matches(name, names, 3, 0.5)
        known = f"did you mean {' or '.join(hint)}?" if hint else f"known: {', '.join(sorted(names))}"
        raise TaskError(f"{field}.name: torch.optim has no {name!r}; {known}")
    try:
        return getattr(torch.optim, name)(parameters, **args)  # type: ignore[no-any-return]
    except Exception as error:
        raise TaskError(f"{field}.args: {name} raised {describe(error)}") from error


def _is_optimizer(found: object) -> bool:
    base = torch.optim.Optimizer
    return isinstance(found, type) and issubclass(found, base) and found is not base
