"""How much is put upon the operator, and what all parts have in common."""

from __future__ import annotations

from dataclasses import dataclass

MDCS = 16
IN_FLIGHT = 64
"""Requests of the bare client at a time, and of the puppets."""
SETTLED_SECONDS = 3.0
"""After so long an operator that has nothing left to do is quiet."""
MEMORY_MIB = 150.0
"""Wanted of it at the peak."""


@dataclass(frozen=True)
class Scale:
    """How much is put upon the operator."""

    pods: int = 1000
    jobs: int = 100
    idle_seconds: float = 61.0
    """As long as it takes the operator to look at every job unasked."""


QUICK = Scale(pods=100, jobs=10, idle_seconds=5.0)
