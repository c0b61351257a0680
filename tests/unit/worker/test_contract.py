"""The job and sets of homes as text."""

from __future__ import annotations

import ast
import json
import pathlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elf_worker import contract
from elf_worker.contract import JobConfig, format_ids, groups, parse_ids


@given(
    st.builds(
        JobConfig,
        job=st.text(max_size=10),
        uid=st.text(max_size=10),
        homes=st.integers(1, 10**6),
        per_pod=st.integers(1, 100),
        rounds=st.integers(1, 10**8),
        seed=st.integers(0, 2**53 - 1),
        entrypoint=st.text(max_size=10),
        task_args=st.dictionaries(st.text(max_size=5), st.booleans() | st.integers() | st.text()),
        optimizer_args=st.dictionaries(st.text(max_size=5), st.floats(0, 1) | st.lists(st.floats(0, 1))),
        target_metric=st.none() | st.text(max_size=5),
        target_at_least=st.none() | st.floats(allow_nan=False),
    )
)
def test_a_job_survives_its_text(job):
    assert JobConfig.from_json(job.to_json()) == job
    assert "\n" not in job.to_json()


def test_an_older_operator_says_nothing_of_stragglers():
    plain = JobConfig(job="j", uid="u", homes=1, per_pod=1, rounds=1, seed=0, entrypoint="a:B")
    data = json.loads(plain.to_json())
    assert data.pop("straggler_factor") is None
    assert JobConfig.from_json(json.dumps(data)) == plain


def test_equal_jobs_are_equal_texts_whatever_the_order_of_their_arguments():
    plain = {"job": "j", "uid": "u", "homes": 1, "per_pod": 1, "rounds": 1, "seed": 0, "entrypoint": "a:B"}
    one = JobConfig(**plain, task_args={"a": 1, "b": 2})
    other = JobConfig(**plain, task_args={"b": 2, "a": 1})
    assert one.to_json() == other.to_json()


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([], ""),
        ([0], "0"),
        ([0, 1], "0-1"),
        ([7, 2, 0, 1], "0-2,7"),
        ([3, 3, 3], "3"),
        ([1, 3, 5], "1,3,5"),
        (range(1000), "0-999"),
    ],
)
def test_homes_are_written_as_ranges(ids, text):
    assert format_ids(ids) == text
    assert parse_ids(text) == frozenset(ids)


@given(st.frozensets(st.integers(0, 300)))
def test_a_set_of_homes_survives_its_text(ids):
    assert parse_ids(format_ids(ids)) == ids


@pytest.mark.parametrize("text", ["a", "1-", "-1", "1-2-3", "1;2", "0x1"])
def test_what_is_no_set_of_homes_is_refused(text):
    with pytest.raises(ValueError):
        parse_ids(text)


@pytest.mark.parametrize(
    ("homes", "size", "sizes"),
    [
        (1, 1, [1]),
        (4, 1, [1, 1, 1, 1]),
        (3, 4, [3]),
        (4, 4, [4]),
        (7, 4, [7]),
        (8, 4, [4, 4]),
        (9, 4, [5, 4]),
        (11, 3, [4, 4, 3]),
        (12, 5, [6, 6]),
        (1_000_000, 10_000, [10_000] * 100),
    ],
)
def test_how_homes_are_put_into_groups(homes: int, size: int, sizes: list[int]) -> None:
    assert [len(group) for group in groups(homes, size)] == sizes


@given(st.integers(1, 500), st.integers(1, 100))
def test_groups_are_consecutive_large_enough_and_as_many_as_can_be(homes: int, size: int) -> None:
    found = groups(homes, size)
    assert [home for group in found for home in group] == list(range(homes)), "every home once, in order"
    sizes = [len(group) for group in found]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= min(size, homes)
    assert (len(found) + 1) * size > homes, "one more would be too small"


@given(st.integers(1, 500))
def test_groups_of_one_are_the_homes(homes: int) -> None:
    assert groups(homes, 1) == [range(home, home + 1) for home in range(homes)]


def test_the_contract_needs_the_standard_library_alone():
    """Operator and worker both import it, and share nothing else."""
    tree = ast.parse(pathlib.Path(contract.__file__).read_text())
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names
