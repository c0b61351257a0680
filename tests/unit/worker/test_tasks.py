"""The shipped tasks, loading a user's task, and models as vectors."""

from __future__ import annotations

import hashlib
import importlib
import itertools
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from torch import nn
from torch.nn import functional

from elf_worker import tasks
from elf_worker.tasks import Task, TaskError, vectors
from elf_worker.tasks.base import derive_seed
from elf_worker.tasks.digits import Digits, dirichlet_split, read_images
from elf_worker.tasks.linear import HELD_OUT_HOME, Linear
from elf_worker.tasks.measures import binary_f1, macro_f1
from elf_worker.tasks.naughty_or_nice import NaughtyOrNice

SHIPPED = [Digits, NaughtyOrNice, Linear]


def first(task: Task, home: int, round: int, count: int = 1) -> list[bytes]:
    """The bits of the first batches."""
    batches = itertools.islice(task.batches(home, round), count)
    return [b"".join(part.numpy().tobytes() for part in batch) for batch in batches]


# -- shipped tasks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SHIPPED)
def test_a_batch_is_a_pure_function_of_seed_home_and_round(kind):
    """Same bits from another object, in another order, whatever torch's own generator does."""
    once, again = kind(homes=4, seed=5), kind(homes=4, seed=5)
    expected = {(home, round): first(once, home, round, 2) for home in range(4) for round in (0, 1, 9)}
    for home, round in reversed(expected):
        torch.manual_seed(home)
        assert first(again, home, round, 2) == expected[home, round]


@pytest.mark.parametrize("kind", SHIPPED)
def test_batches_differ_between_homes_rounds_and_seeds(kind):
    seen = [
        first(kind(homes=4, seed=seed), home, round)[0]
        for seed in (0, 1)
        for home in range(4)
        for round in range(4)
    ]
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("kind", SHIPPED)
def test_asking_for_batches_leaves_torch_s_generator_alone(kind):
    task = kind(homes=2, seed=5)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first(task, 0, 0)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("kind", SHIPPED)
def test_batches_fit_the_model_and_count_their_examples(kind):
    task = kind(homes=3, seed=0, batch_size=7)
    batch = next(task.batches(2, 4))
    assert task.examples(batch) == 7
    loss = task.loss(task.model(), batch)
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert loss.requires_grad
    assert torch.isfinite(loss)


@pytest.mark.parametrize(
    ("kind", "names"),
    [(Digits, {"f1", "accuracy"}), (NaughtyOrNice, {"f1", "accuracy"}), (Linear, {"r2", "mse"})],
)
def test_evaluation_gives_the_same_figures_for_the_same_weights(kind, names):
    task = kind(homes=3, seed=0)
    model = vectors.build_model(task).eval()
    with torch.no_grad():
        metrics = task.evaluate(model)
        assert task.evaluate(model) == metrics
    assert set(metrics) == names
    assert kind is Linear or all(0 <= value <= 1 for value in metrics.values())


@pytest.mark.parametrize("kind", SHIPPED)
def test_a_few_steps_of_training_beat_the_first_weights(kind):
    task = kind(homes=2, seed=0)
    model = vectors.build_model(task)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    measure = "r2" if kind is Linear else "accuracy"
    with torch.no_grad():
        before = task.evaluate(model)[measure]
    for round in range(60):
        optimizer.zero_grad()
        for home in range(2):
            task.loss(model, next(task.batches(home, round))).backward()
        optimizer.step()
    with torch.no_grad():
        assert task.evaluate(model)[measure] > before + 0.1


@pytest.mark.parametrize("kind", SHIPPED)
def test_the_models_are_as_large_as_their_description_says(kind):
    said = int(re.match(r"[\d,]+", kind.model.__doc__)[0].replace(",", ""))
    assert sum(p.numel() for p in kind(homes=1, seed=0).model().parameters()) == said


def test_the_images_are_those_of_scikit_learn():
    images, labels = read_images()
    reference = sklearn.datasets.load_digits()
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    np.testing.assert_array_equal(images[:, 0].numpy(), (reference.images / 16).astype(np.float32))
    np.testing.assert_array_equal(labels.numpy(), reference.target)


def test_a_home_that_came_later_shares_a_part_of_the_data_but_not_its_batches():
    """Whatever there was for the homes at the beginning stays theirs."""
    task = Digits(homes=3, seed=1)
    parts = [set(task._parts[home].tolist()) for home in range(3)]
    images = task._train[0]

    def drawn(home, round):
        batch, _ = next(task.batches(home, round))
        return batch

    for home in (3, 4, 5, 100):
        own = images[sorted(parts[home % 3])]
        assert all(bool((own == image).all(dim=(1, 2, 3)).any()) for image in drawn(home, 7))
        assert torch.equal(drawn(home, 7), drawn(home, 7))
        assert not torch.equal(drawn(home, 7), drawn(home % 3, 7))


def test_no_home_trains_on_held_out_digits_and_every_seed_holds_out_the_same():
    one, other = Digits(homes=3, seed=1), Digits(homes=3, seed=2)
    assert torch.equal(one._test[0], other._test[0])
    assert len(one._test[1]) + len(one._train[1]) == 1797
    assert sorted(torch.cat(one._parts).tolist()) == list(range(len(one._train[1])))
    held = {image.numpy().tobytes() for image in one._test[0]}
    mixed = sum(image.numpy().tobytes() in held for image in one._train[0])
    assert mixed <= 5, "a few equal images among 1,797 are chance, more would be a leak"


def test_the_homes_of_naughty_or_nice_are_not_alike():
    task = NaughtyOrNice(homes=2, seed=0, records=4000)
    means = [task.diary(home, 4000)[0].mean(0) for home in (0, 1)]
    assert (means[0] - means[1]).abs().max() > 0.2


def test_a_diary_of_a_home_that_trains_is_not_among_the_held_out():
    task = NaughtyOrNice(homes=2, seed=0)
    asked: list[int] = []
    diary = task.diary
    task.diary = lambda home, count: asked.append(home) or diary(home, count)
    task.evaluate(task.model())
    assert asked
    assert all(home < 0 for home in asked)


@pytest.mark.parametrize("homes", [[0], [5, 3, 700_000], range(40)])
def test_points_of_many_homes_are_those_of_each(homes):
    task = Linear(homes=4, seed=5, features=3, batch_size=7)
    points, truths = task.batch_of(homes, 9)
    for index, home in enumerate(homes):
        alone = first(task, home, 9)[0]
        assert points[index].numpy().tobytes() + truths[index].numpy().tobytes() == alone


def test_the_homes_of_the_linear_task_are_not_alike_and_nobody_trains_on_what_is_held_out():
    task = Linear(homes=2, seed=0, batch_size=4000)
    means = [part.mean(0) for part in task.batch_of([0, 1], 0)[0]]
    assert (means[0] - means[1]).abs().max() > 0.2
    asked: list[int] = []
    made = task._made
    task._made = lambda homes, *rest: asked.extend(homes) or made(homes, *rest)
    with torch.no_grad():
        task.evaluate(task.model())
    assert asked
    assert min(asked) >= HELD_OUT_HOME


@pytest.mark.parametrize(
    ("kind", "args", "message"),
    [
        (Digits, {"batch_size": 0}, "batch_size is 0, at least 1"),
        (Digits, {"alpha": 0}, "alpha is 0, more than 0"),
        (Digits, {"alpha": -0.5}, "alpha is -0.5"),
        (Digits, {"alpha": float("nan")}, "alpha is nan"),
        (Digits, {"homes": 1438}, "1438 homes share 1437 examples"),
        (NaughtyOrNice, {"batch_size": 0}, "batch_size 0, at least 1"),
        (NaughtyOrNice, {"records": 0}, "records is 0"),
        (Linear, {"features": 0}, "features is 0"),
        (Linear, {"batch_size": 0}, "batch_size 0, at least 1"),
        (Linear, {"noise": -0.1}, "noise is -0.1"),
        (Linear, {"noise": float("nan")}, "noise is nan"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_by_name(kind, args, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        kind(**{"homes": 2, "seed": 0} | args)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_split_is_disjoint_complete_and_leaves_no_home_empty(data):
    labels = np.array(data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=120), label="labels"))
    homes = data.draw(st.integers(1, len(labels)), label="homes")
    alpha = data.draw(st.sampled_from([1e-3, 0.1, 0.5, 1.0, 100.0]), label="alpha")
    seed = data.draw(st.integers(0, 2**63 - 1), label="seed")
    parts = dirichlet_split(labels, homes, alpha, seed)
    assert len(parts) == homes
    assert all(len(part) for part in parts)
    assert sorted(torch.cat(parts).tolist()) == list(range(len(labels)))
    again = dirichlet_split(labels, homes, alpha, seed)
    assert all(torch.equal(one, other) for one, other in zip(parts, again, strict=True))


def test_a_small_alpha_splits_more_unevenly_than_a_large_one():
    labels = np.arange(2000) % 10

    def spread(alpha: float) -> float:
        return float(np.std([len(part) for part in dirichlet_split(labels, 10, alpha, 3)]))

    assert spread(0.1) > 3 * spread(100.0)


def test_more_homes_than_examples_are_refused():
    with pytest.raises(ValueError, match="3 homes share 2 examples"):
        dirichlet_split(np.array([0, 1]), 3, 1.0, 0)


# -- measures -------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 6), st.data())
def test_macro_f1_is_scikit_learn_s(classes, data):
    pairs = data.draw(
        st.lists(st.tuples(*[st.integers(0, classes - 1)] * 2), min_size=1, max_size=40), label="pairs"
    )
    truth, guess = torch.tensor(pairs).T
    reference = f1_score(truth, guess, average="macro", labels=range(classes), zero_division=0)
    assert macro_f1(truth, guess, classes) == pytest.approx(reference, abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40))
def test_binary_f1_is_scikit_learn_s(pairs):
    truth, guess = torch.tensor(pairs).T
    reference = f1_score(truth, guess, zero_division=0)
    assert binary_f1(truth, guess) == pytest.approx(reference, abs=1e-12)
    assert binary_f1(truth.float(), guess.float()) == binary_f1(truth, guess)


# -- seeds ----------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 2**53), st.integers(0, 2**20), st.integers(0, 2**30)), unique=True))
def test_seeds_are_63_bit_numbers_that_do_not_collide(triples):
    seeds = [derive_seed(seed, "batch", home, round) for seed, home, round in triples]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert len(set(seeds)) == len(seeds)


def test_a_seed_is_what_it_has_always_been():
    """It decides every bit of every model: changing it silently would break stored digests."""
    text = hashlib.blake2b(b"7:batch:3:11", digest_size=8).digest()
    assert derive_seed(7, "batch", 3, 11) == int.from_bytes(text, "big") // 2


# -- loading --------------------------------------------------------------------------------------------

GOOD = """
    import torch
    from torch import nn
    from elf_worker.tasks import Task

    class Sleigh(Task):
        def __init__(self, *, homes, seed, reindeer=8):
            super().__init__(homes=homes, seed=seed)
            if reindeer < 1:
                raise ValueError("a sleigh needs\\na reindeer")
            self.reindeer = reindeer
        def model(self): return nn.Linear(2, 1)
        def batches(self, home, round): yield torch.ones(4, 2)
        def loss(self, model, batch): return model(batch).mean()
        def evaluate(self, model): return {"joy": 1.0}

    class Abstract(Task):
        pass

    class NoTask:
        pass

    nothing = None
"""


@pytest.fixture
def module(tmp_path, monkeypatch) -> Iterator[Callable[[str], str]]:
    """Writes a user's module where it can be imported; gives its name."""
    import sys

    monkeypatch.syspath_prepend(str(tmp_path))
    names: list[str] = []

    def write(text: str) -> str:
        name = f"user_module_{len(names)}_{tmp_path.name.replace('-', '_')}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        importlib.invalidate_caches()
        names.append(name)
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)


def load(entrypoint: str, args: dict[str, Any] | None = None) -> Task:
    return tasks.load(entrypoint, args or {}, homes=3, seed=9)


def test_a_user_s_task_is_loaded_with_homes_seed_and_args(module):
    task = load(f"{module(GOOD)}:Sleigh", {"reindeer": 9})
    assert (task.homes, task.seed, task.reindeer) == (3, 9, 9)


def refusal(entrypoint: str, args: dict[str, Any] | None = None) -> str:
    with pytest.raises(TaskError) as caught:
        load(entrypoint, args)
    message = str(caught.value)
    assert "\n" not in message, "it becomes one line of a status and of a log"
    return message


def test_an_unknown_module_is_named():
    message = refusal("no_such_place.anywhere:Sleigh")
    assert message.startswith(
        "spec.task.entrypoint: cannot import 'no_such_place.anywhere' in the worker image: "
    )


def test_a_module_that_imports_what_is_not_there_names_what_is_missing(module):
    name = module("import no_such_dependency")
    assert f"cannot import '{name}'" in (message := refusal(f"{name}:Sleigh"))
    assert "no_such_dependency" in message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("class Sleigh(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
    ids=["raises", "syntax", "exits"],
)
def test_a_module_that_raises_when_imported_says_what(module, text, named):
    name = module(text)
    message = refusal(f"{name}:Sleigh")
    assert message.startswith(f"spec.task.entrypoint: importing '{name}' raised {named}")


@pytest.mark.parametrize("attribute", ["Sleight", "sleigh", "Slegh"])
def test_an_unknown_attribute_is_answered_with_the_one_that_was_meant(module, attribute):
    name = module(GOOD)
    assert refusal(f"{name}:{attribute}") == (
        f"spec.task.entrypoint: '{attribute}' is not in '{name}'; did you mean 'Sleigh'?"
    )


@pytest.mark.parametrize("attribute", ["NoTask", "torch", "nothing"])
def test_something_that_is_no_task_is_called_that(module, attribute):
    message = refusal(f"{module(GOOD)}:{attribute}")
    assert f"'{attribute}' is not a subclass of elf_worker.tasks.Task; did you mean " in message


def test_a_module_without_any_task_offers_none(module):
    name = module("x = 1")
    assert refusal(f"{name}:Sleigh") == f"spec.task.entrypoint: 'Sleigh' is not in '{name}'"


def test_a_task_with_missing_methods_names_them_and_the_entrypoint(module):
    message = refusal(f"{module(GOOD)}:Abstract")
    assert message.startswith("spec.task.entrypoint: "), "no argument could help"
    for method in ("batches", "evaluate", "loss", "model"):
        assert method in message


def test_a_constructor_that_raises_says_what_on_one_line(module):
    message = refusal(f"{module(GOOD)}:Sleigh", {"reindeer": 0})
    assert message == "spec.task.args: Sleigh raised ValueError: a sleigh needs a reindeer"


@pytest.mark.parametrize("args", [{"raindeer": 8}, {"homes": 3}], ids=["misspelt", "twice"])
def test_arguments_a_task_does_not_take_are_named(module, args):
    message = refusal(f"{module(GOOD)}:Sleigh", args)
    assert message.startswith("spec.task.args: Sleigh raised TypeError: ")
    assert next(iter(args)) in message


# -- models as vectors ----------------------------------------------------------------------------------


class Bare(Task):
    """The smallest task; a test replaces what it is about."""

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1, bias=False))

    def batches(self, home: int, round: int) -> Iterator[Any]:
        inputs = torch.randn(5 + home, 3, generator=self.generator(home, round))
        yield inputs, inputs.sum(1, keepdim=True)

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        return functional.mse_loss(model(batch[0]), batch[1])

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return {"zero": 0.0}


def bare(**methods: Any) -> Task:
    return type("Changed", (Bare,), methods)(homes=3, seed=4)


def test_models_are_built_alike_from_the_seed_alone():
    torch.manual_seed(1)
    one = vectors.build_model(bare())
    torch.manual_seed(2)
    other = vectors.build_model(bare())
    assert vectors.digest(one) == vectors.digest(other)
    assert vectors.digest(vectors.build_model(Bare(homes=3, seed=5))) != vectors.digest(one)
    assert one.training


def test_a_vector_holds_the_parameters_in_order_and_is_a_copy():
    model = vectors.build_model(bare())
    vector = vectors.flatten(model)
    expected = np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])
    assert vector.dtype == np.float32
    np.testing.assert_array_equal(vector, expected)
    vector += 1
    np.testing.assert_array_equal(vectors.flatten(model), expected)


def test_a_model_of_one_parameter_is_flattened_to_a_copy_too():
    model = nn.Linear(2, 2, bias=False)
    vectors.flatten(model)[:] = 7
    assert not bool((model.weight == 7).any())


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_flatten_undoes_unflatten_bit_for_bit(seed):
    model = vectors.build_model(bare())
    bits = np.random.default_rng(seed).integers(0, 0x7F7FFFFF, 10).astype(np.uint32)  # finite floats
    weights = bits.view(np.float32)
    vectors.unflatten(model, memoryview(bytearray(weights.tobytes())).cast("B"))
    assert vectors.flatten(model).tobytes() == weights.tobytes()
    assert all(p.requires_grad for p in model.parameters())


def test_unflatten_keeps_no_hold_of_the_bytes_it_was_given():
    model = vectors.build_model(bare())
    payload = bytearray(np.ones(10, np.float32).tobytes())
    vectors.unflatten(model, payload)
    payload[:] = bytes(len(payload))
    assert set(vectors.flatten(model)) == {1.0}


@pytest.mark.parametrize("size", [0, 9, 11])
def test_unflatten_refuses_a_vector_of_another_size(size):
    """A state of another model, half taken, would train to a model that nobody asked for."""
    model = vectors.build_model(bare())
    before = vectors.digest(model)
    with pytest.raises((ValueError, RuntimeError)):
        vectors.unflatten(model, np.ones(size, np.float32))
    assert vectors.digest(model) == before


def test_the_digest_is_of_names_dtypes_shapes_and_bytes():
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.5, -2.0]]))
        model.bias.fill_(0.25)
    text = (
        b"bias torch.float32 (1,)\n" + np.array([0.25], "<f4").tobytes()
        + b"weight torch.float32 (1, 2)\n" + np.array([1.5, -2.0], "<f4").tobytes()
    )  # fmt: skip
    assert vectors.digest(model) == "sha256:" + hashlib.sha256(text).hexdigest()


def test_the_digest_notices_one_bit_one_name_and_one_shape():
    def digest(model: nn.Module, change: Callable[[nn.Module], None] = lambda model: None) -> str:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(1.0)
            change(model)
        return vectors.digest(model)

    def one_bit(model: nn.Module) -> None:
        model.weight.view(torch.int32)[0, 0] ^= 1

    plain = digest(nn.Linear(2, 2, bias=False))
    assert digest(nn.Linear(2, 2, bias=False)) == plain
    assert digest(nn.Linear(2, 2, bias=False), one_bit) != plain
    assert digest(nn.Linear(4, 1, bias=False)) != plain
    assert digest(nn.Sequential(nn.Linear(2, 2, bias=False))) != plain


def test_the_digest_does_not_depend_on_how_a_parameter_lies_in_memory():
    model = nn.Linear(2, 3, bias=False)
    before = vectors.digest(model)
    model.weight.data = model.weight.data.t().contiguous().t()
    assert not model.weight.is_contiguous()
    assert vectors.digest(model) == before


def test_a_home_s_vector_is_its_gradient_and_loss_times_its_examples():
    task = bare()
    model = vectors.build_model(task)
    vector, weight = vectors.home_vector(task, model, 2, 6)
    batch = next(iter(task.batches(2, 6)))
    model.zero_grad()
    loss = task.loss(model, batch)
    loss.backward()
    gradient = torch.cat([p.grad.reshape(-1) for p in model.parameters()])
    assert weight == 7
    assert vector.dtype == np.float32
    np.testing.assert_array_equal(vector[:-1], (gradient * 7).numpy())
    assert vector[-1] == (loss * 7).item()


def test_a_home_s_vector_is_the_same_whatever_was_computed_before():
    task = bare(loss=lambda self, model, batch: functional.dropout(model(batch[0]), 0.5).mean())
    model = vectors.build_model(task)
    once = vectors.home_vector(task, model, 1, 3)[0].tobytes()
    vectors.home_vector(task, model, 2, 3)
    torch.randn(5)
    assert vectors.home_vector(task, model, 1, 3)[0].tobytes() == once
    assert vectors.home_vector(task, model, 1, 4)[0].tobytes() != once


def test_a_parameter_without_a_gradient_contributes_zeros():
    task = bare(loss=lambda self, model, batch: model[0](batch[0]).mean())
    vector, _ = vectors.home_vector(task, vectors.build_model(task), 0, 0)
    assert vector.shape == (11,)
    assert set(vector[8:10]) == {0.0}
    assert set(vector[:8]) != {0.0}


def test_a_loss_in_double_precision_still_gives_a_float32_vector():
    """Targets from numpy are float64, and so is a loss against them; the wire carries float32."""

    def loss(self: Task, model: nn.Module, batch: Any) -> torch.Tensor:
        return functional.mse_loss(model(batch[0]).double(), batch[1].double())

    task = bare(loss=loss)
    vector, _ = vectors.home_vector(task, vectors.build_model(task), 0, 0)
    assert vector.dtype == np.float32


def raises(*_: Any) -> Any:
    raise KeyError("sleigh")


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"batches": raises}, "batches() for home 1 in round 8 raised KeyError: 'sleigh'"),
        ({"batches": lambda self, home, round: map(raises, "x")}, "batches() for home 1 in round 8 raised"),
        ({"batches": lambda self, home, round: None}, "batches() for home 1 in round 8 raised TypeError"),
        ({"batches": lambda self, home, round: []}, "batches(home=1, round=8) is empty, one batch is needed"),
        ({"loss": raises}, "loss() for home 1 in round 8 raised KeyError: 'sleigh'"),
        ({"loss": lambda self, model, batch: 1.0}, "loss() for home 1 in round 8 raised AttributeError"),
        ({"loss": lambda self, model, batch: model(batch[0])}, "loss() for home 1 in round 8 raised"),
        ({"loss": lambda self, model, batch: torch.zeros(())}, "loss() for home 1 in round 8 raised"),
        ({"examples": raises}, "for home 1 in round 8 raised KeyError"),
    ],
    ids=[
        "batches raises", "batches raises late", "no iterator", "no batch", "loss raises", "loss is a number",
        "loss is a vector", "loss has no gradient", "examples raises",
    ],
)  # fmt: skip
def test_what_a_task_does_wrong_is_said_with_method_home_and_round(methods, message):
    task = bare(**methods)
    model = vectors.build_model(task)
    with pytest.raises(TaskError, match=r"^spec\.task\.entrypoint: ") as caught:
        vectors.home_vector(task, model, 1, 8)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_very_long_complaint_is_cut_to_what_a_message_may_hold():
    """It travels in a frame that a longer one would make unreadable: the home would never be heard."""

    def batches(*_: Any) -> Any:
        raise ValueError("so much " * 300_000)

    task = bare(batches=batches)
    with pytest.raises(TaskError) as caught:
        vectors.home_vector(task, vectors.build_model(task), 1, 8)
    assert len(str(caught.value)) < 10_000
    assert "batches() for home 1 in round 8 raised ValueError: so much so much" in str(caught.value)


class Buried(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.deep = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        (Buried, ["layer deep.1 (BatchNorm2d) keeps running statistics", "use GroupNorm or LayerNorm"]),
        (
            lambda: nn.Linear(2, 2).double(),
            ["parameter weight is torch.float64, torch.float32 is needed"],
        ),
        (nn.Tanh, ["the model has no parameters to train"]),
        (lambda: raises(), ["model() raised KeyError: 'sleigh'"]),
        (lambda: None, ["model()", "torch.nn.Module"]),
        (lambda: nn.Linear, ["model()", "torch.nn.Module"]),
    ],
    ids=["BatchNorm", "float64", "no parameters", "raises", "None", "a class"],
)
def test_a_model_that_cannot_be_trained_exactly_is_refused_and_said_why(model, parts):
    with pytest.raises(TaskError) as caught:
        vectors.build_model(bare(model=lambda self: model()))
    assert str(caught.value).startswith("spec.task.entrypoint: ")
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "norm",
    [nn.GroupNorm(1, 2), nn.BatchNorm1d(2, track_running_stats=False), nn.LayerNorm(2)],
    ids=lambda norm: type(norm).__name__,
)
def test_layers_that_keep_no_statistics_are_welcome(norm):
    vectors.build_model(bare(model=lambda self: nn.Sequential(nn.Linear(2, 2), norm)))
