"""An API server in this process, and the operator's view of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from contract.apiserver import Server, serving
from elf_operator import apiserver, kube
from elf_operator.watchmen import Nodes, Pulse


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def api(server: Server) -> AsyncIterator[apiserver.KubeApi]:
    async with serving(server) as made:
        yield made


@pytest.fixture
def cluster(api: apiserver.KubeApi) -> kube.KubeCluster:
    return kube.KubeCluster(api, Pulse(lambda: 0.0), Nodes(lambda: 0.0))
