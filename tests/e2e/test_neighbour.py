"""A hostile pod beside a job: it gets nothing from any of the job's ports, and disturbs nothing.

Where NetworkPolicies are enforced it reaches none of them; where they are not, mutual TLS keeps it out.
"""

from __future__ import annotations

import base64
import contextlib
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping

import pytest

import neighbour
from e2e.cluster import Kubectl, bystander, wait
from e2e.conftest import READER, fresh_namespace
from e2e.faults import Breaker, Patient, replaced
from e2e.policies import Gate
from elf_operator import identities
from elf_operator.authority import Authority
from elf_worker.contract import Peer, Role

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
SOURCE = pathlib.Path(neighbour.__file__).read_text()
Answers = dict[str, dict[str, str]]
"""By address: what `neighbour.attempts` says."""
WIRE, FIGURES = ("plain", "tls"), ("http", "https")


def reached(found: Answers) -> set[tuple[str, str]]:
    """(address, attempt) of those that got a connection."""
    return {(host, what) for host, got in found.items() for what, a in got.items() if a != "unreachable"}


@pytest.fixture
def gate(context: str, images: dict[str, str]) -> Iterator[Gate]:
    """Tells whether NetworkPolicies are enforced in this cluster, now."""
    with fresh_namespace(context, "gate") as kubectl, Gate(kubectl, images["worker"]).standing() as made:
        yield made


@pytest.fixture
def lawful(gate: Gate) -> None:
    """A cluster that enforces NetworkPolicies."""
    if not gate.enforced():
        pytest.skip(
            "this cluster enforces no NetworkPolicy: needs a network plugin that does, such as Calico,"
            " Cilium, kube-router, or kind's own since kind 0.24"
        )


@pytest.fixture
def lawless(gate: Gate, request: pytest.FixtureRequest) -> Iterator[None]:
    """A cluster that enforces none, if need be for the time of one test."""
    if not gate.enforced():
        yield
        return
    breaker: Breaker = request.getfixturevalue("breaker")
    breaker("policies off")
    wait("no policy is enforced", gate.open, 60)
    yield
    breaker.mend()
    wait("policies are enforced again", gate.shut, 60)


class Village:
    """A job, and what pods beside it get from the ports of its pods."""

    def __init__(self, patient: Patient, image: str) -> None:
        self.patient, self._image = patient, image
        self._uid = patient.kubectl.job(patient.job)["metadata"]["uid"]
        self.hosts = {
            pod["status"]["podIP"]: pod["metadata"]["labels"]["northpole.dev/role"]
            for pod in patient.kubectl.pods(patient.job)
        }
        """Address → role of each of the job's pods."""
        self._before = patient.look()

    @contextlib.contextmanager
    def seen_by(self, name: str, labels: Mapping[str, str]) -> Iterator[Callable[[], Answers]]:
        """What a pod with these labels gets, each time it is asked to try."""
        kubectl = self.patient.kubectl
        with bystander(kubectl, name, self._image, user=10002, labels=labels) as pod:
            yield lambda: json.loads(kubectl.python(pod, SOURCE, self._uid, *self.hosts))

    def doors(self, *attempts: str) -> set[tuple[str, str]]:
        """(address, attempt) of these at all data centers; nobody dials a home."""
        return {(host, what) for host, role in self.hosts.items() if role != Role.HOME for what in attempts}

    def trains_on(self) -> None:
        """And no data center was lost meanwhile."""
        rounds = self.patient.round()
        wait("training goes on", lambda: self.patient.round() > rounds + 2, 60)
        assert self.patient.look()["replaced"] == self._before["replaced"]


@pytest.fixture
def village(patient: Patient, images: dict[str, str]) -> Village:
    return Village(patient, images["worker"])


@pytest.mark.usefixtures("lawful")
def test_with_policies_a_hostile_pod_reaches_no_port_and_who_is_named_reaches_his(village: Village) -> None:
    ours = {"northpole.dev/job": village.patient.job}
    with (
        village.seen_by("sibling", ours) as sibling,
        village.seen_by("reader", READER) as reader,
        village.seen_by("hostile", {}) as hostile,
    ):
        # Those that get through come first: the network works, and has heard of the new pods.
        wait("a pod of the job gets through", lambda: reached(sibling()) == village.doors(*WIRE), 120)
        wait("who reads figures gets through", lambda: reached(reader()) == village.doors(*FIGURES), 120)
        assert reached(hostile()) == set()
    village.trains_on()


@pytest.mark.exclusive
@pytest.mark.usefixtures("lawless")
def test_without_policies_a_hostile_pod_gets_nothing_from_any_port(village: Village) -> None:
    with village.seen_by("hostile", {}) as hostile:
        found = hostile()
    for host, got in found.items():
        assert all(neighbour.harmless(what, answer) for what, answer in got.items()), (host, got)
    connected = {(host, what) for host, what in reached(found) if what in (*WIRE, *FIGURES)}
    assert connected == village.doors(*WIRE, *FIGURES), "it is kept out by TLS alone"
    village.trains_on()


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
