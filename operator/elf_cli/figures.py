"""Where a job's figures come from: its NPDC, through the API server, or the folder of a local run."""

from __future__ import annotations

import json
import pathlib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any, Protocol

from elf_operator import names
from elf_worker.contract import API_GROUP, API_PLURAL, API_VERSION, FIGURES_PORT, Role
from elf_worker.roles.chronicle import HISTORY_FILE, WINDOW_FILE, Chronicle

ASK_SECONDS = 10.0
Query = Mapping[str, str]


class FiguresError(Exception):
    """There are no such figures; the message says why, and what would help."""


class Figures(Protocol):
    """Pages of an NPDC's window."""

    def ask(self, page: str, query: Query) -> Any:
        """What the window shows on this page. Raises FiguresError."""


def of(name: str, namespace: str | None, context: str | None) -> Figures:
    """Of the folder with this name if there is one, else of the job on the cluster."""
    path = pathlib.Path(name)
    if path.is_dir():
        return OfRun(path)
    return OfJob(name, namespace, context)


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

    def __init__(self, name: str, namespace: str | None, context: str | None) -> None:
        from kubernetes import client, config
        from kubernetes.config import ConfigException

        self._name = name
        try:
            config.load_kube_config(context=context)
            active = (
                next(c for c in config.list_kube_config_contexts()[0] if c["name"] == context)
                if context
                else (config.list_kube_config_contexts()[1])
            )
            self._namespace = namespace or active["context"].get("namespace") or "default"
        except (ConfigException, StopIteration) as error:
            raise FiguresError(
                f"{name}: is no folder of a local run, and there is no cluster: {error}"
            ) from error
        self._api = client.ApiClient()
        self._errors = client.exceptions.ApiException

    def ask(self, page: str, query: Query) -> Any:
        """See `Figures`."""
        pod = self._npdc()
        path = f"/api/v1/namespaces/{self._namespace}/pods/{pod}:{FIGURES_PORT}/proxy{page}"
        return self._get(path, query, f"pod {pod}")

    def _npdc(self) -> str:
        base = f"/apis/{API_GROUP}/{API_VERSION}/namespaces/{self._namespace}/{API_PLURAL}"
        job = self._get(f"{base}/{self._name}", {}, f"ElfTrainingJob {self._name}")
        status = job.get("status") or {}
        if status.get("completionTime") or status.get("state") in (None, "Suspended"):
            state = status.get("state", "not started")
            raise FiguresError(
                f"{self._name}: is {state}, no NPDC is running; the last figures are in "
                f"kubectl get etj {self._name} -o jsonpath='{{.status.training.statistics}}'"
            )
        selector = f"{names.LABEL_JOB}={self._name},{names.LABEL_ROLE}={Role.NPDC}"
        found = self._get(f"/api/v1/namespaces/{self._namespace}/pods", {"labelSelector": selector}, "pods")
        running = [p for p in found["items"] if p["status"].get("phase") == "Running"]
        if not running:
            raise FiguresError(f"{self._name}: its NPDC does not run yet; ask again")
        newest = max(running, key=lambda p: int(p["metadata"]["labels"][names.LABEL_INCARNATION]))
        return str(newest["metadata"]["name"])

    def _get(self, path: str, query: Query, what: str) -> Any:
        try:
            request = self._api.param_serialize(
                "GET",
                path,
                query_params=list(query.items()),
                header_params={"Accept": "application/json"},
                auth_settings=["BearerToken"],
            )
            answer = self._api.call_api(*request, _request_timeout=ASK_SECONDS)
            body = answer.read()
            if answer.status >= 300:
                raise FiguresError(f"{what}: HTTP {answer.status} {answer.reason}: {_said(body)}")
            return json.loads(body)
        except FiguresError:
            raise
        except self._errors as error:
            raise FiguresError(f"{what}: HTTP {error.status} {error.reason}: {_said(error.body)}") from error
        except Exception as error:  # whatever the client's transport raises
            raise FiguresError(f"{what}: {error}") from error


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


def _said(body: Any) -> str:
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.strip()[:300]
