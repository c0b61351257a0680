"""This machine as a cluster: addresses that no two runs share, and what a pod's environment is."""

from __future__ import annotations

import json
import pathlib

import pytest

from builders import DEFAULTS, body, job, valid
from elf_cli.local import pods
from elf_cli.local.cluster import LocalCluster, environment_of, reserve
from elf_operator import podbuilder
from elf_operator.builders import Manifest
from elf_worker.contract import ENV_CHECKPOINT, ENV_JOB, ENV_OUTPUT, Role

THREE = range(251, 254)
"""Not those that other tests run on meanwhile."""


def test_runs_at_once_have_addresses_of_their_own_until_they_are_over() -> None:
    for _ in range(2):
        held = [reserve(THREE) for _ in THREE]
        assert sorted(subnet for subnet, _ in held) == ["127.251", "127.252", "127.253"]
        with pytest.raises(OSError, match="3 other runs have all of this machine's loopback addresses"):
            reserve(THREE)
        for _, hold in held:
            hold.close()


VOLUMES = pathlib.Path("/run/volumes")
KEEPS = {
    "task": {"args": {"data": "/data/toys", "also": "/database /data.old /mnt/data/deeper"}},
    "output": {"volumeClaim": "models", "path": "night"},
    "northPole": {
        "checkpoint": {"volumeClaim": "states"},
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "elf",
                        "env": [
                            {"name": "TOYS", "value": "/data:/data/more"},
                            {"name": "NO", "value": "/tmp"},
                        ],
                        "volumeMounts": [
                            {"name": "data", "mountPath": "/data"},
                            {"name": "deep", "mountPath": "/data/more"},
                            {"name": "around", "mountPath": "/run"},
                        ],
                    }
                ],
                "volumes": [
                    {"name": name, "persistentVolumeClaim": {"claimName": f"{name}-claim"}}
                    for name in ("data", "deep", "around")
                ],
            }
        },
    },
}


def npdc() -> Manifest:
    made = job(**KEEPS)
    return podbuilder.pod(made, valid(made), DEFAULTS, Role.NPDC, 0, 0)


def test_a_claim_is_a_folder_wherever_a_variable_of_the_pod_names_it() -> None:
    env = environment_of(npdc(), VOLUMES)
    assert env[ENV_CHECKPOINT] == "/run/volumes/states"
    assert env[ENV_OUTPUT] == "file:///run/volumes/models/night"
    assert env["TOYS"] == "/run/volumes/data-claim:/run/volumes/deep-claim"
    assert env["NO"] == "/tmp"
    args = json.loads(env[ENV_JOB])["task_args"]
    assert args["data"] == "/run/volumes/data-claim/toys"
    assert args["also"] == "/database /data.old /mnt/data/deeper"


async def test_what_this_process_has_in_its_environment_is_left_as_it_is(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pods.LocalPod, "start", lambda pod: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the cluster sets it, too
    monkeypatch.setenv("PYTHONPATH", "/data/mine:/var/elf/checkpoint")
    monkeypatch.setenv("ELF_OUTPUT", "/elsewhere")
    cluster = LocalCluster(body(**KEEPS), tmp_path, str(tmp_path / "model"))
    try:
        await cluster.create_pod(npdc())
        _, pod = cluster.pods.popitem()  # it has no process to be stopped
    finally:
        await cluster.close()
    assert pod.environment["PYTHONPATH"] == "/data/mine:/var/elf/checkpoint"
    assert pod.environment[ENV_CHECKPOINT] == str(tmp_path / "volumes" / "states")
    assert pod.environment[ENV_OUTPUT] == f"file://{tmp_path}/volumes/models/night"
