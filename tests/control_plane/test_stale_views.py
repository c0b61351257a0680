"""An operator is shown the world as it was, while another has moved it on. It does no harm, then or later."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from control_plane.stage import NOBODY, Lab, Manned, Stage, stage

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900), pytest.mark.asyncio(loop_scope="session")]
Deed = Callable[[Stage], Awaitable[None]]
ATTEMPTS = 3
"""So often the stale operator must have tried to act, or to look, before it is told the truth."""


async def an_mdc_has_failed(on: Stage) -> None:
    await on.end(on.data_center(1))


async def a_home_has_ended(on: Stage) -> None:
    await on.end(f"{on.job}-home-2", 1)


async def it_is_suspended(on: Stage) -> None:
    await on.edit(suspend=True)


async def it_is_larger(on: Stage) -> None:
    await on.edit(miniDataCenters={"replicas": 5, **NOBODY})


async def move_on(on: Stage) -> None:
    """Newer pods under old names, newer incarnations, a newer spec."""
    await on.settle()
    await on.edit(suspend=False, miniDataCenters={"replicas": 3, **NOBODY}, homes={"template": TOUCHED})
    await on.settle()
    await on.end(on.data_center(1))
    await on.settle()
    await on.end(f"{on.job}-home-2", 1)
    await on.settle()


TOUCHED = {**NOBODY["template"], "metadata": {"annotations": {"touched": "yes"}}}
"""A change of the spec that asks for nothing."""


@pytest.mark.parametrize("last_seen", [an_mdc_has_failed, a_home_has_ended, it_is_suspended, it_is_larger])
async def test_a_stale_operator_does_no_harm(lab: Lab, last_seen: Deed) -> None:
    async with stage(lab, f"stale: {last_seen.__name__}") as on:
        stale = await on.operator()
        await on.settle()
        await on.stop(stale)
        await last_seen(on)
        await stale.door.freeze()
        fresh = await on.operator()
        await move_on(on)
        before, alive = on.puppets.wiring(), living(on)
        await act_in_vain(on, stale)
        assert living(on) == alive, "a stale operator has changed which pods there are"
        assert on.puppets.wiring() == before, "a stale operator has changed the wiring"
        stale.door.heal()
        await on.stop(fresh)
        await on.end(on.data_center(0))  # the one that was stale acts alone now
        await on.settle()
        await on.rest()


async def act_in_vain(on: Stage, stale: Manned) -> None:
    looks, tries = stale.door.looks, len(stale.door.mutations)
    await on.start(stale)
    await on.until("the stale operator looks", lambda: stale.door.looks >= looks + ATTEMPTS)
    await on.until(
        "the stale operator acts",
        lambda: len(stale.door.mutations) >= tries + ATTEMPTS or stale.door.looks >= looks + 20 * ATTEMPTS,
    )


def living(on: Stage) -> dict[str, str]:
    return {p["metadata"]["name"]: p["metadata"]["uid"] for p in on.puppets.pods()}
