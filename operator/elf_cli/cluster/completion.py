"""Completion in the shell: names of jobs and of their data centers, from the cluster; and kubectl's own."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from elf_cli.cluster.session import Session

SECONDS = 1.5
"""Whoever presses the tab key does not wait for longer."""
NO_FILES = ":4"
"""In kubectl's protocol: what is proposed is all there is, file names are none of it."""


def complete_job(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of jobs that begin so; none if the cluster does not answer at once."""

    async def look(session: Session) -> list[str]:
        return await session.job_names()

    return [name for name in _asked(ctx.params, look) or [] if name.startswith(incomplete)]


def complete_who(ctx: typer.Context, incomplete: str) -> list[str]:
    """`npdc`, `mdc/0` …, `home/0` … of the job that stands before."""

    async def look(session: Session) -> list[str]:
        spec = (await session.job(str(ctx.params["job"])))["spec"]
        counts = {"mdc": spec["miniDataCenters"]["replicas"], "home": spec["homes"]["replicas"]}
        return ["npdc", *(f"{role}/{i}" for role, count in counts.items() for i in range(count))]

    return [who for who in _asked(ctx.params, look) or [] if who.startswith(incomplete)]


def _asked(params: Mapping[str, Any], look: Callable[[Session], Awaitable[list[str]]]) -> list[str] | None:
    """What the cluster says; None, and not a word, if it does not."""
    import asyncio

    from elf_cli.cluster.session import connect
    from elf_cli.cluster.target import Target

    target = Target(*(params.get(key) for key in ("namespace", "context", "kubeconfig")))

    async def whole() -> list[str]:
        async with asyncio.timeout(SECONDS), connect(target) as session:
            return await look(session)

    with contextlib.suppress(Exception), contextlib.redirect_stderr(io.StringIO()):
        return asyncio.run(whole())
    return None


def kubectl(words: list[str]) -> str:
    """What `kubectl_complete-elf` answers for these words, the last of which is being typed.

    kubectl expects `value<tab>description` on each line and a directive on the last one, as fish does but for
    that.
    """
    from elf_cli.main import app

    line = shlex.join(["elf", *words[:-1]]) + " " + (shlex.quote(words[-1]) if words and words[-1] else "")
    asked = {
        "_ELF_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": line,
    }
    os.environ.update(asked)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            app(prog_name="elf", args=[])
    finally:
        for name in asked:
            del os.environ[name]
    return "\n".join([*filter(None, said.getvalue().splitlines()), NO_FILES])


def main() -> None:
    """Entry point of `kubectl_complete-elf`, which kubectl runs when somebody completes `kubectl elf …`."""
    print(kubectl(sys.argv[1:]))
