"""The reference of the resource is what the CRD says."""

from __future__ import annotations

import pathlib
import runpy

from elf_operator import schema

DOCS = pathlib.Path(__file__).parents[3] / "docs"


def test_the_reference_is_made_from_the_crd_as_it_is() -> None:
    made = runpy.run_path(str(DOCS / "reference.py"))["page"](schema.crd())
    assert (DOCS / "reference.md").read_text() == made, "run `python docs/reference.py`"


def test_every_field_has_its_line() -> None:
    lines = (DOCS / "reference.md").read_text().splitlines()
    for path in (
        "output.url",
        "homes.replicas",
        "lastReplacements[].recoverySeconds",
        "training.modelDigest",
    ):
        [line] = [line for line in lines if line.startswith(f"| `{path}` |")]
        assert line.endswith(". |"), "a sentence"
