"""The compiled loops of exact sums, for tests: those of the source as it is now."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from elf_worker.exact import arithmetic, kernel

HOOK = Path(__file__).parent.parent / "worker_image" / "hatch_build.py"


def hook() -> ModuleType:
    """`worker_image/hatch_build.py`, which no package holds."""
    spec = importlib.util.spec_from_file_location("hatch_build", HOOK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiled(directory: Callable[[], Path]) -> kernel.Kernel:
    """The kernel that is installed, or one built now if that is missing or older than its source."""
    build = hook()
    there = kernel.load()
    if there is not None and kernel.LIBRARY.stat().st_mtime >= build.SOURCE.stat().st_mtime:
        return there
    if not build.compilers():
        pytest.skip("the compiled kernel needs a C compiler: gcc, clang, or `pip install ziglang`")
    library = directory() / "_kernel.so"
    assert build.compile_kernel(library) == ""
    return kernel.Kernel(library)


@contextmanager
def using(loops: arithmetic.Arithmetic) -> Iterator[None]:
    """All sums are made with these loops meanwhile."""
    before, arithmetic.current = arithmetic.current, loops
    try:
        yield
    finally:
        arithmetic.current = before
