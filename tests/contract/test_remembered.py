"""What a look at a job does not ask the server for again, and when it does."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from builders import body
from contract.apiserver import Server
from elf_operator import apiserver, builders, kube, names
from elf_operator.observation import Observation
from elf_operator.spec import Job, parse_job
from elf_operator.watchmen import Nodes, Pulse
from elf_operator.workqueue import RESYNC_SECONDS

JOB = "apis/northpole.dev/v1alpha1/namespaces/town/elftrainingjobs/sleigh"
SERVICE = f"api/v1/namespaces/town/services/{names.npdc('sleigh')}"


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(kube, "time", SimpleNamespace(monotonic=made.monotonic, time=time.time))
    return made


@pytest.fixture
def cluster(clock: Clock, api: apiserver.KubeApi) -> kube.KubeCluster:
    return kube.KubeCluster(api, Pulse(lambda: 0.0), Nodes(lambda: 0.0))


def job_of(uid: str = "uid-1", generation: int = 1, labels: Any = None, **spec: Any) -> dict[str, Any]:
    made = body()
    meta = {**made["metadata"], "namespace": "town", "uid": uid, "generation": generation}
    return {**made, "metadata": {**meta, "labels": labels or {}}, "spec": {**made["spec"], **spec}}


async def look(cluster: kube.KubeCluster) -> Observation:
    seen = await cluster.observe("town", "sleigh")
    assert seen is not None
    return seen


def asks(server: Server, path: str) -> int:
    return [asked for _, asked, _ in server.asked].count(path)


def own_service(server: Server, uid: str = "uid-1", **more: Any) -> None:
    server.put(SERVICE, {"metadata": {"ownerReferences": [{"uid": uid}]}, **more})


async def test_a_service_that_was_seen_is_asked_for_again_by_the_next_unasked_look(
    server: Server, cluster: kube.KubeCluster, clock: Clock
) -> None:
    server.put(JOB, job_of())
    own_service(server)
    for _ in range(5):
        assert (await look(cluster)).service is not None
        clock.now += kube.KNOWN_SECONDS / 10
    assert asks(server, SERVICE) == 1
    server.remove(SERVICE)  # by nobody we know
    clock.now += kube.KNOWN_SECONDS / 2
    assert (await look(cluster)).service is None
    assert kube.KNOWN_SECONDS < RESYNC_SECONDS, "else such a look would not ask"


async def test_a_service_that_is_not_there_is_asked_for_each_time(
    server: Server, cluster: kube.KubeCluster
) -> None:
    server.put(JOB, job_of())
    for asked in range(1, 4):
        assert (await look(cluster)).service is None
        assert asks(server, SERVICE) == asked
    own_service(server)
    assert (await look(cluster)).service is not None


@pytest.mark.parametrize("change", ["apply", "remove"])
async def test_what_we_change_ourselves_is_seen_by_the_next_look(
    server: Server, cluster: kube.KubeCluster, change: str
) -> None:
    server.put(JOB, job_of())
    job = (await look(cluster)).job
    await cluster.apply(builders.npdc_service(job, 0))
    seen = await look(cluster)
    assert seen.service is not None and seen.service["spec"]["selector"][names.LABEL_INCARNATION] == "0"
    if change == "apply":
        await cluster.apply(builders.npdc_service(job, 1))
        seen = await look(cluster)
        assert seen.service is not None and seen.service["spec"]["selector"][names.LABEL_INCARNATION] == "1"
    else:
        await cluster.remove(seen, "Service", names.npdc("sleigh"))
        assert (await look(cluster)).service is None


async def test_the_service_of_an_earlier_job_of_the_name_is_not_the_next_one_s(
    server: Server, cluster: kube.KubeCluster
) -> None:
    server.put(JOB, job_of())
    own_service(server)
    assert (await look(cluster)).service is not None
    server.put(JOB, job_of("uid-2"))
    assert (await look(cluster)).service is None
    cluster.forget("uid-1")
    own_service(server, "uid-2", mine=True)
    seen = await look(cluster)
    assert seen.service is not None and seen.service["mine"]


async def test_the_service_of_a_job_that_is_gone_is_not_remembered(
    server: Server, cluster: kube.KubeCluster
) -> None:
    server.put(JOB, job_of())
    own_service(server)
    await look(cluster)
    cluster.forget("uid-2")
    await look(cluster)
    assert asks(server, SERVICE) == 1, "another job is no reason"
    cluster.forget("uid-1")
    await look(cluster)
    assert asks(server, SERVICE) == 2


# -- jobs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """What has been checked against the schema."""
    done: list[Job] = []

    def noted(found: Any) -> Job:
        done.append(parse_job(found))
        return done[-1]

    monkeypatch.setattr(kube, "parse_job", noted)
    return done


async def test_a_job_is_checked_when_it_has_changed(
    server: Server, cluster: kube.KubeCluster, parsed: list[Job]
) -> None:
    """A look is made of what is there: a changed job is never taken for the one it was."""
    for made, checks in [
        (job_of(), 1),
        ({**job_of(), "status": {"state": "Running"}}, 1),
        (job_of(generation=2, rounds=17), 2),
        (job_of(generation=3, rounds="many"), 3),
        (job_of(generation=3, rounds="many"), 3),
        (job_of(generation=4), 4),
        (job_of(generation=4, labels={"team": "red"}), 5),
        (job_of("uid-2", generation=4), 6),
    ]:
        server.put(JOB, made)
        cluster.forget("uid-0")
        assert (await look(cluster)).job == parse_job(made)
        assert len(parsed) == checks


async def test_a_job_that_is_gone_is_not_remembered(
    server: Server, cluster: kube.KubeCluster, parsed: list[Job]
) -> None:
    server.put(JOB, job_of())
    await look(cluster)
    cluster.forget("uid-1")
    await look(cluster)
    assert len(parsed) == 2
