"""What is seen of a job's rounds: where they have gone back."""

from __future__ import annotations

import pytest

from e2e.rounds import falls


@pytest.mark.parametrize(
    ("versions", "fallen"),
    [
        (["a u 0 48 Training", "a u 0 49 Training", "a u 0 50 Complete", "a u 0 50 Complete"], []),
        (["a u 0 50 Complete", "a u 0 49 Training"], ["a, incarnation 0: Training 49 after 50 rounds"]),
        (["a u 0 50 Complete", "a u 0 50 Training"], ["a, incarnation 0: Training 50 after 50 rounds"]),
        (["a u 0 9 Training", "a u 0 8 Training"], ["a, incarnation 0: Training 8 after 9 rounds"]),
        (["a u 0 9 Training", "a u 1 0 Training", "b v 0 3 Training"], []),
        (["a u 0 0 Failed", "a u 0 1 Training"], []),
        (["a u   ", "a u 0 1 Training", "Error from server (NotFound): gone"], []),
    ],
    ids=["onwards", "the last round", "the end", "in mid-run", "others", "mended", "what is no version"],
)
def test_a_round_that_goes_back_is_found(versions: list[str], fallen: list[str]) -> None:
    assert list(falls(versions)) == fallen
