"""The YAML in the docs is what the operator takes, the Python is Python, and links lead somewhere."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import yaml

from builders import overlay
from documents import PAGES, ROOT, Block, read
from elf_operator.spec import parse_job

BLOCKS = [block for page in PAGES for block in read(page)]
SAMPLE = yaml.safe_load((ROOT / "manifests/samples/digits.yaml").read_text())


def in_language(language: str) -> list[Any]:
    return [pytest.param(b, id=f"{b.page}:{b.line}") for b in BLOCKS if b.language == language]


def jobs(block: Block) -> list[dict[str, Any]]:
    """The jobs in a block. What is only a part of one is put over the sample."""
    whole = list(yaml.safe_load_all(block.text))
    parts = [part for part in whole if set(part) <= {"metadata", "spec"}]
    return [part for part in whole if part.get("kind") == "ElfTrainingJob"] + [
        overlay(copy.deepcopy(SAMPLE), part) for part in parts
    ]


def wrong(job: dict[str, Any]) -> list[str]:
    """What the operator says of it: the schema, and the rules across fields."""
    made = {"name": "of-the-docs", "namespace": "default", "uid": "u", "generation": 1}
    parsed = parse_job({**job, "metadata": {**made, **job.get("metadata", {})}})
    return [*parsed.errors]


@pytest.mark.parametrize("block", in_language("yaml"))
def test_jobs_are_taken(block: Block) -> None:
    for job in jobs(block):
        assert wrong(job) == []


def test_jobs_are_found() -> None:
    assert sum(len(jobs(b)) for b in BLOCKS if b.language == "yaml") >= 8


def test_a_wrong_job_would_be_noticed() -> None:
    [job] = jobs(Block("", 1, "yaml", "spec: {homes: {replica: 3}}"))
    assert "replica" in wrong(job)[0]


@pytest.mark.parametrize("block", in_language("python"))
def test_python_is_python(block: Block) -> None:
    compile(block.text, f"{block.page}:{block.line}", "exec")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        there = (ROOT / page).parent / file if file else ROOT / page
        assert there.exists(), f"{page}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text(), re.M)
            slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, f"{page}: {target}"
