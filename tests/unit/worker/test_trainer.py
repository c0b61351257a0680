"""The NPDC's model: steps, states as bytes, checkpoints, and refusals in words."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from elf_worker import tasks
from elf_worker.aggregation.northpole import Snapshot
from elf_worker.contract import JobConfig
from elf_worker.exact import ExactSum
from elf_worker.messages import Stamp
from elf_worker.roles.checkpoints import CHECKPOINT_FILE, rounds_in
from elf_worker.roles.trainer import Record, Trainer, saved
from elf_worker.tasks import Task, TaskError, vectors
from elf_worker.tasks.naughty_or_nice import NaughtyOrNice

JOB = JobConfig(
    job="night",
    uid="uid-1",
    homes=3,
    per_pod=1,
    rounds=100,
    seed=2,
    entrypoint="elf_worker.tasks.naughty_or_nice:NaughtyOrNice",
    task_args={"records": 16, "batch_size": 4},
    optimizer="Adam",
    optimizer_args={"lr": 0.02},
    evaluate_every=5,
    checkpoint_every=10,
)
SIZE = 181 + 1
"""Parameters of the task's model, and the loss."""
WEIGHTS = 4 * (SIZE - 1)
"""Bytes of the weights, with which a state begins."""


def trainer(checkpoint: Any = "", epoch: int = 1, **changes: Any) -> Trainer:
    return Trainer(dataclasses.replace(JOB, **changes), epoch, str(checkpoint))


def contribution(round: int, home: int) -> np.ndarray:
    """Multiples of 1/256: their sums and means have no rounding before the last."""
    rng = np.random.default_rng([round, home])
    return (rng.integers(-1000, 1000, SIZE) / 256).astype(np.float32)


def total(round: int, homes: int = 3) -> ExactSum:
    out = ExactSum(SIZE)
    for home in range(homes):
        out.add(contribution(round, home))
    return out


def copy_of(model: Trainer, snapshot: Snapshot) -> bytes:
    """What an MDC gives back that has kept this state, which was just made."""
    return bytes(snapshot.weights) + model.preserve(snapshot)


def first_copy(model: Trainer) -> bytes:
    """Of the state that training begins with."""
    return copy_of(model, model.initialise())


def train(model: Trainer, rounds: int) -> bytes:
    """Some rounds from where the model is; the state copy after them."""
    copy = b""
    for _ in range(rounds):
        copy = copy_of(model, model.step(model.stamp, total(model.stamp.round), 12, True))
    return copy


# -- steps ----------------------------------------------------------------------------------------------

OPTIMIZERS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("Adam", {"lr": 0.02}),
    ("Adam", {"lr": 0.02, "amsgrad": True, "betas": [0.8, 0.9]}),
    ("AdamW", {}),
    ("NAdam", {}),
    ("RAdam", {}),
    ("Adamax", {}),
    ("Adagrad", {}),
    ("Adadelta", {}),
    ("Adafactor", {}),
    ("ASGD", {}),
    ("Rprop", {}),
    ("RMSprop", {"momentum": 0.9, "centered": True}),
]
IDS = [f"{name}{'+'.join(['', *args])}" for name, args in OPTIMIZERS]


@pytest.mark.parametrize(("name", "args"), OPTIMIZERS, ids=IDS)
def test_a_step_is_torch_s_own_with_the_mean_of_float64_gradients(name, args):
    """Bit for bit: the reference averages in float64, rounds once, and steps the same optimizer."""
    model = trainer(optimizer=name, optimizer_args=args)
    model.initialise()
    reference = vectors.build_model(NaughtyOrNice(homes=3, seed=2, records=16, batch_size=4))
    optimizer = getattr(torch.optim, name)(reference.parameters(), **args)
    for round in range(6):
        snapshot = model.step(Stamp(round, 1), total(round), 12, True)
        mean = sum(contribution(round, home).astype(np.float64) for home in range(3)) / 12
        start = 0
        for parameter in reference.parameters():
            piece = mean[start : start + parameter.numel()].astype(np.float32)
            parameter.grad = torch.from_numpy(piece).view_as(parameter)
            start += parameter.numel()
        optimizer.step()
        assert snapshot.stamp == Stamp(round + 1, 1)
        assert bytes(snapshot.weights) == vectors.flatten(reference).tobytes()
        assert model.record.loss == np.float32(mean[-1])
    assert model.digest() == vectors.digest(reference)


def test_gradients_of_homes_make_the_step_that_one_home_with_all_the_data_would_make():
    """Weighted by examples, up to the rounding of the homes' own float32 gradients."""
    task = tasks.load(JOB.entrypoint, JOB.task_args, homes=3, seed=2)
    model = trainer(optimizer="SGD", optimizer_args={"lr": 1.0})
    before = np.frombuffer(model.initialise().weights, np.float32).copy()
    homes = vectors.build_model(task)
    folded, weights = ExactSum(SIZE), 0
    for home in range(3):
        vector, weight = vectors.home_vector(task, homes, home, 0)
        folded.add(vector)
        weights += weight
    after = np.frombuffer(model.step(Stamp(0, 1), folded, weights, True).weights, np.float32)
    together = vectors.build_model(task).double()
    batches = [next(task.batches(home, 0)) for home in range(3)]
    records, nice = (torch.cat(part).double() for part in zip(*batches, strict=True))
    loss = task.loss(together, (records, nice))
    loss.backward()
    gradient = torch.cat([p.grad.reshape(-1) for p in together.parameters()]).numpy()
    np.testing.assert_allclose(before - after, gradient, rtol=1e-4, atol=1e-6)
    assert model.record.loss == pytest.approx(loss.item(), rel=1e-6)


def test_a_step_s_snapshot_stays_what_it_is_while_training_goes_on():
    """It is on its way to children in the event loop while the next step runs in a thread."""
    model = trainer()
    model.initialise()
    snapshot = model.step(Stamp(0, 1), total(0), 12, True)
    weights = bytes(snapshot.weights)
    train(model, 3)
    assert bytes(snapshot.weights) == weights


def test_a_round_without_some_homes_is_remembered_for_good():
    model = trainer()
    model.initialise()
    assert model.record.exact
    model.step(Stamp(0, 1), total(0), 12, False)
    copy = copy_of(model, model.step(Stamp(1, 1), total(1), 12, True))
    assert not model.record.exact
    heir = trainer(epoch=2)
    heir.restore(copy)
    assert not heir.record.exact


@pytest.mark.parametrize("rate", [1e38, float("inf"), float("nan")])
def test_weights_that_are_not_finite_end_training_with_advice(rate):
    model = trainer(optimizer="SGD", optimizer_args={"lr": 1e38})
    model.initialise()
    for group in model._optimizer.param_groups:
        group["lr"] = rate
    with pytest.raises(TaskError, match=r"^spec\.optimizer\.args: .*not finite after round 1; a smaller"):
        model.step(Stamp(0, 1), _large(), 1, True)


def _large() -> ExactSum:
    out = ExactSum(SIZE)
    out.add(np.full(SIZE, 1000, np.float32))
    return out


# -- states ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "args"), OPTIMIZERS, ids=IDS)
def test_an_heir_goes_on_bit_for_bit(name, args):
    """Also after a restore of a restore, and by way of the buffer types that the wire hands over."""
    first = trainer(optimizer=name, optimizer_args=args)
    first.initialise()
    copy = train(first, 4)
    train(first, 7)
    second = trainer(optimizer=name, optimizer_args=args, epoch=2)
    snapshot = second.restore(bytearray(copy))
    assert snapshot.stamp == second.stamp == Stamp(4, 1), "the weights keep the name they were given"
    train(second, 2)
    third = trainer(optimizer=name, optimizer_args=args, epoch=3)
    third.restore(memoryview(train(second, 1)))
    train(third, 4)
    assert third.stamp == Stamp(11, 3)
    assert third.digest() == first.digest()


def test_the_state_before_the_first_step_can_be_handed_on_too():
    copy = first_copy(trainer())
    heir = trainer(epoch=2)
    assert heir.restore(copy).stamp == Stamp(0, 1)
    fresh = trainer()
    fresh.initialise()
    train(heir, 3)
    train(fresh, 3)
    assert heir.digest() == fresh.digest()


def test_what_is_known_of_training_travels_with_the_state():
    model = trainer()
    model.initialise()
    train(model, 5)
    model.evaluate()
    heir = trainer(epoch=2)
    heir.restore(copy_of(model, model.step(Stamp(5, 1), total(5), 12, True)))
    assert heir.record == model.record
    assert heir.record.evaluated_round == 5
    assert set(heir.record.metrics) == {"accuracy", "f1"}


KINDS = [torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool, torch.bfloat16]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_tensors_are_saved_as_safetensors_would_have_them(kind: torch.dtype) -> None:
    tensors = {"step": torch.tensor(3.0), "a": torch.arange(6).reshape(2, 3).to(kind), "b": torch.empty(0)}
    assert saved(tensors) == safetensors.torch.save(tensors)


def test_the_state_is_plain_tensors_without_a_pickle():
    model = trainer()
    model.initialise()
    copy = train(model, 1)
    assert copy[:WEIGHTS] == vectors.flatten(model._model).tobytes()
    tensors = safetensors.torch.load(copy[WEIGHTS:])
    assert "weights" not in tensors, "they are there once"
    meta = json.loads(bytes(tensors["meta.json"].numpy()))
    assert meta["job"] == "uid-1"
    assert meta["stamp"] == [1, 1]


def tampered(copy: bytes, **changes: torch.Tensor | None) -> bytes:
    tensors: dict[str, torch.Tensor | None] = {**safetensors.torch.load(copy[WEIGHTS:]), **changes}
    rest = safetensors.torch.save({name: t for name, t in tensors.items() if t is not None})
    return copy[:WEIGHTS] + rest


BAD_COPIES = {
    "empty": lambda copy: b"",
    "cut by a byte": lambda copy: copy[:-1],
    "cut in half": lambda copy: copy[: len(copy) // 2],
    "noise": lambda copy: b"\xff" * 100,
    "no weights": lambda copy: copy[WEIGHTS:],
    "too few weights": lambda copy: copy[4:],
    "too many weights": lambda copy: bytes(4) + copy,
    "weights alone": lambda copy: copy[:WEIGHTS],
    "cut in the weights": lambda copy: copy[: WEIGHTS // 2],
    "no meta": lambda copy: tampered(copy, **{"meta.json": None}),
    "meta of zeros": lambda copy: tampered(copy, **{"meta.json": torch.zeros(5, dtype=torch.uint8)}),
}


@pytest.mark.parametrize("spoil", BAD_COPIES.values(), ids=BAD_COPIES.keys())
def test_a_copy_of_no_use_is_refused_and_changes_nothing(spoil):
    """After it another copy is tried, or the first weights: neither may be mixed with this one."""
    model = trainer()
    model.initialise()
    bad = spoil(train(model, 3))
    heir, fresh = trainer(), trainer()
    with pytest.raises(Exception):  # noqa: B017 - any kind, says its description
        heir.restore(bad)
    heir.initialise()
    fresh.initialise()
    assert heir.stamp == fresh.stamp
    train(heir, 2)
    train(fresh, 2)
    assert heir.digest() == fresh.digest()


def test_a_copy_of_another_job_is_refused():
    copy = first_copy(trainer(uid="uid-2"))
    with pytest.raises(TaskError, match="another job"):
        trainer().restore(copy)


# -- checkpoints ----------------------------------------------------------------------------------------


def checkpoint_of(copy: bytes, **changes: torch.Tensor | None) -> bytes:
    """The file of the state that an MDC would give back as `copy`: one blob, with the weights in it."""
    weights = torch.frombuffer(bytearray(copy[:WEIGHTS]), dtype=torch.float32)
    tensors = {**safetensors.torch.load(copy[WEIGHTS:]), "weights": weights, **changes}
    return safetensors.torch.save({name: t for name, t in tensors.items() if t is not None})


@pytest.mark.parametrize("weights", [None, torch.zeros(SIZE - 2), torch.zeros(SIZE)])
def test_a_checkpoint_without_all_of_its_weights_is_as_good_as_none(weights, tmp_path):
    model = trainer()
    model.initialise()
    blob = checkpoint_of(train(model, 10), weights=weights)
    (tmp_path / CHECKPOINT_FILE).write_bytes(blob)
    heir = trainer(tmp_path, epoch=2)
    assert heir.initialise().stamp == Stamp(0, 2)
    train(heir, 10)
    assert heir.digest() == model.digest()


def test_a_checkpoint_is_written_every_so_many_rounds_and_taken_up_again(tmp_path):
    model = trainer(tmp_path)
    model.initialise()
    train(model, 9)
    assert not (tmp_path / CHECKPOINT_FILE).exists()
    assert rounds_in(str(tmp_path), "uid-1") == -1
    train(model, 1)
    assert rounds_in(str(tmp_path), "uid-1") == 10
    train(model, 4)  # rounds 11 to 14 are on no volume
    heir = trainer(tmp_path, epoch=2)
    assert rounds_in(str(tmp_path), "uid-1") == 10
    assert heir.initialise().stamp == Stamp(10, 1)
    train(heir, 4)
    assert heir.digest() == model.digest()


def test_without_a_volume_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = trainer()
    model.initialise()
    model.save_checkpoint(model.initialise())
    train(model, 10)
    assert rounds_in(str(tmp_path), "uid-1") == -1
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path):
    model = trainer(tmp_path, checkpoint_every=1)
    model.initialise()
    copies = [train(model, 1) for _ in range(2)]
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT_FILE]
    assert (tmp_path / CHECKPOINT_FILE).read_bytes() == checkpoint_of(copies[1])


def test_a_checkpoint_that_cannot_be_finished_leaves_the_last_one(tmp_path, monkeypatch):
    """As when the volume is full."""
    model = trainer(tmp_path, checkpoint_every=1)
    model.initialise()
    copy = train(model, 1)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        train(model, 1)
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT_FILE]
    assert (tmp_path / CHECKPOINT_FILE).read_bytes() == checkpoint_of(copy)


@pytest.mark.parametrize("damage", ["empty", "cut", "noise"])
def test_an_unreadable_checkpoint_is_as_good_as_none(damage, tmp_path):
    """Starting over ends with the same bits; a job that dies of its own checkpoint ends never."""
    model = trainer(tmp_path)
    model.initialise()
    copy = train(model, 10)
    damaged = {"empty": b"", "cut": copy[:-7], "noise": b"\x93" * 500}[damage]
    (tmp_path / CHECKPOINT_FILE).write_bytes(damaged)
    heir = trainer(tmp_path, epoch=2)
    assert rounds_in(str(tmp_path), "uid-1") == -1
    assert heir.initialise().stamp == Stamp(0, 2)
    train(heir, 10)
    assert heir.digest() == model.digest()
    assert rounds_in(str(tmp_path), "uid-1") == 10, "and the next good one takes its place"


def test_a_checkpoint_of_another_job_is_refused_with_the_field_that_names_the_volume(tmp_path):
    """Overwriting it would destroy what somebody else has trained."""
    other = trainer(tmp_path, uid="uid-2")
    other.initialise()
    train(other, 10)
    before = (tmp_path / CHECKPOINT_FILE).read_bytes()
    with pytest.raises(
        TaskError, match=r"^spec\.northPole\.checkpoint\.volumeClaim: .*state of another job$"
    ):
        trainer(tmp_path).initialise()
    assert (tmp_path / CHECKPOINT_FILE).read_bytes() == before


# -- measuring and ending -------------------------------------------------------------------------------


class Measured(Task):
    """A model of one parameter; its metric is that parameter."""

    def model(self) -> torch.nn.Module:
        return torch.nn.Linear(1, 1, bias=False)

    def batches(self, home: int, round: int) -> Any:
        yield torch.ones(1, 1)

    def loss(self, model: torch.nn.Module, batch: Any) -> torch.Tensor:
        return model(batch).mean()

    def evaluate(self, model: torch.nn.Module) -> Mapping[str, float]:
        assert not model.training
        assert not torch.is_grad_enabled()
        return {"weight": model.weight.detach()[0, 0], "f1": 1}


class Clumsy(Measured):
    def evaluate(self, model: torch.nn.Module) -> Mapping[str, float]:
        raise RuntimeError("the sleigh\nis stuck")


@pytest.fixture
def entrypoint(monkeypatch) -> str:
    """Under which the classes above can be loaded, whatever this module was imported as."""
    import sys
    import types

    module = types.ModuleType("measured_tasks")
    vars(module).update(Measured=Measured, Clumsy=Clumsy)
    monkeypatch.setitem(sys.modules, "measured_tasks", module)
    return "measured_tasks:Measured"


def pull(model: Trainer) -> None:
    """One step of plain SGD that adds 1 to the one weight."""
    down = ExactSum(2)
    down.add(np.array([-1, 0.5], np.float32))
    model.step(model.stamp, down, 1, True)


def measured(entrypoint: str, **changes: Any) -> Trainer:
    plain = {"optimizer": "SGD", "optimizer_args": {"lr": 1.0}, "task_args": {}, "entrypoint": entrypoint}
    model = trainer(**plain | changes)
    model.initialise()
    return model


def test_the_model_is_evaluated_every_so_many_rounds_and_after_the_last(entrypoint):
    model = measured(entrypoint, rounds=7, evaluate_every=3)
    due = [model.due()]
    for _ in range(7):
        pull(model)
        due.append(model.due())
    assert [round for round, yes in enumerate(due) if yes] == [3, 6, 7]


def test_an_evaluation_is_kept_as_plain_numbers_and_training_goes_on(entrypoint):
    model = measured(entrypoint)
    pull(model)
    metrics = model.evaluate()
    assert metrics == {"weight": model._model.weight.item(), "f1": 1.0}
    assert {type(value) for value in metrics.values()} == {float}
    assert model.record == Record(loss=0.5, metrics=metrics, evaluated_round=1, population=[[0, 3]])
    assert model._model.training


def test_how_many_homes_the_rounds_had_travels_with_the_state():
    model = trainer()
    model.initialise()
    for homes in (None, 3, 5, 5, 2):
        copy = copy_of(model, model.step(model.stamp, total(model.stamp.round), 12, True, homes))
    heir = trainer(epoch=2)
    heir.restore(copy)
    assert heir.record.population == [[0, 3], [2, 5], [4, 2]]
    heir.step(heir.stamp, total(5), 12, True, 2)
    assert heir.record.population == [[0, 3], [2, 5], [4, 2]]
    assert model.record.population == heir.record.population


@pytest.mark.parametrize(("rounds", "population"), [(0, []), (2, [[0, 3]])])
def test_a_state_of_an_earlier_version_had_as_many_homes_as_the_job_began_with(rounds, population):
    model = trainer()
    copy = copy_of(model, model.initialise())
    copy = train(model, rounds) or copy
    weights, tensors = copy[:WEIGHTS], safetensors.torch.load(copy[WEIGHTS:])
    meta = json.loads(tensors["meta.json"].numpy().tobytes())
    del meta["record"]["population"]
    tensors["meta.json"] = torch.frombuffer(bytearray(json.dumps(meta).encode()), dtype=torch.uint8)
    heir = trainer(epoch=2)
    heir.restore(weights + safetensors.torch.save(tensors))
    assert heir.record.population == population


def test_training_ends_with_its_rounds(entrypoint):
    model = measured(entrypoint, rounds=2)
    pull(model)
    assert model.finished() is None
    pull(model)
    assert model.finished() == "2 rounds done"


def test_training_ends_as_soon_as_the_target_is_reached_and_not_by_an_old_evaluation(entrypoint):
    model = measured(entrypoint, target_metric="weight", target_at_least=3.0)
    with torch.no_grad():
        model._model.weight.fill_(0.0)
    ends = []
    for _ in range(4):
        pull(model)
        ends.append(model.finished())  # the metric of the round before
        model.evaluate()
        ends.append(model.finished())
    assert ends[:5] == [None] * 5
    assert ends[5] == "weight 3.0000 reached the target 3 after 3 rounds"


def test_a_target_metric_that_the_task_does_not_have_is_answered_with_those_it_has(entrypoint):
    model = measured(entrypoint, target_metric="F1", target_at_least=0.5)
    pull(model)
    assert model.finished() is None, "nothing is known before the first evaluation"
    model.evaluate()
    with pytest.raises(TaskError) as caught:
        model.finished()
    assert str(caught.value) == "spec.target.metric: the task has no metric 'F1'; it has f1, weight"


@pytest.mark.parametrize("least", [float("nan"), float("inf")])
def test_a_target_that_is_no_number_is_refused_by_name(least):
    with pytest.raises(TaskError, match=r"^spec\.target\.atLeast: (nan|inf) is not a finite number$"):
        trainer(target_metric="f1", target_at_least=least)


def test_an_evaluation_that_raises_is_the_task_s_fault_and_said_on_one_line(entrypoint):
    model = measured("measured_tasks:Clumsy")
    with pytest.raises(TaskError) as caught:
        model.evaluate()
    assert str(caught.value) == ("spec.task.entrypoint: evaluate() raised RuntimeError: the sleigh is stuck")
    assert model._model.training


def test_the_saved_model_has_the_names_shapes_and_bits_of_its_parameters(tmp_path):
    model = trainer()
    model.initialise()
    train(model, 2)
    path = tmp_path / "model.safetensors"
    model.save_model(str(path))
    saved = safetensors.torch.load_file(path)
    live = dict(model._model.named_parameters())
    assert saved.keys() == live.keys()
    for name, tensor in saved.items():
        assert torch.equal(tensor, live[name])


# -- refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [("Adan", "Adam"), ("adam", "Adam"), ("RMSProp", "RMSprop"), ("AdmaW", "AdamW")],
)
def test_an_unknown_optimizer_is_answered_with_the_one_that_was_meant(name, meant):
    with pytest.raises(TaskError) as caught:
        trainer(optimizer=name)
    message = str(caught.value)
    assert message.startswith(f"spec.optimizer.name: torch.optim has no '{name}'; did you mean ")
    assert re.search(rf"\b{meant}\b", message)


@pytest.mark.parametrize("name", ["Rudolph", "Optimizer", "lr_scheduler", "functional"])
def test_what_is_no_optimizer_at_all_is_answered_with_all_there_are(name):
    with pytest.raises(TaskError) as caught:
        trainer(optimizer=name)
    message = str(caught.value)
    assert message.startswith(f"spec.optimizer.name: torch.optim has no '{name}'; ")
    if "did you mean" not in message:
        assert {"Adam", "SGD", "AdamW"} <= set(re.findall(r"\w+", message))
    assert re.search(r"(: |, | or |mean )Optimizer\b", message.split(";")[1]) is None, "it cannot be used"


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ({"learning_rate": 0.1}, "TypeError: .*learning_rate"),
        ({"lr": -1.0}, "ValueError: Invalid learning rate: -1.0"),
        ({"lr": "fast"}, "TypeError"),
        ({"betas": [0.9]}, "(IndexError|ValueError)"),
    ],
)
def test_arguments_an_optimizer_does_not_take_are_named(args, named):
    with pytest.raises(TaskError, match=rf"^spec\.optimizer\.args: Adam raised {named}") as caught:
        trainer(optimizer_args=args)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "args"),
    [("LBFGS", {}), ("SparseAdam", {}), ("Adam", {"capturable": True})],
    ids=["needs a closure", "needs sparse gradients", "needs an accelerator"],
)
def test_an_optimizer_that_cannot_step_here_is_the_job_s_fault(name, args):
    """It says so as a broken spec, at the latest with the first step; it does not crash the process."""
    with pytest.raises(TaskError, match=rf"^spec\.optimizer(\.name|\.args)?: .*{name}"):
        model = trainer(optimizer=name, optimizer_args=args)
        model.initialise()
        train(model, 1)


def test_a_bad_entrypoint_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / CHECKPOINT_FILE).write_bytes(b"whatever")
    with pytest.raises(TaskError, match=r"^spec\.task\.entrypoint: "):
        trainer(tmp_path, entrypoint="nowhere:Task")
