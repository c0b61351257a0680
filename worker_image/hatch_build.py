"""Compiles `elf_worker/exact/kernel.c` when the package is built or installed.

In a source tree: `python worker_image/hatch_build.py`. The compiler is `$CC`, or cc, gcc, clang, or zig
from PyPI (`pip install ziglang`). Where there is none, one line says so and the installation goes on: the
same sums in numpy, slower.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run alone
    BuildHookInterface = object

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "elf_worker" / "exact" / "kernel.c"
LIBRARY = SOURCE.with_name("_kernel.so")
FLAGS = (
    *("-std=gnu11", "-O3", "-shared", "-fPIC", "-fvisibility=hidden"),
    *("-ffp-contract=off", "-fno-fast-math"),  # else compilers may change bits
    "-fno-sanitize=undefined",  # zig's default; it would need a library of its own
)


def compilers() -> list[list[str]]:
    """Commands that may compile C here, the most wanted first."""
    if os.environ.get("CC"):
        return [shlex.split(os.environ["CC"])]
    found = [[name] for name in ("cc", "gcc", "clang") if shutil.which(name)]
    if importlib.util.find_spec("ziglang"):
        found.append([sys.executable, "-m", "ziglang", "cc"])
    return found


def compile_kernel(library: Path = LIBRARY) -> str:
    """Build the library; what was left there before goes first. Returns why there is none, or nothing."""
    library.unlink(missing_ok=True)
    commands = compilers()
    why = "there is no C compiler: install gcc or clang, or `pip install ziglang`"
    for command in commands:
        unfinished = library.with_name(f"{library.name}.{os.getpid()}")
        try:
            subprocess.run(
                [*command, *FLAGS, str(SOURCE), "-o", str(unfinished)],
                check=True,
                capture_output=True,
                text=True,
                timeout=300,
            )
            unfinished.replace(library)
            return ""
        except (OSError, subprocess.SubprocessError) as error:
            unfinished.unlink(missing_ok=True)
            said = getattr(error, "stderr", "") or str(error)
            why = f"{shlex.join(command)} failed: {said.strip().splitlines()[0]}"
    return why


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc]
    """Puts the library into the wheel, which is then for this platform alone."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before anything is packed. An editable installation finds the library in the source tree."""
        wish = os.environ.get("ELF_KERNEL", "")
        why = "ELF_KERNEL=portable" if wish == "portable" else compile_kernel()
        if why and wish == "compiled":
            raise RuntimeError(f"ELF_KERNEL=compiled, and {why}")
        if why:
            self.app.display_warning(lesson(why))
            return
        build_data["artifacts"].append(str(LIBRARY.relative_to(self.root)))
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"


def lesson(why: str) -> str:
    """What it costs that there is no library."""
    return f"sums will be made by numpy, at a third of the speed or less, with the same bits: {why}"


def main() -> int:
    """Build the library in the source tree. Status 1 if there is none."""
    why = compile_kernel()
    print(lesson(why) if why else LIBRARY)
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main())
