"""The operator against a real API server without nodes: faults, crashes and stale views, see docs/testing.md.

    pytest tests/control_plane --context kind-elf

Operators are processes of this machine; pods are puppets. Makes namespaces and nodes named `elf-bench-…`.
"""

from __future__ import annotations

import asyncio
import pathlib
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
import yaml

from control_plane.api import MERGE, Api, connect
from control_plane.stage import MASTER_KEY, Lab
from control_plane.zygote import Zygote

ROOT = pathlib.Path(__file__).parents[2]
CRD = "apis/apiextensions.k8s.io/v1/customresourcedefinitions"
LEASES = "apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
LEASE_SECONDS = 4.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--parallel", type=int, default=6, help="so many jobs on stage at once")
    parser.addoption("--crash-every", type=int, default=5, help="1: crash at every call; k: at every k-th")
    parser.addoption("--crash-at", help="crash at this point only, such as 7:before or 7:after")
    parser.addoption("--fault-seeds", type=int, default=15, help="how many seeds of the fault proxy")
    parser.addoption("--first-seed", type=int, default=0, help="the first of them")
    parser.addoption("--fault-minutes", type=float, help="new seeds for so many minutes")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first: it waits more than it works, and others can work meanwhile."""
    items.sort(key=lambda item: item.name != "test_seeded_faults")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def api(context: str) -> AsyncIterator[Api]:
    async with connect(context) as made:
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def lab(
    api: Api, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Lab]:
    """The CRD, some nodes that nobody lives on, and namespaces to play in."""
    running = await api.get("apis/apps/v1/namespaces/elf-system/deployments/elf-operator")
    if running is not None:
        pytest.exit("an operator runs in elf-system: it would act on the jobs of these tests", returncode=4)
    await _install(api)
    session = f"elf-bench-{uuid.uuid4().hex[:6]}"
    nodes = [f"{session}-{i}" for i in range(3)]
    zygote = Zygote()
    await zygote.start()
    beating = asyncio.create_task(_keep_nodes(api, nodes))
    stages: asyncio.Queue[str] = asyncio.Queue()
    try:
        for name in [f"{session}-{i}" for i in range(request.config.getoption("--parallel"))]:
            await _namespace(api, name)
            stages.put_nowait(name)
        yield Lab(api, zygote, nodes, tmp_path_factory.mktemp("control_plane"), stages)
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        await zygote.close()
        while not stages.empty():
            await api.unless(404, "DELETE", f"api/v1/namespaces/{stages.get_nowait()}")
        for node in nodes:
            await api.unless(404, "DELETE", f"api/v1/nodes/{node}")
            await api.unless(404, "DELETE", f"{LEASES}/{node}")


async def _install(api: Api) -> None:
    """The CRD, unless it is there; it stays."""
    body = yaml.safe_load((ROOT / "manifests" / "crd.yaml").read_text())
    name = body["metadata"]["name"]
    await api.unless(409, "POST", CRD, body)
    async with asyncio.timeout(30):
        while True:
            here = await api.request("GET", f"{CRD}/{name}")
            if any(
                c["type"] == "Established" and c["status"] == "True"
                for c in (here.get("status") or {}).get("conditions") or ()
            ):
                return
            await asyncio.sleep(0.1)


async def _namespace(api: Api, name: str) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    await api.request("POST", "api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    await api.request("POST", f"api/v1/namespaces/{name}/secrets", {"metadata": {"name": MASTER_KEY}})
    async with asyncio.timeout(60):
        while await api.get(f"api/v1/namespaces/{name}/serviceaccounts/default") is None:
            await asyncio.sleep(0.1)


async def _keep_nodes(api: Api, nodes: list[str]) -> None:
    """Pods are bound to nodes that exist and beat, or Kubernetes would remove them."""
    beats: dict[str, Any] = {}
    for name in nodes:
        taint = {"key": "northpole.dev/puppet", "effect": "NoSchedule"}
        spec = {"unschedulable": True, "taints": [taint]}
        await api.request("POST", "api/v1/nodes", {"metadata": {"name": name}, "spec": spec})
        await _ready(api, name)
        beats[name] = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": _stamp()}
        lease = {"metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": beats[name]}
        await api.request("POST", LEASES, lease)
    while True:
        await asyncio.sleep(LEASE_SECONDS)
        for name in nodes:
            beat = {"spec": {"renewTime": _stamp()}}
            await api.request("PATCH", f"{LEASES}/{name}", beat, None, MERGE)
            await _ready(api, name)  # on a busy machine it may have been taken for lost meanwhile


async def _ready(api: Api, node: str) -> None:
    stamp = _stamp()[:19] + "Z"
    ready = {"type": "Ready", "status": "True", "reason": "Puppet", "message": "plays a node"}
    ready |= {"lastHeartbeatTime": stamp, "lastTransitionTime": stamp}
    status = {"conditions": [ready], "allocatable": {"pods": "1000"}, "capacity": {"pods": "1000"}}
    await api.request("PATCH", f"api/v1/nodes/{node}/status", {"status": status}, None, MERGE)


def _stamp() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
