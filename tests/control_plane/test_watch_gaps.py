"""What happens while no watch tells of it."""

from __future__ import annotations

from typing import Any

import pytest

from control_plane.calls import Target
from control_plane.faults import Fault, Schedule
from control_plane.stage import REST_SECONDS, Lab, Stage, stage, stranger_spec

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900), pytest.mark.asyncio(loop_scope="session")]


async def swap(on: Stage, name: str, **meta: Any) -> None:
    """A pod goes, and another comes under its name."""
    await on.puppets.remove(on.puppets.pod(name))
    await on.stranger({"name": name, **meta})


@pytest.mark.parametrize("labelled", [True, False])
async def test_a_stranger_takes_a_name(lab: Lab, labelled: bool) -> None:
    """It is left alone; what can do without the name is replaced, what cannot waits until it is free."""
    async with stage(lab, f"a stranger takes a name (labelled: {labelled})") as on:
        operator = await on.operator()
        await on.settle()
        operator.door.mute = True
        home, mdc = f"{on.job}-home-3", on.data_center(1)
        for name in (home, mdc):
            labels = on.puppets.pod(name)["metadata"]["labels"] if labelled else {}
            await swap(on, name, labels=labels)
        operator.door.heal()
        await on.until("the MDC is replaced", lambda: mdc != name_of(on, 1) != "")
        begun = len(operator.door.mutations)
        await on.still(REST_SECONDS)
        assert len(operator.door.mutations) - begun < 10, "it tries again and again"
        for name in (home, mdc):
            await on.dismiss(name)
        await on.settle()
        await on.rest()
        assert on.body()["status"]["replaced"] == 1


def name_of(on: Stage, index: int) -> str:
    """The pod that the wiring names for an MDC, if it runs."""
    wiring = on.puppets.wiring()
    assert wiring is not None
    uid = wiring.mdcs[index].uid
    found = [p["metadata"]["name"] for p in on.puppets.pods() if p["metadata"]["uid"] == uid]
    return found[0] if found else ""


async def test_a_pod_that_was_made_again_is_taken_up(lab: Lab) -> None:
    """As by `kubectl replace --force`: same name, same owner, another UID. The wiring follows."""
    async with stage(lab, "a pod made again") as on:
        operator = await on.operator()
        await on.settle()
        operator.door.mute = True
        name = on.data_center(1)
        old = on.puppets.pod(name)
        kept = {k: old["metadata"][k] for k in ("name", "labels", "ownerReferences")}
        await on.puppets.remove(old)
        path = f"api/v1/namespaces/{on.namespace}/pods"
        made = await on.api.request("POST", path, {"metadata": kept, "spec": stranger_spec()})
        operator.door.heal()
        await on.settle()
        await on.rest()
        assert on.puppets.pod(name)["metadata"]["uid"] == made["metadata"]["uid"]
        assert on.body()["status"]["replaced"] == 0


class NoWatch(Schedule):
    """The watch of jobs breaks while kopf waits to try that of pods again: it logs in anew when all stops."""

    def __init__(self) -> None:
        super().__init__(0, 0)
        self.pods, self.jobs = 8, 1

    def next(self, target: Target) -> Fault | None:
        if target.verb != "watch":
            return None
        if target.resource == "pods" and self.pods:
            self.pods -= 1
            return Fault("403")
        if target.resource == "elftrainingjobs" and self.jobs:
            self.jobs -= 1
            return Fault("in-stream 500", seconds=2.5)
        return None


async def test_an_operator_that_cannot_watch_ends_or_goes_on(lab: Lab) -> None:
    """It must not stay as a process that neither looks nor ends."""
    async with stage(lab, "broken watches") as on:
        await on.operator(schedule=NoWatch())
        await on.settle()
        await on.end(on.data_center(1))
        await on.settle()
        await on.rest()
