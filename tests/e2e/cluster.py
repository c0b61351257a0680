"""A cluster under test, by way of kubectl: what a user has."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

POLL_SECONDS = 0.25


class Kubectl:
    """kubectl against one context, and one namespace unless told otherwise."""

    def __init__(self, context: str, namespace: str = "default") -> None:
        self.context, self.namespace = context, namespace

    def __call__(self, *args: str, input: str | None = None, check: bool = True) -> str:
        done = self.run(*args, input=input)
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def run(self, *args: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        command = ["kubectl", f"--context={self.context}", f"--namespace={self.namespace}", *args]
        return subprocess.run(command, input=input, capture_output=True, text=True, timeout=400)

    def get(self, *args: str) -> dict[str, Any]:
        return dict(json.loads(self("get", *args, "-o", "json")))

    def apply(self, manifest: Mapping[str, Any], *flags: str) -> subprocess.CompletedProcess[str]:
        return self.run("apply", *flags, "-f", "-", input=yaml.safe_dump(dict(manifest)))

    def pods(self, job: str, role: str | None = None) -> list[dict[str, Any]]:
        selector = f"northpole.dev/job={job}" + (f",northpole.dev/role={role}" if role else "")
        return list(self.get("pods", "-l", selector)["items"])

    def job(self, name: str) -> dict[str, Any]:
        return self.get("elftrainingjob", name)


def wait(what: str, condition: Callable[[], Any], seconds: float) -> Any:
    """The first true value of `condition` within so many seconds. Raises AssertionError saying `what`."""
    deadline = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(POLL_SECONDS)


def condition(job: Mapping[str, Any], kind: str) -> dict[str, Any] | None:
    """The condition of this type if it is True."""
    for found in job.get("status", {}).get("conditions", []):
        if found["type"] == kind and found["status"] == "True":
            return dict(found)
    return None


def round_of(job: Mapping[str, Any]) -> int:
    return int(job.get("status", {}).get("training", {}).get("round", 0))


def describe(kubectl: Kubectl) -> Iterator[str]:
    """Everything a person would look at after a failure."""
    for args in (
        ["get", "elftrainingjobs", "-o", "yaml"],
        ["get", "pods", "-o", "wide"],
        ["get", "events", "--sort-by=.lastTimestamp"],
    ):
        yield f"--- kubectl {' '.join(args)}\n{kubectl.run(*args).stdout}"
    for pod in json.loads(kubectl.run("get", "pods", "-o", "json").stdout or '{"items": []}')["items"]:
        name = pod["metadata"]["name"]
        yield f"--- logs of {name}\n{kubectl.run('logs', '--tail=20', name).stdout}"
    system = Kubectl(kubectl.context, "elf-system")
    yield f"--- logs of the operator\n{system.run('logs', '--tail=100', 'deploy/elf-operator').stdout}"
