"""A task with so many parameters and nothing to compute."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from elf_worker.tasks import Task


class Flat(Task):
    """Never asked for a gradient: its homes are played by others."""

    def __init__(self, *, homes: int, seed: int, parameters: int) -> None:
        super().__init__(homes=homes, seed=seed)
        self.parameters = parameters

    def model(self) -> torch.nn.Module:
        model = torch.nn.Module()
        model.flat = torch.nn.Parameter(torch.zeros(self.parameters))
        return model

    def batches(self, home: int, round: int) -> Iterator[Any]:
        raise NotImplementedError

    def loss(self, model: torch.nn.Module, batch: Any) -> torch.Tensor:
        raise NotImplementedError

    def evaluate(self, model: torch.nn.Module) -> dict[str, float]:
        return {}
