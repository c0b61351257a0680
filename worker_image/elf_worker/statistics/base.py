"""What a statistic is, and what it is told."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
class ManyHomes:
    """Homes of one round that were computed together and have vectors, as columns of one length."""

    homes: npt.NDArray[np.int64]
    round: int
    mdc: int
    weights: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32] = field(repr=False)
    """Of shape `(homes, parameters + 1)`."""
    seconds: float = 0.0
    waiting_seconds: float = 0.0
    computing_seconds: float = 0.0
    batch_sizes: Sequence[tuple[int, ...]] = ()
    classes: Sequence[Mapping[str, int]] = ()
    bytes_up: int = 0
    """Of all of them together; so is `bytes_down`."""
    bytes_down: int = 0

    def __len__(self) -> int:
        """How many homes."""
        return len(self.homes)

    def __getitem__(self, index: int) -> HomeObservation:
        """One of them. Bytes that do not divide are the first one's."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return HomeObservation(
            home=int(self.homes[index]),
            round=self.round,
            mdc=self.mdc,
            weight=int(self.weights[index]),
            vector=self.vectors[index],
            seconds=self.seconds,
            waiting_seconds=self.waiting_seconds,
            computing_seconds=self.computing_seconds,
            batch_sizes=self.batch_sizes[index] if self.batch_sizes else (),
            classes=self.classes[index] if self.classes else {},
            bytes_up=self._share(self.bytes_up, index),
            bytes_down=self._share(self.bytes_down, index),
        )

    def only(self, chosen: npt.NDArray[np.bool_]) -> ManyHomes:
        """Those of them that are chosen."""
        index = np.flatnonzero(chosen).tolist()
        return replace(
            self,
            homes=self.homes[chosen],
            weights=self.weights[chosen],
            vectors=self.vectors[chosen],
            batch_sizes=[self.batch_sizes[i] for i in index] if self.batch_sizes else (),
            classes=[self.classes[i] for i in index] if self.classes else (),
            bytes_up=sum(self._share(self.bytes_up, i) for i in index),
            bytes_down=sum(self._share(self.bytes_down, i) for i in index),
        )

    def _share(self, whole: int, index: int) -> int:
        return whole // len(self) + (whole % len(self) if index == 0 else 0)

    def __iter__(self) -> Iterator[HomeObservation]:
        """One after the other."""
        return (self[index] for index in range(len(self)))

    @functools.cached_property
    def losses(self) -> npt.NDArray[np.float64]:
        """`HomeObservation.loss` of each."""
        return self.vectors[:, -1].astype(np.float64) / self.weights

    @functools.cached_property
    def gradient_norms(self) -> npt.NDArray[np.float64]:
        """`HomeObservation.gradient_norm` of each."""
        return robust.norms(self.vectors[:, :-1]) / self.weights


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
    """Of the sum and the statistics with it."""
    bytes_down: int = 0
    """Sent to it since its last sum: weights, and state copies that it keeps."""


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

    def of_many(self, seen: ManyHomes) -> Any:
        """The state of many homes: what `of` and `combine` make of each. Write it where that is slow."""
        return functools.reduce(self.combine, map(self.of, seen), self.identity())

    def combine(self, a: Any, b: Any) -> Any:
        """Both together. May change and return `a`; must leave `b` as it is."""
        raise NotImplementedError

    def lasting(self, state: Any) -> Any:
        """What of a round's state the total of all rounds keeps, with the same report; all of it by default.

        The total goes with every copy of the NPDC's state. Must leave `state` as it is.
        """
        return state

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
