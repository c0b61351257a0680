"""An operator to which nothing is done warns of nothing, whatever happens to its jobs.

That of jobs which go on or end well is asked in `test_crashes.py`, of the undisturbed runs.
"""

from __future__ import annotations

import pytest

from control_plane.stage import NOBODY, Lab, stage

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="session")]


async def test_a_job_that_fails_before_its_first_round_leaves_nothing_and_no_warning(lab: Lab) -> None:
    async with stage(lab, "stillborn") as on:
        said = {"phase": "Failed", "round": 0, "reason": "TaskFailed", "message": "there are no data"}
        on.puppets.finished = said
        await on.operator()
        await on.until("the job has failed", lambda: on.body().get("status", {}).get("state") == "Failed")
        await on.until("its pods have gone", lambda: not on.puppets.pods())
        await on.until("its wiring has gone", lambda: on.puppets.wiring() is None)
        await on.edit(miniDataCenters={"replicas": 2, **NOBODY})  # one look more
        meta = on.body()["metadata"]
        seen = lambda: on.body()["status"]["observedGeneration"] == meta["generation"]  # noqa: E731
        await on.until("it is looked at once more", seen)
        assert on.body()["status"]["state"] == "Failed"
        assert not on.warnings()
