"""What one seed stands for: the size of the world, its pace, and the faults that will strike it."""

from __future__ import annotations

import random
from dataclasses import dataclass

from elf_worker.contract import groups

FAULTS: dict[str, int] = {
    "crash_mdc": 6,
    "crash_npdc": 4,
    "crash_home": 3,
    "doom_mdc": 4,
    "doom_npdc": 4,
    "doom_home": 2,
    "crash_many": 2,
    "break_link": 6,
    "stall_link": 4,
    "partition": 4,
    "freeze_mdc": 4,
    "freeze_npdc": 3,
    "freeze_home": 2,
    "evict_mdc": 4,
    "evict_npdc": 3,
    "shuffle_homes": 4,
    "scale": 3,
    "pause_operator": 3,
    "ghost": 3,
    "scale_homes": 5,
    "lose_home": 4,
    "move_mdc": 4,
}
"""Kinds of faults and how often each is drawn."""
MOST_HOMES = 10


@dataclass(frozen=True)
class Scenario:
    """Everything random is drawn from the seed, here and in the world."""

    seed: int
    mdcs: int = 2
    homes: int = 4
    per_pod: int = 1
    together: int = 0
    """Homes that a pod adds up into one bundle, at most; 0: each speaks for itself."""
    rounds: int = 3
    quorum: int = 4
    sick: int = 0
    """Homes (the first ones) that fail, send NaN or stay silent in some rounds; only with quorum < homes."""
    group: int = 0
    """Homes, at least, in a group that a robust method combines; 0: the plain mean."""
    method: str = "mean"
    deadline: float = 3.0
    silence: float = 2.0
    tick: float = 0.2
    latency: float = 0.02
    compute: float = 0.3
    replay: float = 0.0
    """Chance that a frame said on an earlier link is said again on a new one."""
    volume_every: int = 0
    """Rounds between checkpoints on a volume; 0: no volume."""
    reuse_addresses: bool = False
    """A new MDC gets the address of the one it replaces."""
    slow_mdc: int = -1
    """The first pod of this MDC needs a second for everything it hears."""
    slow_home: int = -1
    """This home needs five seconds to compute."""
    straggler_factor: float | None = None
    faults: tuple[tuple[float, str], ...] = ()

    def units(self, homes: int) -> list[range]:
        """Homes that only move together, of so many."""
        return groups(homes, self.group or 1)

    def quorum_of(self, homes: int) -> int:
        """The quorum of a round with so many homes: the same share, rounded up."""
        return -(-self.quorum * homes // self.homes)

    @property
    def counts(self) -> list[int]:
        """Numbers of homes that the job may be scaled to: not with groups, nor where too many are ill."""
        most = range(1, MOST_HOMES + 1) if not self.group else [self.homes]
        return [n for n in most if n - min(n, self.sick) >= self.quorum_of(n)]

    @property
    def horizon(self) -> float:
        """When the last fault strikes."""
        return max((at for at, _ in self.faults), default=0.0)


def draw(seed: int) -> Scenario:
    """The scenario of a seed."""
    rng = random.Random(seed)
    homes = rng.randint(3, 8)
    full = rng.random() < 0.7
    quorum = homes if full else rng.randint(max(1, homes // 2), homes - 1)
    span = rng.choice((1.0, 3.0, 6.0, 10.0))
    kinds = rng.choices(list(FAULTS), list(FAULTS.values()), k=rng.choice((0, 1, 2, 3, 4, 6, 8, 12)))
    sick = 0 if full else rng.randint(0, homes - quorum)
    method = rng.choice(("median", "trimmedMean")) if rng.random() < 0.25 else "mean"
    if method != "mean":
        # A home that is silent, or one too many that fails, takes its whole group out of the round.
        spared = sum(len(unit) for unit in groups(homes, 3) if unit.start >= sick)
        sick, quorum = (sick, min(quorum, spared)) if spared else (0, quorum)
    return Scenario(
        seed=seed,
        mdcs=rng.randint(1, 4),
        homes=homes,
        per_pod=rng.choice((1, 1, 2, 3)),
        rounds=rng.randint(3, 6),
        quorum=quorum,
        sick=sick,
        group=0 if method == "mean" else 3,
        method=method,
        tick=rng.choice((0.1, 0.2, 0.3)),
        latency=rng.choice((0.004, 0.02, 0.02, 0.2)),
        compute=rng.choice((0.02, 0.3, 0.3, 1.5)),
        replay=rng.choice((0.0, 0.0, 0.5)),
        volume_every=rng.choice((0, 0, 1, 2)),
        reuse_addresses=rng.random() < 0.4,
        faults=tuple(sorted((rng.random() * span, kind) for kind in kinds)),
        together=rng.choice((0, 0, 0, 1, 2, 3)) if method == "mean" else 0,
    )
