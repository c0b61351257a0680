"""All statistics of a job as one monoid."""

from __future__ import annotations

import copy
import importlib
import importlib.metadata
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from elf_worker.statistics.base import HomeObservation, ManyHomes, MdcObservation, Statistic
from elf_worker.statistics.builtin import BUILT_IN, MAX_WATCHED, SlowestPath

_log = logging.getLogger(__name__)
ENTRY_POINTS = "elf.statistics"
"""Group of Python entry points whose statistics every job of an image has."""

State = dict[str, Any]
"""Name of a statistic → its state. Those without observations may be absent."""


class StatisticError(ValueError):
    """A statistic that cannot be had; the message names the field and says what would be right."""


class Product:
    """The product of monoids: each statistic for itself, all of them together.

    A statistic that raises is left out where it raised, logged once and counted in `errors`: none stops a
    round.
    """

    def __init__(self, statistics: Iterable[Statistic]) -> None:
        self.statistics = {statistic.name: statistic for statistic in statistics}
        self.errors: dict[str, int] = {}

    def max_bytes(self) -> int:
        """Upper bound of `to_wire`."""
        return sum(s.max_bytes + 128 for s in self.statistics.values())

    def watch(self, homes: Iterable[int]) -> None:
        """Keep the paths of these homes from now on."""
        for statistic in self.statistics.values():
            if isinstance(statistic, SlowestPath):
                statistic.watched = frozenset(sorted(homes)[:MAX_WATCHED])

    def of_home(self, observation: HomeObservation) -> State:
        """What the statistics about homes make of it."""
        chosen = (
            s
            for s in self.statistics.values()
            if s.level == "home" and (s.sees_failures or not observation.failed)
        )
        return self._collect(chosen, lambda s: s.of(observation))

    def of_many(self, seen: ManyHomes) -> State:
        """What they make of many homes that have vectors: the same as of each, combined."""
        chosen = (s for s in self.statistics.values() if s.level == "home")
        return self._collect(chosen, lambda s: s.of_many(seen)) if len(seen) else {}

    def of_mdc(self, observation: MdcObservation) -> State:
        """What the statistics about MDCs make of it."""
        chosen = (s for s in self.statistics.values() if s.level == "mdc")
        return self._collect(chosen, lambda s: s.of(observation))

    def combine(self, a: State, b: State) -> State:
        """Both together, in `a`. What `b` holds belongs to `a` from then on."""
        for name, state in b.items():
            statistic = self.statistics.get(name)
            if statistic is None:
                continue
            try:
                known = a[name] if name in a else statistic.identity()
                a[name] = statistic.combine(known, state)
            except Exception as error:
                self._failed(name, error)
        return a

    def lasting(self, state: State) -> State:
        """What of a round's state the total of all rounds keeps. Shares nothing with it."""
        chosen = (self.statistics[name] for name in state if name in self.statistics)
        return self._collect(chosen, lambda s: copy.deepcopy(s.lasting(state[s.name])))

    def report(self, state: State) -> dict[str, Any]:
        """For people: name → plain data."""
        chosen = (self.statistics[name] for name in self.statistics if name in state)
        return self._collect(chosen, lambda s: plain(s.report(state[s.name])))

    def metrics(self, state: State) -> list[tuple[str, Mapping[str, str], float]]:
        """(metric name, labels, value)."""
        chosen = (self.statistics[name] for name in self.statistics if name in state)
        found = self._collect(chosen, lambda s: _rows(s.metrics(state[s.name])))
        return [
            (name + suffix, labels, value) for name, rows in found.items() for suffix, labels, value in rows
        ]

    def to_wire(self, state: State) -> bytes:
        """MessagePack of name → wire form. States that have grown beyond their bound are left out."""
        chosen = (self.statistics[name] for name in self.statistics if name in state)
        return msgspec.msgpack.encode(self._collect(chosen, lambda s: self._bounded(s, state[s.name])))

    def from_wire(self, data: Any) -> State:
        """Inverse of `to_wire`; what cannot be read is left out."""
        if not memoryview(data).nbytes:
            return {}
        try:
            raw = msgspec.msgpack.decode(data, type=dict[str, bytes])
        except msgspec.MsgspecError as error:
            self._failed("(all)", error)
            return {}
        chosen = (self.statistics[name] for name in raw if name in self.statistics)
        return self._collect(chosen, lambda s: s.from_wire(raw[s.name]))

    def _bounded(self, statistic: Statistic, state: Any) -> bytes:
        data = statistic.to_wire(state)
        if len(data) > statistic.max_bytes:
            raise StatisticError(f"{len(data)} bytes, max_bytes is {statistic.max_bytes}")
        return data

    def _collect(self, chosen: Iterable[Statistic], make: Callable[[Statistic], Any]) -> dict[str, Any]:
        out = {}
        for statistic in chosen:
            try:
                out[statistic.name] = make(statistic)
            except Exception as error:
                self._failed(statistic.name, error)
        return out

    def _failed(self, name: str, error: Exception) -> None:
        if name not in self.errors:
            _log.warning(
                "statistic %s: %s: %s; further errors are only counted", name, type(error).__name__, error
            )
        self.errors[name] = self.errors.get(name, 0) + 1


def load(paths: Sequence[str]) -> Product:
    """The built-in statistics, those of the image's entry points, and those of `spec.statistics`.

    Raises StatisticError for a path that is none, or two statistics of one name.
    """
    made: list[Statistic] = [kind() for kind in BUILT_IN]
    made += [_instance(f"entry point {p.name} of {ENTRY_POINTS}", p.load) for p in _entry_points()]
    for index, path in enumerate(paths):
        made.append(_instance(f"spec.statistics[{index}]", lambda path=path: find(path)))  # type: ignore[misc]
    seen: set[str] = set()
    for statistic in made:
        if statistic.name in seen:
            raise StatisticError(f"spec.statistics: two statistics are named {statistic.name!r}")
        seen.add(statistic.name)
    return Product(made)


def load_or_built_in(paths: Sequence[str]) -> Product:
    """`load`, or the built-in ones where the others cannot be had: the NPDC ends the job and says which."""
    try:
        return load(paths)
    except StatisticError as error:
        _log.error("%s", error)
        return built_in()


def built_in() -> Product:
    """The built-in statistics alone: what is left where the others cannot be had."""
    return Product(kind() for kind in BUILT_IN)


def plain(report: Any) -> Any:
    """A report as JSON has it. Raises TypeError or ValueError for one that JSON cannot hold."""
    return json.loads(json.dumps(report, allow_nan=False))


def _rows(metrics: Iterable[Any]) -> list[tuple[str, dict[str, str], float]]:
    return [
        (str(suffix), {str(key): str(value) for key, value in labels.items()}, float(number))
        for suffix, labels, number in metrics
    ]


def find(path: str) -> type[Statistic]:
    """The class at `module:Class`. Raises StatisticError saying what is wrong with the path."""
    module, colon, attribute = path.partition(":")
    if not colon or not module or not attribute:
        raise StatisticError(f"{path!r} is no path of a class, module:Class is expected")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise StatisticError(f"{path!r}: there is no module {error.name!r} in the worker image") from error
    except AttributeError as error:
        raise StatisticError(f"{path!r}: the module has no {attribute}") from error
    except Exception as error:
        raise StatisticError(f"{path!r}: importing it raised {type(error).__name__}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Statistic)):
        raise StatisticError(f"{path!r} is no subclass of elf_worker.statistics.Statistic")
    return found


def _entry_points() -> Iterable[importlib.metadata.EntryPoint]:
    return importlib.metadata.entry_points(group=ENTRY_POINTS)


def _instance(where: str, find_class: Callable[[], Any]) -> Statistic:
    try:
        made = find_class()()
    except Exception as error:
        raise StatisticError(f"{where}: {error}") from error
    if not isinstance(made, Statistic):
        raise StatisticError(f"{where}: {type(made).__name__} is no elf_worker.statistics.Statistic")
    return made
