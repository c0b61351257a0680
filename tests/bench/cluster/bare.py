"""A client that does nothing but create pods: what the server can take."""

from __future__ import annotations

import asyncio
import json
import time

from cluster.ground import NOBODY, Ground
from cluster.scale import IN_FLIGHT
from control_plane.api import RefusedError
from elf_operator import podbuilder, schema
from elf_operator.authority import MASTER_BYTES, Authority
from elf_operator.builders import Defaults
from elf_operator.spec import parse_job
from elf_worker.contract import Role


async def created(ground: Ground, pods: int) -> float:
    """Seconds for so many pods of the size of homes' pods."""
    body = await ground.make("bare", 1, 1)
    await ground.api.request("DELETE", f"{ground.jobs}/bare")
    spec = {**body["spec"], "homes": {"replicas": pods, **NOBODY}}
    job = parse_job({**body, "spec": schema.defaulted(spec)})
    assert job.spec is not None
    defaults = Defaults(authority=Authority(bytes(MASTER_BYTES)))
    manifests = [podbuilder.pod(job, job.spec, defaults, Role.HOME, i, 0) for i in range(pods)]
    for manifest in manifests:
        del manifest["metadata"]["ownerReferences"]  # that job is gone
    rest = iter([json.dumps(manifest).encode() for manifest in manifests])
    url, headers = f"{ground.api.server}/{ground.core}/pods", {"Content-Type": "application/json"}

    async def worker() -> None:
        for data in rest:
            async with ground.api.session.post(url, data=data, headers=headers) as answer:
                await answer.read()
                if answer.status != 201:
                    raise RefusedError(answer.status, await answer.text())

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return time.perf_counter() - began
