"""Faults that happen to a running job, and what is seen of its recovery."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any, ClassVar

from e2e.cluster import Kubectl, wait

OPEN: dict[str, Any] = {"spec": {"shareProcessNamespace": True}}
"""Template of pods whose process can be sent signals from a second one in its pod: alone, it would be PID 1,
which no signal from inside reaches."""
ENDLESS: dict[str, Any] = {
    "rounds": 1000000,
    "target": None,
    "evaluateEvery": 1000,
    "homes": {"replicas": 12, "perPod": 6, "template": OPEN},
    "miniDataCenters": {"replicas": 3, "template": OPEN},
    "northPole": {"template": OPEN},
    "failurePolicy": {"maxReplacements": 10000},
}
"""A job that is well until something happens to it, however often."""
_SIGNAL = """
import os, sys
for entry in filter(str.isdecimal, os.listdir("/proc")):
    if b"elf_worker" in open(f"/proc/{entry}/cmdline", "rb").read() and int(entry) != os.getpid():
        os.kill(int(entry), int(sys.argv[1]))
"""


class Breaker:
    """The program given by --breaker, and a memory of what is still broken."""

    UNDO: ClassVar = {
        "node-down": "node-up",
        "partition": "heal",
        "api-down": "api-up",
        "policies off": "policies on",
    }

    def __init__(self, program: str) -> None:
        self._program = program
        self._broken: list[tuple[str, ...]] = []

    def __call__(self, verb: str, *what: str) -> None:
        subprocess.run([self._program, *verb.split(), *what], check=True, capture_output=True, timeout=120)
        if verb in self.UNDO:
            self._broken.append((self.UNDO[verb], *what))
        elif (verb, *what) in self._broken:
            self._broken.remove((verb, *what))

    def mend(self) -> None:
        """Whatever is still broken."""
        for verb, *what in list(self._broken):
            self(verb, *what)


class Patient:
    """A running job to which things are done."""

    def __init__(self, kubectl: Kubectl, job: str) -> None:
        self.kubectl, self.job = kubectl, job

    def look(self) -> dict[str, Any]:
        """The status; empty while the API server is away."""
        return self.kubectl.status(self.job)

    def round(self) -> int:
        """Rounds done; -1 while nobody can tell."""
        return int(self.look().get("training", {}).get("round", -1))

    def serving(self) -> dict[int, tuple[int, int]]:
        """MDC → (incarnation, homes) of those that the NPDC hears."""
        said = self.look().get("training", {}).get("serving", [])
        return {entry["mdc"]: (entry["incarnation"], entry["homes"]) for entry in said}

    def well(self) -> bool:
        """Every MDC has homes, and every home an MDC."""
        status = self.look()
        homes = [entry["homes"] for entry in status.get("training", {}).get("serving", [])]
        mdcs = status.get("miniDataCenters", {}).get("desired")
        there = len([count for count in homes if count]) == mdcs
        return status.get("state") == "Running" and there and sum(homes) == status["homes"]["desired"]

    def wait_until_well(self, seconds: float = 180) -> None:
        wait("every data center serves", self.well, seconds)

    def pod(self, role: str, index: int = 0) -> dict[str, Any]:
        """The newest pod of a slot."""
        pods = [
            p
            for p in self.kubectl.pods(self.job, role)
            if p["metadata"]["labels"]["northpole.dev/index"] == str(index)
            and not p["metadata"].get("deletionTimestamp")
        ]
        return max(pods, key=lambda p: int(p["metadata"]["labels"]["northpole.dev/incarnation"]))

    def signal(self, role: str, index: int, number: int) -> None:
        """Send a signal to the process in a pod made by OPEN."""
        name = self.pod(role, index)["metadata"]["name"]
        self.kubectl("exec", name, "-c", "elf", "--", "python3", "-S", "-c", _SIGNAL, str(number))

    def homes(self) -> dict[str, tuple[str, int]]:
        """Name → (UID, restarts) of the homes' pods."""
        return {
            pod["metadata"]["name"]: (
                pod["metadata"]["uid"],
                sum(c["restartCount"] for c in pod["status"].get("containerStatuses", ())),
            )
            for pod in self.kubectl.pods(self.job, "home")
        }

    def timed(self, fault: Callable[[], None], over: Callable[[], bool], seconds: float = 180) -> float:
        """Seconds from a fault until `over`."""
        began = time.monotonic()
        fault()
        wait("the job has recovered", over, seconds)
        return time.monotonic() - began


def show(what: str, took: list[float]) -> None:
    row = " ".join(f"{seconds:5.1f}" for seconds in took)
    print(f"\n{what:46} median {statistics.median(took):5.1f} s of {row}")


def replaced(patient: Patient, index: int, incarnation: int, round_: int) -> bool:
    """A later incarnation serves homes, and a whole round has been done since."""
    now, homes = patient.serving().get(index, (-1, 0))
    return now > incarnation and homes > 0 and patient.round() >= round_ + 2
