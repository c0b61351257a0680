"""One object laid over another: laws, and cases."""

from __future__ import annotations

import copy
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from elf_operator.merging import merge

leaves = st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["a", "b"])
present = st.booleans() | st.integers(0, 9) | st.sampled_from(["a", "b"])
keys = st.sampled_from(["a", "b", "c"])


def trees(leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    named = st.dictionaries(keys, leaf, max_size=2).flatmap(
        lambda d: st.sampled_from(["x", "y", "z"]).map(lambda n: {**d, "name": n})
    )
    lists = st.lists(leaf, max_size=3) | st.lists(named, max_size=3, unique_by=lambda d: d["name"])
    return st.recursive(leaf | lists, lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=8)


objects = st.dictionaries(keys, trees(leaves), max_size=3)
full_objects = st.dictionaries(keys, trees(present), max_size=3)


@given(objects)
def test_nothing_laid_over_changes_nothing(base: dict[str, Any]) -> None:
    assert merge(base, {}) == base


@given(full_objects)
def test_laid_over_nothing_it_is_itself(overlay: dict[str, Any]) -> None:
    assert merge({}, overlay) == overlay


@given(full_objects)
def test_laid_over_itself_it_is_itself(base: dict[str, Any]) -> None:
    assert merge(base, base) == base


@given(full_objects, full_objects)
def test_laying_over_twice_is_laying_over_once(base: dict[str, Any], overlay: dict[str, Any]) -> None:
    once = merge(base, overlay)
    assert merge(once, overlay) == once


@given(objects, objects)
def test_merge_changes_neither_side(base: dict[str, Any], overlay: dict[str, Any]) -> None:
    before = copy.deepcopy((base, overlay))
    merge(base, overlay)
    assert (base, overlay) == before


@pytest.mark.parametrize(
    ("base", "overlay", "expected"),
    [
        ({"a": 1, "b": 2}, {"b": 3}, {"a": 1, "b": 3}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}, {"a": {"b": 1, "c": 3}}),
        ({"a": 1, "b": 2}, {"a": None}, {"b": 2}),
        ({}, {"a": {"b": None, "c": 1}}, {"a": {"c": 1}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"b": 1}}, {"a": 5}, {"a": 5}),
        ([{"name": "x", "v": 1}], [{"name": "x", "w": 2}], [{"name": "x", "v": 1, "w": 2}]),
        ([{"name": "x"}], [{"name": "y"}], [{"name": "x"}, {"name": "y"}]),
        ([{"name": "x"}], [{"no": "name"}], [{"no": "name"}]),
    ],
)
def test_merge(base: Any, overlay: Any, expected: Any) -> None:
    assert merge(base, overlay) == expected
