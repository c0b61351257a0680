"""A release's whole life, with helm and kubectl as people have them; see docs/install.md.

The other tests here have their operator from the plain manifests. It is taken away before these, with its
CRD, and put back after them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from e2e.cluster import Kubectl, condition, round_of, wait
from e2e.conftest import CRD, ROOT, fresh_namespace
from e2e.faults import ENDLESS
from helm import found_or_skipped

pytestmark = [pytest.mark.e2e, pytest.mark.exclusive, pytest.mark.timeout(1200)]
CHART = ROOT / "charts" / "elf-training-operator"
DEPLOYMENT = "deploy/elf-elf-training-operator"
OURS = "app.kubernetes.io/part-of=elf-training-operator"
KINDS = (
    "deployments,replicasets,pods,services,serviceaccounts,configmaps,secrets,roles,rolebindings,"
    "networkpolicies,poddisruptionbudgets,clusterroles,clusterrolebindings"
)
Make = Callable[..., dict[str, Any]]
FEW = {
    **ENDLESS,
    "homes": {**ENDLESS["homes"], "replicas": 4, "perPod": 2},
    "miniDataCenters": {**ENDLESS["miniDataCenters"], "replicas": 2},
}


class Helm:
    """helm against one namespace, with the images under test."""

    def __init__(self, program: str, kubectl: Kubectl, images: dict[str, str]) -> None:
        self._program, self._kubectl = program, kubectl
        self._settings = [
            *_image("image", images["operator"]),
            *_image("worker.image", images["worker"]),
        ]

    def __call__(self, *args: str) -> str:
        where = ["--kube-context", self._kubectl.context, "--namespace", self._kubectl.namespace]
        done = subprocess.run(
            [self._program, *args, *where], capture_output=True, text=True, timeout=400, check=False
        )
        if done.returncode:
            raise AssertionError(f"helm {' '.join(args)}: {done.stdout}{done.stderr}")
        return done.stdout

    def install(self, *settings: str) -> None:
        """A release `elf`; returns when the operator is ready."""
        self._put("install", *settings)

    def upgrade(self, *settings: str) -> None:
        """With the values it has, and these."""
        self._put("upgrade", "--reuse-values", *settings)

    def _put(self, verb: str, *settings: str) -> None:
        flags, said = [s for s in settings if s.startswith("--")], [s for s in settings if s[0] != "-"]
        values = [word for setting in (*self._settings, *said) for word in ("--set-json", setting)]
        self(verb, "elf", str(CHART), *flags, *values, "--wait", "--timeout", "180s")


def _image(key: str, image: str) -> list[str]:
    repository, _, tag = image.rpartition(":")
    return [f"{key}.repository={json.dumps(repository)}", f"{key}.tag={json.dumps(tag)}"]


@pytest.fixture(scope="module")
def program() -> str:
    """helm; without it nothing is taken away from the cluster either."""
    return found_or_skipped()


@pytest.fixture
def home(context: str, program: str, vacant: None, images: dict[str, str]) -> Iterator[tuple[Helm, Kubectl]]:
    """Where a release is installed. None is left there."""
    with fresh_namespace(context, "release") as kubectl:
        helm = Helm(program, kubectl, images)
        yield helm, kubectl
        for release in json.loads(helm("list", "-o", "json") or "[]"):
            helm("uninstall", release["name"], "--wait")
        kubectl("delete", "--ignore-not-found", CRD)


@pytest.fixture
def kubectl(context: str) -> Iterator[Kubectl]:
    """Where jobs are."""
    with fresh_namespace(context, "jobs") as made:
        yield made


def arguments(kubectl: Kubectl) -> list[str]:
    """Of the operator that is installed."""
    pod = kubectl.get(DEPLOYMENT)["spec"]["template"]["spec"]
    return list(pod["containers"][0]["args"])


def lives(kubectl: Kubectl, job: str) -> dict[str, tuple[str, list[int]]]:
    """Pod → (UID, restarts of its containers)."""
    return {
        pod["metadata"]["name"]: (
            pod["metadata"]["uid"],
            [c["restartCount"] for c in pod["status"].get("containerStatuses", [])],
        )
        for pod in kubectl.pods(job)
    }


def train(kubectl: Kubectl, name: str, rounds: int) -> int:
    """Wait until it has done so many more rounds; the round it is in then."""
    begun = round_of(kubectl.job(name))
    wait(f"{name}: {rounds} rounds more", lambda: round_of(kubectl.job(name)) >= begun + rounds, 300)
    return round_of(kubectl.job(name))


def start(kubectl: Kubectl, job: dict[str, Any]) -> None:
    applied = kubectl.apply(job)
    assert applied.returncode == 0, applied.stderr
    train(kubectl, job["metadata"]["name"], 3)


def left(kubectl: Kubectl) -> list[str]:
    """What of releases stays in the cluster, but for the CRD."""
    found = kubectl.get(KINDS, "--all-namespaces", "-l", OURS)["items"]
    return [item["metadata"]["name"] for item in found if "deletionTimestamp" not in item["metadata"]]


def test_a_release_is_installed_tested_upgraded_rolled_back_and_leaves_nothing(
    home: tuple[Helm, Kubectl], kubectl: Kubectl, sample: Make
) -> None:
    helm, system = home
    helm.install()
    assert "Succeeded" in helm("test", "elf")
    start(kubectl, sample("sleigh", **FEW))
    before = lives(kubectl, "sleigh")

    helm.upgrade('log.level="debug"', "replicas=2")
    assert "--verbose" in arguments(system)
    train(kubectl, "sleigh", 3)
    assert lives(kubectl, "sleigh") == before, "an upgrade concerns no pod of a job"

    helm("rollback", "elf", "1", "--wait", "--timeout", "180s")
    assert "--verbose" not in arguments(system)
    assert system.get(DEPLOYMENT)["spec"]["replicas"] == 1
    train(kubectl, "sleigh", 3)
    assert lives(kubectl, "sleigh") == before, "neither does a rollback"

    kubectl("delete", "pod", "sleigh-mdc-1-0", "--wait=false", "--grace-period=0", "--force")
    wait("the operator replaces it", lambda: "sleigh-mdc-1-1" in lives(kubectl, "sleigh"), 60)

    kubectl("delete", "elftrainingjob", "sleigh", "--wait=true")
    wait("its pods leave", lambda: not kubectl.staying("sleigh"), 60)
    helm("uninstall", "elf", "--wait")
    key = "elf-elf-training-operator-master-key"
    wait("only what jobs need is left of the release", lambda: left(system) == [key], 120)
    assert system.get("secret", key)["data"], "with it a new release speaks for the jobs that stayed"
    leases = {lease["metadata"]["name"] for lease in system.get("leases")["items"]}
    assert leases <= {"elf-elf-training-operator"}, "the Lease is the operator's, not the release's"
    assert system.get(CRD)["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_jobs_outlive_a_release_that_keeps_the_crd_and_go_with_one_that_does_not(
    home: tuple[Helm, Kubectl], kubectl: Kubectl, sample: Make
) -> None:
    helm, system = home
    helm.install()
    assert kubectl.apply(sample("sleigh", suspend=True)).returncode == 0
    suspended = lambda: condition(kubectl.job("sleigh"), "Suspended")  # noqa: E731
    wait("the operator has seen it", suspended, 60)
    uid = kubectl.job("sleigh")["metadata"]["uid"]
    helm("uninstall", "elf", "--wait")
    assert kubectl.job("sleigh")["metadata"]["uid"] == uid

    helm.install("crds.keep=false")  # a release of the same name takes the CRD up again
    assert kubectl.job("sleigh")["metadata"]["uid"] == uid
    helm("uninstall", "elf", "--wait")
    wait("the CRD is gone", lambda: system.run("get", CRD).returncode != 0, 60)


def test_two_namespaced_releases_do_not_meet(
    home: tuple[Helm, Kubectl],
    kubectl: Kubectl,
    context: str,
    program: str,
    images: dict[str, str],
    sample: Make,
) -> None:
    helm, system = home
    with fresh_namespace(context, "release") as other_system, fresh_namespace(context, "jobs") as other:
        second = Helm(program, other_system, images)
        helm.install(f'watch.namespaces=["{kubectl.namespace}"]')
        second.install(f'watch.namespaces=["{other.namespace}"]', "crds.install=false")
        try:
            for there in (kubectl, other):
                start(there, sample("sleigh", **FEW))
            assert "Succeeded" in second("test", "elf")
            account = f"system:serviceaccount:{system.namespace}:elf-elf-training-operator"
            for there, may in ((kubectl, "yes"), (other, "no")):
                said = there.run("auth", "can-i", "create", "pods", "--as", account).stdout
                assert said.strip() == may, there.namespace
            # With its operator gone, a job's data center stays dead: nobody else looks after it.
            second("uninstall", "elf", "--wait")
            for there in (kubectl, other):
                there("delete", "pod", "sleigh-mdc-0-0", "--wait=false", "--grace-period=0", "--force")
            wait("one is replaced", lambda: "sleigh-mdc-0-1" in lives(kubectl, "sleigh"), 60)
            assert "sleigh-mdc-0-1" not in lives(other, "sleigh")
        finally:
            for there in (kubectl, other):
                there.run("delete", "elftrainingjobs", "--all", "--wait=true")
            if "elf" in second("list", "--short"):
                second("uninstall", "elf", "--wait")
