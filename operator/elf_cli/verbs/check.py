"""`elf check-statistic module:Class`: the laws, tested on somebody's own statistic."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer


def check_statistic(
    path: Annotated[str, typer.Argument(help="module:Class, importable from here.")],
    examples: Annotated[int, typer.Option(min=1, help="Random examples for each law.")] = 100,
) -> None:
    """Test the laws of a statistic with random observations.

    Exit status: 0 they hold; 1 one does not; 2 there is no such statistic.
    """
    from elf_worker.statistics import product

    sys.path.insert(0, os.getcwd())
    try:
        statistic = product.find(path)()
    except Exception as error:
        print(f"elf: {error}", file=sys.stderr)
        sys.exit(2)
    try:
        from elf_worker.statistics import laws
    except ModuleNotFoundError as error:
        print(f"elf: {error.name} is needed: pip install hypothesis", file=sys.stderr)
        sys.exit(2)
    try:
        laws.check(statistic, examples)
    except laws.LawError as error:
        print(f"elf: {path}: {error}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        print(
            f"elf: {path}: raised {type(error).__name__}: {error} ({where.filename}:{where.lineno})",
            file=sys.stderr,
        )
        sys.exit(1)
    print(f"{path}: {statistic.name}: the laws hold")
