"""The cluster through its API: what is asked of the server, and what its answers mean."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from builders import body
from contract.apiserver import Server
from elf_operator import apiserver, builders, kube, names
from elf_operator.announcements import BURST
from elf_operator.expectations import StaleViewError
from elf_operator.kube_leases import KubeLeases
from elf_operator.plans import Delete, Event
from elf_operator.reconcile import RefusedError
from elf_operator.spec import Job, parse_job
from elf_operator.watchmen import Nodes, Pulse
from elf_worker.contract import Role, Wiring

JOBS = "apis/northpole.dev/v1alpha1/namespaces/town/elftrainingjobs"
MAP = "api/v1/namespaces/town/configmaps/sleigh-wiring"


def a_cluster(api: apiserver.KubeApi) -> kube.KubeCluster:
    return kube.KubeCluster(api, Pulse(lambda: 0.0), Nodes(lambda: 0.0))


@pytest.fixture
def job() -> Job:
    made = parse_job({**body(), "metadata": {**body()["metadata"], "namespace": "town"}})
    assert made.name == "sleigh"
    return made


def keep(server: Server, job: Job) -> None:
    """The server has this job."""
    meta = {**body()["metadata"], "namespace": "town", "uid": job.uid, "generation": 1}
    server.objects[f"{JOBS}/sleigh"] = {**body(), "metadata": meta}


def owned(job: Job, **labels: str) -> dict[str, Any]:
    return {"ownerReferences": [{"uid": job.uid}], "labels": labels}


async def test_a_wiring_replaces_only_the_one_it_was_made_from(
    server: Server, cluster: kube.KubeCluster, job: Job
) -> None:
    await cluster.apply(builders.wiring_map(job, Wiring(version=1), replaces=""))
    first = server.objects[MAP]["metadata"]["resourceVersion"]
    with pytest.raises(apiserver.ApiError) as caught:  # a second operator that has seen none either
        await cluster.apply(builders.wiring_map(job, Wiring(version=1), replaces=""))
    assert caught.value.status == 409
    await cluster.apply(builders.wiring_map(job, Wiring(version=2), replaces=first))
    with pytest.raises(apiserver.ApiError) as caught:
        await cluster.apply(builders.wiring_map(job, Wiring(version=3), replaces=first))
    assert caught.value.status == 409
    assert Wiring.from_json(server.objects[MAP]["data"]["wiring.json"]).version == 2


async def test_a_look_that_misses_our_own_wiring_is_stale(
    server: Server, cluster: kube.KubeCluster, job: Job
) -> None:
    keep(server, job)
    seen = await cluster.observe("town", "sleigh")
    assert seen is not None and seen.wiring is None and seen.wiring_resource == ""
    await cluster.apply(builders.wiring_map(job, Wiring(version=4), replaces=""))
    seen = await cluster.observe("town", "sleigh")
    assert seen is not None and seen.wiring_resource == server.objects[MAP]["metadata"]["resourceVersion"]
    del server.objects[MAP]
    with pytest.raises(StaleViewError):
        await cluster.observe("town", "sleigh")


async def test_a_wiring_that_we_have_removed_is_not_missed(
    server: Server, cluster: kube.KubeCluster, job: Job
) -> None:
    """Of a job that has failed before it got going nothing is kept: that is no stale view."""
    keep(server, job)
    await cluster.apply(builders.wiring_map(job, Wiring(version=4), replaces=""))
    for _ in range(2):
        seen = await cluster.observe("town", "sleigh")
        assert seen is not None and seen.wiring is not None
        server.refuse["DELETE"] = 503  # nor is it forgotten by an attempt that fails
        with pytest.raises(apiserver.ApiError):
            await cluster.remove(seen, "ConfigMap", "sleigh-wiring")
    server.refuse.clear()
    await cluster.remove(seen, "ConfigMap", "sleigh-wiring")
    seen = await cluster.observe("town", "sleigh")
    assert seen is not None and seen.wiring is None


class Asked(list[Any]):
    """Does something as soon as a first question for this path is answered."""

    def __init__(self, path: str, then: Callable[[], object]) -> None:
        self._path, self._then = path, then

    def append(self, question: Any) -> None:
        super().append(question)
        if question[1] == self._path and [path for _, path, _ in self].count(self._path) == 1:
            asyncio.get_running_loop().call_soon(self._then)


async def test_a_look_that_shows_pods_that_have_left_shows_why(
    server: Server, cluster: kube.KubeCluster, job: Job
) -> None:
    path = f"{JOBS}/sleigh"
    meta = {**body()["metadata"], "namespace": "town", "uid": job.uid, "generation": 1}
    server.put(path, {**body(), "metadata": meta})
    labels = names.pod_labels("sleigh", Role.NPDC, 0, 0)
    npdc = {"name": "sleigh-npdc-0", **owned(job, **labels)}
    gone = {"metadata": npdc, "status": {"phase": "Succeeded"}}
    server.put("api/v1/namespaces/town/pods/sleigh-npdc-0", gone)
    said = {**body(), "metadata": meta, "status": {"training": {"phase": "Complete"}}}
    server.asked = Asked(path, lambda: server.put(path, said))  # between two reads of one look
    seen = await cluster.observe("town", "sleigh")
    assert seen is not None and seen.training == {"phase": "Complete"}


async def test_a_status_is_written_only_for_the_spec_that_was_seen(
    server: Server, cluster: kube.KubeCluster, job: Job
) -> None:
    path = f"{JOBS}/sleigh"
    meta = {**body()["metadata"], "namespace": "town", "uid": job.uid, "generation": 3}
    server.put(path, {**body(), "metadata": meta})
    first = await cluster.observe("town", "sleigh")
    assert first is not None
    server.objects[f"{path}/status"] = server.objects[path]
    await cluster.write_status(first, {"state": "Pending", "old": 1})
    status = {**server.objects[f"{path}/status"]["status"], "training": {"round": 7}}
    server.put(f"{path}/status", {**server.objects[f"{path}/status"], "status": status})
    seen = replace(first, status=status)
    await cluster.write_status(seen, {"state": "Running"})
    assert server.objects[f"{path}/status"]["status"] == {"state": "Running", "training": {"round": 7}}
    stale = replace(seen, job=replace(seen.job, generation=2))
    with pytest.raises(apiserver.ApiError) as caught:
        await cluster.write_status(stale, {"state": "Suspended"})
    assert caught.value.status == 409
    assert server.objects[f"{path}/status"]["status"]["state"] == "Running"
    server.refuse["PATCH"] = 422  # a status that the schema does not allow is no conflict
    with pytest.raises(apiserver.ApiError) as caught:
        await cluster.write_status(seen, {"state": "Nonsense"})
    assert caught.value.status == 422


@pytest.mark.parametrize("what", ["Service", "ConfigMap", "Pod"])
async def test_a_stranger_keeps_its_name(
    server: Server, cluster: kube.KubeCluster, job: Job, what: str
) -> None:
    service = builders.npdc_service(job, 0)
    pod = {"kind": "Pod", "metadata": {**service["metadata"], "name": "sleigh-home-0"}}
    made = {"Service": service, "ConfigMap": builders.wiring_map(job, Wiring(), ""), "Pod": pod}[what]
    path = f"api/v1/namespaces/town/{what.lower()}s/{made['metadata']['name']}"
    server.put(path, {"kind": what, "metadata": {"name": made["metadata"]["name"]}, "mine": True})
    with pytest.raises(RefusedError, match=f"{what} {made['metadata']['name']} exists and is not of") as why:
        await (cluster.create_pod(made) if what == "Pod" else cluster.apply(made))
    assert why.value.reason == "NameTaken" and server.objects[path]["mine"]


async def test_what_an_earlier_job_left_is_waited_for(
    server: Server, cluster: kube.KubeCluster, job: Job
) -> None:
    earlier = parse_job({**body(), "metadata": {**body()["metadata"], "namespace": "town", "uid": "earlier"}})
    server.put(MAP, builders.wiring_map(earlier, Wiring()))
    with pytest.raises(apiserver.ApiError) as caught:
        await cluster.apply(builders.wiring_map(job, Wiring(), replaces=""))
    assert caught.value.status == 409


async def test_a_conflict_is_a_duplicate_only_if_there_is_one(
    server: Server, cluster: kube.KubeCluster, job: Job
) -> None:
    pod = {"kind": "Pod", "metadata": {**builders.npdc_service(job, 0)["metadata"], "name": "sleigh-home-0"}}
    server.refuse["POST"] = 409  # a quota that somebody else has changed at the same time
    with pytest.raises(apiserver.ApiError) as caught:
        await cluster.create_pod(pod)
    assert caught.value.status == 409
    server.put("api/v1/namespaces/town/pods/sleigh-home-0", pod)
    await cluster.create_pod(pod)


@dataclass
class Says:
    """A way on which every request gets this answer."""

    answer: bytes

    async def send(self, *_: Any) -> tuple[int, str, bytes]:
        return 201, "Created", self.answer


@pytest.mark.parametrize("answer", [b"", b'{"metadata": {"name": "sl', b"Bad Gateway", b"[]"])
async def test_a_creation_that_is_not_answered_in_full_is_tried_again(job: Job, answer: bytes) -> None:
    """Nobody reads what the server says of a new pod; that it has said it all is known none the less."""
    pod = {"kind": "Pod", "metadata": {**builders.npdc_service(job, 0)["metadata"], "name": "sleigh-home-0"}}
    with pytest.raises(apiserver.ApiError, match="cut short"):
        await a_cluster(apiserver.KubeApi(Says(answer))).create_pod(pod)
    await a_cluster(apiserver.KubeApi(Says(b'{"metadata": {"name": "sleigh-home-0"}}'))).create_pod(pod)


@pytest.mark.parametrize("status", [400, 403, 422])
async def test_a_refusal_is_told_in_the_servers_words(
    server: Server, cluster: kube.KubeCluster, job: Job, status: int
) -> None:
    server.refuse["POST"] = status
    with pytest.raises(RefusedError, match="Service sleigh-npdc: quota says no") as why:
        await cluster.create_pod(builders.npdc_service(job, 0))
    assert why.value.reason == "Refused"


@pytest.mark.parametrize("status", [409, 429, 500, 503])
async def test_trouble_of_the_server_is_no_refusal(
    server: Server, cluster: kube.KubeCluster, job: Job, status: int
) -> None:
    server.refuse["PATCH"] = status
    with pytest.raises(apiserver.ApiError):
        await cluster.apply(builders.npdc_service(job, 0))


async def test_only_this_very_pod_is_deleted(server: Server, cluster: kube.KubeCluster, job: Job) -> None:
    path = "api/v1/namespaces/town/pods/sleigh-mdc-0-0"
    server.put(path, {"metadata": {"name": "sleigh-mdc-0-0", "uid": "later"}})
    await cluster.delete_pod("town", Delete("sleigh-mdc-0-0", "earlier", "because"))
    assert path in server.objects
    await cluster.delete_pod("town", Delete("sleigh-mdc-0-0", "later", "because", force=True))
    assert path not in server.objects and server.asked[-1][2]["gracePeriodSeconds"] == 0
    await cluster.delete_pod("town", Delete("sleigh-mdc-0-0", "later", "because"))


async def test_only_what_is_ours_is_removed(server: Server, cluster: kube.KubeCluster, job: Job) -> None:
    keep(server, job)
    seen = await cluster.observe("town", "sleigh")
    assert seen is not None
    server.put("api/v1/namespaces/town/services/sleigh-npdc", {"metadata": {"name": "sleigh-npdc"}})
    await cluster.remove(seen, "Service", "sleigh-npdc")
    await cluster.remove(seen, "ConfigMap", "sleigh-wiring")
    assert server.writes() == []
    server.put(MAP, builders.wiring_map(job, Wiring()))
    await cluster.remove(seen, "ConfigMap", "sleigh-wiring")
    assert MAP not in server.objects


async def test_only_this_very_job_is_removed(server: Server, cluster: kube.KubeCluster, job: Job) -> None:
    keep(server, job)
    seen = await cluster.observe("town", "sleigh")
    assert seen is not None
    (path,) = [path for path in server.objects if path.endswith("/elftrainingjobs/sleigh")]
    later = {**server.objects[path]["metadata"], "uid": "later"}
    server.put(path, {**server.objects[path], "metadata": later})
    with pytest.raises(apiserver.ApiError):
        await cluster.remove(seen, "ElfTrainingJob", "sleigh")
    assert path in server.objects, "another job of its name"
    keep(server, job)
    await cluster.remove(seen, "ElfTrainingJob", "sleigh")
    assert path not in server.objects
    await cluster.remove(seen, "ElfTrainingJob", "sleigh")


async def test_the_same_event_is_counted_and_too_many_are_dropped(
    server: Server, api: apiserver.KubeApi, job: Job
) -> None:
    dropped: list[int] = []
    cluster = kube.KubeCluster(api, Pulse(lambda: 0.0), Nodes(lambda: 0.0), lambda: dropped.append(1))
    keep(server, job)
    seen = await cluster.observe("town", "sleigh")
    assert seen is not None
    for _ in range(3):
        await cluster.emit(seen, Event("Warning", "Because", "again"))
    (written,) = [o for p, o in server.objects.items() if "/events/" in p]
    assert (written["count"], written["reason"], written["message"]) == (3, "Because", "again")
    assert written["involvedObject"]["uid"] == job.uid
    for number in range(BURST):
        await cluster.emit(seen, Event("Warning", "Because", f"number {number}"))
    assert len(dropped) == 3 and len([p for p in server.objects if "/events/" in p]) == BURST - 2


async def test_writes_do_not_begin_when_they_may_not(
    server: Server, api: apiserver.KubeApi, job: Job
) -> None:
    heard: list[tuple[str, str, int]] = []
    asked = api.watched(lambda: False, lambda verb, resource, code, _: heard.append((verb, resource, code)))
    with pytest.raises(apiserver.NotLeadingError):
        await a_cluster(asked).create_pod(builders.npdc_service(job, 0))
    assert server.asked == []
    assert await asked.jobs(None) == [] and heard == [("list", "elftrainingjobs", 200)]


@pytest.mark.parametrize(
    ("method", "path", "verb", "resource"),
    [
        ("GET", "api/v1/namespaces/town/pods", "list", "pods"),
        ("GET", "api/v1/namespaces/town/pods/sleigh-home-0", "get", "pods"),
        ("POST", "api/v1/namespaces/town/pods", "create", "pods"),
        ("PUT", "apis/coordination.k8s.io/v1/namespaces/a/leases/b", "update", "leases"),
        ("PATCH", f"{JOBS}/sleigh/status", "patch", "elftrainingjobs/status"),
        ("DELETE", MAP, "delete", "configmaps"),
        ("GET", "apis/northpole.dev/v1alpha1/elftrainingjobs", "list", "elftrainingjobs"),
    ],
)
def test_requests_are_named_as_rbac_names_them(method: str, path: str, verb: str, resource: str) -> None:
    assert (apiserver.verb_of(method, path), apiserver.resource_of(path)) == (verb, resource)


async def test_a_lease_is_replaced_only_as_it_was(server: Server, api: apiserver.KubeApi) -> None:
    leases = KubeLeases(api, "town", "operator")
    assert await leases.get() is None
    assert await leases.create({"holderIdentity": "a"}) and not await leases.create({"holderIdentity": "b"})
    held = await leases.get()
    assert held is not None and held["spec"]["holderIdentity"] == "a"
    server.refuse["PUT"] = 409
    assert not await leases.update({**held, "spec": {"holderIdentity": "c"}})


async def test_null_is_said_where_there_are_no_jobs(server: Server, api: apiserver.KubeApi) -> None:
    server.nulls = True
    assert await api.jobs(None) == []
