"""The master key and the Secrets of jobs, as an API server sees them."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from builders import job, observation
from contract.apiserver import Server
from elf_operator import apiserver, builders, kube, master
from elf_operator.authority import MASTER_BYTES, Authority
from elf_operator.reconcile import RefusedError
from elf_worker.contract import Role
from pods import AUTHORITY

WHERE = ("elf-system", "master-key")
PATH = "api/v1/namespaces/elf-system/secrets/master-key"
JOB = job()


def keep(server: Server, **data: bytes) -> None:
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    server.put(PATH, {"metadata": {"name": "master-key"}, **({"data": encoded} if data else {})})


# -- the master key -----------------------------------------------------------------------------------------


async def test_an_empty_secret_is_filled_once(server: Server, api: apiserver.KubeApi) -> None:
    keep(server)
    first = await master.load(api, *WHERE)
    again = await master.load(api, *WHERE)
    assert first.fingerprint("job") == again.fingerprint("job")
    data = {key: base64.b64decode(text) for key, text in server.objects[PATH]["data"].items()}
    assert Authority(data[master.MASTER_KEY]).fingerprint("job") == first.fingerprint("job")
    assert data[master.SCRAPE_KEY].decode() == first.scrape_token()
    assert [method for method, _, _ in server.asked].count("PATCH") == 1


async def test_two_operators_that_start_at_once_agree(server: Server, api: apiserver.KubeApi) -> None:
    keep(server)
    both = await asyncio.gather(master.load(api, *WHERE), master.load(api, *WHERE))
    assert both[0].fingerprint("job") == both[1].fingerprint("job")


async def test_a_key_of_ones_own_is_used(server: Server, api: apiserver.KubeApi) -> None:
    keep(server, master=bytes(MASTER_BYTES))
    assert (await master.load(api, *WHERE)).fingerprint("job") == AUTHORITY.fingerprint("job")
    data = {key: base64.b64decode(text) for key, text in server.objects[PATH]["data"].items()}
    token = AUTHORITY.scrape_token().encode()
    assert data == {master.MASTER_KEY: bytes(MASTER_BYTES), master.SCRAPE_KEY: token}, "Prometheus needs it"


async def test_no_secret_is_an_error_that_says_what_to_do(api: apiserver.KubeApi) -> None:
    with pytest.raises(master.MasterError, match="no Secret elf-system/master-key; make an empty one"):
        await master.load(api, *WHERE)


async def test_a_key_that_is_none_is_not_written_over(server: Server, api: apiserver.KubeApi) -> None:
    keep(server, master=b"too short")
    with pytest.raises(master.MasterError, match="master: the master key has 9 bytes, 32 are expected"):
        await master.load(api, *WHERE)
    server.objects[PATH]["data"] = {"master": "no base64!"}
    with pytest.raises(master.MasterError, match="Secret elf-system/master-key, master: "):
        await master.load(api, *WHERE)
    assert all(method == "GET" for method, _, _ in server.asked)


async def test_without_the_right_to_read_it_is_an_error(server: Server, api: apiserver.KubeApi) -> None:
    server.denied.add("secrets")
    with pytest.raises(master.MasterError, match="Secret elf-system/master-key: "):
        await master.load(api, *WHERE)


async def test_an_api_server_that_is_away_is_waited_for(
    server: Server, api: apiserver.KubeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(master, "PAUSE_SECONDS", 0.01)
    keep(server)
    server.refuse["GET"] = 503
    waiting = asyncio.create_task(master.load(api, *WHERE))
    async with asyncio.timeout(20):
        while len(server.asked) < 3:
            await asyncio.sleep(0.002)
    del server.refuse["GET"]
    assert isinstance(await asyncio.wait_for(waiting, 20), Authority)


# -- Secrets of jobs ----------------------------------------------------------------------------------------


def secret(incarnation: int = 0) -> tuple[str, dict[str, Any]]:
    made = builders.identity_secret(JOB, AUTHORITY, Role.MDC, 0, incarnation)
    return f"api/v1/namespaces/pole/secrets/{made['metadata']['name']}", made


async def test_a_secret_is_made_once_and_never_read(server: Server, cluster: kube.KubeCluster) -> None:
    path, made = secret()
    await cluster.apply(made)
    kept = server.objects[path]
    await cluster.apply(made)
    assert server.objects[path] == kept
    assert {method for method, _, _ in server.asked} == {"POST"}


async def test_a_secret_is_deleted_without_a_look(server: Server, cluster: kube.KubeCluster) -> None:
    path, made = secret()
    await cluster.apply(made)
    for _ in range(2):  # that it is gone is as good
        await cluster.remove(observation(JOB), "Secret", made["metadata"]["name"])
    assert path not in server.objects
    assert not [m for m, _, _ in server.asked if m == "GET"]


@pytest.mark.parametrize("status", [403, 422])
async def test_what_the_server_refuses_is_told(
    server: Server, cluster: kube.KubeCluster, status: int
) -> None:
    server.refuse["POST"] = status
    with pytest.raises(RefusedError, match=r"Secret sleigh-mdc-0-0-\w+: quota says no"):
        await cluster.apply(secret()[1])
