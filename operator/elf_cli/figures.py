"""Where a job's figures come from: its NPDC, through the API server, or the folder of a local run."""

from __future__ import annotations

import asyncio
import base64
import json
import pathlib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from elf_cli.cluster import trouble
from elf_cli.cluster.target import Target
from elf_cli.refusal import TroubleError
from elf_operator import identities, names
from elf_worker.contract import ENV_FIGURES_TOKENS, FIGURES_PORT, FIGURES_TOKEN_HEADER, Role
from elf_worker.roles.chronicle import HISTORY_FILE, WINDOW_FILE, Chronicle

if TYPE_CHECKING:
    from elf_cli.cluster.session import Session

ASK_SECONDS = 10.0
_IN_THE_WAY = (
    f"; if a NetworkPolicy keeps the API server from port {FIGURES_PORT}, let it in: jobs.figuresFrom"
)
Query = Mapping[str, str]


class FiguresError(Exception):
    """There are no such figures; the message says why, and what would help."""


class Figures(Protocol):
    """Pages of an NPDC's window."""

    def ask(self, page: str, query: Query) -> Any:
        """What the window shows on this page. Raises FiguresError."""


def of(name: str, target: Target) -> Figures:
    """Of the folder with this name if there is one, else of the job on the cluster."""
    path = pathlib.Path(name)
    if path.is_dir():
        return OfRun(path)
    return OfJob(name, target)


class OfRun:
    """The folder of a local run: its NPDC while it lives, then what it left there."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory

    def ask(self, page: str, query: Query) -> Any:
        """See `Figures`."""
        url = self._directory / WINDOW_FILE
        if url.exists():
            try:
                where = f"{url.read_text()}{page}?{urllib.parse.urlencode(query)}"
                with urllib.request.urlopen(where, timeout=ASK_SECONDS) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                raise FiguresError(error.read().decode().strip()) from error
            except OSError:
                pass  # it has ended
        return self._read(page, query)

    def _read(self, page: str, query: Query) -> Any:
        try:
            if page == "/statistics":
                return Chronicle.saved(self._directory)[0]
            if page == "/homes":
                chronicle = Chronicle.saved(self._directory)[1]
                return chronicle.homes_between(float(query["above"]), float(query["below"]))
            records = read_history(self._directory / HISTORY_FILE)
        except (OSError, ValueError, KeyError) as error:
            raise FiguresError(f"{self._directory}: holds no figures of a run ({error})") from error
        if "home" in query:
            asked = (r for r in reversed(records) if query["home"] in r.get("asked", {}))
            return next(asked, None)
        wanted = int(query["round"]) if "round" in query else records[-1]["round"] if records else 0
        return next((r for r in records if r["round"] == wanted), None)


class OfJob:
    """A job on a cluster: its NPDC, asked through the API server."""

    def __init__(self, name: str, target: Target) -> None:
        self._name, self._target = name, target

    def ask(self, page: str, query: Query) -> Any:
        """See `Figures`."""
        return asyncio.run(self._ask(page, query))

    async def _ask(self, page: str, query: Query) -> Any:
        from elf_cli.cluster.session import connect

        try:
            async with connect(self._target) as session:
                pod = await self._npdc(session)
                name = str(pod["metadata"]["name"])
                scheme, headers = "", {}
                if _is_locked(pod):
                    scheme, headers = "https:", {FIGURES_TOKEN_HEADER: await self._token(session, pod)}
                path = f"{session.core_path('pods')}/{scheme}{name}:{FIGURES_PORT}/proxy{page}"
                return await self._get(session, path, query, headers, name)
        except TroubleError as error:
            raise FiguresError(f"{self._name}: is no folder of a local run; {error}") from error

    async def _token(self, session: Session, pod: Mapping[str, Any]) -> str:
        """What opens the job's figures: to be read by those who may read its Secret."""
        uid = pod["metadata"]["ownerReferences"][0]["uid"]
        secret = identities.figures_name(self._name, uid)
        found = await session.api.get(f"{session.core_path('secrets')}/{secret}")
        if found is None:
            raise FiguresError(f"{self._name}: there is no Secret {secret}; figures need the token in it")
        return base64.b64decode(found["data"][identities.TOKEN_KEY]).decode()

    async def _npdc(self, session: Session) -> dict[str, Any]:
        job = await session.job(self._name)
        status = job.get("status") or {}
        if status.get("completionTime") or status.get("state") in (None, "Suspended"):
            state = status.get("state", "not started")
            raise FiguresError(
                f"{self._name}: is {state}, no NPDC is running; the last figures are in "
                f"elf status {self._name}{self._target.flags()}"
            )
        selector = f"{names.selector(self._name)},{names.LABEL_ROLE}={Role.NPDC}"
        found, _ = await session.items(session.core_path("pods"), {"labelSelector": selector})
        running = [p for p in found if p["status"].get("phase") == "Running"]
        if not running:
            raise FiguresError(f"{self._name}: its NPDC does not run yet; ask again")
        return max(running, key=lambda p: int(p["metadata"]["labels"][names.LABEL_INCARNATION]))

    async def _get(
        self, session: Session, path: str, query: Query, headers: Mapping[str, str], pod: str
    ) -> Any:
        """A page, which may be any JSON: `null` too."""
        from elf_operator.apiserver import ApiError

        try:
            async with asyncio.timeout(ASK_SECONDS):
                lines = [line async for line in session.lines(path, query, headers)]
                return json.loads(b"\n".join(lines))
        except ApiError as error:
            what = trouble.of_answer(f"pod {pod}", error.status, error.reason, error.body)
            raise FiguresError(what + (_IN_THE_WAY if error.status in (502, 503, 504) else "")) from error
        except TimeoutError as error:
            raise FiguresError(f"pod {pod}: no answer within {ASK_SECONDS:g} s{_IN_THE_WAY}") from error
        except ValueError as error:
            raise FiguresError(f"pod {pod}: {error}") from error


def _is_locked(pod: Mapping[str, Any]) -> bool:
    """Whether this data center's figures need a token."""
    containers = pod["spec"]["containers"]
    own = next(c for c in containers if c["name"] == names.CONTAINER)
    return any(item["name"] == ENV_FIGURES_TOKENS for item in own.get("env") or ())


def read_history(path: pathlib.Path) -> list[dict[str, Any]]:
    """The records of a history, one a round, in their order. A line cut short is left out. Raises OSError."""
    records: dict[int, dict[str, Any]] = {}
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # it is being written
        records[record["round"]] = record  # a round done again after the NPDC died replaces the first
    return [records[number] for number in sorted(records)]
