"""Runs one job on this machine to its end: the operator's loop, faults on request, an account."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from elf_cli.figures import read_history
from elf_cli.local import processes
from elf_cli.local.account import Account
from elf_cli.local.cluster import LocalCluster
from elf_cli.local.faults import Kill
from elf_cli.local.scaling import Scale
from elf_operator import names, status
from elf_operator.builders import Defaults
from elf_operator.dashboard.gallery import Gallery, Overseen
from elf_operator.observation import Observation
from elf_operator.plans import Event
from elf_operator.progress import acted_on
from elf_operator.reconcile import reconcile
from elf_operator.spec import Job
from elf_worker.contract import Role
from elf_worker.roles.chronicle import HISTORY_FILE, Chronicle

POLL_SECONDS = 0.05
LEAVE_SECONDS = 5.0
"""How long pods may take to leave by themselves when the job has ended."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    state: str
    reason: str
    message: str
    status: Mapping[str, Any]
    account: Account

    @property
    def exit_code(self) -> int:
        """0: complete; 2: the job as written could not have worked; 1: it failed."""
        if self.state == "Complete":
            return 0
        stillborn = not (self.status.get("training") or {}).get("round")
        return (
            2 if self.reason == "InvalidSpec" or (self.reason != "ReplacementsExhausted" and stillborn) else 1
        )


class View(Protocol):
    """Where a run is shown."""

    def update(self, cluster: LocalCluster) -> None:
        """Something may have changed."""

    def say(self, text: str) -> None:
        """One line that stays."""


@dataclass
class Runner:
    """One run of one job. `view` is told of everything; kills and scales happen when their round is done."""

    job: Job
    cluster: LocalCluster
    view: View
    kills: Sequence[Kill] = ()
    scales: Sequence[Scale] = ()
    gallery: Gallery | None = None
    """Where the run is shown too, if in a browser."""
    defaults: Defaults = field(default_factory=Defaults)
    account: Account = field(default_factory=lambda: Account(time.time()))
    _pending: list[Kill] = field(default_factory=list)
    _edits: list[Scale] = field(default_factory=list)
    _known_dead: set[str] = field(default_factory=set)

    async def run(self) -> Outcome:
        """Until the job has ended. Leaves no process behind, whatever happens."""
        self._pending = sorted(self.kills, key=lambda kill: kill.round)
        self._edits = sorted(self.scales, key=lambda scale: scale.round)
        self.cluster.on_event = self._show_event
        self.view.say("loading PyTorch")
        await processes.preload()
        try:
            async with asyncio.TaskGroup() as group:
                watcher = group.create_task(self._watch())
                await self._operate()
                watcher.cancel()
            await self._let_leave()
        finally:
            await self.cluster.close()
        self._observe_progress()
        end = self._end()
        assert end is not None
        return Outcome(end[0], end[1], end[2], self.cluster.status, self.account)

    async def _operate(self) -> None:
        """The operator's loop, woken by the cluster instead of by watches."""
        pause: float | None = None
        cluster = Overseen(self.cluster, self.gallery) if self.gallery else self.cluster
        while self._end() is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self.cluster.woken.wait()
            self.cluster.woken.clear()
            where = (self.job.namespace, self.job.name)
            decided = await reconcile(cluster, *where, self.defaults, time.time)
            pause = decided.again_after if decided else None
            self._note_replacements()
            self.view.update(self.cluster)

    async def _watch(self) -> None:
        """Follow the NPDC's progress and the processes' fates; wake the operator where it matters."""
        seen: tuple[Any, ...] = ()
        while True:
            training = self.cluster.training()
            mark = acted_on(training)
            if mark != seen:
                seen = mark
                self.cluster.woken.set()
            self._observe_progress()
            self._do_scales(int(training.get("round", 0)))
            self._do_kills(int(training.get("round", 0)))
            self._find_dead()
            self.view.update(self.cluster)
            await asyncio.sleep(POLL_SECONDS)

    def _observe_progress(self) -> None:
        self.account.sample(time.time(), self.cluster.training())
        if self.gallery:
            self.gallery.progress({**self.cluster.body, "status": self.cluster.status})

    def _do_scales(self, round_: int) -> None:
        while self._edits and self._edits[0].round <= round_:
            scale = self._edits.pop(0)
            self.cluster.scale(scale)
            self.view.say(f"round {round_}: {scale.count} {scale.what} are wanted (--scale {scale.text})")

    def _do_kills(self, round_: int) -> None:
        while self._pending and self._pending[0].round <= round_:
            kill = self._pending.pop(0)
            pods = [p for p in self.cluster.pods.values() if _is(p.manifest, kill) and not p.deleting]
            if not pods or pods[-1].process is None:
                self._pending.insert(0, kill)  # it is being replaced: as soon as there is one
                return
            pods[-1].kill()
            self._known_dead.add(f"{pods[-1].uid}/{pods[-1].restarts}")
            self.account.died(time.time(), pods[-1].name, f"--kill {kill.text}", round_)
            self.view.say(f"round {round_}: killed {pods[-1].name} (--kill {kill.text})")

    def _find_dead(self) -> None:
        for pod in self.cluster.pods.values():
            life = f"{pod.uid}/{pod.restarts}"
            if pod.exit_code and not pod.deleting and life not in self._known_dead:
                self._known_dead.add(life)
                round_ = int(self.cluster.training().get("round", 0))
                self.account.died(pod.exited or time.time(), pod.name, f"exit code {pod.exit_code}", round_)
                self.view.say(f"round {round_}: {pod.name} ended with exit code {pod.exit_code}")

    def _note_replacements(self) -> None:
        seen = Observation(job=self.job, status=self.cluster.status)
        for entry in status.previous_replacements(seen):
            stem, _, incarnation = entry.pod.rpartition("-")
            self.account.replaced(entry, f"{stem}-{int(incarnation) + 1}")

    def _show_event(self, event: Event) -> None:
        if event.reason != "Trained":
            self.view.say(event.message)

    def _end(self) -> tuple[str, str, str] | None:
        for kind in ("Complete", "Failed"):
            if held := status.holds(self.cluster.status, kind):
                return kind, held["reason"], held["message"]
        return None

    async def _let_leave(self) -> None:
        """Pods leave by themselves when the NPDC says so; the rest is closed by the caller."""
        deadline = time.time() + LEAVE_SECONDS
        while time.time() < deadline and any(p.phase == "Running" for p in self.cluster.pods.values()):
            await asyncio.sleep(POLL_SECONDS)


def _is(manifest: Mapping[str, Any], kill: Kill) -> bool:
    labels = manifest["metadata"]["labels"]
    index = 0 if kill.role is Role.NPDC else kill.index
    return labels[names.LABEL_ROLE] == kill.role and int(labels[names.LABEL_INDEX]) == index


def make_report(job: Job, outcome: Outcome, directory: pathlib.Path) -> dict[str, Any]:
    """The run as plain data, for `--report`. `directory` is the folder of the run."""
    state = outcome.status
    training = state.get("training") or {}
    measured = [s["metrics"] for s in outcome.account.samples if s["metrics"]]
    return {
        "job": job.name,
        "state": outcome.state,
        "reason": outcome.reason,
        "message": outcome.message,
        "seconds": outcome.account.samples[-1]["seconds"] if outcome.account.samples else 0.0,
        "rounds": training.get("round", 0),
        "loss": float(training["loss"]) if "loss" in training else None,
        "metrics": measured[-1] if measured else {},
        "modelDigest": training.get("modelDigest"),
        "exact": training.get("exact"),
        "replaced": state.get("replaced", 0),
        "replacements": outcome.account.rows(),
        "gradientsByMdc": {str(c["mdc"]): c["gradients"] for c in training.get("counted", [])},
        "history": outcome.account.samples,
        **_chronicle(directory),
    }


def _chronicle(directory: pathlib.Path) -> dict[str, Any]:
    """Statistics, and one record a round: what the NPDC has left in the folder."""
    try:
        return {
            "statistics": Chronicle.saved(directory)[0],
            "perRound": read_history(directory / HISTORY_FILE),
            "population": Chronicle.saved(directory)[1].population,
        }
    except (OSError, ValueError, KeyError):
        return {"statistics": {}, "perRound": [], "population": []}


def default_directory() -> pathlib.Path:
    """Where logs, wiring and volumes of a run go: `./runs/<time>-<pid>`."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return pathlib.Path("runs", f"{stamp}-{os.getpid()}")
