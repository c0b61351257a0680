"""Random faults to one job for as long as --endure says: it makes progress, and no process grows."""

from __future__ import annotations

import json
import random
import signal
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from e2e.cluster import Kubectl, wait
from e2e.faults import Breaker, Patient

pytestmark = [pytest.mark.e2e, pytest.mark.exclusive, pytest.mark.timeout(0)]
SEED = 20
PROGRESS_SECONDS = 150
"""After an outage of the API server the cluster itself takes its time."""
YOUNG_SECONDS = 120
"""A process that is younger may still grow: imports, buffers, the allocator's arenas."""
GROWTH = 1.10
SLACK_MIB = 4.0
_RSS = "grep -h VmRSS /proc/[0-9]*/status | sort -k2 -n | tail -1"


class Ordeal:
    """Faults drawn at random, and the memory of every process meanwhile."""

    def __init__(self, patient: Patient, system: Kubectl, breaker: Breaker) -> None:
        self.patient, self.system, self.breaker = patient, system, breaker
        self.random = random.Random(SEED)
        self.began = time.monotonic()
        self.done: dict[str, int] = defaultdict(int)
        self.memory: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
        """(role, pod) → (seconds since its first sample, MiB)."""
        self._first: dict[str, float] = {}
        self.slowest = ("", 0.0)
        self.faults: list[tuple[int, str, Callable[[], None]]] = [
            (6, "MDC killed", lambda: patient.signal("mdc", self.an_mdc(), signal.SIGKILL)),
            (4, "MDC frozen", lambda: patient.signal("mdc", self.an_mdc(), signal.SIGSTOP)),
            (3, "MDC deleted", lambda: self.delete("mdc", self.an_mdc())),
            (3, "NPDC killed", lambda: patient.signal("npdc", 0, signal.SIGKILL)),
            (2, "NPDC frozen", lambda: patient.signal("npdc", 0, signal.SIGSTOP)),
            (2, "home killed", lambda: patient.signal("home", self.random.randrange(2), signal.SIGKILL)),
            (2, "MDC cut off", self.partition),
            (2, "MDCs scaled", lambda: self.scale("miniDataCenters", 2, 3, 4)),
            (1, "homes scaled", lambda: self.scale("homes", 9, 12, 15)),
            (1, "operator killed", self.kill_operator),
            (1, "API server away", self.api_outage),
        ]

    def an_mdc(self) -> int:
        return self.random.choice(sorted(self.patient.serving()))

    def delete(self, role: str, index: int) -> None:
        name = self.patient.pod(role, index)["metadata"]["name"]
        self.patient.kubectl("delete", "pod", "--force", "--grace-period=0", "--wait=false", name)

    def partition(self) -> None:
        address = self.patient.pod("mdc", self.an_mdc())["status"]["podIP"]
        self.breaker("partition", address)
        time.sleep(self.random.uniform(1, 15))  # how long it lasts is what is tested
        self.breaker("heal", address)

    def scale(self, what: str, *replicas: int) -> None:
        patch = {"spec": {what: {"replicas": self.random.choice(replicas)}}}
        self.patient.kubectl("patch", "etj", self.patient.job, "--type=merge", "-p", json.dumps(patch))

    def kill_operator(self) -> None:
        self.check_operator()
        self.system(
            *("delete", "pod", "--force", "--grace-period=0", "--wait=false"),
            *("-l", "app.kubernetes.io/name=elf-operator"),
        )

    def api_outage(self) -> None:
        self.breaker("api-down")
        time.sleep(self.random.uniform(3, 15))  # how long it lasts is what is tested
        self.breaker("api-up")

    def turn(self) -> None:
        """One fault; then two more rounds are done within the time they may take."""
        [(_, what, fault)] = self.random.choices(self.faults, [weight for weight, _, _ in self.faults])
        before, began = self.patient.round(), time.monotonic()
        fault()
        self.done[what] += 1
        wait(f"progress after {what}", lambda: self.patient.round() >= before + 2, PROGRESS_SECONDS)
        took = time.monotonic() - began
        self.slowest = max(self.slowest, (what, took), key=lambda entry: entry[1])
        # Most faults come when the last one is mended, some before.
        if self.random.random() < 0.8:
            self.patient.wait_until_well(PROGRESS_SECONDS)
        self.weigh()

    def weigh(self) -> None:
        """The resident memory of every process of the job, and of the operator."""
        for pod in self.patient.kubectl.pods(self.patient.job):
            name = pod["metadata"]["name"]
            role = pod["metadata"]["labels"]["northpole.dev/role"]
            done = self.patient.kubectl.run("exec", name, "-c", "elf", "--", "sh", "-c", _RSS)
            if done.returncode == 0 and done.stdout:
                uid = pod["metadata"]["uid"] + str(pod["status"]["containerStatuses"][0]["restartCount"])
                self._note(role, uid, float(done.stdout.split()[1]) / 1024)
        for name, figures in self.operators():
            rss = figures["process_resident_memory_bytes"].samples[0].value
            self._note("operator", name, rss / 2**20)

    def _note(self, role: str, process: str, mebibytes: float) -> None:
        now = time.monotonic()
        self.memory[role, process].append((now - self._first.setdefault(process, now), mebibytes))

    def operators(self) -> list[tuple[str, dict[str, Any]]]:
        """(pod, metrics) of each operator that answers."""
        out = []
        for pod in self.system.get("pods", "-l", "app.kubernetes.io/name=elf-operator")["items"]:
            name = pod["metadata"]["name"]
            path = f"/api/v1/namespaces/elf-system/pods/{name}:8080/proxy/metrics"
            done = self.system.run("get", "--raw", path)
            if done.returncode == 0:
                out.append((name, {f.name: f for f in text_string_to_metric_families(done.stdout)}))
        return out

    def check_operator(self) -> None:
        """It has met no error that it was not made for."""
        for name, figures in self.operators():
            bugs = [s for s in figures["elf_operator_reconciles"].samples if s.labels.get("outcome") == "bug"]
            logged = [s for s in figures["elf_operator_errors_logged"].samples if s.name.endswith("_total")]
            found = [(s.name, s.labels, s.value) for s in (*bugs, *logged) if s.value]
            assert not found, f"{name}: {found}"

    def grown(self) -> list[str]:
        """Processes that hold more in the last third of their time than in the first."""
        out = []
        for (role, process), samples in self.memory.items():
            old = [(age, size) for age, size in samples if age >= YOUNG_SECONDS]
            if len(old) < 6:
                continue
            third = len(old) // 3
            first = statistics.median(size for _, size in old[:third])
            last = statistics.median(size for _, size in old[-third:])
            print(f"{role:9} {process[:8]} {old[-1][0]:6.0f} s  {first:6.1f} → {last:6.1f} MiB")
            if last > first * GROWTH + SLACK_MIB:
                out.append(f"{role} {process}: {first:.1f} MiB, later {last:.1f} MiB")
        return out


def test_random_faults(
    patient: Patient, operator: Kubectl, breaker: Breaker, request: pytest.FixtureRequest
) -> None:
    seconds = request.config.getoption("--endure")
    ordeal = Ordeal(patient, operator, breaker)
    while time.monotonic() < ordeal.began + seconds:
        ordeal.turn()
        print(
            f"{time.monotonic() - ordeal.began:6.0f} s  round {patient.round():6}  {dict(ordeal.done)}",
            flush=True,
        )
    patient.wait_until_well(PROGRESS_SECONDS)
    ordeal.check_operator()
    print(f"\n{sum(ordeal.done.values())} faults: {dict(ordeal.done)}; {patient.round()} rounds")
    print(f"slowest: two rounds took {ordeal.slowest[1]:.0f} s after {ordeal.slowest[0]}")
    assert not (found := ordeal.grown()), found
