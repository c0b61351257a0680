"""A hostile pod beside a job: it gets nothing from any of the job's ports, and disturbs nothing."""

from __future__ import annotations

import base64
import json
import pathlib

import pytest

import neighbour
from e2e.cluster import Kubectl, bystander, wait
from e2e.faults import Patient, replaced
from elf_operator import identities
from elf_operator.authority import Authority
from elf_worker.contract import Peer, Role

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
SOURCE = pathlib.Path(neighbour.__file__).read_text()


def test_a_hostile_pod_reaches_nothing(patient: Patient, images: dict[str, str]) -> None:
    kubectl, name = patient.kubectl, patient.job
    pods = kubectl.pods(name)
    uid = kubectl.job(name)["metadata"]["uid"]
    before = kubectl.status(name)
    hosts = {pod["status"]["podIP"]: pod["metadata"]["labels"]["northpole.dev/role"] for pod in pods}
    with bystander(kubectl, "hostile", images["worker"], user=10002) as pod:
        found = json.loads(kubectl.python(pod, SOURCE, uid, *hosts))
    assert found.keys() == hosts.keys()
    for host, got in found.items():
        assert all(neighbour.harmless(what, answer) for what, answer in got.items()), (host, got)
        served = hosts[host] != Role.HOME
        assert (got["tls"] != "unreachable") == (got["https"] != "unreachable") == served, (host, got)
    rounds = patient.round()
    wait("training goes on", lambda: patient.round() > rounds + 2, 60)
    assert kubectl.status(name)["replaced"] == before["replaced"]


def test_every_pod_has_its_own_key_and_a_successor_another(patient: Patient) -> None:
    kubectl, name = patient.kubectl, patient.job
    uid = kubectl.job(name)["metadata"]["uid"]
    secret = Kubectl(kubectl.context, "elf-system").get("secret", "elf-operator-master-key")
    authority = Authority(base64.b64decode(secret["data"]["master"]))
    old, new = (identities.secret_name(name, uid, Role.MDC, 1, incarnation) for incarnation in (0, 1))
    held = kubectl.get("secret", old)
    assert base64.b64decode(held["data"]["tls.key"]) == authority.identity(Peer(uid, Role.MDC, 1, 0)).key
    mode = kubectl("exec", f"{name}-mdc-1-0", "--", "stat", "-Lc", "%a", "/var/run/elf/identity/tls.key")
    assert mode.strip() in ("400", "440"), "fsGroup adds the group"
    rounds = patient.round()
    kubectl("delete", "pod", f"{name}-mdc-1-0", "--wait=false")
    wait("MDC 1 is replaced", lambda: replaced(patient, 1, 0, rounds), 120)
    there = kubectl("get", "secrets", "-o", "name").split()
    assert f"secret/{new}" in there and f"secret/{old}" not in there
    policies = kubectl.get("networkpolicies")["items"]
    assert [policy["metadata"]["name"] for policy in policies] == [f"{name}-links"]


def test_nothing_of_a_job_is_left(kubectl: Kubectl, patient: Patient) -> None:
    kubectl("delete", "etj", patient.job, "--wait=true")
    ours = ("secrets,networkpolicies,configmaps,services", "-l", "northpole.dev/job", "-o", "name")
    wait("everything of the job is gone", lambda: not kubectl("get", *ours).strip(), 60)
