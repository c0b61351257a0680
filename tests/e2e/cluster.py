"""A cluster under test, by way of kubectl: what a user has."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import yaml

POLL_SECONDS = 0.25


class Window:
    """`kubectl proxy`: who looks four times a second shall not start a kubectl each time."""

    def __init__(self, context: str) -> None:
        command = ["kubectl", f"--context={context}", "proxy", "--port=0"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        found = re.search(r"127\.0\.0\.1:(\d+)", said)
        assert found, f"kubectl proxy: {said}"
        self._url = f"http://127.0.0.1:{found[1]}"
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        atexit.register(self.close)

    def get(self, path: str) -> Any:
        """The JSON at a path of the API. Raises AssertionError if the server does not give it."""
        text = self.text(path)
        try:
            return json.loads(text)
        except ValueError as error:
            raise AssertionError(f"{path}: {error}: {text[:200]}") from error

    def text(self, path: str, headers: Mapping[str, str] | None = None) -> str:
        """What is at a path of the API. Raises AssertionError if the server does not give it."""
        asked = urllib.request.Request(self._url + path, headers=dict(headers or {}))
        try:
            with self._open(asked, timeout=60) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError, ValueError) as error:
            raise AssertionError(f"{path}: {error}") from error

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@functools.cache
def window(context: str) -> Window:
    """One for each context, until the tests end."""
    return Window(context)


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

    def python(self, pod: str, source: str, *args: str) -> str:
        """What a program says that is run in a pod: unlike a log, it comes whole, or the call fails."""
        return self("exec", pod, "--", "python3", "-c", source, *args)

    def pods(self, job: str, role: str | None = None) -> list[dict[str, Any]]:
        selector = f"northpole.dev/job={job}" + (f",northpole.dev/role={role}" if role else "")
        path = f"/api/v1/namespaces/{self.namespace}/pods?labelSelector={quote(selector)}"
        return list(window(self.context).get(path)["items"])

    def staying(self, job: str) -> list[str]:
        """Its pods, by name, but for those on their way out: how long a kubelet takes is its own affair."""
        found = [pod["metadata"] for pod in self.pods(job)]
        return [meta["name"] for meta in found if "deletionTimestamp" not in meta]

    def job(self, name: str) -> dict[str, Any]:
        path = f"/apis/northpole.dev/v1alpha1/namespaces/{self.namespace}/elftrainingjobs/{name}"
        return dict(window(self.context).get(path))

    def status(self, name: str) -> dict[str, Any]:
        """Of a job; empty while the API server is away, and while there is none."""
        try:
            return dict(self.job(name).get("status", {}))
        except AssertionError:
            return {}


def wait(what: str, condition: Callable[[], Any], seconds: float) -> Any:
    """The first true value of `condition` within so many seconds. Raises AssertionError saying `what`."""
    deadline = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def bystander(
    kubectl: Kubectl,
    name: str,
    image: str,
    user: int,
    claim: str | None = None,
    labels: Mapping[str, str] | None = None,
    program: str = "import time; time.sleep(600)",
) -> Iterator[str]:
    """A pod as anybody may make at the restricted level, for programs to be run in; deleted in the end."""
    container: dict[str, Any] = {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", program],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security: dict[str, Any] = {"runAsNonRoot": True, "runAsUser": user, "fsGroup": user}
    security["seccompProfile"] = {"type": "RuntimeDefault"}
    spec: dict[str, Any] = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
    spec |= {"securityContext": security, "containers": [container]}
    if claim is not None:
        container["volumeMounts"] = [{"name": "kept", "mountPath": "/kept"}]
        spec["volumes"] = [{"name": "kept", "persistentVolumeClaim": {"claimName": claim}}]
    meta = {"name": name, "labels": dict(labels or {})}
    applied = kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    assert applied.returncode == 0, applied.stderr
    try:
        kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=120s")
        yield name
    finally:
        kubectl("delete", "pod", name, "--wait=false")


def condition(job: Mapping[str, Any], kind: str) -> dict[str, Any] | None:
    """The condition of this type if it is True."""
    for found in job.get("status", {}).get("conditions", []):
        if found["type"] == kind and found["status"] == "True":
            return dict(found)
    return None


def round_of(job: Mapping[str, Any]) -> int:
    return int(job.get("status", {}).get("training", {}).get("round", 0))


def describe(kubectl: Kubectl) -> Iterator[str]:
    """Everything a person would look at after a failure; what tells most comes first."""
    yield f"--- kubectl get etj,pods\n{kubectl.run('get', 'elftrainingjobs,pods', '-o', 'wide').stdout}"
    pods = json.loads(kubectl.run("get", "pods", "-o", "json").stdout or '{"items": []}')["items"]
    for pod in pods:
        name, status = pod["metadata"]["name"], pod["status"]
        if status.get("phase") == "Succeeded":
            continue
        known = {key: status.get(key) for key in ("phase", "reason", "message", "containerStatuses")}
        deleted = pod["metadata"].get("deletionTimestamp")
        logs = kubectl.run("logs", "--tail=10", name)
        yield f"--- {name} (deleted: {deleted})\n{json.dumps(known)}\n{logs.stdout or logs.stderr}"
    yield f"--- events\n{kubectl.run('get', 'events', '--sort-by=.lastTimestamp').stdout[-3000:]}"
    system = Kubectl(kubectl.context, "elf-system")
    operators = ("--prefix", "-l", "app.kubernetes.io/name=elf-operator")
    yield f"--- logs of the operators\n{system.run('logs', '--tail=25', *operators).stdout}"
    for job in json.loads(kubectl.run("get", "elftrainingjobs", "-o", "json").stdout or '{"items": []}')[
        "items"
    ]:
        yield f"--- status of {job['metadata']['name']}\n{json.dumps(job.get('status'))}"
