"""The NPDC's process: the protocol on the event loop, the model in one thread beside it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from elf_worker import boards, statistics
from elf_worker.aggregation.effects import Effect, Initialise, Restore, Step, Stop
from elf_worker.aggregation.northpole import NorthPole, RoundLog, Rules, Snapshot
from elf_worker.contract import FIGURES_PORT, JobConfig, Phase, format_ids
from elf_worker.messages import Finish
from elf_worker.roles import checkpoints, delivery, tracing
from elf_worker.roles.adder import Adder
from elf_worker.roles.chronicle import Chronicle
from elf_worker.roles.desk import Desk
from elf_worker.roles.environment import Environment
from elf_worker.roles.publisher import Publisher
from elf_worker.roles.shell import TICK_SECONDS, Shell
from elf_worker.roles.window import BadQueryError, Query, Window
from elf_worker.statistics.builtin import MAX_WATCHED

if TYPE_CHECKING:
    from elf_worker.roles.trainer import Trainer

_log = logging.getLogger(__name__)
NAMED = 20
"""Homes named in progress; more are counted."""
SHOWN_CHANGES = 20
"""Changes of the number of homes in progress; the report has all."""
RATE_ROUNDS = 50
STATISTICS_SECONDS = 1.0
"""How long, at least, statistics in the folder stay as they are; history is added to more often."""
KEEP_SECONDS = 0.02
"""How often, at most, MDCs get a copy of the state. What an NPDC that dies takes with it is done again."""
TELL_SECONDS = 10.0
"""How often, at most, the log says how training goes."""
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
            node=env.node,
            checkpoint_round=checkpoints.rounds_in(env.checkpoint, config.uid),
            straggler_factor=config.straggler_factor,
        )
        self._bad_statistic = ""
        try:
            product = statistics.load(config.statistics)
        except statistics.StatisticError as error:
            self._bad_statistic = str(error)
            product = statistics.built_in()
        self._product = product
        self.chronicle = Chronicle(product, env.history)
        self._asked_homes: deque[int] = deque(maxlen=MAX_WATCHED)
        adder = Adder()
        self.pole = NorthPole(self._rules, product, adder)
        super().__init__(self.pole, env, config.homes, adder)
        self._env = env
        self._config: JobConfig = config
        self._board = board
        self._desk = Desk("model")
        self._trainer: Trainer | None = None
        self._closings: deque[float] = deque(maxlen=RATE_ROUNDS)
        self._served: dict[int, int] = {}
        self._tracer = tracing.open_tracer("npdc", config.job)
        self._span: tracing.Span | None = None
        self._digest = ""
        self._trial: asyncio.Task[None] | None = None
        self._undelivered = ""
        """Why the folder for the model cannot be written, as last seen."""
        self._publisher = Publisher(board, self.progress)
        self._outcome: dict[str, Any] = {}
        """How the job ends, from when the board is to know it until the machine does."""
        self._saved_at = -math.inf
        self._kept_at = -math.inf
        self._told_at = -math.inf

    async def train(self) -> Stop:
        """Until the job has ended and the board knows."""
        await self.listen()
        window = Window(self._figures, self._pages(), self._env.figures_tokens, self.showing)
        window.open(self._env.address, FIGURES_PORT)
        self.chronicle.announce(f"http://{self._env.address}:{FIGURES_PORT}")
        self.spawn(self._follow_wiring())
        self.spawn(self._publish_changes())
        self.spawn(self._open_model())
        stop = await self.run()
        window.close()
        await self._save()
        if stop.outcome != "Fenced":
            await self._say_last_word()
        await asyncio.to_thread(self._tracer.close)  # last: a collector that is away takes its time
        self._desk.close()
        return stop

    # -- the model ----------------------------------------------------------------------------------------

    async def _open_model(self) -> None:
        """Import torch and build the task while children are already dialling in."""
        if self._bad_statistic:
            self._fail("InvalidSpec", self._bad_statistic)
            return
        try:
            self._trainer = await self._at_desk(self._make_trainer)
        except ValueError as error:
            self._fail("InvalidSpec", str(error))
            return
        _log.info("model is built: %s", self._config.entrypoint)
        if self._env.output:
            self._trial = self.spawn(self._try_output())

    def _make_trainer(self) -> Trainer:
        from elf_worker.roles.trainer import Trainer  # torch takes seconds to import

        trainer = Trainer(self._config, self._rules.epoch, self._env.checkpoint)
        gc.freeze()  # what torch has imported stays: looking through it takes tenths of a second
        return trainer

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
                snapshot = await self._at_desk(trainer.restore, payload)
            except Exception as error:
                _log.warning("a state copy is of no use: %s", error)
                self.perform(self.pole.restore_failed(self.now()))
                return
        if snapshot is None:
            return
        _log.info("training goes on after %d rounds", snapshot.stamp.round)
        self.chronicle.restore(trainer.statistics)
        await self.open_ready_port()
        await self._go_on(snapshot)

    async def _await_trainer(self) -> Trainer:
        while self._trainer is None:
            await asyncio.sleep(0.01)
        return self._trainer

    async def _step(self, step: Step) -> None:
        assert self._trainer is not None and self.pole.last_round is not None
        log = self.pole.last_round
        if self._span is not None:
            self._span.end(counted=log.counted, failed=log.failed)
        began = self.now()
        everyone = not log.missing
        work = (step.stamp, step.total, step.weight, everyone, log.homes)
        snapshot = await self._guarded(self._trainer.step, *work)
        if snapshot is None:
            self.chronicle.note(log)
            return
        self._closings.append(self.now())
        for index, count in log.by_mdc.items():
            self._served[index] = self._served.get(index, 0) + count
        await self._go_on(snapshot, log, self.now() - began)

    async def _go_on(self, snapshot: Snapshot, log: RoundLog | None = None, stepping: float = 0.0) -> None:
        """Evaluate if it is time, then publish the next round or end. `log` is of the round just done.

        Homes wait for the weights alone: the round is written up while they compute the next one.
        """
        trainer = self._trainer
        assert trainer is not None
        changes = trainer.record.population
        self.chronicle.population = [{"round": since, "homes": homes} for since, homes in changes]
        spent = {"stepping": stepping}
        began = self.now()
        if trainer.due() and trainer.record.evaluated_round != snapshot.stamp.round:
            if await self._guarded(trainer.evaluate) is None:
                self._write_up(trainer, log, spent)
                return
            spent["evaluating"] = self.now() - began
        try:
            over = trainer.finished()
        except ValueError as error:
            self._write_up(trainer, log, spent)
            self._fail("InvalidSpec", str(error))
            return
        if over is not None:
            self._write_up(trainer, log, spent)
            finish = await self._conclude(trainer, snapshot, over)
            await self._announce(snapshot, finish)
            self.perform(self.pole.ready(snapshot, self.now(), finish))
            return
        if self._span is None or log is not None:
            self._span = self._tracer.begin("round", round=snapshot.stamp.round)
        self.perform(self.pole.ready(snapshot, self.now(), trace=self._span.context))
        self._write_up(trainer, log, spent)
        wait = self._kept_at + KEEP_SECONDS - self.now()
        if wait <= 0 or trainer.checkpoint_due():
            await self._keep(trainer, snapshot)
        else:  # the next round may take long, and those who have copies may be replaced meanwhile
            self._loop.call_later(wait, self._keep_late, trainer, snapshot)

    def _keep_late(self, trainer: Trainer, snapshot: Snapshot) -> None:
        """Unless another state has come, or is being made."""
        if self.pole.awaits_homes(snapshot.stamp):
            self.spawn(self._keep(trainer, snapshot))

    async def _keep(self, trainer: Trainer, snapshot: Snapshot) -> None:
        """Have MDCs keep what else belongs to the state that was just published."""
        self._kept_at = self.now()
        trainer.statistics = self.chronicle.to_bytes()
        rest = await self._at_desk(trainer.preserve, snapshot)
        self.perform(self.pole.keep(snapshot.stamp, rest))

    def _write_up(self, trainer: Trainer, log: RoundLog | None, spent: dict[str, float]) -> None:
        """Statistics and history of the round just done."""
        if log is None:
            return
        self.chronicle.note(log)
        metrics = trainer.record.metrics if "evaluating" in spent else {}
        self.chronicle.write(log, trainer.record.loss, metrics, spent)
        if self.now() >= self._told_at + TELL_SECONDS:
            self._told_at = self.now()
            self._tell(log, trainer.record.loss, trainer.record.metrics)

    def _tell(self, log: RoundLog, loss: float | None, metrics: Mapping[str, float]) -> None:
        """How training goes, to the log."""
        figures = ({} if loss is None else {"loss": loss}) | dict(sorted(metrics.items()))
        named = "".join(f", {name} {value:.4f}" for name, value in figures.items())
        done, homes = f"round {log.round} of {self._config.rounds}", f"{log.counted} of {log.homes} homes"
        _log.info("%s: %s counted%s", done, homes, named)

    async def _announce(self, snapshot: Snapshot, finish: Finish) -> None:
        """Have the outcome on the board before children hear it: their leaving must not look like a fault."""
        await self._save()  # whoever hears of the outcome may look at the folder, and end this process
        self._outcome = {"phase": finish.outcome, "round": snapshot.stamp.round} | _said_of(finish)
        with contextlib.suppress(boards.BoardError):  # it is said again, until it is heard, as the last word
            await self._publisher.publish()

    async def _conclude(self, trainer: Trainer, snapshot: Snapshot, over: str) -> Finish:
        self._digest = await self._at_desk(trainer.digest)
        trainer.statistics = self.chronicle.to_bytes()
        await self._at_desk(trainer.save_checkpoint, snapshot)
        if self._env.model_out:
            await self._at_desk(trainer.save_model, self._env.model_out)
        if self._env.output:
            await self._deliver(await self._at_desk(trainer.model), snapshot, over)
        _log.info("complete: %s; model %s", over, self._digest)
        return Finish(Phase.COMPLETE, over)

    async def _try_output(self) -> None:
        """Say at the start what would keep the model from where it shall go at the end."""
        await self._write_output({delivery.REPORT_FILE: self._report(self.progress())})

    async def _deliver(self, model: bytes, snapshot: Snapshot, over: str) -> None:
        """The model, then the report, until they are there: only then the job is complete."""
        if self._trial is not None:
            await self._trial  # it must not come after
        said = {"phase": Phase.COMPLETE, "round": snapshot.stamp.round, "message": over}
        for wait in delivery.waits():
            contents = {
                delivery.MODEL_FILE: model,
                delivery.REPORT_FILE: self._report(self.progress() | said),
            }
            if await self._write_output(contents):
                _log.info("model and report are in %s", self._env.output)
                return
            self._undelivered += "; training is done, and the model is kept here until it can be written"
            await asyncio.sleep(wait)

    async def _write_output(self, contents: Mapping[str, bytes]) -> bool:
        try:
            await asyncio.to_thread(delivery.write, self._env.output, contents)
        except delivery.DeliveryError as error:
            _log.warning("the output cannot be written: %s", error)
            self._undelivered = str(error)
        else:
            self._undelivered = ""
        return not self._undelivered

    def _report(self, progress: Mapping[str, Any]) -> bytes:
        plain = {key: value for key, value in progress.items() if key not in ("heartbeat", "output")}
        return delivery.report(self._config.job, self._config.uid, plain, self.chronicle.report())

    async def _guarded(self, work: Any, *args: Any) -> Any:
        """The result of work in the model's thread, or None when it failed for good."""
        try:
            return await self._at_desk(work, *args)
        except ValueError as error:
            self._fail("TaskFailed", str(error))
        return None

    async def _at_desk(self, work: Any, *args: Any) -> Any:
        return await self._desk.do(work, *args)

    def _fail(self, reason: str, message: str) -> None:
        _log.error("%s: %s", reason, message)
        self.perform(self.pole.end(Finish(reason, message), self.now()))

    # -- the window ---------------------------------------------------------------------------------------

    def _pages(self) -> dict[str, Callable[[Query], Any]]:
        return {
            "/statistics": lambda query: self.chronicle.report(),
            "/history": self._history_page,
            "/homes": self._homes_page,
            "/trace": self._trace_page,
        }

    def _history_page(self, query: Query) -> Any:
        last = _number(query, "last", int, 100)
        return list(self.chronicle.history)[-last:] if last > 0 else []

    def _homes_page(self, query: Query) -> Any:
        low, high = _number(query, "above", float, 0.0), _number(query, "below", float, math.inf)
        return self.chronicle.homes_between(low, high)

    def _trace_page(self, query: Query) -> Any:
        """Of a round that is remembered, or of a home from the next round on."""
        if "home" not in query:
            newest = next(reversed(self.chronicle.history), {"round": 0})
            wanted = _number(query, "round", int, newest["round"])
            return next((r for r in reversed(self.chronicle.history) if r["round"] == wanted), None)
        home = _number(query, "home", int, 0)
        if not 0 <= home < self.pole.homes:
            raise BadQueryError(f"home: is {home}, 0..{self.pole.homes - 1} is expected")
        if home not in self._asked_homes:
            self._asked_homes.append(home)
            self.perform(self.pole.watch(list(self._asked_homes)))
        found = (r for r in reversed(self.chronicle.history) if str(home) in r.get("asked", {}))
        return next(found, None)

    def _figures(self) -> Iterator[tuple[str, Mapping[str, str], float]]:
        pole = self.pole
        yield "round", {}, float(pole.round)
        yield "incarnation", {}, float(self._rules.epoch)
        yield "mdcs_connected", {}, float(len(pole.serving()))
        if self._trainer is not None and self._trainer.record.loss is not None:
            yield "round_loss", {}, self._trainer.record.loss
            yield "exact", {}, float(self._trainer.record.exact)
        for reason, count in pole.refused.items():
            yield "refused_total", {"reason": reason}, float(count)
        yield from self._product.metrics(self.chronicle.last)
        for index, state in self.chronicle.by_mdc.items():
            yield from (
                (f"of_mdc_{name}", {**labels, "mdc": str(index)}, value)
                for name, labels, value in self._product.metrics(state)
            )

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
            self.expect(max(wiring.homes, wiring.expected))
            self.perform(self.pole.rewire(wiring, self.now()))

    async def _publish_changes(self) -> None:
        while True:
            try:
                await self._publish()
            except boards.BoardError:
                await asyncio.sleep(self._board.interval)
                continue
            again = self.now() + self._board.interval
            await asyncio.sleep(TICK_SECONDS)
            while self.now() < again and not self._has_lost_one():
                await asyncio.sleep(TICK_SECONDS)

    def _has_lost_one(self) -> bool:
        """An MDC is unreachable and the board does not know: the operator can act at once."""
        known = {entry["uid"] for entry in self._publisher.told.get("unreachable", ())}
        return any(uid not in known for _, _, uid in self.pole.unreachable(self.now()))

    async def _say_last_word(self) -> None:
        """The outcome must be known before this process ends, or a successor would train again."""
        async with asyncio.timeout(LAST_WORD_SECONDS):
            while True:
                try:
                    return await self._publish()
                except boards.BoardError:
                    await asyncio.sleep(self._board.interval)

    async def _save(self, whole: bool = True) -> None:
        """The chronicle to its folder, beside the event loop: disks may be slow."""
        if whole:
            self._saved_at = self.now()
        if (unsaved := self.chronicle.unsaved(whole)) is not None:
            await asyncio.to_thread(unsaved.store)

    async def _publish(self) -> None:
        if self.pole.phase in (Phase.STARTING, Phase.RECOVERING):
            return  # what the predecessor said is still the newest there is
        if await self._publisher.publish():
            ended = self.pole.finish is not None
            await self._save(whole=ended or self.now() >= self._saved_at + STATISTICS_SECONDS)

    def progress(self) -> dict[str, Any]:
        """`status.training`: small, whatever the number of homes."""
        pole, record = self.pole, self._trainer.record if self._trainer else None
        metrics = record.metrics if record else {}
        shown = self._config.target_metric or next(iter(sorted(metrics, key=lambda k: k != "f1")), None)
        out: dict[str, Any] = {
            "phase": str(pole.phase),
            "incarnation": self._rules.epoch,
            "heartbeat": int(self.now() / max(1.0, self._rules.silence / 2)),
            "round": pole.round,
            "homes": pole.homes,
            "population": self.chronicle.population[-SHOWN_CHANGES:],
            "metrics": {name: f"{value:.4f}" for name, value in sorted(metrics.items())},
            "exact": record.exact if record else True,
            "serving": [{"mdc": i, "incarnation": k, "homes": n} for i, k, n in pole.serving()],
            "copies": [{"mdc": i, "incarnation": k} for i, k in pole.copies()],
            "counted": [{"mdc": i, "gradients": n} for i, n in sorted(self._served.items())],
            "unreachable": [
                {"mdc": i, "incarnation": k, "uid": uid} for i, k, uid in pole.unreachable(self.now())
            ],
            "refused": [{"reason": r, "count": n} for r, n in sorted(pole.refused.items())],
        }
        if self._rules.straggler_factor is not None:
            out["stragglers"] = [
                {"mdc": i, "incarnation": k, "uid": uid}
                | {"seconds": f"{slow.seconds:.3f}", "median": f"{slow.median:.3f}"}
                for i, k, uid, slow in pole.stragglers()
            ]
        if shown is not None and shown in metrics:
            out["metric"] = f"{shown} {metrics[shown]:.4f}"
        if self.chronicle.last:
            out["statistics"] = self.chronicle.summary()
        if record is not None and record.loss is not None:
            out["loss"] = f"{record.loss:.6f}"
        if (last := pole.last_round) is not None and last.missing:
            out["missing"] = {"count": len(last.missing), "homes": format_ids(last.missing[:NAMED])}
            if absent := last.reasons.get("Absent"):
                out["missing"]["absent"] = absent
        if len(self._closings) > 1:
            rate = (len(self._closings) - 1) / (self._closings[-1] - self._closings[0])
            out["roundsPerSecond"] = f"{rate:.2f}"
        if self._digest:
            out["modelDigest"] = self._digest
        if self._env.output:
            out["output"] = {"url": self._env.output, "problem": self._undelivered}
        return out | self._ending()

    def _ending(self) -> dict[str, Any]:
        return self._outcome if self.pole.finish is None else _said_of(self.pole.finish)


def _said_of(finish: Finish) -> dict[str, Any]:
    return {"reason": finish.outcome, "message": finish.message[:1000]}


def _number(query: Query, name: str, kind: type[int] | type[float], default: float) -> Any:
    try:
        found = kind(query.get(name, default))
    except ValueError:
        found = math.nan
    if math.isnan(found):
        raise BadQueryError(f"{name}: is {query[name]!r}, a number is expected")
    return found


async def run(env: Environment) -> Stop:
    """Train until the job has ended, or a successor has taken over."""
    async with boards.open_board(env.board) as board:
        return await NpdcShell(env, board).train()
