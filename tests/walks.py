"""Which commands of the docs are typed on a cluster by tests/e2e/test_docs.py, which are not, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import documents
from documents import Block, Command


@dataclass(frozen=True)
class Walk:
    """Part of a page, read from its beginning to its end: a heading (all if empty), without some blocks."""

    page: str
    under: str = ""
    without: str = ""
    """What the blocks have in them that are left out: of two ways a reader goes one."""
    only: str = ""
    """What the blocks have in them that are read; all if empty."""

    def blocks(self) -> Iterator[Block]:
        """Commands and files, in order."""
        for block in documents.read(self.page):
            there = not self.under or self.under in block.headings
            if there and self.only in block.text and not (self.without and self.without in block.text):
                yield block


WALKS = {
    "the first hour": Walk("docs/first-hour.md"),
    "README, with Helm": Walk("README.md", "On a cluster", without="manifests/operator.yaml"),
    "README, without Helm": Walk("README.md", "On a cluster", without="helm install"),
    "installation with Helm": Walk("docs/install.md", "Helm"),
    "operations": Walk("docs/operations.md"),
    "installation with kubectl": Walk("docs/install.md", "kubectl apply"),
    "installation with Kustomize": Walk("docs/install.md", "Kustomize"),
}

OURS = "the tests have their own cluster, images and environment"
REPLACED: Mapping[str, tuple[str, str]] = {
    "kind create cluster": (":", OURS),
    "make images": (":", OURS),
    "kind load docker-image ghcr.io/northpole-dev/elf-operator:dev ghcr.io/northpole-dev/elf-worker:dev": (
        ":",
        OURS,
    ),
    "python3 -m venv .venv": (":", OURS),
    ".venv/bin/pip install -c constraints.txt -e '.[cli]'": (":", OURS),
    'export PATH="$PWD/.venv/bin:$PATH"': (":", OURS),
    "docker build --tag example.com/sleighs:1 mine": (
        "$IMAGE_BUILDER example.com/sleighs:1 mine",
        "not every cluster has its images from Docker",
    ),
    "kind load docker-image example.com/sleighs:1": (":", "the image builder has brought it to the nodes"),
    "kubectl get etj -w": ("timeout 5 kubectl get etj -w || test $? = 124", "it goes on until it is stopped"),
}
"""Command without its comment → (what is typed instead, why)."""
IN_FILES: Mapping[str, tuple[str, str]] = {
    "rounds: 1500": ("rounds: 500", "a person needs minutes to kill a data center, a test seconds"),
}
"""What stands in a file → (what is written instead, why)."""

NOT_WALKED: tuple[tuple[str, str, str], ...] = (
    ("README.md", "make demo *", "tests/integration runs the same job with the same fault"),
    ("README.md", "make test *", "it is what runs this"),
    ("README.md", ".venv/bin/elf run *", "tests/integration runs it"),
    ("CONTRIBUTING.md", "make *", "CI runs them"),
    ("charts/*/README.md", "helm *", "as docs/install.md, but for released images"),
    ("docs/dashboard.md", "kubectl port-forward *", "the first hour does it with Helm's name"),
    ("docs/jobs.md", "kubectl create secret *", "the reader's keys"),
    (
        "docs/kubectl-elf.md",
        "*",
        "one long session, as it went; tests/e2e/test_verbs.py runs each verb",
    ),
    ("docs/statistics.md", "elf check-statistic *", "tests/integration/test_docs.py runs it"),
    ("docs/statistics.md", "elf *", "tests/e2e/test_figures.py and tests/integration ask the same"),
    ("docs/performance.md", "make bench *", "many minutes, on a quiet machine"),
    ("docs/testing.md", "pytest *", "hours, at night"),
    ("docs/testing.md", "make nightly *", "an hour, at night"),
)
"""(page, command, why no walk types it). Its words are checked all the same, by tests/unit/docs."""


def walked() -> list[Command]:
    """All commands of all walks."""
    return [c for walk in WALKS.values() for block in walk.blocks() for c in documents.commands(block)]


def excuses(command: Command) -> list[tuple[str, str, str]]:
    """The entries of NOT_WALKED that speak of it; the first is the one that counts."""
    return [
        entry
        for entry in NOT_WALKED
        if fnmatchcase(command.page, entry[0]) and fnmatchcase(f"{command.text} ", entry[1])
    ]
