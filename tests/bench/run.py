"""`make bench`: one benchmark after the other, each in a process of its own, then the tables into the docs.

    python tests/bench/run.py [--quick] [NAME …]

Nothing is asserted: a figure that is not where it should be is printed as such, and the exit status is 0.
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys

import harness
import report

HERE = pathlib.Path(__file__).resolve().parent
NO_BENCHMARKS = {"run", "report", "crowd"}
PARTS = {"tree"}
"""Run by another one, which sets it beside its peers."""


def names() -> list[str]:
    """All that can be asked for."""
    scripts = (path for path in HERE.glob("*.py") if 'if __name__ == "__main__"' in path.read_text())
    return sorted({path.stem for path in scripts} - NO_BENCHMARKS)


def main() -> int:
    """0; 1: one of them broke."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names())}; else all")
    parser.add_argument("--quick", action="store_true", help="do they still work? Nothing goes into the docs")
    given = parser.parse_args()
    if unknown := set(given.names) - set(names()):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    broken = []
    for name in given.names or sorted(set(names()) - PARTS):
        print(f"== {name}", flush=True)
        command = [sys.executable, str(HERE / f"{name}.py"), *(["--quick"] if given.quick else [])]
        if subprocess.run(command, check=False).returncode:
            broken.append(name)
    if not given.quick:
        report.write(report.PAGE, harness.RESULTS)
    if broken:
        print(f"broken: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
