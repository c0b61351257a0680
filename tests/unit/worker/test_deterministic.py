"""Kernels are deterministic in each pod, and no pod imports torch's compiler for that alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

COMPILER = ("torch._inductor", "torch._dynamo", "sympy")
GRADIENT = """
import sys
import torch
from elf_worker.aggregation.effects import Compute
from elf_worker.contract import JobConfig
from elf_worker.messages import Stamp
from elf_worker.roles.computer import Computer

entrypoint = "elf_worker.tasks.naughty_or_nice:NaughtyOrNice"
computer = Computer(JobConfig(job="a", uid="u", homes=3, per_pod=1, rounds=1, seed=0, entrypoint=entrypoint))
weights = bytes(4 * (computer.size - 1))
assert computer.gradient(Compute(0, Stamp(0, 0), weights), 0.0).payload is not None
"""
MODE = "print(torch.get_deterministic_debug_mode())\n"
SEEN = f"print([name for name in {COMPILER} if name in sys.modules])\n"
IMPORT = "import torch._inductor.config\n"
SETTING = IMPORT + "print(torch._inductor.config.deterministic)\n"
ERRORS = "2"
"""The mode in which an operation that is not deterministic raises."""


def said(code: str) -> list[str]:
    """What a new interpreter prints. Settings of whoever runs the tests are no help."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_home_computes_without_the_compiler() -> None:
    assert said(GRADIENT + MODE + SEEN) == [ERRORS, "[]"]


@pytest.mark.parametrize("code", [GRADIENT + SETTING, IMPORT + GRADIENT + SETTING], ids=["later", "first"])
def test_a_task_that_compiles_finds_the_compiler_told(code: str) -> None:
    assert said(code + MODE) == ["True", ERRORS]
