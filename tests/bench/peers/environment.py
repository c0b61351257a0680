"""The peers' own environment: made the first time that one of them is measured, in `.cache/peers`."""

from __future__ import annotations

import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
PLACE = HERE.parents[2] / ".cache" / "peers"


def python() -> str:
    """Its interpreter. Raises subprocess.CalledProcessError where the packages cannot be had."""
    wanted = (HERE / "requirements.txt").read_text()
    mark = PLACE / "installed.txt"
    found = PLACE / "bin" / "python"
    if not mark.exists() or mark.read_text() != wanted:
        print(f"installing the peers into {PLACE}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(PLACE)], check=True)
        quiet = ("--quiet", "--disable-pip-version-check")
        subprocess.run(
            [str(found), "-m", "pip", "install", *quiet, "-r", str(HERE / "requirements.txt")],
            check=True,
            stdout=sys.stderr,
        )
        mark.write_text(wanted)
    return str(found)
