"""End-to-end tests run against a cluster whose context they are told to trust, and no other.

    pytest tests/e2e --context kind-elf --worker-image … --operator-image …

They install the CRD and the operator (and remove them again), and make namespaces named `elf-e2e-…`.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from e2e import operator_log, rounds
from e2e.cluster import Kubectl, describe, wait
from e2e.faults import ENDLESS, Breaker, Patient

ROOT = pathlib.Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
READER = {"elf-e2e": "reads-figures"}
"""Labels of pods that may reach the figures of jobs."""
CRD = "crd/elftrainingjobs.northpole.dev"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--breaker", help="program that breaks nodes, network and API server of that cluster")
    parser.addoption("--repeat", type=int, default=3, help="how often each fault is timed")
    parser.addoption("--power-cuts", type=int, default=1, help="how often the power of a node is cut, timed")
    parser.addoption("--npdc-nodes", type=int, default=2, help="how often the NPDC's node is lost, in turn")
    parser.addoption("--endure", type=float, default=60.0, help="seconds of random faults to one job")
    parser.addoption(
        "--image-builder",
        help="program that builds an image for that cluster: given a tag and a folder with a Dockerfile",
    )
    parser.addoption("--operator-logs", help="folder for the logs of all operators (default: pytest's own)")
    parser.addoption("--worker-image", default="ghcr.io/northpole-dev/elf-worker:dev")
    parser.addoption("--operator-image", default="ghcr.io/northpole-dev/elf-operator:dev")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those with an operator of their own come first: the shared one need not go and come back for them."""
    items.sort(key=lambda item: "vacant" not in getattr(item, "fixturenames", ()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    kubectl = getattr(item, "funcargs", {}).get("kubectl")
    if report.when == "call" and report.failed and kubectl is not None:
        report.sections.append(("cluster", "\n".join(describe(kubectl))))
    return report


@pytest.fixture(scope="session")
def images(request: pytest.FixtureRequest) -> dict[str, str]:
    """What is tested: operator and worker."""
    return {name: str(request.config.getoption(f"--{name}-image")) for name in ("operator", "worker")}


def for_this_cluster(network: str, kubectl: Kubectl) -> str:
    """The text of network.yaml with this API server's own port in it, as docs/install.md says."""
    line = "        - {port: 6443, protocol: TCP}\n"
    assert line in network
    found = Kubectl(kubectl.context).get("endpointslices", "-l", "kubernetes.io/service-name=kubernetes")
    ports = sorted({port["port"] for item in found["items"] for port in item["ports"]})
    return network.replace(line, "".join(line.replace("6443", str(port)) for port in ports))


def install_operator(system: Kubectl, images: dict[str, str]) -> None:
    """The CRD and the operator, from the plain manifests."""
    system("apply", "-f", str(MANIFESTS / "crd.yaml"))
    system("wait", "--for=condition=Established", "crd/elftrainingjobs.northpole.dev", "--timeout=30s")
    system("apply", "-f", str(MANIFESTS / "rbac.yaml"))
    deployment = yaml.safe_load((MANIFESTS / "operator.yaml").read_text())
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["image"] = images["operator"]
    container["env"][0]["value"] = images["worker"]
    readers = json.dumps([{"podSelector": {"matchLabels": READER}}])
    container["env"].append({"name": "ELF_FIGURES_FROM", "value": readers})
    network = for_this_cluster((MANIFESTS / "network.yaml").read_text(), system)
    system("apply", "-f", "-", input=network)
    assert system.apply(deployment).returncode == 0
    system("rollout", "status", "deploy/elf-operator", "--timeout=120s")


def remove_operator(system: Kubectl) -> None:
    """What `install_operator` has made, as far as it is there; jobs go with the CRD."""
    ours = ("-A", "-l", "northpole.dev/job", "-o", "name")
    wait("all pods are gone", lambda: not system("get", "pods", *ours).strip(), 900)
    for name in ("network.yaml", "operator.yaml", "rbac.yaml", "crd.yaml"):
        system("delete", "--ignore-not-found", "-f", str(MANIFESTS / name))


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder of this run, the same for all of its processes (pytest-xdist)."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """One process at a time."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def shared(
    run_folder: pathlib.Path, what: str, begin: Callable[[], None], end: Callable[[], None]
) -> Iterator[None]:
    """Of processes side by side the first begins it, and the last ends it."""
    lock, users = run_folder / f"{what}.lock", run_folder / f"{what}.users"
    with locked(lock):
        before = int(users.read_text()) if users.exists() else 0
        if not before:
            begin()
        users.write_text(str(before + 1))
    yield
    with locked(lock):
        left = int(users.read_text()) - 1
        users.write_text(str(left))
        if not left:
            end()


@pytest.fixture(scope="session")
def operator_logs(context: str, run_folder: pathlib.Path, request: pytest.FixtureRequest) -> Iterator[None]:
    """The logs of all operators are kept, and must not warn of anything that no test has done."""
    folder = pathlib.Path(
        request.config.getoption("--operator-logs") or run_folder / "operator-logs"
    ).resolve()
    begin, end = (functools.partial(f, folder) for f in (operator_log.begin, operator_log.end))
    with shared(run_folder, "operator-logs", functools.partial(begin, context), end):
        yield


@pytest.fixture(scope="session")
def operator(
    context: str, images: dict[str, str], run_folder: pathlib.Path, operator_logs: None
) -> Iterator[Kubectl]:
    """See `install_operator`. Of processes side by side the first installs it, and the last removes it."""
    system = Kubectl(context, "elf-system")
    install = functools.partial(install_operator, system, images)
    with shared(run_folder, "operator", install, functools.partial(remove_operator, system)):
        yield system


@pytest.fixture(scope="module")
def vacant(context: str, images: dict[str, str], operator_logs: None) -> Iterator[None]:
    """A cluster without operator and CRD; what other tests share is there again afterwards."""
    system = Kubectl(context, "elf-system")
    shared = system.run("get", "deploy", "elf-operator").returncode == 0
    remove_operator(system)
    yield
    system("delete", "--ignore-not-found", CRD)
    if shared:
        install_operator(system, images)


@pytest.fixture(scope="session")
def image_builder(request: pytest.FixtureRequest, context: str) -> str:
    """A command that takes a tag and a folder: it builds an image, and brings it to the nodes."""
    if program := request.config.getoption("--image-builder"):
        return shlex.quote(str(pathlib.Path(program).resolve()))
    missing = [tool for tool in ("docker", "kind") if shutil.which(tool) is None]
    if missing or not context.startswith("kind-"):
        why = f"{' and '.join(missing)} missing" if missing else f"{context} is no cluster of kind"
        pytest.skip(f"needs --image-builder PROGRAM, which is given a tag and a folder ({why})")
    return f"{shlex.quote(str(ROOT / 'tests/e2e/build-for-kind.sh'))} {context.removeprefix('kind-')}"


@contextlib.contextmanager
def fresh_namespace(context: str, purpose: str) -> Iterator[Kubectl]:
    """kubectl in a new namespace, which enforces the restricted Pod Security level."""
    name = f"elf-e2e-{purpose}-{uuid.uuid4().hex[:6]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    assert Kubectl(context).apply(made).returncode == 0
    try:
        yield Kubectl(context, name)
    finally:
        # What takes long is the end of pods that have ended: nobody has to wait for that.
        Kubectl(context).run("delete", "namespace", name, "--wait=false")


@contextlib.contextmanager
def namespace_of_its_own(operator: Kubectl) -> Iterator[Kubectl]:
    """As `fresh_namespace`, for jobs that are deleted in the end."""
    with fresh_namespace(operator.context, "jobs") as kubectl, rounds.watched(kubectl):
        yield kubectl
        kubectl("delete", "elftrainingjobs", "--all", "--wait=true")


@pytest.fixture
def kubectl(operator: Kubectl) -> Iterator[Kubectl]:
    """See `namespace_of_its_own`."""
    with namespace_of_its_own(operator) as made:
        yield made


def admitted(kubectl: Kubectl, sample: Callable[..., dict[str, Any]], **changes: Any) -> Patient:
    """An endless job that is well, in the place of the one before."""
    kubectl("delete", "etj", "--all", "--wait=true")
    name = f"endless-{uuid.uuid4().hex[:4]}"
    applied = kubectl.apply(sample(name, **ENDLESS | changes))
    assert applied.returncode == 0, applied.stderr
    made = Patient(kubectl, name)
    made.wait_until_well(300)
    return made


@pytest.fixture
def admit(kubectl: Kubectl, sample: Callable[..., dict[str, Any]]) -> Callable[..., Patient]:
    """See `admitted`."""
    return functools.partial(admitted, kubectl, sample)


@pytest.fixture(scope="module")
def onlooked(operator: Kubectl, sample: Callable[..., dict[str, Any]]) -> Iterator[Patient]:
    """An endless job that is well, and to which nobody does anything."""
    with namespace_of_its_own(operator) as kubectl:
        yield admitted(kubectl, sample)


@pytest.fixture
def patient(admit: Callable[..., Patient]) -> Patient:
    """An endless job that is well, and none of whose slots has failed before."""
    return admit()


@pytest.fixture
def default_storage(context: str) -> None:
    """A cluster that gives a claim a volume unasked."""
    mark = "storageclass.kubernetes.io/is-default-class"
    classes = Kubectl(context).get("storageclasses")["items"]
    if not any((c["metadata"].get("annotations") or {}).get(mark) == "true" for c in classes):
        pytest.fail(f"no StorageClass is the default one: annotate one with {mark}=true")


@pytest.fixture
def breaker(request: pytest.FixtureRequest) -> Iterator[Breaker]:
    """Breaks nodes, the network and the API server of the cluster."""
    program = request.config.getoption("--breaker")
    if not program:
        verbs = (
            "node-down N, node-up N, partition IP, heal IP, api-down, api-up, "
            "policies off, policies on (whether NetworkPolicies are enforced)"
        )
        pytest.skip(f"needs --breaker PROGRAM, one that you write for your nodes; it takes {verbs}")
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


FEW_PODS = {"replicas": 12, "perPod": 6}
"""The sample's homes. What a job costs here is mostly the start of its pods; the bits are the same."""
LONG: dict[str, Any] = {"rounds": 400, "target": None}
"""Long enough that something can be done to it in mid-run."""


@pytest.fixture(scope="session")
def local_report(
    sample: Callable[..., dict[str, Any]], run_folder: pathlib.Path
) -> Callable[..., dict[str, Any]]:
    """Reports of `elf run` for the sample with changes; each is trained once."""

    def train(**changes: Any) -> dict[str, Any]:
        key = hashlib.sha256(json.dumps(changes, sort_keys=True).encode()).hexdigest()[:16]
        folder = run_folder / f"local-{key}"
        folder.mkdir(exist_ok=True)
        with locked(folder / "lock"):
            report = folder / "report.json"
            if not report.exists():
                # Two pods for all homes: the bits do not depend on it, and they start sooner than twelve.
                job = sample(**changes, homes={"replicas": 12, "perPod": 6})
                (folder / "job.yaml").write_text(yaml.safe_dump(job))
                command = [
                    sys.executable,
                    "-m",
                    "elf_cli",
                    "run",
                    "job.yaml",
                    "--plain",
                    "--report",
                    report.name,
                ]
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=400)
                assert done.returncode == 0, done.stdout + done.stderr
            return dict(json.loads(report.read_text()))

    return train
