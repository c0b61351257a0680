"""Handwritten digits: 1,797 real 8 × 8 images, split unevenly over the homes.

The images are those that scikit-learn carries (Alpaydin and Kaynak, "Optical Recognition of Handwritten
Digits", UCI 1998). A fifth is held out. What remains is split by a Dirichlet draw per class, so that homes
differ in size and in which digits they have (Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data
Distribution for Federated Visual Classification", 2019).
"""

from __future__ import annotations

import importlib.util
import pathlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from elf_worker.tasks.base import Batch, Task, derive_seed
from elf_worker.tasks.measures import macro_f1

CLASSES = 10
HELD_OUT = 5
"""Every fifth image of a shuffled order is held out."""


class Digits(Task):
    """A small convolutional network on handwritten digits; metrics `f1` (macro) and `accuracy`.

    Args: `batch_size`, images a home uses per round (drawn with replacement from its own); `alpha`, the
    Dirichlet concentration: small is uneven.
    """

    def __init__(self, *, homes: int, seed: int, batch_size: int = 32, alpha: float = 0.5) -> None:
        super().__init__(homes=homes, seed=seed)
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, at least 1 is needed")
        if not alpha > 0:
            raise ValueError(f"alpha is {alpha}, more than 0 is needed")
        self.batch_size = batch_size
        images, labels = read_images()
        order = np.random.default_rng(0).permutation(len(labels))  # the test set is the same for every seed
        held = np.arange(len(order)) % HELD_OUT == 0
        self._test = (images[order[held]], labels[order[held]])
        self._train = (images[order[~held]], labels[order[~held]])
        self._parts = dirichlet_split(self._train[1].numpy(), homes, alpha, derive_seed(seed, "split"))

    def model(self) -> nn.Module:
        """25,730 parameters: two convolutions and a linear layer."""
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(512, 40),
            nn.ReLU(),
            nn.Linear(40, CLASSES),
        )

    def batches(self, home: int, round: int) -> Iterator[Batch]:
        """Images float32 `(batch, 1, 8, 8)` in 0..1 and labels int64 `(batch,)`."""
        mine = self._parts[home % len(self._parts)]  # homes that came later share a part, not its batches
        generator = self.generator(home, round)
        images, labels = self._train
        while True:
            pick = mine[torch.randint(len(mine), (self.batch_size,), generator=generator)]
            yield images[pick], labels[pick]

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Mean cross entropy."""
        images, labels = batch
        return functional.cross_entropy(model(images), labels)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """`f1`: macro F1, and `accuracy`, on the held-out images."""
        images, labels = self._test
        guess = model(images).argmax(1)
        return {
            "f1": macro_f1(labels, guess, CLASSES),
            "accuracy": float((guess == labels).double().mean()),
        }


def read_images() -> tuple[torch.Tensor, torch.Tensor]:
    """Images float32 `(1797, 1, 8, 8)` in 0..1 and labels int64 `(1797,)`.

    Reads scikit-learn's data file without importing scikit-learn, which takes longer than training a round.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("the digits are part of scikit-learn: pip install 'elf-training-operator[worker]'")
    path = pathlib.Path(spec.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    table = np.loadtxt(path, delimiter=",", dtype=np.float32)
    images = torch.from_numpy(table[:, :-1] / 16).reshape(-1, 1, 8, 8)
    return images, torch.from_numpy(table[:, -1].astype(np.int64))


def dirichlet_split(labels: np.ndarray, homes: int, alpha: float, seed: int) -> list[torch.Tensor]:
    """Indices of each home's examples: disjoint, together all of them, at least one each.

    Each class is cut in proportions drawn from Dirichlet(alpha); a home left empty takes one example from
    the home that has the most. Raises ValueError when there are more homes than examples.
    """
    if homes > len(labels):
        raise ValueError(f"{homes} homes share {len(labels)} examples: each needs at least one")
    rng = np.random.default_rng(seed)
    parts: list[list[int]] = [[] for _ in range(homes)]
    for label in range(int(labels.max()) + 1):
        mine = rng.permutation(np.flatnonzero(labels == label))
        cuts = np.cumsum(rng.dirichlet(np.full(homes, alpha)))[:-1]
        for part, piece in zip(parts, np.split(mine, (cuts * len(mine)).astype(int)), strict=True):
            part.extend(piece.tolist())
    for part in parts:
        if not part:
            part.append(max(parts, key=len).pop())
    return [torch.tensor(sorted(part)) for part in parts]
