"""Runs one seed and, when it fails, runs it again with a trace."""

from __future__ import annotations

from typing import Any

from simulation.oracle import ViolationError
from simulation.scenario import Scenario, draw
from simulation.world import World


class SeedFailedError(AssertionError):
    """A seed broke a promise; the message holds the seed, the scenario and the end of the trace."""


def run(scenario: Scenario, **machines: Any) -> bytes:
    """The final weights of one scenario. Raises SeedFailedError with a trace when anything is wrong."""
    try:
        return World(scenario, **machines).run()
    except Exception as error:
        raise SeedFailedError(_replay(scenario, error, machines)) from error


def run_seed(seed: int, **machines: Any) -> bytes:
    """`run` for the scenario of a seed."""
    return run(draw(seed), **machines)


def breaks(scenario: Scenario, **machines: Any) -> str | None:
    """Why a scenario fails, or None; without a trace, for searches."""
    try:
        World(scenario, **machines).run()
    except ViolationError as error:
        return str(error)
    except Exception as error:  # a mutant may also trip over its own state
        return f"{type(error).__name__}: {error}"
    return None


def _replay(scenario: Scenario, error: Exception, machines: dict[str, Any]) -> str:
    world = World(scenario, tracing=True, **machines)
    again = "the replay did not fail: the simulation is not deterministic"
    try:
        world.run()
    except Exception as second:
        again = "" if str(second) == str(error) else f"the replay failed differently: {second}"
    return (
        f"seed {scenario.seed}: {type(error).__name__}: {error} {again}\n{scenario}\n"
        f"--- the last {len(world.tail().splitlines())} steps ---\n{world.tail()}\n"
        f"--- again: ELF_SIM_SEED={scenario.seed} python -m pytest tests/unit/protocol/test_simulation.py ---"
    )
