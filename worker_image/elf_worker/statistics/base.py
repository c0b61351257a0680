"""What a statistic is, and what it is told."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from elf_worker.aggregation import robust


@dataclass(frozen=True)
class HomeObservation:
    """One home in one round, as its MDC sees it."""

    home: int
    round: int
    """Rounds done before this one."""
    mdc: int = 0
    """Index of the MDC that took it."""
    failed: str = ""
    """Why the home has no gradient in this round; empty when it has one."""
    weight: int = 0
    """Examples."""
    vector: npt.NDArray[np.float32] | None = field(default=None, repr=False)
    """Gradient times weight, then loss times weight, before clipping: float32 `(parameters + 1,)`."""
    seconds: float = 0.0
    """From sending the weights to having the vector."""
    waiting_seconds: float = 0.0
    """Of these, in the home's pod before its turn came."""
    computing_seconds: float = 0.0
    """Of these, computing."""
    batch_sizes: tuple[int, ...] = ()
    """Examples of each of the home's batches in this round."""
    classes: Mapping[str, int] = field(default_factory=dict)
    """Examples of each class, if the task tells."""
    bytes_up: int = 0
    bytes_down: int = 0

    @functools.cached_property
    def gradient(self) -> npt.NDArray[np.float32]:
        """Per example: float32 of shape `(parameters,)`; empty for a home that failed."""
        if self.vector is None:
            return np.zeros(0, np.float32)
        return self.vector[:-1] / np.float32(self.weight)

    @functools.cached_property
    def loss(self) -> float:
        """Mean over the home's examples; NaN for a home that failed."""
        return math.nan if self.vector is None else float(self.vector[-1]) / self.weight

    @functools.cached_property
    def gradient_norm(self) -> float:
        """Euclidean norm of `gradient`; NaN for a home that failed."""
        return math.nan if self.vector is None else robust.norm(self.vector[:-1]) / self.weight


@dataclass(frozen=True)
class MdcObservation:
    """One sum that the NPDC has accepted from an MDC. One that hands its homes in by parts gives several."""

    mdc: int
    round: int
    seconds: float
    """From publishing the weights to accepting the sum."""
    homes: int
    weight: int
    loss: float
    """Mean over the examples of these homes."""
    gradient_norm: float
    """Euclidean norm of their mean gradient."""
    bytes_up: int


class Statistic:
    """A commutative monoid of states, and how to make a state of an observation. Subclass it.

    Laws, which `elf check-statistic` tests: `combine` is associative and commutative with `identity()` as
    neutral element, up to equality of `report`; `from_wire(to_wire(s))` reports what `s` reports; the wire
    form of any number of combined observations has at most `max_bytes` bytes.

    States may be anything that MessagePack knows (None, bool, int up to 64 bits, float, str, bytes, list,
    dict); for others, `to_wire` and `from_wire` are to be written too. Instances are made without arguments.
    """

    name: ClassVar[str] = ""
    """Key in reports; the class's name in snake_case unless given."""
    level: ClassVar[Literal["home", "mdc"]] = "home"
    """What `of` is told: each home (at its MDC), or each sum of an MDC (at the NPDC)."""
    sees_failures: ClassVar[bool] = False
    """Whether homes that failed are observed too."""
    max_bytes: ClassVar[int] = 64 * 1024

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    def identity(self) -> Any:
        """A fresh neutral state."""
        raise NotImplementedError

    def of(self, observation: Any) -> Any:
        """The state of one observation."""
        raise NotImplementedError

    def combine(self, a: Any, b: Any) -> Any:
        """Both together. May change and return `a`; must leave `b` as it is."""
        raise NotImplementedError

    def report(self, state: Any) -> Any:
        """The state for people: plain data for JSON."""
        return state

    def metrics(self, state: Any) -> Iterable[tuple[str, Mapping[str, str], float]]:
        """(suffix of the metric's name, labels, value) for Prometheus; nothing by default."""
        return ()

    def to_wire(self, state: Any) -> bytes:
        """The state as bytes."""
        return msgspec.msgpack.encode(state)

    def from_wire(self, data: bytes) -> Any:
        """Inverse of `to_wire`. May raise anything for other bytes."""
        return msgspec.msgpack.decode(data, strict=False)
