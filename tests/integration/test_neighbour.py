"""A local run with mutual TLS, and somebody on the same machine who means it no good."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import yaml

from elf_worker import contract
from elf_worker.contract import Role
from integration.test_local_run import DEADLINE, job, wait_until
from neighbour import attempts, harmless
from pods import OTHER_AUTHORITY, mounted

READY = re.compile(r"ready to serve at (\S+)")


class Run:
    """`elf run --mtls` in a folder of its own."""

    def __init__(self, folder: pathlib.Path, *flags: str, **changes: object) -> None:
        (folder / "job.yaml").write_text(yaml.safe_dump(job(**changes)))
        self.folder, self.log = folder / "run", folder / "out.txt"
        command = [sys.executable, "-m", "elf_cli", "run", "job.yaml", "--plain", "--directory", "run"]
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, "--report", "report.json", *flags], cwd=folder, stdout=out, stderr=out
            )

    def address(self, pod: str) -> str:
        """Where a data center takes connections; empty: nowhere yet."""
        log = self.folder / "logs" / f"{pod}.log"
        found = READY.search(log.read_text()) if log.exists() else None
        return found[1] if found else ""

    def round(self) -> int:
        """Rounds done."""
        try:
            return int(json.loads((self.folder / contract.PROGRESS_FILE).read_text()).get("round", 0))
        except FileNotFoundError:
            return 0

    def report(self) -> dict[str, object]:
        """How it ended."""
        assert self.process.wait(DEADLINE) == 0, self.log.read_text()
        return dict(json.loads((self.folder.parent / "report.json").read_text()))


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def begin(*flags: str, **changes: object) -> Run:
        runs.append(Run(tmp_path_factory.mktemp("run"), *flags, **changes))
        return runs[-1]

    yield begin
    for run in runs:
        if run.process.poll() is None:
            os.kill(run.process.pid, signal.SIGINT)
            run.process.wait(DEADLINE)


def test_a_neighbour_gets_nothing_and_stops_nothing(
    start: Callable[..., Run], tmp_path: pathlib.Path
) -> None:
    run = start("--mtls", rounds=1_000_000)
    wait_until(lambda: run.round() > 0 or run.process.poll() is not None)
    uid = json.loads((run.folder / contract.WIRING_KEY).read_text())["npdc"]["uid"]
    stranger = mounted(tmp_path, Role.HOME, job="night", authority=OTHER_AUTHORITY)
    for pod in ("night-npdc-0", "night-mdc-0-0", "night-mdc-1-0"):
        for identity in ("", stranger):
            got = attempts("night", run.address(pod), identity)
            del got["http"], got["https"]  # who runs a job here may look at its figures
            assert all(harmless(what, answer) for what, answer in got.items()), (pod, identity, got)
    before = run.round()
    wait_until(lambda: run.round() > before + 5)
    wiring = json.loads((run.folder / contract.WIRING_KEY).read_text())
    assert wiring["npdc"]["uid"] == uid and not wiring["npdc"]["replaced"], "nobody was harmed"


@pytest.mark.slow
@pytest.mark.parametrize("pod", ["night-home-1", "night-mdc-1-0"])
def test_one_pod_cannot_speak_for_others(start: Callable[..., Run], pod: str) -> None:
    """With a pod's own key its holder gets no further: it is known who it is."""
    run = start("--mtls", rounds=1_000_000)
    wait_until(lambda: run.round() > 0 or run.process.poll() is not None)
    stolen = str(run.folder / "identities" / pod)
    for host in ("night-npdc-0", "night-mdc-0-0"):
        assert attempts("night", run.address(host), stolen)["tls"] == "", host
    said = "".join(log.read_text() for log in (run.folder / "logs").glob("*-0.log"))
    assert "closing a connection: " in said and ("says it is mdc 0" in said or "speaks for homes" in said)
    before = run.round()
    wait_until(lambda: run.round() > before + 5)


@pytest.mark.slow
def test_bits_are_the_same_with_and_without_and_keys_are_each_pods_own(start: Callable[..., Run]) -> None:
    plain, secured = start(), start("--mtls", "--kill", "mdc/1@round:10,npdc@round:30")
    assert plain.report()["modelDigest"] == secured.report()["modelDigest"]
    keys = list((secured.folder / "identities").glob("*/tls.key"))
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o400}
    pods = {key.parent.name for key in keys}
    assert {"night-mdc-1-0", "night-mdc-1-1", "night-npdc-0", "night-npdc-1"} <= pods
    assert len({hashlib.sha256(key.read_bytes()).digest() for key in keys}) == len(pods)
    assert not (plain.folder / "identities").exists()
