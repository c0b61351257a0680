"""Naughty or nice: behaviour records that each home generates for itself, a binary question.

Nothing is shipped or shared: a home's records come from its number and the job's seed, as they would from a
diary that never leaves the house. Homes differ: each has its own habits (a shift of all its records).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from elf_worker.tasks.base import Batch, Task, derive_seed
from elf_worker.tasks.measures import binary_f1

FEATURES = (
    "chores_done", "vegetables_eaten", "siblings_teased", "thanks_said", "doors_slammed",
    "homework_days", "cookies_stolen", "toys_shared",
)  # fmt: skip
HELD_OUT_RECORDS = 2000
HELD_OUT_HOME = -1


class NaughtyOrNice(Task):
    """A small network on generated behaviour records; metrics `f1` (of *nice*) and `accuracy`.

    Args: `records`, how many each home has; `batch_size`, how many it uses per round; `noise`, the standard
    deviation of the judgement's noise.
    """

    def __init__(
        self, *, homes: int, seed: int, records: int = 256, batch_size: int = 32, noise: float = 0.25
    ) -> None:
        super().__init__(homes=homes, seed=seed)
        if min(records, batch_size) < 1:
            raise ValueError(f"records is {records} and batch_size {batch_size}, at least 1 each is needed")
        self.records, self.batch_size, self.noise = records, batch_size, noise
        rule = torch.Generator().manual_seed(derive_seed(seed, "rule"))
        self._rule = torch.randn(len(FEATURES), generator=rule)
        self._pairs = 0.5 * torch.randn(len(FEATURES), generator=rule)

    def model(self) -> nn.Module:
        """181 parameters."""
        return nn.Sequential(nn.Linear(len(FEATURES), 18), nn.Tanh(), nn.Linear(18, 1))

    def diary(self, home: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Records float32 `(count, 8)` and judgements float32 `(count,)`, 1 for nice."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "diary", home))
        habits = 0.5 * torch.randn(len(FEATURES), generator=generator)
        records = habits + torch.randn(count, len(FEATURES), generator=generator)
        score = records @ self._rule + (records * records.roll(1, dims=1)) @ self._pairs
        score = score + self.noise * torch.randn(count, generator=generator) * math.sqrt(len(FEATURES))
        return records, (score > 0).float()

    def batches(self, home: int, round: int) -> Iterator[Batch]:
        """Records float32 `(batch, 8)` and judgements float32 `(batch,)`."""
        records, nice = self.diary(home, self.records)
        generator = self.generator(home, round)
        while True:
            pick = torch.randint(self.records, (self.batch_size,), generator=generator)
            yield records[pick], nice[pick]

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Mean binary cross entropy."""
        records, nice = batch
        return functional.binary_cross_entropy_with_logits(model(records).squeeze(1), nice)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """`f1` of nice, and `accuracy`, on records of homes that do not train."""
        diaries = [self.diary(HELD_OUT_HOME - i, HELD_OUT_RECORDS // 20) for i in range(20)]
        records, nice = (torch.cat(part) for part in zip(*diaries, strict=True))
        guess = (model(records).squeeze(1) > 0).float()
        return {"f1": binary_f1(nice, guess), "accuracy": float((guess == nice).double().mean())}
