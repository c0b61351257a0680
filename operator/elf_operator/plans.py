"""What a plan is: data, to be logged, shown and carried out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from elf_operator.builders import Manifest
from elf_worker.contract import Role


@dataclass(frozen=True)
class Create:
    """Create a pod; that it exists already is as good."""

    role: Role
    index: int
    incarnation: int
    name: str
    reason: str
    make: Callable[[], Manifest] = field(repr=False, compare=False)
    """Its manifest. Of a thousand pods the first need not wait until those of all are made."""
    needs: tuple[str, ...] = ()
    """Secrets of the same plan that are there before it."""

    @property
    def manifest(self) -> Manifest:
        """Made anew."""
        return self.make()


@dataclass(frozen=True)
class Issue:
    """Make a Secret; that it exists already is as good, for what it says follows from its name."""

    name: str
    make: Callable[[], Manifest] = field(repr=False, compare=False)
    """Its manifest. It takes milliseconds, which is why a plan does not hold it."""


@dataclass(frozen=True)
class Delete:
    """Delete this very pod, not a later one of the same name."""

    name: str
    uid: str
    reason: str
    force: bool = False
    """At once, without waiting for its node: that is lost, and the name is needed."""


@dataclass(frozen=True)
class Event:
    """Something a person would want to read in `kubectl describe`."""

    type: str
    reason: str
    message: str


@dataclass(frozen=True)
class Replaced:
    """A data center that this plan replaces because of a fault, for the metrics."""

    role: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """To be done in the order of the fields, the status last: what fences comes before anything else."""

    status: Mapping[str, Any]
    apply: tuple[Manifest, ...] = ()
    """One by one."""
    delete: tuple[Delete, ...] = ()
    remove: tuple[tuple[str, str], ...] = ()
    """(kind, name) of other objects to delete, one by one."""
    issue: tuple[Issue, ...] = ()
    """In the order in which pods need them. A pod waits for its own only, not for all."""
    create: tuple[Create, ...] = ()
    events: tuple[Event, ...] = ()
    replaced: tuple[Replaced, ...] = ()
    again_after: float | None = None
    """Look again after so many seconds even if nothing happens."""

    @property
    def idle(self) -> bool:
        """Nothing to do but, perhaps, to write the status."""
        return not (self.apply or self.delete or self.create or self.remove or self.issue)
