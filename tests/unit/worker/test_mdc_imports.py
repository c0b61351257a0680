"""A mini-data-center is replaced within seconds only if it starts within one."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "kubernetes", "aiohttp", "safetensors", "sklearn", "kopf")


def loaded_by(module: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after importing `module`."""
    code = f"import json, sys, {module}; print(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", ["elf_worker.roles.mdc", "elf_worker.__main__"])
def test_an_mdc_imports_nothing_heavy(module):
    assert loaded_by(module).isdisjoint(HEAVY)


def test_the_npdc_and_a_home_leave_torch_for_later():
    """They dial and take connections while it is being imported, which takes seconds."""
    assert "torch" not in loaded_by("elf_worker.roles.npdc, elf_worker.roles.home")
