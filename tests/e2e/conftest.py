"""End-to-end tests run against a cluster whose context they are told to trust, and no other.

    pytest tests/e2e --context kind-elf --worker-image … --operator-image …

They install the CRD and the operator (and remove them again), and make namespaces named `elf-e2e-…`.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from e2e.cluster import Kubectl, describe, wait
from e2e.faults import ENDLESS, Breaker, Patient

ROOT = pathlib.Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
CEL_SINCE = (1, 25)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--breaker", help="program that breaks nodes, network and API server of that cluster")
    parser.addoption("--repeat", type=int, default=3, help="how often each fault is timed")
    parser.addoption("--power-cuts", type=int, default=1, help="how often the power of a node is cut, timed")
    parser.addoption("--endure", type=float, default=60.0, help="seconds of random faults to one job")
    parser.addoption("--volume-dir", help="directory that all nodes have, where there is no StorageClass")
    parser.addoption("--worker-image", default="ghcr.io/northpole-dev/elf-worker:dev")
    parser.addoption("--operator-image", default="ghcr.io/northpole-dev/elf-operator:dev")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    kubectl = getattr(item, "funcargs", {}).get("kubectl")
    if report.when == "call" and report.failed and kubectl is not None:
        report.sections.append(("cluster", "\n".join(describe(kubectl))))
    return report


@pytest.fixture(scope="session")
def server_version(context: str) -> tuple[int, int]:
    said = json.loads(Kubectl(context)("version", "-o", "json"))["serverVersion"]
    return int(said["major"]), int(said["minor"].rstrip("+"))


@pytest.fixture(scope="session")
def images(request: pytest.FixtureRequest) -> dict[str, str]:
    """What is tested: operator and worker."""
    return {name: str(request.config.getoption(f"--{name}-image")) for name in ("operator", "worker")}


def install_operator(system: Kubectl, server_version: tuple[int, int], images: dict[str, str]) -> None:
    """The CRD and the operator, from the plain manifests."""
    # kubectl checks the CRD against the server's schema, and an old server knows no CEL rules.
    lenient = ["--validate=false"] if server_version < CEL_SINCE else []
    system("apply", *lenient, "-f", str(MANIFESTS / "crd.yaml"))
    system("wait", "--for=condition=Established", "crd/elftrainingjobs.northpole.dev", "--timeout=30s")
    system("apply", "-f", str(MANIFESTS / "rbac.yaml"))
    deployment = yaml.safe_load((MANIFESTS / "operator.yaml").read_text())
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["image"] = images["operator"]
    container["env"][0]["value"] = images["worker"]
    assert system.apply(deployment).returncode == 0
    system("rollout", "status", "deploy/elf-operator", "--timeout=120s")


def remove_operator(system: Kubectl) -> None:
    """What `install_operator` has made, as far as it is there; jobs go with the CRD."""
    ours = ("-A", "-l", "northpole.dev/job", "-o", "name")
    wait("all pods are gone", lambda: not system("get", "pods", *ours).strip(), 300)
    for name in ("operator.yaml", "rbac.yaml", "crd.yaml"):
        system("delete", "--ignore-not-found", "-f", str(MANIFESTS / name))


@pytest.fixture(scope="session")
def operator(context: str, server_version: tuple[int, int], images: dict[str, str]) -> Iterator[Kubectl]:
    """See `install_operator`."""
    system = Kubectl(context, "elf-system")
    install_operator(system, server_version, images)
    yield system
    remove_operator(system)


@contextlib.contextmanager
def namespace_of_its_own(operator: Kubectl) -> Iterator[Kubectl]:
    """kubectl in a new namespace, which enforces the restricted Pod Security level."""
    name = f"elf-e2e-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    assert Kubectl(operator.context).apply(namespace).returncode == 0
    kubectl = Kubectl(operator.context, name)
    yield kubectl
    kubectl("delete", "elftrainingjobs", "--all", "--wait=true")
    # What takes long is the end of pods that have ended: nobody has to wait for that.
    Kubectl(operator.context)("delete", "namespace", name, "--wait=false")


@pytest.fixture
def kubectl(operator: Kubectl) -> Iterator[Kubectl]:
    """See `namespace_of_its_own`."""
    with namespace_of_its_own(operator) as made:
        yield made


@pytest.fixture
def admit(kubectl: Kubectl, sample: Callable[..., dict[str, Any]]) -> Callable[..., Patient]:
    """Makes an endless job that is well, in the place of the one before."""

    def make(**changes: Any) -> Patient:
        kubectl("delete", "etj", "--all", "--wait=true")
        name = f"endless-{uuid.uuid4().hex[:4]}"
        applied = kubectl.apply(sample(name, **ENDLESS | changes))
        assert applied.returncode == 0, applied.stderr
        made = Patient(kubectl, name)
        made.wait_until_well(300)
        return made

    return make


@pytest.fixture
def patient(admit: Callable[..., Patient]) -> Patient:
    """An endless job that is well, and none of whose slots has failed before."""
    return admit()


@pytest.fixture
def breaker(request: pytest.FixtureRequest) -> Iterator[Breaker]:
    """Breaks nodes, the network and the API server of the cluster."""
    program = request.config.getoption("--breaker")
    if not program:
        verbs = "node-down N, node-up N, partition IP, heal IP, api-down, api-up"
        pytest.skip(f"needs --breaker PROGRAM, one that takes {verbs}")
    made = Breaker(program)
    yield made
    made.mend()


@pytest.fixture(scope="session")
def sample() -> Callable[..., dict[str, Any]]:
    """The digits sample with changes to its spec; `None` removes a field."""

    def make(name: str = "digits", **changes: Any) -> dict[str, Any]:
        job = yaml.safe_load((MANIFESTS / "samples" / "digits.yaml").read_text())
        job["metadata"]["name"] = name
        for key, value in changes.items():
            job["spec"].pop(key, None)
            if value is not None:
                job["spec"][key] = value
        return dict(job)

    return make


LONG: dict[str, Any] = {"rounds": 400, "target": None}
"""Long enough that something can be done to it in mid-run."""


@pytest.fixture(scope="session")
def local_report(
    sample: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., dict[str, Any]]:
    """Reports of `elf run` for the sample with changes; each is trained once."""
    known: dict[str, dict[str, Any]] = {}

    def train(**changes: Any) -> dict[str, Any]:
        key = json.dumps(changes, sort_keys=True)
        if key not in known:
            folder = tmp_path_factory.mktemp("local")
            # One pod for all homes: the bits do not depend on it, and it starts sooner.
            job = sample(**changes, homes={"replicas": 12, "perPod": 12})
            (folder / "job.yaml").write_text(yaml.safe_dump(job))
            command = [
                sys.executable,
                "-m",
                "elf_cli",
                "run",
                "job.yaml",
                "--report",
                "report.json",
                "--plain",
            ]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
            assert done.returncode == 0, done.stdout + done.stderr
            known[key] = json.loads((folder / "report.json").read_text())
        return known[key]

    return train
