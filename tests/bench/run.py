"""`make bench`: one benchmark after the other, each in a process of its own, then the tables into the docs.

    python tests/bench/run.py [--quick] [--context NAME] [NAME …]

What an operator costs is measured on a cluster, and left out without one. Tables of what was left out, or
broke, stay in the docs as they are. Nothing is asserted: a figure that is not where it should be is printed
as such, and the exit status is 0.
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
import time

import harness
import report

HERE = pathlib.Path(__file__).resolve().parent
NO_BENCHMARKS = {"run", "report", "crowd", "idle_home"}
PARTS = {"tree"}
"""Run by another one, which sets it beside its peers."""
ON_CLUSTER = {"operating"}
NO_CLUSTER = """left out: it needs the API server of a cluster that may be changed; nodes are not needed.
With one: make bench CONTEXT=<kubeconfig context> (only this: ONLY=operating). To get one: kind create
cluster, then CONTEXT=kind-kind. The tables in the docs stay as they are."""


def names() -> list[str]:
    """All that can be asked for."""
    scripts = (path for path in HERE.glob("*.py") if 'if __name__ == "__main__"' in path.read_text())
    return sorted({path.stem for path in scripts} - NO_BENCHMARKS)


def command(name: str, quick: bool, context: str) -> list[str]:
    """How a benchmark is run."""
    cluster = ["--context", context] if name in ON_CLUSTER else []
    return [sys.executable, str(HERE / f"{name}.py"), *(["--quick"] if quick else []), *cluster]


def main() -> int:
    """0; 1: one of them broke."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names())}; else all")
    parser.add_argument("--quick", action="store_true", help="do they still work? Nothing goes into the docs")
    parser.add_argument("--context", default="", help="of the kubeconfig: a cluster that may be changed")
    given = parser.parse_args()
    if unknown := set(given.names) - set(names()):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    harness.exit_on_terminate()
    ended: dict[str, bool] = {}
    for name in given.names or sorted(set(names()) - PARTS):
        print(f"== {name}", flush=True)
        if name in ON_CLUSTER and not given.context:
            print(NO_CLUSTER, file=sys.stderr)
            continue
        began = time.monotonic()
        ended[name] = _run(command(name, given.quick, given.context)) == 0
        print(f"== {name} took {time.monotonic() - began:.0f} s", file=sys.stderr)
    if not given.quick:
        report.write(report.PAGE, harness.RESULTS, {name for name, well in ended.items() if well})
    if broken := [name for name, well in ended.items() if not well]:
        print(f"broken: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


def _run(words: list[str]) -> int:
    """Exit status. Whatever ends this process, the benchmark has the time to end what it has started."""
    process = subprocess.Popen(words)
    try:
        return process.wait()
    except KeyboardInterrupt:  # a terminal has told it, too
        process.wait()
        raise
    except BaseException:
        process.terminate()
        process.wait()
        raise


if __name__ == "__main__":
    sys.exit(main())
