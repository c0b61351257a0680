"""This machine as a cluster: see `elf_operator.reconcile.Cluster`."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pathlib
import random
import re
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from elf_cli.local.pods import LocalPod
from elf_cli.local.scaling import Scale, applied
from elf_operator import names
from elf_operator.builders import Manifest
from elf_operator.observation import Observation
from elf_operator.plans import Delete, Event
from elf_operator.spec import parse_job
from elf_worker import contract
from elf_worker.contract import PROGRESS_FILE, WIRING_KEY, Role, Wiring

_PER_SUBNET = 250


def reserve(seconds: Iterable[int] = range(16, 251)) -> tuple[str, socket.socket]:
    """The first two bytes of addresses that no other run on this machine has; the second is one of `seconds`.

    They are taken while the socket is open.

    Raises OSError when all are taken.
    """
    subnets = [f"127.{second}" for second in seconds]
    random.shuffle(subnets)
    for subnet in subnets:
        hold = socket.socket()
        try:
            hold.bind((f"{subnet}.255.254", contract.WIRE_PORT))
        except OSError:
            hold.close()
            continue
        return subnet, hold
    raise OSError(f"{len(subnets)} other runs have all of this machine's loopback addresses")


class LocalCluster:
    """One job; its pods are processes, its two shared objects are files in `directory`.

    Every pod has its own address in 127/8, the NPDC's Service has one too: each NPDC takes it over from its
    predecessor, whose process is gone by then.
    """

    def __init__(self, body: Mapping[str, Any], directory: pathlib.Path, model_out: str | None) -> None:
        self.body = dict(body)
        self._directory = directory
        self._model_out = model_out
        self._subnet, self._hold = reserve()
        self._addresses = 1
        self._objects: dict[tuple[str, str], Manifest] = {}
        self._status: dict[str, Any] = {}
        self.pods: dict[str, LocalPod] = {}
        self.woken = asyncio.Event()
        self.on_event: Callable[[Event], None] = lambda event: None
        (directory / "logs").mkdir(parents=True, exist_ok=True)
        os.environ["OMP_NUM_THREADS"] = "1"  # before anything loads PyTorch: pods share this machine's cores

    def scale(self, scale: Scale) -> None:
        """As `kubectl edit` would."""
        self.body = applied(self.body, scale)
        self.woken.set()

    @property
    def service_address(self) -> str:
        """Where the NPDC listens, whichever incarnation it is."""
        return f"{self._subnet}.0.1"

    def training(self) -> dict[str, Any]:
        """What the NPDC reported last."""
        try:
            return dict(json.loads((self._directory / PROGRESS_FILE).read_text()))
        except FileNotFoundError:
            return {}

    @property
    def status(self) -> dict[str, Any]:
        """The job's status, `training` included."""
        training = self.training()
        return {**self._status, "training": training} if training else dict(self._status)

    def wiring(self) -> Wiring | None:
        """The wiring as last written."""
        held = self._objects.get(("ConfigMap", names.wiring(self.body["metadata"]["name"])))
        return Wiring.from_json(held["data"][WIRING_KEY]) if held else None

    async def close(self) -> None:
        """Kill every process and wait until they are gone."""
        for pod in self.pods.values():
            pod.deleting = True
            pod.kill()
        await asyncio.gather(*(pod.stop() for pod in self.pods.values()))
        self._hold.close()

    # -- Cluster ------------------------------------------------------------------------------------------

    async def observe(self, namespace: str, name: str) -> Observation | None:
        """See `Cluster.observe`."""
        return Observation(
            job=parse_job(self.body),
            pods=tuple(pod.view() for pod in self.pods.values()),
            wiring=self.wiring(),
            status=self.status,
            service=self._objects.get(("Service", names.npdc(name))),
        )

    async def apply(self, manifest: Manifest) -> None:
        """Only the ConfigMap is more than remembered: the NPDC watches its file."""
        self._objects[manifest["kind"], manifest["metadata"]["name"]] = manifest
        if manifest["kind"] == "ConfigMap":
            for key, text in manifest["data"].items():
                fresh = self._directory / f".{key}"
                fresh.write_text(text)
                fresh.replace(self._directory / key)
        self.woken.set()

    async def remove(self, seen: Observation, kind: str, name: str) -> None:
        """See `Cluster.remove`."""
        self._objects.pop((kind, name), None)

    async def create_pod(self, manifest: Manifest) -> None:
        """See `Cluster.create_pod`."""
        name = manifest["metadata"]["name"]
        if name in self.pods:
            return
        role = manifest["metadata"]["labels"][names.LABEL_ROLE]
        if role == Role.NPDC:
            address = self.service_address
            for pod in [p for p in self.pods.values() if p.address == address]:
                await pod.stop()
        else:
            self._addresses += 1
            address = f"{self._subnet}.{self._addresses // _PER_SUBNET}.{self._addresses % _PER_SUBNET + 2}"
        log = self._directory / "logs" / f"{name}.log"
        pod = LocalPod(manifest, address, self._environment(manifest, address), log, self.woken.set)
        self.pods[name] = pod
        pod.start()
        self.woken.set()

    async def delete_pod(self, namespace: str, delete: Delete) -> None:
        """See `Cluster.delete_pod`. Returns at once; the pod is there until its process is gone."""
        pod = self.pods.get(delete.name)
        if pod is None or pod.uid != delete.uid or pod.deleting:
            return
        pod.deleting = True
        task = asyncio.get_running_loop().create_task(pod.stop())
        task.add_done_callback(lambda _: self._gone(pod))

    async def write_status(self, seen: Observation, status: dict[str, Any]) -> None:
        """See `Cluster.write_status`."""
        self._status = status

    async def emit(self, seen: Observation, event: Event) -> None:
        """See `Cluster.emit`."""
        self.on_event(event)

    # -- details ------------------------------------------------------------------------------------------

    def _gone(self, pod: LocalPod) -> None:
        if self.pods.get(pod.name) is pod:
            del self.pods[pod.name]
        self.woken.set()

    def _environment(self, manifest: Manifest, address: str) -> dict[str, str]:
        """What a kubelet and the cluster's DNS would make of the manifest."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("ELF_")}
        env["PYTHONUNBUFFERED"] = "1"
        env |= environment_of(manifest, self._directory / "volumes")
        env[contract.ENV_ADDRESS] = address
        if contract.ENV_NPDC in env:
            env[contract.ENV_NPDC] = f"{self.service_address}:{contract.WIRE_PORT}"
        if contract.ENV_BOARD in env:
            env[contract.ENV_BOARD] = f"file:{self._directory}"
            env[contract.ENV_HISTORY] = str(self._directory)
            if self._model_out:
                env[contract.ENV_MODEL_OUT] = self._model_out
        env.pop(contract.ENV_FIGURES_TOKENS, None)  # who runs a job here may look at it
        if contract.ENV_IDENTITY in env:
            env[contract.ENV_IDENTITY] = str(self._mount_identity(manifest))
        return env

    def _mount_identity(self, manifest: Manifest) -> pathlib.Path:
        """The files that a kubelet would mount of the pod's Secret."""
        secret = next(v["secret"] for v in manifest["spec"]["volumes"] if v["name"] == names.IDENTITY_VOLUME)
        data = self._objects["Secret", secret["secretName"]]["data"]
        folder = self._directory / "identities" / str(manifest["metadata"]["name"])
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for item in secret["items"]:
            file = folder / item["path"]
            file.unlink(missing_ok=True)
            file.touch(mode=0o600)
            file.write_bytes(base64.b64decode(data[item["key"]]))
            file.chmod(secret["defaultMode"])
        return folder


def environment_of(manifest: Manifest, volumes: pathlib.Path) -> dict[str, str]:
    """The variables that a pod's container sets by value, with its claims as folders of `volumes`.

    A process mounts nothing: the paths are those of the folders instead, wherever a value names one.
    """
    container = next(c for c in manifest["spec"]["containers"] if c["name"] == names.CONTAINER)
    own = {item["name"]: item["value"] for item in container["env"] if "value" in item}
    claims = {
        volume["name"]: claim["claimName"]
        for volume in manifest["spec"]["volumes"]
        if (claim := volume.get("persistentVolumeClaim"))
    }
    folders = {
        mount["mountPath"]: str(volumes / claims[mount["name"]])
        for mount in container["volumeMounts"]
        if mount["name"] in claims
    }
    if not folders:
        return own
    # In one go, the longest first: a folder may itself lie under a path that is mounted.
    paths = "|".join(re.escape(path) for path in sorted(folders, key=len, reverse=True))
    mounted = re.compile(rf"(?<![\w.-])(?:{paths})(?![\w.-])")
    return {key: mounted.sub(lambda found: folders[found[0]], value) for key, value in own.items()}
