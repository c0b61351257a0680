"""Specs that are wrong are told so by field; defaults, quorum and numbers; the CRD's own hygiene."""

from __future__ import annotations

import copy
import json
import pathlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from builders import SPEC, body, job, overlay, valid
from elf_operator import schema
from elf_operator.podbuilder import job_config
from elf_operator.spec import changed_fields, count_of, parse_job, refusals
from elf_worker.contract import JobConfig, Wiring, format_ids, parse_ids
from strategies import ids, job_configs, json_values, wirings

ROOT = pathlib.Path(__file__).parents[3]
QUORUM = 'a count (12) or a percentage from "1%" to "100%" is expected'
ENTRYPOINT = "`module:Class` is expected, such as elf_worker.tasks.digits:Digits"

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "quorum of one and a half": (
        {"round": {"quorum": 1.5}},
        f"spec.round.quorum: 1.5 is malformed; {QUORUM}",
    ),
    "quorum of zero": ({"round": {"quorum": 0}}, "spec.round.quorum: is 0, at least 1 is needed"),
    "quorum below zero": ({"round": {"quorum": -3}}, "spec.round.quorum: is -3, at least 1 is needed"),
    "quorum of 0%": ({"round": {"quorum": "0%"}}, f"spec.round.quorum: '0%' is malformed; {QUORUM}"),
    "quorum of 101%": ({"round": {"quorum": "101%"}}, f"spec.round.quorum: '101%' is malformed; {QUORUM}"),
    "quorum of 012%": ({"round": {"quorum": "012%"}}, f"spec.round.quorum: '012%' is malformed; {QUORUM}"),
    "quorum as text": ({"round": {"quorum": "12"}}, f"spec.round.quorum: '12' is malformed; {QUORUM}"),
    "quorum of yes": ({"round": {"quorum": True}}, f"spec.round.quorum: True is malformed; {QUORUM}"),
    "quorum of 13 of 12 homes": (
        {"round": {"quorum": 13}, "homes": {"replicas": 12}},
        "spec.round.quorum: is 13, at most spec.homes.replicas (12) is allowed",
    ),
    "no homes": ({"homes": {"replicas": 0}}, "spec.homes.replicas: is 0, at least 1 is needed"),
    "too many homes": (
        {"homes": {"replicas": 1_000_001}},
        "spec.homes.replicas: is 1000001, at most 1000000 is allowed",
    ),
    "homes as text": (
        {"homes": {"replicas": "4"}},
        "spec.homes.replicas: is '4', an integer is expected",
    ),
    "homes as a decimal number": (
        {"homes": {"replicas": 4.0}},
        "spec.homes.replicas: is 4.0, an integer is expected, without a decimal point: 4",
    ),
    "quorum as a decimal number": (
        {"round": {"quorum": 3.0}},
        f"spec.round.quorum: 3.0 is malformed; {QUORUM}",
    ),
    "homes that are true": (
        {"homes": {"replicas": True}},
        "spec.homes.replicas: is True, an integer is expected",
    ),
    "a share of infinity": (
        {"faultInjection": {"homeFailureProbability": float("inf")}},
        "spec.faultInjection.homeFailureProbability: is inf, a number is expected",
    ),
    "a share that is no number": (
        {"faultInjection": {"homeFailureProbability": float("nan")}},
        "spec.faultInjection.homeFailureProbability: is nan, a number is expected",
    ),
    "an image with a space": (
        {"image": "my worker"},
        "spec.image: 'my worker' is malformed; "
        "the name of an image is expected, such as registry.example/elf-worker:1.2",
    ),
    "an image of many words": (
        {"image": "a" * 513},
        "spec.image: has 513 characters, at most 512 are allowed",
    ),
    "too many statistics": (
        {"statistics": ["a:B"] * 33},
        "spec.statistics: has 33 entries, at most 32 are allowed",
    ),
    "a statistic that is a class alone": (
        {"statistics": ["a:B", "Ages"]},
        "spec.statistics[1]: 'Ages' is malformed; "
        "`module:Class` is expected, such as my_package.statistics:Ages",
    ),
    "a target without a metric": (
        {"target": {"metric": "", "atLeast": "1"}},
        "spec.target.metric: is empty",
    ),
    "a target that nothing reaches": (
        {"target": {"metric": "f1", "atLeast": "1e999"}},
        "spec.target.atLeast: is 1e999, a number that 64 bits can hold is expected",
    ),
    "homes as a list": ({"homes": [4]}, "spec.homes: is [4], an object is expected"),
    "a pod holds more homes than there are": (
        {"homes": {"replicas": 4, "perPod": 5}},
        "spec.homes.perPod: is 5, at most spec.homes.replicas (4) is allowed",
    ),
    "more MDCs than homes": (
        {"miniDataCenters": {"replicas": 5}},
        "spec.miniDataCenters.replicas: is 5, at most spec.homes.replicas (4) is allowed: "
        "an MDC without a home has nothing to add up",
    ),
    "groups larger than all homes": (
        {"aggregation": {"method": "median", "groupSize": 5}, "miniDataCenters": {"replicas": 1}},
        "spec.aggregation.groupSize: is 5, at most spec.homes.replicas (4) is allowed",
    ),
    "more MDCs than groups": (
        {"aggregation": {"method": "median"}},
        "spec.miniDataCenters.replicas: is 2, at most 1 is allowed: 4 homes make 1 "
        "group of spec.aggregation.groupSize (4), and an MDC serves whole groups",
    ),
    "one MDC more than groups": (
        {
            "aggregation": {"method": "trimmedMean", "groupSize": 3},
            "homes": {"replicas": 11},
            "miniDataCenters": {"replicas": 4},
        },
        "spec.miniDataCenters.replicas: is 4, at most 3 is allowed: 11 homes make 3 "
        "groups of spec.aggregation.groupSize (3), and an MDC serves whole groups",
    ),
    "MDCs that cannot hold all homes": (
        {"homes": {"replicas": 12}, "miniDataCenters": {"replicas": 5, "capacity": 2}},
        "spec.miniDataCenters.capacity: is 2, at least 3 is needed: spec.miniDataCenters.replicas (5) times "
        "2 is 10, spec.homes.replicas is 12",
    ),
    "MDCs that hold nobody": (
        {"miniDataCenters": {"capacity": 0}},
        "spec.miniDataCenters.capacity: is 0, at least 1 is needed",
    ),
    "a group larger than the capacity": (
        {
            "aggregation": {"method": "median", "groupSize": 4},
            "homes": {"replicas": 11},
            "miniDataCenters": {"replicas": 2, "capacity": 5},
        },
        "spec.miniDataCenters.capacity: is 5, at least 6 is needed: an MDC serves whole groups, 11 homes "
        "make 2 of up to 6, and 2 MDCs have to serve up to 1 each",
    ),
    "room for homes, but not for whole groups": (
        {
            "aggregation": {"method": "trimmedMean", "groupSize": 4},
            "homes": {"replicas": 12},
            "miniDataCenters": {"replicas": 2, "capacity": 7},
        },
        "spec.miniDataCenters.capacity: is 7, at least 8 is needed: an MDC serves whole groups, 12 homes "
        "make 3 of up to 4, and 2 MDCs have to serve up to 2 each",
    ),
    "stragglers that are as fast as the others": (
        {"failurePolicy": {"stragglerFactor": "1.0"}},
        "spec.failurePolicy.stragglerFactor: is 1.0, a number above 1 is expected",
    ),
    "stragglers that never end": (
        {"failurePolicy": {"stragglerFactor": "1e999"}},
        "spec.failurePolicy.stragglerFactor: is 1e999, a number above 1 is expected",
    ),
    "a straggler factor that is no text": (
        {"failurePolicy": {"stragglerFactor": 5}},
        "spec.failurePolicy.stragglerFactor: is 5, a string is expected",
    ),
    "a straggler factor in words": (
        {"failurePolicy": {"stragglerFactor": "five"}},
        "spec.failurePolicy.stragglerFactor: 'five' is malformed; "
        'a decimal number as a string is expected, such as "5"',
    ),
    "clipping to nothing": (
        {"aggregation": {"clipNorm": "0"}},
        "spec.aggregation.clipNorm: is 0, a number above 0 is expected",
    ),
    "clipping to what is zero for a computer": (
        {"aggregation": {"clipNorm": "1e-999"}},
        "spec.aggregation.clipNorm: is 1e-999, a number above 0 is expected",
    ),
    "clipping to infinity": (
        {"aggregation": {"clipNorm": "1e999"}},
        "spec.aggregation.clipNorm: is 1e999, a number above 0 is expected",
    ),
    "clipping to a number that is no text": (
        {"aggregation": {"clipNorm": 1.5}},
        "spec.aggregation.clipNorm: is 1.5, a string is expected",
    ),
    "a method that there is not": (
        {"aggregation": {"method": "mode"}},
        "spec.aggregation.method: 'mode' is not one of ['mean', 'trimmedMean', 'median']",
    ),
    "a precision that there is not": (
        {"aggregation": {"precision": "float8"}},
        "spec.aggregation.precision: 'float8' is not one of ['float32', 'float16', 'bfloat16']",
    ),
    "trimming nothing": (
        {"aggregation": {"trimPercent": 0}},
        "spec.aggregation.trimPercent: is 0, at least 1 is needed",
    ),
    "trimming half": (
        {"aggregation": {"trimPercent": 50}},
        "spec.aggregation.trimPercent: is 50, at most 49 is allowed",
    ),
    "groups of two": (
        {"aggregation": {"groupSize": 2}},
        "spec.aggregation.groupSize: is 2, at least 3 is needed",
    ),
    "a typing error in the aggregation": (
        {"aggregation": {"clipnorm": "1"}},
        "spec.aggregation.clipnorm: no such field; did you mean 'clipNorm'?",
    ),
    "no rounds": ({"rounds": 0}, "spec.rounds: is 0, at least 1 is needed"),
    "a seed below zero": ({"seed": -1}, "spec.seed: is -1, at least 0 is needed"),
    "suspend as text": ({"suspend": "yes"}, "spec.suspend: is 'yes', a boolean is expected"),
    "a class alone": (
        {"task": {"entrypoint": "Digits"}},
        f"spec.task.entrypoint: 'Digits' is malformed; {ENTRYPOINT}",
    ),
    "a file": (
        {"task": {"entrypoint": "tasks/digits.py"}},
        f"spec.task.entrypoint: 'tasks/digits.py' is malformed; {ENTRYPOINT}",
    ),
    "a target that is a number": (
        {"target": {"metric": "f1", "atLeast": 0.9}},
        "spec.target.atLeast: is 0.9, a string is expected",
    ),
    "a target that is no number": (
        {"target": {"metric": "f1", "atLeast": "high"}},
        "spec.target.atLeast: 'high' is malformed; "
        'a decimal number as a string is expected, such as "0.95"',
    ),
    "half a target": ({"target": {"metric": "f1"}}, "spec.target.atLeast: is required"),
    "an optimizer with a dot": (
        {"optimizer": {"name": "torch.Adam"}},
        "spec.optimizer.name: 'torch.Adam' is malformed; "
        "the name of a class of torch.optim is expected, such as Adam",
    ),
    "a claim in capitals": (
        {"northPole": {"checkpoint": {"volumeClaim": "Freezer"}}},
        "spec.northPole.checkpoint.volumeClaim: 'Freezer' is malformed; "
        "the name of a PersistentVolumeClaim is expected",
    ),
    "a typing error at the top": (
        {"miniDataCentres": {"replicas": 2}},
        "spec.miniDataCentres: no such field; did you mean 'miniDataCenters'?",
    ),
    "a typing error below": (
        {"homes": {"replica": 4}},
        "spec.homes.replica: no such field; did you mean 'replicas'?",
    ),
    "a typing error far below": (
        {"northPole": {"checkpoint": {"everyRound": 4}}},
        "spec.northPole.checkpoint.everyRound: no such field; did you mean 'everyRounds'?",
    ),
    "a field like no other": (
        {"round": {"snow": True}},
        "spec.round.snow: no such field; known: deadlineSeconds, quorum",
    ),
}


@pytest.mark.parametrize("sentence", BAD)
def test_what_is_wrong_is_said_by_field_and_with_what_is_right(sentence: str) -> None:
    change, expected = BAD[sentence]
    parsed = job(**change)
    assert parsed.errors == (expected,)
    assert parsed.spec is None and parsed.recipe == {}


def test_every_mistake_is_named_at_once() -> None:
    assert job(rounds=0, seed=-1, homes={"replica": 1}).errors == (
        "spec.homes.replica: no such field; did you mean 'replicas'?",
        "spec.rounds: is 0, at least 1 is needed",
        "spec.seed: is -1, at least 0 is needed",
    )


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (None, "spec.task: is required"),
        ({}, "spec.task: is required"),
        ({"task": {}}, "spec.task.entrypoint: is required"),
        ({"task": None}, "spec.task: is required"),
        ("digits", "spec: an object is expected"),
        ([], "spec: an object is expected"),
    ],
)
def test_a_spec_without_a_task(spec: Any, expected: str) -> None:
    assert parse_job({"metadata": {"name": "sleigh"}, "spec": spec}).errors == (expected,)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", "metadata.name: is required"),
        ("x" * 41, "metadata.name: has 41 characters, at most 40 are allowed"),
    ],
)
def test_names_of_wrong_length(name: str, expected: str) -> None:
    assert job(name).errors == (expected,)


@pytest.mark.parametrize("name", ["2024-run", "my.job", "Sleigh", "a/b", "a b", "-sleigh"])
def test_a_name_that_no_service_can_have_is_refused(name: str) -> None:
    """A resource may be called `my.job` or `2024-run`; its Service, `my.job-npdc`, may not (RFC 1035)."""
    errors = job(name).errors
    assert len(errors) == 1 and errors[0].startswith("metadata.name: ")


def test_the_longest_name_leaves_room_for_those_of_pods() -> None:
    assert job("x" * 40).errors == ()
    assert len(f"{'x' * 40}-mdc-9999-9999999") <= 63


LINE_BREAKS: dict[str, dict[str, Any]] = {
    "spec.round.quorum": {"round": {"quorum": "80%\n"}},
    "spec.target.atLeast": {"target": {"metric": "f1", "atLeast": "0.9\n"}},
    "spec.task.entrypoint": {"task": {"entrypoint": "m:C\n"}},
    "spec.output.path": {"output": {"volumeClaim": "c", "path": "a\n"}},
    "spec.output.url": {"output": {"url": "s3://b\n"}},
}


@pytest.mark.parametrize("path", LINE_BREAKS)
def test_a_line_break_at_the_end_is_refused_as_by_the_server(path: str) -> None:
    [error] = job(**LINE_BREAKS[path]).errors
    assert error.startswith(f"{path}: ")


ODD: dict[str, dict[str, Any]] = {
    "keys that are no text": {"homes": {1: 2, "replica": 4}},
    "an optimizer argument that is no text": {"optimizer": {"args": {True: 1}}},
}


@pytest.mark.parametrize("sentence", ODD)
def test_odd_specs_are_refused_or_understood_but_never_raise(sentence: str) -> None:
    assert_typed_or_refused(overlay(SPEC, ODD[sentence]))


def paths(node: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, sub in node.get("properties", {}).items():
        yield (*above, name)
        yield from paths(sub, (*above, name))


odd_values = json_values | st.floats() | st.integers(0, 9).map(float) | st.sampled_from(["5%\n", "1e999"])


@given(st.sampled_from(sorted(paths(schema.spec_schema()))), odd_values)
def test_no_value_of_any_field_makes_parsing_raise(path: tuple[str, ...], value: Any) -> None:
    spec = overlay(SPEC, {})
    target = spec
    for part in path[:-1]:
        target = target.setdefault(part, {})
    target[path[-1]] = value
    assert_typed_or_refused(spec)


def assert_typed_or_refused(spec: Any) -> None:
    parsed = parse_job({"metadata": {"name": "sleigh"}, "spec": spec})
    assert (parsed.spec is None) == bool(parsed.errors)
    if parsed.spec is not None:
        for field in ("homes", "per_pod", "mdcs", "rounds", "seed", "quorum", "max_replacements"):
            assert type(getattr(parsed.spec, field)) is int, field


# -- what is filled in --------------------------------------------------------------------------------------


def test_the_smallest_job() -> None:
    parsed = parse_job({"metadata": {"name": "sleigh"}, "spec": {"task": {"entrypoint": "m:C"}}})
    spec = valid(parsed)
    assert (spec.homes, spec.per_pod, spec.mdcs, spec.quorum) == (4, 1, 1, 4)
    assert (spec.rounds, spec.evaluate_every, spec.seed, spec.suspend) == (100, 5, 0, False)
    assert (spec.optimizer, spec.optimizer_args, spec.task_args) == ("Adam", {}, {})
    assert (spec.target_metric, spec.target_at_least, spec.image, spec.volume_claim) == (None,) * 4
    assert (spec.deadline_seconds, spec.checkpoint_every) == (30, 10)
    assert (spec.mdc_timeout_seconds, spec.max_replacements) == (5, 100)
    assert (spec.aggregation, spec.precision, spec.clip_norm) == ("mean", "float32", None)
    assert (spec.trim_percent, spec.group_size) == (10, 4)
    assert spec.units == [range(0, 1), range(1, 2), range(2, 3), range(3, 4)]
    assert parsed.namespace == "default"


def test_defaults_are_those_of_the_crd() -> None:
    """Each default of the schema is found in a defaulted spec; the value of no given field is changed."""
    filled = schema.defaulted({"task": {"entrypoint": "m:C"}})
    for path, default in defaults(schema.spec_schema()):
        value: Any = filled
        for part in path:
            value = value[part]
        assert value == default or (default == {} and isinstance(value, dict)), path
    given_all = schema.defaulted({"rounds": 3, "homes": {"replicas": 2}, "suspend": True})
    assert (given_all["rounds"], given_all["homes"]["replicas"], given_all["suspend"]) == (3, 2, True)


def defaults(node: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, sub in node.get("properties", {}).items():
        if "default" in sub:
            yield (*above, name), sub["default"]
        yield from defaults(sub, (*above, name))


def test_null_is_a_field_that_is_not_there() -> None:
    """As for the server; what is the user's own keeps its nulls."""
    nulls = {"homes": None, "round": {"quorum": None}, "output": None, "image": None, "statistics": None}
    given = nulls | {"optimizer": {"args": {"foreach": None}}, "miniDataCenters": {"capacity": None}}
    spec = schema.defaulted({"task": {"entrypoint": "m:C"}, **given})
    assert spec["homes"]["replicas"] == 4 and spec["round"]["quorum"] == "100%" and spec["statistics"] == []
    assert not {"output", "image"} & spec.keys() and spec["miniDataCenters"].keys() == {
        "replicas",
        "template",
    }
    assert spec["optimizer"]["args"] == {"foreach": None}
    assert schema.errors(spec) == []
    assert schema.errors(schema.defaulted({"task": {"entrypoint": "m:C"}, "statistics": [None]})) == [
        "spec.statistics[0]: is None, a string is expected"
    ]


def test_defaulting_changes_no_argument_and_does_nothing_twice() -> None:
    spec = overlay(SPEC, {"homes": {"perPod": 2}})
    before = copy.deepcopy(spec)
    filled = schema.defaulted(spec)
    assert spec == before
    assert schema.defaulted(filled) == filled


def test_what_one_job_is_given_never_reaches_the_next() -> None:
    one, other = schema.defaulted({}), schema.defaulted({})
    for part, field in (("optimizer", "args"), ("homes", "template"), ("northPole", "checkpoint")):
        assert one[part][field] is not other[part][field], f"spec.{part}.{field} is shared"


@pytest.mark.parametrize(
    ("quorum", "homes", "count"),
    [
        (3, 12, 3),
        ("100%", 12, 12),
        ("50%", 12, 6),
        ("50%", 7, 4),
        ("1%", 7, 1),
        ("99%", 7, 7),
        ("29%", 100, 29),
        ("58%", 50, 29),
        ("7%", 1_000_000, 70_000),
    ],
)
def test_percentages_are_rounded_up(quorum: int | str, homes: int, count: int) -> None:
    assert count_of(quorum, homes) == count
    spec = valid(job(round={"quorum": quorum}, homes={"replicas": homes}))
    assert spec.quorum == count


@given(st.integers(1, 100), st.integers(1, 1_000_000))
def test_a_percentage_is_the_smallest_count_that_reaches_it(percent: int, homes: int) -> None:
    count = count_of(f"{percent}%", homes)
    assert count * 100 >= percent * homes > (count - 1) * 100
    assert 1 <= count <= homes


def test_numbers_written_as_text_are_numbers_also_in_lists() -> None:
    given_args = {"lr": "0.01", "betas": ["0.9", "0.999"], "steps": "10", "eps": "1e-8", "x": [["2"], 3]}
    args = valid(job(optimizer={"args": given_args})).optimizer_args
    assert args == {"lr": 0.01, "betas": [0.9, 0.999], "steps": 10, "eps": 1e-8, "x": [[2], 3]}
    assert type(args["steps"]) is int


def test_text_booleans_and_numbers_stay_as_they_are() -> None:
    same = {"mode": "max", "amsgrad": True, "lr": 0.1, "foreach": None, "momentum": 1}
    args = valid(job(optimizer={"args": same})).optimizer_args
    assert args == same and args["amsgrad"] is True


def test_a_target_is_a_number() -> None:
    spec = valid(job(target={"metric": "f1", "atLeast": "0.95"}))
    assert (spec.target_metric, spec.target_at_least) == ("f1", 0.95)


@pytest.mark.parametrize(("homes", "per_pod", "pods"), [(4, 1, 4), (5, 2, 3), (4, 4, 1), (7, 3, 3)])
def test_pods_hold_all_homes(homes: int, per_pod: int, pods: int) -> None:
    assert valid(job(homes={"replicas": homes, "perPod": per_pod})).home_pods == pods


@pytest.mark.parametrize("clip", ["-1", "nan", "inf", "", " 1", "0x1", "1e", "1,5"])
def test_what_is_no_norm_to_clip_to(clip: str) -> None:
    [error] = job(aggregation={"clipNorm": clip}).errors
    assert error.startswith(f"spec.aggregation.clipNorm: {clip!r} is malformed; ")


@pytest.mark.parametrize(("clip", "norm"), [("1", 1.0), ("+.5", 0.5), ("2.", 2.0), ("1e-3", 1e-3)])
def test_a_norm_to_clip_to(clip: str, norm: float) -> None:
    assert valid(job(aggregation={"clipNorm": clip})).clip_norm == norm


def test_a_mean_has_no_groups_and_needs_no_homes_for_them() -> None:
    spec = valid(job(aggregation={"groupSize": 5}, miniDataCenters={"replicas": 4}))
    assert spec.units == [range(h, h + 1) for h in range(4)]


@pytest.mark.parametrize("method", ["median", "trimmedMean"])
@pytest.mark.parametrize(
    ("homes", "size", "mdcs", "units"),
    [(4, 4, 1, [4]), (3, 3, 1, [3]), (8, 4, 2, [4, 4]), (11, 3, 3, [4, 4, 3]), (7, 4, 1, [7])],
)
def test_groups_of_a_robust_method(method: str, homes: int, size: int, mdcs: int, units: list[int]) -> None:
    """As many MDCs as there are groups are allowed."""
    parsed = job(
        aggregation={"method": method, "groupSize": size},
        homes={"replicas": homes},
        miniDataCenters={"replicas": mdcs},
    )
    assert [len(unit) for unit in valid(parsed).units] == units


def test_every_mistake_of_an_aggregation_is_named_at_once() -> None:
    errors = job(
        aggregation={"method": "median", "groupSize": 5, "clipNorm": "0.0"}, miniDataCenters={"replicas": 5}
    ).errors
    assert [error.partition(":")[0] for error in errors] == [
        "spec.miniDataCenters.replicas",
        "spec.aggregation.clipNorm",
        "spec.aggregation.groupSize",
    ]


def test_pods_are_told_how_homes_are_combined() -> None:
    chosen = {"method": "trimmedMean", "trimPercent": 25, "groupSize": 3, "clipNorm": "2.5"}
    parsed = job(aggregation={**chosen, "precision": "bfloat16"}, miniDataCenters={"replicas": 1})
    config = job_config(parsed, valid(parsed))
    assert (config.aggregation, config.trim_percent, config.group_size) == ("trimmedMean", 25, 3)
    assert (config.clip_norm, config.precision) == (2.5, "bfloat16")


# -- what may not change ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"seed": 8}, ["spec.seed"]),
        ({"rounds": 8}, ["spec.rounds"]),
        ({"task": {"args": {"alpha": 1}}}, ["spec.task"]),
        ({"target": {"metric": "f1", "atLeast": "1"}}, ["spec.target"]),
        ({"evaluateEvery": 8}, ["spec.evaluateEvery"]),
        ({"optimizer": {"args": {"lr": "1"}}}, ["spec.optimizer"]),
        ({"round": {"quorum": 3}}, ["spec.round"]),
        ({"aggregation": {"trimPercent": 20}}, ["spec.aggregation"]),
        ({"aggregation": {"precision": "float16"}}, ["spec.aggregation"]),
        ({"aggregation": {"clipNorm": "1"}}, ["spec.aggregation"]),
        ({"homes": {"replicas": 8}}, []),
        ({"homes": {"perPod": 2}}, ["spec.homes.perPod"]),
        ({"miniDataCenters": {"replicas": 3}}, []),
        ({"suspend": True}, []),
        ({"image": "other"}, []),
        ({"homes": {"template": {"spec": {}}}}, []),
        ({"failurePolicy": {"maxReplacements": 3}}, []),
        ({"northPole": {"checkpoint": {"everyRounds": 3}}}, []),
    ],
)
def test_fields_that_decide_the_bits_may_not_change(change: dict[str, Any], expected: list[str]) -> None:
    assert changed_fields(job().recipe, job(**change).recipe) == expected
    assert changed_fields(job(**change).recipe, job().recipe) == expected


@pytest.mark.parametrize("method", ["median", "trimmedMean"])
def test_the_number_of_homes_may_not_change_where_it_decides_who_is_in_a_group(method: str) -> None:
    robust = {"aggregation": {"method": method}, "homes": {"replicas": 12}}
    more = robust | {"homes": {"replicas": 16}}
    assert changed_fields(job(**robust).recipe, job(**more).recipe) == ["spec.homes.replicas"]
    assert refusals(job(**robust).recipe, job(**more, seed=3).recipe) == [
        f"spec.homes.replicas: cannot change while aggregation.method is {method}: it decides which homes "
        "form a group; make a new job",
        "spec.seed: cannot change once the job has started; make a new job",
    ]


def test_a_recipe_survives_the_wiring() -> None:
    recipe = job(optimizer={"args": {"betas": (0.9, 0.99)}}).recipe
    assert Wiring.from_json(Wiring(recipe=recipe).to_json()).recipe == recipe


# -- the contract with the worker ---------------------------------------------------------------------------


@given(wirings())
def test_a_wiring_survives_the_wire(wiring: Wiring) -> None:
    assert Wiring.from_json(wiring.to_json()) == wiring
    assert "\n" not in wiring.to_json()
    assert wiring.home_of() == {h: i for i, s in wiring.mdcs.items() for h in s.homes}


@given(wirings())
def test_equal_wirings_are_equal_texts(wiring: Wiring) -> None:
    turned = replace(wiring, mdcs=dict(reversed(wiring.mdcs.items())))
    assert turned == wiring and turned.to_json() == wiring.to_json()


@given(job_configs)
def test_a_job_config_survives_the_environment(config: JobConfig) -> None:
    assert JobConfig.from_json(config.to_json()) == config
    assert "\n" not in config.to_json()


@given(ids)
def test_ids_survive_their_text(some: frozenset[int]) -> None:
    assert parse_ids(format_ids(some)) == some


@pytest.mark.parametrize(
    ("some", "text"), [((), ""), ((5,), "5"), ((0, 1, 2, 7), "0-2,7"), ((3, 1, 3, 2), "1-3"), ((1, 3), "1,3")]
)
def test_ids_as_text(some: tuple[int, ...], text: str) -> None:
    assert format_ids(some) == text


@pytest.mark.parametrize("text", ["x", "1-x", "-5", "1.5", "3-1", "1-", "1,,2", ","])
def test_other_texts_are_no_ids(text: str) -> None:
    with pytest.raises(ValueError):
        parse_ids(text)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"version": 1, "npdc": {}, "mdcs": {}}'])
def test_other_texts_are_no_wiring(text: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        Wiring.from_json(text)


# -- and besides -------------------------------------------------------------------------------------------


def test_what_is_off_by_default() -> None:
    assert (valid(job()).mdc_capacity, valid(job()).straggler_factor) == (None, None)
    chosen = valid(job(miniDataCenters={"capacity": 2}, failurePolicy={"stragglerFactor": "2.5"}))
    assert (chosen.mdc_capacity, chosen.straggler_factor) == (2, 2.5)


def test_a_parsed_job_is_plain_data() -> None:
    parsed = parse_job(body(labels={"team": "elves"}))
    assert (parsed.name, parsed.namespace, parsed.uid) == ("sleigh", "pole", "uid-of-sleigh")
    assert (parsed.generation, parsed.labels) == (1, {"team": "elves"})
    assert json.loads(json.dumps(parsed.recipe)) == parsed.recipe


def test_operator_is_no_package() -> None:
    """`operator/__init__.py` would hide Python's own `operator` module."""
    assert (ROOT / "operator").is_dir()
    assert not (ROOT / "operator" / "__init__.py").exists()
