"""The vectors of many homes at once, by `torch.func.vmap`.

A home's vector must stay a pure function of (seed, home, round, weights). Kernels choose the order of their
additions by shapes and by places in memory, never by values. So batches always have one width, filled up with
copies, and one of two laws holds:

* **exact**: the bits are those of one by one. That is tried for each shape of batches before its first use,
  in every place of the width, with dense weights that are not the job's own; where one bit differs, homes of
  that shape are computed one by one.
* **fast**: the bits may differ from those, but each home has one place (its id modulo the width) and one
  width, so they depend on nobody else: not on the pod, not on who is asked for at the same time.

Homes that cannot be batched (data that are no tensors, models that draw or branch) go one by one in both.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch.utils import _pytree as pytree

from elf_worker.tasks import vectors
from elf_worker.tasks.base import Task, TaskError, derive_seed
from elf_worker.tasks.vectors import Floats

_log = logging.getLogger(__name__)

MOST = 256
"""Homes in one batch, at most. Part of what `fast` computes: another number gives other bits."""
MOST_BYTES = 1 << 24
"""That the gradients of a batch may have, and so may its data."""
SAMPLES = 256
"""Vectors that have to be equal before a shape is taken for exact."""
FEWEST_SHARE = 8
"""Fewer than one part in so many of a width is quicker one by one (exact only)."""

MOST_CLASSES = 128
"""As an MDC takes of a home, and characters of their names."""

Way = Literal["exact", "fast"]
Shape = tuple[Any, ...]


class One(NamedTuple):
    """What one home has: its vector, weight, and what its batches were like."""

    vector: Floats
    weight: int
    sizes: tuple[int, ...] = ()
    classes: Mapping[str, int] = {}


@dataclass
class Found:
    """Vectors of several homes, in one order."""

    homes: list[int] = field(default_factory=list)
    rows: list[Floats] = field(default_factory=list)
    """Of shape `(some homes, parameters + 1)`, one below the other."""
    weights: list[int] = field(default_factory=list)
    sizes: list[tuple[int, ...]] = field(default_factory=list)
    """Examples of each batch."""
    classes: list[Mapping[str, int]] = field(default_factory=list)
    raised: dict[int, TaskError] = field(default_factory=dict)
    """Homes that have no vector, and why."""

    @property
    def vectors(self) -> Floats:
        """Float32 of shape `(homes, parameters + 1)`."""
        return self.rows[0] if len(self.rows) == 1 else np.concatenate(self.rows)

    def add(self, home: int, one: One) -> None:
        """One home more."""
        self.homes.append(home)
        self.rows.append(one.vector[None])
        self.weights.append(one.weight)
        self.sizes.append(one.sizes)
        self.classes.append(one.classes)


class _Group(NamedTuple):
    """Homes whose batches have one shape."""

    homes: list[int]
    stacked: Any
    weights: list[int]
    classes: list[Mapping[str, int]]


class Many:
    """One task and its model; the weights are those that the model has when it is asked.

    `alone` computes one home by itself, with everything that is recorded of it. Raises TaskError.
    """

    def __init__(
        self,
        task: Task,
        model: torch.nn.Module,
        way: Way,
        alone: Callable[[int, int], One],
        most: int = MOST,
    ) -> None:
        self._task, self._model, self._way, self._alone = task, model, way, alone
        size = 4 * (sum(p.numel() for p in model.parameters()) + 1)
        room = max(1, MOST_BYTES // max(size, self._batch_bytes()))
        self.step = 1 << (room.bit_length() - 1)
        """Homes to ask for at a time, at most: more would not fit into memory that is meant to be small."""
        self.width = min(MOST, self.step)
        """Homes in a batch: a power of two that depends on the task alone."""
        if way == "exact":  # who is in a batch with whom does not matter then: small pods need no wide ones
            self.width = min(self.width, 1 << max(0, most - 1).bit_length())
        self._loss = _Loss(task, model)
        self._gradients = torch.func.vmap(
            torch.func.grad_and_value(self._scalar), in_dims=(None, 0), randomness="error"
        )
        self._plain: set[Shape] = set()
        """Shapes of batches that are computed one by one."""
        self._good: set[Shape] = set()
        self.batched = self.single = 0
        """Vectors computed together, and one by one (proofs not counted)."""

    def vectors(self, homes: Sequence[int], round: int) -> Found:
        """The vectors of these homes. What a home's own data raise is in `raised`, and harms no other."""
        found = Found()
        rest: list[int] = []
        for group in self._groups(homes, round, rest):
            self._group(group, round, found, rest)
        for home in rest:
            self._by_itself(home, round, found)
        return found

    def _batch_bytes(self) -> int:
        """Of the first home's first batch; 0 if it cannot be had."""
        try:
            parts, _ = pytree.tree_flatten(vectors.first_batch(self._task, 0, 0))
        except TaskError:
            return 0
        return sum(part.numel() * part.element_size() for part in parts if isinstance(part, torch.Tensor))

    # -- batches ------------------------------------------------------------------------------------------

    def _groups(self, homes: Sequence[int], round: int, rest: list[int]) -> list[_Group]:
        """By shape; homes whose data are no tensors, or raise, go to the rest."""
        nothing = self._way == "exact" and self._plain and not self._good  # do not make the batches twice
        if self.width < 2 or nothing:
            rest.extend(homes)
            return []
        try:
            stacked = self._task.batch_of(homes, round)
        except Exception:
            stacked = None  # one of them is to blame: each for itself then
        if stacked is not None:
            return self._described(list(homes), stacked, rest)
        found: dict[Shape, tuple[list[int], list[Any]]] = {}
        for home in homes:
            try:
                batch = vectors.first_batch(self._task, home, round)
                shape = _shape(batch)
            except TaskError:
                shape = None
            if shape is None:
                rest.append(home)
            else:
                members, batches = found.setdefault(shape, ([], []))
                members.append(home)
                batches.append(batch)
        groups = (self._described(members, _stack(batches), rest) for members, batches in found.values())
        return list(itertools.chain.from_iterable(groups))

    def _described(self, homes: list[int], stacked: Any, rest: list[int]) -> list[_Group]:
        """With each home's examples and classes, as the task tells; who raises is for the rest."""
        try:
            return [self._told(homes, stacked)]
        except Exception:
            rest.extend(homes)
            return []

    def _told(self, homes: list[int], stacked: Any) -> _Group:
        task, count = self._task, len(homes)
        first = _row(stacked, 0)
        weights, classes = [int(task.examples(first))], [_classes(task, first)]
        if type(task).examples is Task.examples:
            weights *= count
        else:
            weights += [int(task.examples(_row(stacked, i))) for i in range(1, count)]
        if type(task).classes is Task.classes and not _labelled(first):
            classes *= count
        else:
            classes += [_classes(task, _row(stacked, i)) for i in range(1, count)]
        return _Group(homes, stacked, weights, classes)

    # -- gradients ----------------------------------------------------------------------------------------

    def _group(self, group: _Group, round: int, found: Found, rest: list[int]) -> None:
        shape = _shape(_row(group.stacked, 0))
        few = self._way == "exact" and len(group.homes) * FEWEST_SHARE < self.width
        if shape is None or few or not self._may_be_batched(shape, group, round):
            rest.extend(group.homes)
            return
        for places in self._laid_out(group.homes):
            self._batch(group, places, round, found, rest)

    def _laid_out(self, homes: list[int]) -> list[dict[int, int]]:
        """For each batch: place → index into the group's homes."""
        width = self.width
        if self._way == "exact":
            count = len(homes)
            return [dict(enumerate(range(at, min(at + width, count)))) for at in range(0, count, width)]
        out: dict[int, dict[int, int]] = {}
        for index, home in enumerate(homes):
            out.setdefault(home // width, {})[home % width] = index
        return list(out.values())

    def _batch(
        self, group: _Group, places: dict[int, int], round: int, found: Found, rest: list[int]
    ) -> None:
        chosen = list(places.values())
        try:
            rows = self._rows(group.stacked, places)
        except Exception:
            if len(places) == 1:
                rest.extend(group.homes[i] for i in chosen)
                return
            # One of them is to blame. Alone in its place each home gets the same bits as in company.
            for place, index in places.items():
                self._batch(group, {place: index}, round, found, rest)
            return
        weights = [group.weights[i] for i in chosen]
        rows *= np.asarray(weights, np.float32)[:, None]
        found.homes += [group.homes[i] for i in chosen]
        found.rows.append(rows)
        found.weights += weights
        found.sizes += [(weight,) for weight in weights]
        found.classes += [group.classes[i] for i in chosen]
        self.batched += len(chosen)

    def _rows(self, stacked: Any, places: Mapping[int, int]) -> Floats:
        """Gradient and loss of each of these places, in order."""
        spare = next(iter(places.values()))
        chosen = torch.tensor([places.get(place, spare) for place in range(self.width)])
        # Always a copy: where numpy has put an array may be another place as to the width of vectors.
        stacked = pytree.tree_map(lambda part: part.index_select(0, chosen), stacked)
        own = {f"model.{name}": p.detach() for name, p in self._model.named_parameters()}
        gradients, losses = self._gradients(own, stacked)
        pieces = [gradients[name].reshape(self.width, -1) for name in own]
        rows = torch.cat([*pieces, losses.detach().float().reshape(self.width, 1)], 1).numpy()
        return rows if len(places) == self.width else rows[list(places)]

    def _scalar(self, parameters: dict[str, torch.Tensor], batch: Any) -> torch.Tensor:
        found: torch.Tensor = torch.func.functional_call(self._loss, parameters, (batch,))
        return found.reshape(())

    def _by_itself(self, home: int, round: int, found: Found) -> None:
        try:
            one = self._alone(home, round)
        except TaskError as error:
            found.raised[home] = error
            return
        self.single += 1
        found.add(home, one)

    # -- what may be batched ------------------------------------------------------------------------------

    def _may_be_batched(self, shape: Shape, group: _Group, round: int) -> bool:
        """Whether homes of this shape may be computed together, decided once."""
        if shape not in self._good and shape not in self._plain:
            why = self._unlike(group, round) if self._way == "exact" else self._impossible(group)
            if why is None:
                return False
            if why:
                _log.info("homes are computed one by one: %s", why)
            (self._plain if why else self._good).add(shape)
        return shape in self._good

    def _impossible(self, group: _Group) -> str | None:
        """Why vmap cannot do what one by one can; empty: it can; None: these homes' own data do not tell.

        Decided by what a home alone can have decided: it must not depend on who else is in the pod.
        """
        for index in range(len(group.homes)):
            try:
                self._rows(group.stacked, {0: index})
            except Exception as error:
                try:
                    vectors.gradient_of(self._task, self._model, _row(group.stacked, index))
                except Exception:
                    continue
                return f"vmap raised {type(error).__name__}: {str(error)[:200]}"
            return ""
        return None

    def _unlike(self, group: _Group, round: int) -> str:
        """Exact: how batched differs from one by one, looked for in every place; empty: it does not."""
        count = len(group.homes)
        for index, home in enumerate(group.homes[: self.width]):
            if not _same(_row(group.stacked, index), vectors.first_batch(self._task, home, round)):
                return f"batch_of gives home {home} another batch than batches"
        before = vectors.flatten(self._model)
        try:
            for turn in range(-(-SAMPLES // self.width)):
                self._shake(before, turn)
                together = self._rows(group.stacked, {p: (p + turn) % count for p in range(self.width)})
                for place in range(self.width):
                    batch = _row(group.stacked, (place + turn) % count)
                    alone = vectors.gradient_of(self._task, self._model, batch)
                    if alone.tobytes() != together[place].tobytes():
                        return "batched, the bits of their gradients would be others"
        except Exception as error:
            return f"vmap raised {type(error).__name__}: {str(error)[:200]}"
        finally:
            vectors.unflatten(self._model, before)
            self._model.zero_grad(set_to_none=True)
        return ""

    def _shake(self, before: Floats, turn: int) -> None:
        """Dense weights: zeros, which models often begin with, add up to the same in any order."""
        generator = torch.Generator().manual_seed(derive_seed(self._task.seed, "proof", turn))
        noise = 0.1 * torch.randn(len(before), generator=generator)
        vectors.unflatten(self._model, (torch.from_numpy(before) + noise).numpy())


class _Loss(torch.nn.Module):
    """The task's loss as a module, so that its parameters can be handed in."""

    def __init__(self, task: Task, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model
        self._task = task

    def forward(self, batch: Any) -> torch.Tensor:
        """A scalar."""
        return self._task.loss(self.model, batch)


def _shape(batch: Any) -> Shape | None:
    """What batches that are stacked have in common; None for those that hold something else than tensors."""
    parts, spec = pytree.tree_flatten(batch)
    if not parts or not all(isinstance(part, torch.Tensor) for part in parts):
        return None
    return (str(spec), *((part.dtype, tuple(part.shape)) for part in parts))


def _stack(batches: list[Any]) -> Any:
    flat = [pytree.tree_flatten(batch) for batch in batches]
    parts = [torch.stack(part) for part in zip(*(parts for parts, _ in flat), strict=True)]
    return pytree.tree_unflatten(parts, flat[0][1])


def _row(stacked: Any, index: int) -> Any:
    return pytree.tree_map(lambda part: part[index], stacked)


def _same(one: Any, other: Any) -> bool:
    if _shape(one) != _shape(other):
        return False
    pairs = zip(pytree.tree_flatten(one)[0], pytree.tree_flatten(other)[0], strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def _labelled(batch: Any) -> bool:
    """Whether `Task.classes` would count something."""
    labels = batch[1] if isinstance(batch, Sequence) and len(batch) > 1 else None
    return isinstance(labels, torch.Tensor) and labels.dim() == 1 and not labels.is_floating_point()


def _classes(task: Task, batch: Any) -> Mapping[str, int]:
    """A task that cannot tell costs its job nothing."""
    try:
        told = itertools.islice(task.classes(batch).items(), MOST_CLASSES)
        return {str(name)[:MOST_CLASSES]: int(count) for name, count in told}
    except Exception:
        return {}
