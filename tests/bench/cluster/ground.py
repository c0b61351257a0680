"""Where the operator is measured: a namespace of a cluster, made for it and removed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import yaml
from harness import ROOT

from control_plane.api import JOBS, Api
from elf_operator import names

PATIENCE_SECONDS = 100.0
STEP_SECONDS = 0.05
MASTER_KEY = "master-key"
NOBODY = {"template": {"spec": {"schedulerName": "nobody"}}}
"""Of pods that no scheduler touches."""
LOG = "operator.log"
"""Beside the kubeconfig: what operators say."""


class Ground:
    """One namespace, and who plays there."""

    def __init__(self, api: Api, namespace: str, config: pathlib.Path) -> None:
        self.api, self.namespace, self.config = api, namespace, config
        self.core = f"api/v1/namespaces/{namespace}"
        self.jobs = f"{JOBS}/namespaces/{namespace}/elftrainingjobs"

    async def count(self) -> int:
        """How many pods there are; the answer holds one of them."""
        found = await self.api.request("GET", f"{self.core}/pods", None, {"limit": "1"})
        return len(found["items"] or ()) + int(found["metadata"].get("remainingItemCount") or 0)

    async def clear(self) -> None:
        """No pods, no jobs, and nothing else that jobs own."""
        for path in (self.jobs, f"{self.core}/pods"):
            await self.api.request("DELETE", path, {"gracePeriodSeconds": 0})
        for kind in ("configmaps", "secrets", "events"):
            await self.api.request("DELETE", f"{self.core}/{kind}", None, {"labelSelector": names.LABEL_JOB})
        await self.until("the namespace is empty", self._empty)

    async def _empty(self) -> bool:
        return await self.count() == 0 and not (await self.api.request("GET", self.jobs))["items"]

    async def make(self, name: str, homes: int, mdcs: int) -> dict[str, Any]:
        """A job."""
        body = {
            "apiVersion": "northpole.dev/v1alpha1",
            "kind": "ElfTrainingJob",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "image": "puppet",
                "task": {"entrypoint": "elf_worker.tasks.digits:Digits"},
                "rounds": 1_000_000,
                "homes": {"replicas": homes, **NOBODY},
                "miniDataCenters": {"replicas": mdcs, **NOBODY},
                "northPole": NOBODY,
            },
        }
        return await self.api.request("POST", self.jobs, body)

    async def until(self, what: str, condition: Callable[[], Any], step: float = STEP_SECONDS) -> None:
        """Wait for a condition. Raises TimeoutError saying `what`."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not await condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {PATIENCE_SECONDS:g} s: {what}")
            await asyncio.sleep(step)

    async def states(self) -> Counter[str]:
        """Of all jobs, as their status says."""
        found = (await self.api.request("GET", self.jobs))["items"]
        return Counter((job.get("status") or {}).get("state", "") for job in found)

    async def all_running(self) -> bool:
        """Every job there is."""
        return set(await self.states()) == {"Running"}


@contextlib.asynccontextmanager
async def opened(api: Api, context: str) -> AsyncIterator[Ground]:
    """The CRD, and a namespace for as long as it takes."""
    crds = "apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    await api.unless(409, "POST", crds, yaml.safe_load((ROOT / "manifests" / "crd.yaml").read_text()))
    name = f"elf-bench-{uuid.uuid4().hex[:6]}"
    with tempfile.TemporaryDirectory(prefix="elf-bench-") as folder:
        ground = Ground(api, name, _kubeconfig(pathlib.Path(folder, "kubeconfig"), context))
        await ground.until("the CRD is served", lambda: api.unless(404, "GET", JOBS))
        await api.request("POST", "api/v1/namespaces", {"metadata": {"name": name}})
        try:
            account = f"{ground.core}/serviceaccounts/default"
            await ground.until("the namespace is set up", lambda: api.get(account))
            await api.request("POST", f"{ground.core}/secrets", {"metadata": {"name": MASTER_KEY}})
            yield ground
        except BaseException:
            print(_end_of(pathlib.Path(folder, LOG)), file=sys.stderr)
            raise
        finally:
            await api.unless(404, "DELETE", f"api/v1/namespaces/{name}")


def _end_of(log: pathlib.Path) -> str:
    return "\n".join(log.read_text().splitlines()[-20:]) if log.exists() else ""


def _kubeconfig(path: pathlib.Path, context: str) -> pathlib.Path:
    """The user's kubeconfig with another current context; files that it names stay where they are."""
    found = os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
    first = pathlib.Path(next(name for name in found.split(os.pathsep) if name))
    document = yaml.safe_load(first.read_text())
    for entry in (*document["clusters"], *document["users"]):
        about = entry.get("cluster") or entry.get("user") or {}
        for key in ("certificate-authority", "client-certificate", "client-key", "tokenFile"):
            if key in about:
                about[key] = str(first.parent / about[key])
    path.touch(0o600)
    path.write_text(yaml.safe_dump({**document, "current-context": context}))
    return path
