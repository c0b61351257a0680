"""The zones of a job's nodes, as they come into an observation through the Kubernetes API."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import pytest

from builders import DEFAULTS, JOB, body, job, valid
from elf_cli.cluster import session
from elf_cli.cluster.target import Target
from elf_cli.verbs import planning
from elf_operator import apiserver, kube, podbuilder
from elf_operator.watchmen import ZONE_LABEL, Nodes, Pulse
from elf_worker.contract import Role


def node(name: str, zone: str) -> dict[str, Any]:
    labels = {ZONE_LABEL: zone} if zone else {}
    ready = [{"type": "Ready", "status": "True"}]
    return {"metadata": {"name": name, "labels": labels}, "status": {"conditions": ready}}


class Api:
    """As much of `KubeApi` as an observation needs: the job, two pods on nodes, and the nodes themselves."""

    def __init__(self, may_see_nodes: bool = True) -> None:
        self.may_see_nodes = may_see_nodes

    async def get(self, path: str) -> dict[str, Any] | None:
        return body() if path.endswith(f"elftrainingjobs/{JOB}") else None

    async def request(self, method: str, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        if path == "api/v1/nodes":
            if not self.may_see_nodes:
                raise apiserver.ApiError(status=403, reason="Forbidden")
            return {"items": [node("a", "east"), node("b", ""), node("c", "west")]}
        if path.endswith(f"elftrainingjobs/{JOB}"):
            return body()
        raise AssertionError(path)

    async def read(self, kind: type[Any], path: str, query: Mapping[str, str]) -> Any:
        pods = []
        for role, index, where in ((Role.MDC, 0, "a"), (Role.HOME, 1, "b"), (Role.HOME, 2, "")):
            manifest = podbuilder.pod(job(), valid(job()), DEFAULTS, role, index, 0)
            manifest["metadata"]["uid"] = f"uid-{role}-{index}"
            manifest["spec"]["nodeName"] = where
            pods.append(manifest)
        return msgspec.convert({"items": pods}, kind)


def test_an_observation_has_the_zones_of_its_pods_nodes_and_no_others() -> None:
    nodes = Nodes(lambda: 0.0)
    for one in (node("a", "east"), node("b", ""), node("c", "west")):
        nodes.note(None, one)
    cluster = kube.KubeCluster(Api(), Pulse(lambda: 0.0), nodes)  # type: ignore[arg-type]
    seen = asyncio.run(cluster.observe("pole", JOB))
    assert seen is not None and seen.zones == {"a": "east"}


@pytest.mark.parametrize(("may", "zones"), [(True, {"a": "east"}), (False, {})])
def test_elf_plan_knows_zones_if_it_may_see_nodes(
    monkeypatch: pytest.MonkeyPatch, may: bool, zones: dict[str, str]
) -> None:
    @contextlib.asynccontextmanager
    async def connect(target: Target) -> AsyncIterator[session.Session]:
        made = session.Session(None, "pole", target)  # type: ignore[arg-type]
        made.api = Api(may)  # type: ignore[assignment]
        yield made

    monkeypatch.setattr(session, "connect", connect)
    assert planning._of_job(JOB, Target(None, None, None)).zones == zones
