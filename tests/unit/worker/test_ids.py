"""Sets of homes, as bit masks and as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elf_worker.aggregation import ids
from elf_worker.contract import format_ids, parse_ids

homes = st.frozensets(st.integers(0, 300))


@given(homes)
def test_masks_and_wire_lose_nothing(members: frozenset[int]) -> None:
    mask = ids.mask_of(members)
    assert ids.ids_of(mask) == sorted(members)
    assert ids.from_wire(ids.to_wire(mask)) == mask
    assert mask.bit_count() == len(members)


@given(homes, homes)
def test_masks_are_sets(a: frozenset[int], b: frozenset[int]) -> None:
    assert ids.mask_of(a) | ids.mask_of(b) == ids.mask_of(a | b)
    assert ids.mask_of(a) & ids.mask_of(b) == ids.mask_of(a & b)
    assert ids.mask_of(a) & ~ids.mask_of(b) == ids.mask_of(a - b)


@given(homes)
def test_text_loses_nothing(members: frozenset[int]) -> None:
    assert parse_ids(format_ids(members)) == members


@pytest.mark.parametrize(
    ("members", "text"),
    [((), ""), ((0,), "0"), ((0, 1, 2, 7), "0-2,7"), ((5, 3, 4, 4), "3-5"), ((1, 3), "1,3")],
)
def test_text_is_compact(members: tuple[int, ...], text: str) -> None:
    assert format_ids(members) == text


@pytest.mark.parametrize("text", ["a", "1-b", "-"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        parse_ids(text)


def test_the_wire_is_as_short_as_the_highest_member() -> None:
    assert ids.to_wire(0) == b""
    assert ids.to_wire(ids.full(8)) == b"\xff"
    assert len(ids.to_wire(1 << 8)) == 2
    assert ids.full(0) == 0
