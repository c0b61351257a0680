"""What the documentation tells people to type: fenced blocks, the commands in them, the files they show.

In a ```console block a command begins with `$ ` and goes on where a line ends with a backslash; every other
line is what it prints. A block whose first line is `# NAME.EXTENSION`, or `# Dockerfile`, is a file.
"""

from __future__ import annotations

import pathlib
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).parents[1]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "charts/elf-training-operator/README.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
)
"""The pages with commands, by their path from the top of the repository."""
_FENCE = re.compile(r"(?P<fence>```+)(?P<language>\S*)\s*")
_HEADING = re.compile(r"(?P<level>#+) (?P<title>.+)")
_FILE = re.compile(r"# (?P<name>[\w./-]+\.\w+|(?:[\w./-]+/)?Dockerfile)")


@dataclass(frozen=True)
class Block:
    """A fenced block, its first line in the page, and the headings it stands under, the nearest last."""

    page: str
    line: int
    language: str
    text: str
    headings: tuple[str, ...] = ()

    @property
    def file(self) -> str | None:
        """The name of the file that it shows, from its first line; None if it shows none."""
        found = _FILE.fullmatch(self.text.partition("\n")[0].rstrip())
        return found["name"] if found else None


@dataclass(frozen=True)
class Command:
    """What follows a `$ `, with its comment; continued lines are joined."""

    page: str
    line: int
    text: str

    @property
    def words(self) -> list[str]:
        """As a shell would split it, without its comment."""
        return shlex.split(self.text, comments=True)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def read(page: str) -> list[Block]:
    """The blocks of a page of this repository."""
    return list(blocks((ROOT / page).read_text(), page))


def blocks(text: str, page: str = "") -> Iterator[Block]:
    """All fenced blocks, in order. Raises ValueError for one that does not end."""
    headings: dict[int, str] = {}
    lines = enumerate(text.splitlines(), 1)
    for number, line in lines:
        if heading := _HEADING.fullmatch(line):
            level = len(heading["level"])
            headings = {k: v for k, v in headings.items() if k < level} | {level: heading["title"]}
        if not (fence := _FENCE.fullmatch(line)):
            continue
        inside: list[str] = []
        for _, inner in lines:
            if inner.rstrip() == fence["fence"]:
                break
            inside.append(inner)
        else:
            raise ValueError(f"{page}:{number}: the block does not end")
        yield Block(page, number + 1, fence["language"], "\n".join(inside) + "\n", tuple(headings.values()))


def commands(block: Block) -> Iterator[Command]:
    """The commands of a console block, in order; of another block, none."""
    if block.language != "console":
        return
    lines = enumerate(block.text.splitlines(), block.line)
    for number, line in lines:
        if not line.startswith("$ "):
            continue
        text = line[2:]
        while text.endswith("\\"):
            text = text[:-1].rstrip() + " " + next(lines)[1].strip()
        yield Command(block.page, number, text)


def all_commands() -> list[Command]:
    """Of all pages."""
    return [command for page in PAGES for block in read(page) for command in commands(block)]
