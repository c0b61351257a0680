"""What the operator costs on a real API server: `make bench CONTEXT=NAME`.

    python tests/bench/operating.py --context NAME [--only create death start storm idle]

The cluster of the context may be changed; no kubelet is needed. Pods have no scheduler: they are puppets that
are said to run. Makes a namespace `elf-bench-…` and removes it, and leaves the CRD. The operator is a process
of this machine; its requests are read from its own metrics (kopf's few watches are not among them), its CPU
time and memory from /proc. Rates are of the same server in the same run, taken in turn with a bare client
that sends the same pods.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import harness
import yaml
from harness import ROOT, Ratio, Row, Table
from processes import cpu_of, memory_of

sys.path.insert(0, str(ROOT / "tests"))

from control_plane.api import JOBS, MERGE, Api, RefusedError, connect
from elf_operator import names, podbuilder, schema
from elf_operator.builders import Defaults
from elf_operator.spec import parse_job
from elf_worker.contract import Role

MDCS = 16
PODS_OF_EACH = 15
IN_FLIGHT = 64
"""Requests of the bare client at a time, and of the puppets."""
SETTLED_SECONDS = 3.0
PATIENCE_SECONDS = 100.0
STEP_SECONDS = 0.05
MASTER_KEY = "master-key"
RATE, READY_SECONDS, LOADED_SECONDS, MEMORY_MIB = 0.8, 2.0, 4.0, 150.0
CALLS_OF_A_DEATH, CPU_OF_A_DEATH, IDLE_CPU = 19, 0.3, 0.01
"""Fewer than 20 requests."""
NOBODY = {"template": {"spec": {"schedulerName": "nobody"}}}
WRITES = ("create", "update", "patch", "delete", "deletecollection")


@dataclass(frozen=True)
class Scale:
    """How much is put upon the operator."""

    pods: int = 1000
    jobs: int = 100
    idle_seconds: float = 61.0
    """As long as it takes the operator to look at every job unasked."""


QUICK = Scale(pods=100, jobs=10, idle_seconds=5.0)


class Ground:
    """One namespace, and who plays there."""

    def __init__(self, api: Api, namespace: str, config: pathlib.Path) -> None:
        self.api, self.namespace, self.config = api, namespace, config
        self.core = f"api/v1/namespaces/{namespace}"
        self.jobs = f"{JOBS}/namespaces/{namespace}/elftrainingjobs"

    async def count(self) -> int:
        """How many pods there are; the answer holds one of them."""
        found = await self.api.request("GET", f"{self.core}/pods", None, {"limit": "1"})
        return len(found["items"] or ()) + int(found["metadata"].get("remainingItemCount") or 0)

    async def clear(self) -> None:
        """No pods, no jobs, and nothing else that jobs own."""
        for path in (self.jobs, f"{self.core}/pods"):
            await self.api.request("DELETE", path, {"gracePeriodSeconds": 0})
        for kind in ("configmaps", "secrets", "events"):
            await self.api.request("DELETE", f"{self.core}/{kind}", None, {"labelSelector": names.LABEL_JOB})
        await self.until("the namespace is empty", self._empty)

    async def _empty(self) -> bool:
        return await self.count() == 0 and not (await self.api.request("GET", self.jobs))["items"]

    async def make(self, name: str, homes: int, mdcs: int) -> dict[str, Any]:
        """A job."""
        body = {
            "apiVersion": "northpole.dev/v1alpha1",
            "kind": "ElfTrainingJob",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "image": "puppet",
                "task": {"entrypoint": "elf_worker.tasks.digits:Digits"},
                "rounds": 1_000_000,
                "homes": {"replicas": homes, **NOBODY},
                "miniDataCenters": {"replicas": mdcs, **NOBODY},
                "northPole": NOBODY,
            },
        }
        return await self.api.request("POST", self.jobs, body)

    async def until(self, what: str, condition: Callable[[], Any], step: float = STEP_SECONDS) -> None:
        """Wait for a condition. Raises TimeoutError saying `what`."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not await condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {PATIENCE_SECONDS:g} s: {what}")
            await asyncio.sleep(step)

    async def states(self) -> Counter[str]:
        """Of all jobs, as their status says."""
        found = (await self.api.request("GET", self.jobs))["items"]
        return Counter((job.get("status") or {}).get("state", "") for job in found)

    async def all_running(self) -> bool:
        """Every job there is."""
        return set(await self.states()) == {"Running"}


class Puppets:
    """Says of every pod that it runs, and of every NPDC that it trains."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Puppets:
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watching.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(self._watching, *self._tasks, return_exceptions=True)

    async def _watch(self) -> None:
        api, path = self._ground.api, f"{self._ground.core}/pods"
        query = {"watch": "true", "labelSelector": names.LABEL_JOB}
        while True:
            with contextlib.suppress(aiohttp.ClientError, ConnectionError, TimeoutError):
                async with api.session.get(f"{api.server}/{path}", params=query) as stream:
                    while line := await stream.content.readline():
                        event = json.loads(line)
                        if event["type"] == "ADDED" and event["object"]["status"].get("phase") == "Pending":
                            self._spawn(event["object"])

    def _spawn(self, pod: dict[str, Any]) -> None:
        task = asyncio.create_task(self._start(pod))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start(self, pod: dict[str, Any]) -> None:
        async with self._room:
            await set_phase(self._ground, pod["metadata"]["name"], "Running", True)
            labels = pod["metadata"]["labels"]
            if labels[names.LABEL_ROLE] == Role.NPDC:
                incarnation = int(labels[names.LABEL_INCARNATION])
                said = {"phase": "Training", "incarnation": incarnation, "round": 1, "metrics": {}}
                body = {"status": {"training": said}}
                path = f"{self._ground.jobs}/{labels[names.LABEL_JOB]}/status"
                await self._ground.api.unless(404, "PATCH", path, body, None, MERGE)


async def set_phase(ground: Ground, pod: str, phase: str, ready: bool, code: int = 0) -> None:
    """What a kubelet would say."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    state = {"running": {"startedAt": stamp}} if ready else {"terminated": {"exitCode": code}}
    told = {
        "phase": phase,
        "conditions": [
            {"type": kind, "status": str(ready), "lastTransitionTime": stamp}
            for kind in ("Initialized", "ContainersReady", "Ready")
        ],
        "containerStatuses": [
            {
                "name": names.CONTAINER,
                "image": "puppet",
                "imageID": "puppet",
                "ready": ready,
                "restartCount": 0,
                "state": state,
            }
        ],
        "podIP": "192.0.2.1",
        "startTime": stamp,
    }
    path = f"{ground.core}/pods/{pod}/status"
    await ground.api.unless((404, 409), "PATCH", path, {"status": told}, None, MERGE)


class Operator:
    """One operator process."""

    def __init__(self, ground: Ground) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._session = ground.api.session
        self._log = pathlib.Path(ground.config.parent, "operator.log").open("ab")
        key = f"{ground.namespace}/{MASTER_KEY}"
        flags = ["--namespace", ground.namespace, "--master-key", key, "--listen", f"127.0.0.1:{self._port}"]
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "elf_operator", *flags],
            env={**os.environ, "KUBECONFIG": str(ground.config)},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    async def __aenter__(self) -> Operator:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._log.close()

    async def _page(self, path: str) -> tuple[int, str]:
        with contextlib.suppress(aiohttp.ClientError):
            async with self._session.get(f"http://127.0.0.1:{self._port}/{path}") as answer:
                return answer.status, await answer.text()
        if self.process.poll() is not None:
            raise RuntimeError(f"the operator has ended, exit code {self.process.returncode}")
        return 0, ""

    async def ready(self) -> bool:
        """Whether it says that it is."""
        return (await self._page("readyz"))[0] == 200

    async def figures(self) -> Counter[str]:
        """Requests by `verb resource code` and looks by `look outcome`."""
        _, text = await self._page("metrics")
        out: Counter[str] = Counter()
        for line in text.splitlines():
            if found := re.match(r"elf_operator_api_requests_total\{(.*)\} (\S+)", line):
                said = dict(re.findall(r'(\w+)="([^"]*)"', found[1]))
                out[f"{said['verb']} {said['resource']} {said['code']}"] = int(float(found[2]))
            elif found := re.match(r'elf_operator_reconciles_total\{outcome="(\w+)"\} (\S+)', line):
                out[f"look {found[1]}"] = int(float(found[2]))
        return out

    @property
    def cpu(self) -> float:
        """CPU seconds until now."""
        return cpu_of(self.process.pid)

    def memory(self, what: str = "VmRSS") -> float:
        """MiB."""
        return memory_of(self.process.pid, what)


def requests(figures: Counter[str]) -> int:
    """All of them."""
    return sum(count for key, count in figures.items() if not key.startswith("look"))


def writes(figures: Counter[str]) -> int:
    """Those that change something."""
    return sum(count for key, count in figures.items() if key.split()[0] in WRITES)


def refusals(figures: Counter[str]) -> int:
    """Answers that are neither 2xx nor `there is none yet`, and looks that failed."""
    codes = {key: count for key, count in figures.items() if not key.startswith("look")}
    bad = sum(n for key, n in codes.items() if key[-3] != "2" and not key.endswith("404"))
    return bad + sum(n for key, n in figures.items() if key.startswith("look") and key != "look done")


# -- the parts --------------------------------------------------------------------------------------------


async def create(ground: Ground, times: int, scale: Scale) -> Table:
    """A job of many pods against a bare client that creates the same pods, in turn."""
    samples: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        samples.setdefault(name, []).append(value)

    async with Operator(ground) as operator:
        await ground.until("the operator is ready", operator.ready)

        async def bare() -> None:
            note("bare", scale.pods / await _bare(ground, scale.pods))
            await ground.clear()

        async def own(turn: int) -> None:
            burnt, before = operator.cpu, await operator.figures()
            began = time.perf_counter()
            await ground.make(f"many-{turn}", scale.pods - MDCS - 1, MDCS)
            await ground.until("every pod is there", lambda: _are(ground, scale.pods))
            note("own", scale.pods / (time.perf_counter() - began))
            await asyncio.sleep(SETTLED_SECONDS)
            note("cpu", (operator.cpu - burnt) / scale.pods * 1000)
            note("requests", requests(await operator.figures() - before))
            await ground.clear()

        for turn in range(times):
            if turn % 2 == 0:
                await bare()
                await own(turn)
            else:
                await own(turn)
                await bare()
    return Table(
        f"A job of {scale.pods:,} pods is made",
        [
            Row("bare client", "pods/s", samples["bare"], "plain requests with the same bodies"),
            Row("operator", "pods/s", samples["own"]),
            Row("· CPU a pod", "ms", samples["cpu"]),
            Row("· requests", "", samples["requests"]),
        ],
        [Ratio.paired("operator / bare client", samples["own"], samples["bare"], RATE)],
    )


async def _are(ground: Ground, wanted: int) -> bool:
    return await ground.count() >= wanted


async def _bare(ground: Ground, pods: int) -> float:
    """Seconds for as many pods of the same size."""
    body = await ground.make("bare", 1, 1)
    await ground.api.request("DELETE", f"{ground.jobs}/bare")
    spec = {**body["spec"], "homes": {"replicas": pods, **NOBODY}}
    job = parse_job({**body, "spec": schema.defaulted(spec)})
    assert job.spec is not None
    manifests = [podbuilder.pod(job, job.spec, Defaults(), Role.HOME, i, 0) for i in range(pods)]
    for manifest in manifests:
        del manifest["metadata"]["ownerReferences"]  # that job is gone
    rest = iter([json.dumps(manifest).encode() for manifest in manifests])
    url, headers = f"{ground.api.server}/{ground.core}/pods", {"Content-Type": "application/json"}

    async def worker() -> None:
        for data in rest:
            async with ground.api.session.post(url, data=data, headers=headers) as answer:
                await answer.read()
                if answer.status != 201:
                    raise RefusedError(answer.status, await answer.text())

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return time.perf_counter() - began


async def death(ground: Ground, times: int, scale: Scale) -> Table:
    """An MDC of a large running job ends; and a home's pod is deleted."""
    calls: dict[str, list[float]] = {"MDC": [], "home": []}
    burnt: dict[str, list[float]] = {"MDC": [], "home": []}
    start_cpu, start_looks = [], []
    async with Puppets(ground), Operator(ground) as operator:
        await ground.until("the operator is ready", operator.ready)
        cpu = operator.cpu
        await ground.make("large", scale.pods - MDCS - 1, MDCS)
        await ground.until("the job runs", ground.all_running, 0.5)
        await asyncio.sleep(SETTLED_SECONDS)
        start_cpu.append(operator.cpu - cpu)
        start_looks.append((await operator.figures())["look done"])
        for turn in range(times):
            for who in ("MDC", "home"):
                before, cpu = await operator.figures(), operator.cpu
                if who == "MDC":
                    await set_phase(ground, f"large-mdc-{turn}-0", "Failed", False, 137)
                    await ground.until("it is replaced", _there(ground, f"large-mdc-{turn}-1"))
                else:
                    old = await ground.api.request("DELETE", f"{ground.core}/pods/large-home-{turn}")
                    uid = old["metadata"]["uid"]
                    await ground.until("it is back", _there(ground, f"large-home-{turn}", uid))
                await ground.until("the job runs", ground.all_running)
                await asyncio.sleep(SETTLED_SECONDS)
                burnt[who].append(operator.cpu - cpu)
                spent = await operator.figures() - before
                calls[who].append(requests(spent))
                print(who, dict(spent), file=sys.stderr)
        memory = operator.memory("VmHWM")
    await ground.clear()
    deaths = [
        row
        for who in calls
        for row in (
            Row(f"death of one {who}: requests", "", calls[who], target=CALLS_OF_A_DEATH),
            Row(f"death of one {who}: CPU", "s", burnt[who], target=CPU_OF_A_DEATH),
        )
    ]
    return Table(
        f"A job of {scale.pods:,} pods",
        [
            Row("begins to run: CPU", "s", start_cpu),
            Row("begins to run: looks at the job", "", start_looks),
            *deaths,
            Row("memory at the peak", "MiB", [memory], target=MEMORY_MIB),
        ],
    )


def _there(ground: Ground, pod: str, not_uid: str = "") -> Callable[[], Awaitable[bool]]:
    async def seen() -> bool:
        found = await ground.api.get(f"{ground.core}/pods/{pod}")
        return found is not None and found["metadata"]["uid"] != not_uid

    return seen


async def start(ground: Ground, times: int, scale: Scale) -> Table:
    """From exec to /readyz with nothing there, and with the pods of two jobs until both were looked at."""
    empty, empty_cpu, memory, ready, looked, cpu, peak = ([] for _ in range(7))
    for _ in range(times):
        async with Operator(ground) as operator:
            await ground.until("the operator is ready", operator.ready, 0.01)
            empty.append(time.perf_counter() - operator.began)
            empty_cpu.append(operator.cpu)
            memory.append(operator.memory())
    async with Puppets(ground):
        async with Operator(ground):
            for name in ("one", "two"):
                await ground.make(name, scale.pods - MDCS - 1, MDCS)
            await ground.until("all pods run", ground.all_running, 0.5)
            await asyncio.sleep(SETTLED_SECONDS)
        for _ in range(times):
            async with Operator(ground) as operator:
                await ground.until("the operator is ready", operator.ready, 0.01)
                ready.append(time.perf_counter() - operator.began)
                await ground.until("both jobs were looked at", lambda: _looked(operator, 2), 0.02)
                looked.append(time.perf_counter() - operator.began)
                await asyncio.sleep(SETTLED_SECONDS)
                cpu.append(operator.cpu)
                peak.append(operator.memory("VmHWM"))
    await ground.clear()
    loaded = f"with {2 * scale.pods:,} pods"
    return Table(
        "The operator starts",
        [
            Row("ready", "s", empty, target=READY_SECONDS),
            Row("· CPU until then", "s", empty_cpu),
            Row("· memory then", "MiB", memory, target=MEMORY_MIB),
            Row(f"{loaded}: ready", "s", ready, target=LOADED_SECONDS),
            Row(f"{loaded}: both jobs were looked at", "s", looked, target=LOADED_SECONDS),
            Row(f"{loaded}: CPU until it is quiet", "s", cpu),
            Row(f"{loaded}: memory at the peak", "MiB", peak, target=MEMORY_MIB),
        ],
    )


async def _looked(operator: Operator, jobs: int) -> bool:
    return (await operator.figures())["look done"] >= jobs


async def storm(ground: Ground, times: int, scale: Scale, idle: bool) -> list[Table]:
    """Many jobs at once until all run; then, where asked, nothing."""
    samples: dict[str, list[float]] = {}
    for _ in range(times):
        async with Puppets(ground), Operator(ground) as operator:
            await ground.until("the operator is ready", operator.ready)
            found = await _all_at_once(ground, operator, scale.jobs)
            if idle:
                found |= await _idle(operator, scale.idle_seconds)
        await ground.clear()
        for name, value in found.items():
            samples.setdefault(name, []).append(value)
    tables = [
        Table(
            f"{scale.jobs} jobs of {PODS_OF_EACH} pods are made at once",
            [
                Row("until all run", "s", samples["took"]),
                Row("refused or failed", "", samples["refused"], target=0),
                Row("requests a job", "", samples["requests"]),
                Row("looks a job", "", samples["looks"]),
                Row("CPU a job", "ms", samples["cpu"]),
                Row("memory at the peak", "MiB", samples["memory"], target=MEMORY_MIB),
            ],
        )
    ]
    if idle:
        rows = [
            Row("writes", "", samples["writes"], target=0),
            Row("reads a second", "1/s", samples["reads"]),
            Row("of a core", "", samples["core"], target=IDLE_CPU),
        ]
        tables.append(Table(f"Idle for {scale.idle_seconds:.0f} s with {scale.jobs} jobs", rows))
    return tables


async def _all_at_once(ground: Ground, operator: Operator, jobs: int) -> dict[str, float]:
    cpu, began = operator.cpu, time.perf_counter()
    await asyncio.gather(*(ground.make(f"job-{i}", PODS_OF_EACH - 4, 3) for i in range(jobs)))
    await ground.until("all jobs run", ground.all_running, 0.5)
    took = time.perf_counter() - began
    await asyncio.sleep(SETTLED_SECONDS)
    figures = await operator.figures()
    print(dict(figures), file=sys.stderr)
    return {
        "took": took,
        "refused": refusals(figures),
        "requests": requests(figures) / jobs,
        "looks": figures["look done"] / jobs,
        "cpu": (operator.cpu - cpu) * 1000 / jobs,
        "memory": operator.memory("VmHWM"),
    }


async def _idle(operator: Operator, seconds: float) -> dict[str, float]:
    before, cpu, began = await operator.figures(), operator.cpu, time.perf_counter()
    await asyncio.sleep(seconds)
    took, burnt = time.perf_counter() - began, operator.cpu - cpu
    spent = await operator.figures() - before
    print(dict(spent), file=sys.stderr)
    return {
        "writes": writes(spent),
        "reads": (requests(spent) - writes(spent)) / took,
        "core": burnt / took,
    }


# -- around it --------------------------------------------------------------------------------------------


PARTS: Mapping[str, Callable[[Ground, int, Scale], Awaitable[Table]]] = {
    "create": create,
    "death": death,
    "start": start,
}
ALL = (*PARTS, "storm", "idle")


def main() -> None:
    options = harness.parser(__doc__, rounds=3)
    options.add_argument("--context", required=True, help="of the kubeconfig: a cluster that may be changed")
    options.add_argument(
        "--only", nargs="+", choices=ALL, default=list(ALL), metavar="PART", help=f"of {', '.join(ALL)}"
    )
    given = options.parse_args()
    scale, rounds = (QUICK, 1) if given.quick else (Scale(), given.rounds)
    tables = asyncio.run(measured(given.context, given.only, rounds, scale))
    harness.finish("operating", tables, given.quick or set(given.only) != set(ALL))


async def measured(context: str, parts: Sequence[str], rounds: int, scale: Scale) -> list[Table]:
    """The tables of these parts."""
    tables: list[Table] = []
    async with connect(context) as api, _ground(api, context) as ground:
        tables += [await work(ground, rounds, scale) for part, work in PARTS.items() if part in parts]
        if {"storm", "idle"} & set(parts):
            tables += await storm(ground, rounds, scale, "idle" in parts)
    return tables


@contextlib.asynccontextmanager
async def _ground(api: Api, context: str) -> AsyncIterator[Ground]:
    """The CRD, and a namespace for as long as it takes."""
    crds = "apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    await api.unless(409, "POST", crds, yaml.safe_load((ROOT / "manifests" / "crd.yaml").read_text()))
    name = f"elf-bench-{uuid.uuid4().hex[:6]}"
    with tempfile.TemporaryDirectory(prefix="elf-bench-") as folder:
        ground = Ground(api, name, _kubeconfig(pathlib.Path(folder, "kubeconfig"), context))
        await ground.until("the CRD is served", lambda: api.unless(404, "GET", JOBS))
        await api.request("POST", "api/v1/namespaces", {"metadata": {"name": name}})
        try:
            account = f"{ground.core}/serviceaccounts/default"
            await ground.until("the namespace is set up", lambda: api.get(account))
            await api.request("POST", f"{ground.core}/secrets", {"metadata": {"name": MASTER_KEY}})
            yield ground
        except BaseException:
            print(_end_of(pathlib.Path(folder, "operator.log")), file=sys.stderr)
            raise
        finally:
            await api.unless(404, "DELETE", f"api/v1/namespaces/{name}")


def _end_of(log: pathlib.Path) -> str:
    return "\n".join(log.read_text().splitlines()[-20:]) if log.exists() else ""


def _kubeconfig(path: pathlib.Path, context: str) -> pathlib.Path:
    """The user's kubeconfig with another current context; files that it names stay where they are."""
    found = os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
    first = pathlib.Path(next(name for name in found.split(os.pathsep) if name))
    document = yaml.safe_load(first.read_text())
    for entry in (*document["clusters"], *document["users"]):
        about = entry.get("cluster") or entry.get("user") or {}
        for key in ("certificate-authority", "client-certificate", "client-key", "tokenFile"):
            if key in about:
                about[key] = str(first.parent / about[key])
    path.touch(0o600)
    path.write_text(yaml.safe_dump({**document, "current-context": context}))
    return path


if __name__ == "__main__":
    main()
