"""Write the tables of the last runs into `docs/performance.md`. What people wrote around them stays.

python tests/bench/report.py
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Collection

import harness

PAGE = harness.ROOT / "docs" / "performance.md"


class TornError(Exception):
    """The page has one of a benchmark's two markers, and not the other after it."""


def written(page: str, name: str, tables: str) -> str:
    """The page with these tables between the markers of benchmark `name`; without markers, at its end.

    Raises TornError.
    """
    begin, end = f"<!-- measured: {name} -->", f"<!-- end: {name} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if found and closed:
        return f"{before}{begin}\n\n{tables}\n\n{end}{after}"
    if begin in page or end in page:
        raise TornError(f"{name}: the page needs both {begin} and, after it, {end}")
    return f"{page.rstrip()}\n\n## {name}\n\n{begin}\n\n{tables}\n\n{end}\n"


def write(path: pathlib.Path, results: pathlib.Path, names: Collection[str] | None = None) -> None:
    """Results of a folder, all or those of `names`, into the page at `path`; other tables stay as they are.

    Raises TornError, and then the page is as it was.
    """
    page = path.read_text()
    for found in sorted(results.glob("*.json")):
        result = harness.Result.load(found)
        if names is None or result.name in names:
            page = written(page, result.name, harness.markdown(result))
    path.write_text(page)


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    write(PAGE, harness.RESULTS)


if __name__ == "__main__":
    main()
