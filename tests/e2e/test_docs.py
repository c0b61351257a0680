"""A reader with the docs at a keyboard: each command in the order of the page, in a fresh copy.

What is typed instead of what is written stands in tests/walks.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import shutil
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

import documents
from e2e.cluster import Kubectl, round_of, wait
from e2e.conftest import CRD, ROOT, for_this_cluster, fresh_namespace
from e2e.shell import Shell
from helm import found_or_skipped
from walks import IN_FILES, REPLACED, WALKS, Walk

pytestmark = [pytest.mark.e2e, pytest.mark.exclusive, pytest.mark.timeout(1800)]
Make = Callable[..., dict[str, Any]]
Look = Callable[[str], None]
"""Looks at what a command has printed, and at the cluster."""
DASHBOARD = "http://127.0.0.1:8081"
DEFAULT = {name: f"ghcr.io/northpole-dev/elf-{name}:dev" for name in ("operator", "worker")}
COPIED = ("charts", "docs", "manifests")
OURS = "app.kubernetes.io/part-of=elf-training-operator"


class Reader:
    """Types what a page says."""

    def __init__(
        self, shell: Shell, folder: pathlib.Path, kubectl: Kubectl, instead: Mapping[str, str]
    ) -> None:
        self._shell, self._folder, self.kubectl = shell, folder, kubectl
        self._instead = instead

    def walk(self, walk: Walk, looks: Mapping[str, Look]) -> None:
        """From the first block to the last. `looks`: beginning of a command → what to look at after it."""
        unseen = set(looks)
        for block in walk.blocks():
            if block.file:
                place = self._folder / block.file
                place.parent.mkdir(exist_ok=True)
                place.write_text(self._adapted(shortened(block.text)))
            for command in documents.commands(block):
                said = self._type(command)
                for beginning in [b for b in looks if command.text.startswith(b)]:
                    unseen.discard(beginning)
                    looks[beginning](said)
        assert not unseen, f"the page does not say {unseen}"

    def _type(self, command: documents.Command) -> str:
        bare = re.sub(r"\s+# .*", "", command.text)
        typed = self._adapted(REPLACED.get(bare, (command.text, ""))[0])
        print(f"$ {typed}", flush=True)
        try:
            said = self._shell(typed)
        except AssertionError as error:
            raise AssertionError(f"{command.page}:{command.line}: {error}") from None
        print(said, flush=True)
        return said

    def _adapted(self, text: str) -> str:
        for written, meant in self._instead.items():
            text = text.replace(written, meant)
        return text


def shortened(text: str) -> str:
    for written, (meant, _) in IN_FILES.items():
        text = text.replace(written, meant)
    return text


def adaptations(images: Mapping[str, str]) -> dict[str, str]:
    """What is different here: names of images."""
    out = {DEFAULT[name]: image for name, image in images.items() if image != DEFAULT[name]}
    if out:
        said = {"image": images["operator"], "worker.image": images["worker"]}
        for key, image in said.items():
            repository, _, tag = image.rpartition(":")
            # Behind a comma or a blank, so that `image.tag` is not found within `worker.image.tag`.
            for before in (" ", ","):
                out[f"{before}{key}.tag=dev"] = f"{before}{key}.repository={repository},{key}.tag={tag}"
    return out


@pytest.fixture
def jobs(context: str, vacant: None) -> Iterator[Kubectl]:
    """A namespace for the reader's jobs, in a cluster without operator and CRD; both are gone afterwards."""
    with fresh_namespace(context, "docs") as made:
        yield made
        if made.run("get", CRD).returncode == 0:
            made.run("delete", "elftrainingjobs", "--all", "--wait=true", "--timeout=120s")
        anywhere = Kubectl(context)
        with contextlib.suppress(AssertionError):
            anywhere("delete", "namespace", "elf-system", "--ignore-not-found", "--timeout=120s")
        anywhere("delete", "clusterroles,clusterrolebindings", "-l", OURS)
        anywhere("delete", "--ignore-not-found", CRD)


@pytest.fixture
def reader(
    jobs: Kubectl,
    images: dict[str, str],
    tmp_path: pathlib.Path,
    request: pytest.FixtureRequest,
) -> Iterator[Reader]:
    """In a copy of this folder, with kubectl, helm, elf and kubectl-elf on PATH."""
    folder, tools = tmp_path / "repository", tmp_path / "tools"
    for part in COPIED:
        shutil.copytree(ROOT / part, folder / part)
    instead = adaptations(images)
    for manifest in (folder / "manifests").glob("*.yaml"):
        text = manifest.read_text()
        for written, meant in instead.items():
            text = text.replace(written, meant)
        manifest.write_text(for_this_cluster(text, jobs) if manifest.name == "network.yaml" else text)
    tools.mkdir()
    (tools / "helm").symlink_to(found_or_skipped())
    for name in ("elf", "kubectl-elf"):
        script = tools / name
        path = os.pathsep.join(filter(None, sys.path))
        script.write_text(
            f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{path}" exec {sys.executable} -m elf_cli "$@"\n'
        )
        script.chmod(0o755)
    builder = request.getfixturevalue("image_builder") if "builder" in request.keywords else ""
    env = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "TERM": "dumb",
        "KUBECONFIG": str(kubeconfig(jobs, tmp_path)),
        "IMAGE_BUILDER": builder,
        "OMP_NUM_THREADS": "1",
    }
    shell = Shell(folder, env)
    yield Reader(shell, folder, jobs, instead)
    shell.close()


def kubeconfig(kubectl: Kubectl, folder: pathlib.Path) -> pathlib.Path:
    """One whose current context is this cluster and this namespace."""
    path = folder / "kubeconfig"
    path.write_text(kubectl("config", "view", "--raw", "--minify", "--flatten"))
    kubectl.run(
        "config", f"--kubeconfig={path}", "set-context", kubectl.context, "--namespace", kubectl.namespace
    )
    return path


def says(*words: str) -> Look:
    def look(said: str) -> None:
        assert all(word in said for word in words), f"{words} are expected in: {said}"

    return look


def asked(path: str) -> Any:
    """What the dashboard says."""
    with urllib.request.urlopen(f"{DASHBOARD}{path}", timeout=10) as answer:
        return json.load(answer)


@pytest.mark.builder
@pytest.mark.usefixtures("default_storage")
def test_the_first_hour(reader: Reader, local_report: Make) -> None:
    kubectl, digests = reader.kubectl, {}

    def replaced(said: str) -> None:
        assert "night-mdc-1-0 is dead" in said
        wait("its successor serves", lambda: "night-mdc-1-1" in kubectl("get", "pods", "-o", "name"), 60)

    def dashboard(said: str) -> None:
        listed = {job["job"]: job for job in json.loads(said[said.index("{") :])["jobs"]}
        assert listed["digits"]["state"] == "Complete" and "night" in listed
        page = urllib.request.urlopen(DASHBOARD, timeout=10).read()
        assert b"<title>" in page
        path = f"/api/jobs/{kubectl.namespace}/night"

        def healed() -> Any:
            shown = asked(path)
            mdcs = {mdc["mdc"]: mdc for mdc in shown["tree"]["mdcs"]}
            again = (mdcs[2]["state"], mdcs[2]["incarnation"], mdcs[2]["ready"]) == ("serving", 1, 4)
            return shown if again else None

        shown = wait("the dashboard shows the successor of MDC 2", healed, 90)
        lost = {entry["pod"]: entry for entry in shown["replacements"]}
        assert lost["night-mdc-2-0"]["reason"] in ("PodGone", "BeingDeleted")
        assert {mdc["replaced"] for mdc in shown["tree"]["mdcs"] if mdc["mdc"] > 0} == {1}
        assert all(mdc["node"] for mdc in shown["tree"]["mdcs"])
        assert shown["history"], "the course of the training"

    def own_run(said: str) -> None:
        digests["sleighs"] = re.search(r"sha256:[0-9a-f]{64}", said)[0]  # type: ignore[index]

    def own_job(said: str) -> None:
        assert digests["sleighs"] in said

    def nothing(said: str) -> None:
        assert said == "No resources found" or re.fullmatch(r"No resources found in \S+ namespace\.", said), (
            said
        )

    reader.walk(
        WALKS["the first hour"],
        {
            "helm test": says("Succeeded"),
            "kubectl elf status digits --watch": says("Complete"),
            "kubectl get etj digits": says(local_report()["modelDigest"]),
            "kubectl elf kill night mdc/1": replaced,
            "kubectl elf status night": says("NPDC", "MDC 2"),
            "kubectl elf events night": says("night-mdc-1-0", "replaced by night-mdc-1-1"),
            "curl": dashboard,
            "kubectl elf model night": says("its digest is the job's"),
            "elf check-statistic": lambda said: None,
            "elf run": own_run,
            "kubectl get etj sleighs -o wide": own_job,
            "kubectl get etj sleighs -o jsonpath": says("worst_home", "loss"),
            "kubectl get clusterroles": nothing,
            "kubectl get pods": nothing,
        },
    )
    assert kubectl.run("get", CRD).returncode != 0
    assert kubectl.run("get", "namespace", "elf-system").returncode != 0


@pytest.mark.parametrize("name", ["README, with Helm", "README, without Helm"])
def test_the_readme(reader: Reader, local_report: Make, name: str) -> None:
    reader.walk(WALKS[name], {"kubectl wait": says("condition met")})
    digest = reader.kubectl.job("digits")["status"]["training"]["modelDigest"]
    assert digest == local_report()["modelDigest"]


def test_installation_with_helm(reader: Reader) -> None:
    """Installed, looked at as docs/operations.md says, upgraded, uninstalled."""
    first = replace(WALKS["installation with Helm"], only="helm install")
    reader.walk(first, {"helm test": says("Succeeded")})
    wait("a round is done", lambda: round_of(reader.kubectl.job("digits")) > 0, 120)
    looks = {
        "kubectl elf status": says("digits"),
        "kubectl get deployments,leases": says("elf-elf-training-operator"),
        "kubectl get --raw": says("elf_operator_reconciles_total", "elf_operator_leading 1.0"),
    }
    reader.walk(WALKS["operations"], looks)
    rest = replace(WALKS["installation with Helm"], without="helm install")
    reader.walk(rest, {"helm upgrade": says("has been upgraded", "REVISION: 2")})
    assert reader.kubectl.run("get", CRD).returncode != 0


@pytest.mark.parametrize("name", ["installation with kubectl", "installation with Kustomize"])
def test_installation_without_helm(reader: Reader, name: str) -> None:
    reader.walk(WALKS[name], {})
    system = Kubectl(reader.kubectl.context, "elf-system")
    system("rollout", "status", "deploy/elf-operator", "--timeout=120s")
    assert {s["metadata"]["name"] for s in system.get("services")["items"]} == {"elf-operator"}
