"""`-o json` and `-o yaml`: the same data in two spellings."""

from __future__ import annotations

import json
from typing import Any

from elf_cli.refusal import EXIT_WRONG, refuse

FORMATS = ("json", "yaml")


def check(output: str | None) -> None:
    """Refuse what is neither; before anything is asked of a cluster."""
    if output is not None and output not in FORMATS:
        refuse(f"--output: is {output!r}, json or yaml is expected", EXIT_WRONG)


def as_text(data: Any, output: str) -> str:
    """The data as JSON or YAML, without a line feed at its end."""
    if output == "yaml":
        import yaml

        return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True)).rstrip("\n")
    return json.dumps(data, indent=2)
