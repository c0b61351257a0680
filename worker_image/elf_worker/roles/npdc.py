"""The NPDC's process: the protocol on the event loop, the model in one thread beside it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from elf_worker import boards
from elf_worker.aggregation.effects import Effect, Initialise, Restore, Step, Stop
from elf_worker.aggregation.northpole import NorthPole, Rules, Snapshot
from elf_worker.contract import JobConfig, Phase, format_ids
from elf_worker.messages import Finish
from elf_worker.roles import checkpoints
from elf_worker.roles.environment import Environment
from elf_worker.roles.shell import Shell

if TYPE_CHECKING:
    from elf_worker.roles.trainer import Trainer

_log = logging.getLogger(__name__)
NAMED = 20
"""Homes named in progress; more are counted."""
RATE_ROUNDS = 50
LAST_WORD_SECONDS = 60.0


class NpdcShell(Shell):
    """One incarnation of the NPDC over TCP."""

    def __init__(self, env: Environment, board: boards.Board) -> None:
        config = env.job
        self._rules = Rules(
            job=config.uid,
            homes=config.homes,
            quorum=config.quorum,
            deadline=config.deadline_seconds,
            silence=config.silence_seconds,
            epoch=env.incarnation,
            checkpoint_round=checkpoints.rounds_in(env.checkpoint, config.uid),
        )
        self.pole = NorthPole(self._rules)
        super().__init__(self.pole, env.address, config.silence_seconds)
        self._env = env
        self._config: JobConfig = config
        self._board = board
        self._thread = ThreadPoolExecutor(1, "model")
        self._trainer: Trainer | None = None
        self._closings: deque[float] = deque(maxlen=RATE_ROUNDS)
        self._served: dict[int, int] = {}
        self._digest = ""
        self._published: dict[str, Any] = {}

    async def train(self) -> Stop:
        """Until the job has ended and the board knows."""
        await self.listen()
        self.spawn(self._follow_wiring())
        publisher = self.spawn(self._publish_changes())
        self.spawn(self._open_model())
        stop = await self.run()
        publisher.cancel()
        if stop.outcome != "Fenced":
            await self._say_last_word()
        self._thread.shutdown(wait=False, cancel_futures=True)
        return stop

    # -- the model ----------------------------------------------------------------------------------------

    async def _open_model(self) -> None:
        """Import torch and build the task while children are already dialling in."""
        try:
            self._trainer = await self._in_thread(self._make_trainer)
        except ValueError as error:
            self._fail("InvalidSpec", str(error))
            return
        _log.info("model is built: %s", self._config.entrypoint)

    def _make_trainer(self) -> Trainer:
        from elf_worker.roles.trainer import Trainer  # torch takes seconds to import

        return Trainer(self._config, self._rules.epoch, self._env.checkpoint)

    def perform_own(self, effect: Effect) -> None:
        """Work on the model goes to its thread; the machine hears of the outcome."""
        match effect:
            case Initialise():
                self.spawn(self._load(None))
            case Restore():
                self.spawn(self._load(effect.payload))
            case Step():
                self.spawn(self._step(effect))
            case _:
                raise NotImplementedError(effect)

    async def _load(self, payload: Any) -> None:
        trainer = await self._await_trainer()
        if payload is None:
            snapshot = await self._guarded(trainer.initialise)
        else:
            try:
                snapshot = await self._in_thread(trainer.restore, payload)
            except Exception as error:
                _log.warning("a state copy is of no use: %s", error)
                self.perform(self.pole.restore_failed(self.now()))
                return
        if snapshot is None:
            return
        _log.info("training goes on after %d rounds", snapshot.stamp.round)
        await self.open_ready_port()
        await self._go_on(snapshot)

    async def _await_trainer(self) -> Trainer:
        while self._trainer is None:
            await asyncio.sleep(0.01)
        return self._trainer

    async def _step(self, step: Step) -> None:
        assert self._trainer is not None and self.pole.last_round is not None
        everyone = not self.pole.last_round.missing
        snapshot = await self._guarded(self._trainer.step, step.stamp, step.total, step.weight, everyone)
        if snapshot is None:
            return
        self._closings.append(self.now())
        for index, count in self.pole.last_round.by_mdc.items():
            self._served[index] = self._served.get(index, 0) + count
        await self._go_on(snapshot)

    async def _go_on(self, snapshot: Snapshot) -> None:
        """Evaluate if it is time, then publish the next round or end."""
        trainer = self._trainer
        assert trainer is not None
        if trainer.due() and trainer.record.evaluated_round != snapshot.stamp.round:
            if await self._guarded(trainer.evaluate) is None:
                return
        try:
            over = trainer.finished()
        except ValueError as error:
            self._fail("InvalidSpec", str(error))
            return
        finish = None
        if over is not None:
            finish = await self._conclude(trainer, snapshot, over)
        self.perform(self.pole.ready(snapshot, self.now(), finish))

    async def _conclude(self, trainer: Trainer, snapshot: Snapshot, over: str) -> Finish:
        self._digest = await self._in_thread(trainer.digest)
        await self._in_thread(trainer.save_checkpoint, snapshot)
        if self._env.model_out:
            await self._in_thread(trainer.save_model, self._env.model_out)
        _log.info("complete: %s; model %s", over, self._digest)
        return Finish(Phase.COMPLETE, over)

    async def _guarded(self, work: Any, *args: Any) -> Any:
        """The result of work in the model's thread, or None when it failed for good."""
        try:
            return await self._in_thread(work, *args)
        except ValueError as error:
            self._fail("TaskFailed", str(error))
        return None

    async def _in_thread(self, work: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    def _fail(self, reason: str, message: str) -> None:
        _log.error("%s: %s", reason, message)
        self.perform(self.pole.end(Finish(reason, message), self.now()))

    # -- the board ----------------------------------------------------------------------------------------

    async def _follow_wiring(self) -> None:
        async for wiring in self._board.watch():
            _log.info(
                "wiring %d: %s",
                wiring.version,
                ", ".join(
                    f"mdc {i}.{s.incarnation} homes {format_ids(s.homes)}" for i, s in wiring.mdcs.items()
                ),
            )
            self.perform(self.pole.rewire(wiring, self.now()))

    async def _publish_changes(self) -> None:
        while True:
            with contextlib.suppress(boards.BoardError):
                await self._publish()
            await asyncio.sleep(self._board.interval)

    async def _say_last_word(self) -> None:
        """The outcome must be known before this process ends, or a successor would train again."""
        async with asyncio.timeout(LAST_WORD_SECONDS):
            while True:
                try:
                    return await self._publish()
                except boards.BoardError:
                    await asyncio.sleep(self._board.interval)

    async def _publish(self) -> None:
        if self.pole.phase in (Phase.STARTING, Phase.RECOVERING):
            return  # what the predecessor said is still the newest there is
        progress = self.progress()
        if progress != self._published:
            await self._board.publish(progress)
            self._published = progress

    def progress(self) -> dict[str, Any]:
        """`status.training`: small, whatever the number of homes."""
        pole, record = self.pole, self._trainer.record if self._trainer else None
        metrics = record.metrics if record else {}
        shown = self._config.target_metric or next(iter(sorted(metrics, key=lambda k: k != "f1")), None)
        out: dict[str, Any] = {
            "phase": str(pole.phase),
            "incarnation": self._rules.epoch,
            "round": pole.round,
            "metrics": {name: f"{value:.4f}" for name, value in sorted(metrics.items())},
            "exact": record.exact if record else True,
            "serving": [{"mdc": i, "homes": n} for i, n in sorted(pole.serving().items())],
            "counted": [{"mdc": i, "gradients": n} for i, n in sorted(self._served.items())],
            "unreachable": [
                {"mdc": i, "incarnation": k, "uid": uid} for i, k, uid in pole.unreachable(self.now())
            ],
            "refused": [{"reason": r, "count": n} for r, n in sorted(pole.refused.items())],
        }
        if shown is not None and shown in metrics:
            out["metric"] = f"{shown} {metrics[shown]:.4f}"
        if record is not None and record.loss is not None:
            out["loss"] = f"{record.loss:.6f}"
        if (last := pole.last_round) is not None and last.missing:
            out["missing"] = {"count": len(last.missing), "homes": format_ids(last.missing[:NAMED])}
        if len(self._closings) > 1:
            rate = (len(self._closings) - 1) / (self._closings[-1] - self._closings[0])
            out["roundsPerSecond"] = f"{rate:.2f}"
        if self._digest:
            out["modelDigest"] = self._digest
        return out | self._ending()

    def _ending(self) -> dict[str, Any]:
        finish = self.pole.finish
        if finish is None:
            return {}
        return {"reason": finish.outcome, "message": finish.message[:1000]}


async def run(env: Environment) -> Stop:
    """Train until the job has ended, or a successor has taken over."""
    async with boards.open_board(env.board) as board:
        return await NpdcShell(env, board).train()
