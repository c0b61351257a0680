"""Write the tables of the last runs into `docs/performance.md`. What people wrote around them stays.

python tests/bench/report.py
"""

from __future__ import annotations

import argparse
import pathlib
import sys

import harness

PAGE = harness.ROOT / "docs" / "performance.md"


class NoPlaceError(Exception):
    """The page has no place for a benchmark."""


def written(page: str, name: str, tables: str) -> str:
    """The page with these tables between the markers of benchmark `name`. Raises NoPlaceError."""
    begin, end = f"<!-- measured: {name} -->", f"<!-- end: {name} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise NoPlaceError(f"no place for {name}: the page needs the lines {begin} and {end}")
    return f"{before}{begin}\n\n{tables}\n\n{end}{after}"


def main() -> int:
    """0: every result is in the page; 1: for one there is no place."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    return write(PAGE, harness.RESULTS)


def write(path: pathlib.Path, results: pathlib.Path) -> int:
    """All results of a folder into the page at `path`."""
    page, status = path.read_text(), 0
    for found in sorted(results.glob("*.json")):
        result = harness.Result.load(found)
        try:
            page = written(page, result.name, harness.markdown(result))
        except NoPlaceError as error:
            print(f"{path.name}: {error}", file=sys.stderr)
            status = 1
    path.write_text(page)
    return status


if __name__ == "__main__":
    sys.exit(main())
