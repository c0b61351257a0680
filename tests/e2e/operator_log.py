"""The log of every operator of a run, and what in it warns of something that no test has done.

`python -m e2e.operator_log CONTEXT FOLDER` follows operators until it is told to stop: tests kill them, and
a pod takes its log with it.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator

from e2e.cluster import Kubectl

OPERATORS = "app.kubernetes.io/part-of=elf-training-operator,app.kubernetes.io/component=operator"
POLL_SECONDS = 1.0
GOODBYE_SECONDS = 20.0
PASSED_OVER = ("DEBUG", "INFO")
_AWAY = r"HTTP (429|500|502|503|504)|Client\w*Error|Server\w*Error|TimeoutError|Connection\w*Error|OSError"
_GONE = r".*HTTP 403 Forbidden: .*serviceaccount:elf-e2e-release-"
CAUSES: tuple[tuple[str, str, str], ...] = (
    # (logger, what it says, what a test does)
    ("elf_operator.workqueue", rf"\S+: ({_AWAY}|NotLeadingError)", "the API server is stopped"),
    ("elf_operator.handlers", rf"jobs cannot be listed: ({_AWAY})", "the API server is stopped"),
    (
        "elf_operator.leadership",
        r"leader election: ",
        "the API server is stopped, or slow under all the pods",
    ),
    ("elf_operator.leadership", r"another operator leads", "the API server is stopped, an operator killed"),
    ("kopf", r"Request attempt .*will (retry|re-authenticate)", "the API server is stopped"),
    (
        "elf_operator.reach",
        r"the API server.* cannot be (connected to|resolved)",
        "the API server or a node is stopped",
    ),
    ("elf_operator.workqueue", r"\S+: RefusedError ", "a template is misspelt, a name taken, a quota full"),
    ("elf_operator.workqueue", rf"\S+: {_GONE}", "a release is uninstalled: its rights go first"),
    ("elf_operator.handlers", rf"jobs cannot be listed: {_GONE}", "a release is uninstalled"),
    ("elf_operator.workqueue", r"\S+: StaleViewError .*, wiring 0 ", "a namespace is deleted with its jobs"),
    ("elf_operator.handlers", r"no --master-key", "a release is installed without mTLS"),
)
"""Whoever adds one says which test is the cause. What is repeated without one is a defect of the operator."""


def unexplained(lines: Iterable[str]) -> Iterator[str]:
    """Of lines of JSON those above INFO without a known cause; what is no record at all is one of them."""
    for line in filter(None, map(str.strip, lines)):
        try:
            record = json.loads(line)
            level, logger, message = (str(record[key]) for key in ("levelname", "name", "message"))
        except (ValueError, TypeError, KeyError):
            yield line
            continue
        if level not in PASSED_OVER and not _explained(logger, message):
            yield line


def _explained(logger: str, message: str) -> bool:
    return any(
        (logger == known or logger.startswith(f"{known}.")) and re.match(said, message)
        for known, said, _ in CAUSES
    )


# -- following --------------------------------------------------------------------------------------------


def begin(folder: pathlib.Path, context: str) -> None:
    """Follow all operators of a cluster into a folder, beyond the life of this process."""
    folder.mkdir(parents=True, exist_ok=True)
    tests = str(pathlib.Path(__file__).parents[1])
    paths = os.pathsep.join(filter(None, (tests, os.environ.get("PYTHONPATH", ""))))
    (folder / "over").unlink(missing_ok=True)
    command = [sys.executable, "-m", "e2e.operator_log", context, str(folder)]
    env = os.environ | {"PYTHONPATH": paths}
    with (folder / "follower.out").open("a") as out:
        subprocess.run(command, env=env, stdout=out, stderr=out, start_new_session=True, check=True)


def end(folder: pathlib.Path) -> None:
    """Stop following, when the operators are gone. Raises AssertionError for what has no known cause."""
    pid = int((folder / "pid").read_text())
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 2 * GOODBYE_SECONDS
    while not (folder / "over").exists():
        assert time.monotonic() < deadline, (folder / "follower.out").read_text()
        time.sleep(POLL_SECONDS / 10)
    logs = sorted(folder.glob("*.log"))
    assert logs, f"no log of any operator: {(folder / 'follower.out').read_text()}"
    found = [f"{log.name}: {line}" for log in logs for line in unexplained(log.read_text().splitlines())]
    assert not found, (
        f"{len(found)} lines of operators' logs ({folder}) tell of trouble that no test has made:\n"
        + "\n".join(found[:50])
    )


def _follow(context: str, folder: pathlib.Path) -> None:
    system, stopped = Kubectl(context), False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    readers: dict[str, subprocess.Popen[bytes]] = {}
    while not stopped:
        for where, pod, life in _lives(system):
            if life not in readers or readers[life].poll() is not None:  # the API server was away
                readers[life] = _read(context, where, pod, folder / f"{where}.{life}.log")
        time.sleep(POLL_SECONDS)
    deadline = time.monotonic() + GOODBYE_SECONDS
    for reader in readers.values():
        try:
            reader.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:  # the operator is still there
            reader.terminate()
    (folder / "over").touch()


def _lives(system: Kubectl) -> Iterator[tuple[str, str, str]]:
    """(namespace, pod, name of one life of its container) of operators that run; none while nobody knows."""
    try:
        pods = json.loads(system.run("get", "pods", "-A", "-l", OPERATORS, "-o", "json").stdout)["items"]
    except (ValueError, KeyError, subprocess.TimeoutExpired):
        return
    for pod in pods:
        meta = pod["metadata"]
        for status in pod["status"].get("containerStatuses") or ():
            if "running" in status["state"]:
                yield meta["namespace"], meta["name"], f"{meta['name']}.{status['restartCount']}"


def _read(context: str, where: str, pod: str, path: pathlib.Path) -> subprocess.Popen[bytes]:
    command = ["kubectl", f"--context={context}", f"--namespace={where}", "logs", "--follow", pod]
    with path.open("wb") as out:
        return subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)


def _main(context: str, folder: pathlib.Path) -> None:
    """Go on as a process that is nobody's child."""
    if follower := os.fork():
        (folder / "pid").write_text(str(follower))
    else:
        _follow(context, folder)


if __name__ == "__main__":
    _main(sys.argv[1], pathlib.Path(sys.argv[2]))
