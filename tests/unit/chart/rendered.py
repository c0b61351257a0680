"""The chart as helm renders it."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

ROOT = pathlib.Path(__file__).parents[3]
CHART = ROOT / "charts" / "elf-training-operator"
NEWEST, OLDEST = "1.36.3", "1.30.0"
Manifest = dict[str, Any]
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class RefusedError(Exception):
    """helm does not render these values."""


class World:
    """What a release consists of."""

    def __init__(self, objects: list[Manifest]) -> None:
        self.objects = objects

    def all(self, kind: str) -> list[Manifest]:
        return [o for o in self.objects if o["kind"] == kind]

    def one(self, kind: str, suffix: str = "") -> Manifest:
        (found,) = (o for o in self.all(kind) if o["metadata"]["name"].endswith(suffix))
        return found

    @property
    def deployment(self) -> Manifest:
        return self.one("Deployment")

    @property
    def pod(self) -> Manifest:
        """The operator's."""
        return dict(self.deployment["spec"]["template"]["spec"])

    @property
    def container(self) -> Manifest:
        return dict(self.pod["containers"][0])

    @property
    def env(self) -> dict[str, Any]:
        return {e["name"]: e.get("value", e.get("valueFrom")) for e in self.container["env"]}

    @property
    def test_pod(self) -> Manifest:
        """That of `helm test`."""
        return dict(self.one("Pod")["spec"])

    def templates(self) -> Iterator[tuple[str, Manifest]]:
        """(name, pod spec) of everything that makes pods."""
        yield "Deployment", self.pod
        yield "Pod", self.test_pod

    @property
    def names(self) -> set[tuple[str, str, str]]:
        """(kind, namespace, name) of all."""
        return {(o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]) for o in self.objects}


class Chart:
    """Renders, each combination once."""

    def __init__(self, helm: str, path: pathlib.Path = CHART) -> None:
        self._helm, self._path = helm, path
        self._rendered = functools.cache(self._render)

    def render(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        release: str = "elf",
        namespace: str = "elf-system",
        version: str = NEWEST,
    ) -> World:
        """Raises RefusedError with helm's words."""
        said = json.dumps(values or {}, sort_keys=True)
        return self._rendered(said, release, namespace, version)

    def _render(self, values: str, release: str, namespace: str, version: str) -> World:
        text = self.run(
            "template", release, "--namespace", namespace, "--kube-version", version, input=values
        )
        return World([o for o in yaml.load_all(text, _LOADER) if o])

    def notes(self, values: Mapping[str, Any] | None = None) -> str:
        """What helm says after an installation."""
        text = self.run("install", "elf", "--dry-run=client", "-n", "space", input=json.dumps(values or {}))
        return text.partition("\nNOTES:\n")[2]

    def run(self, verb: str, *args: str, input: str) -> str:
        command = [self._helm, verb, *args[:1], str(self._path), *args[1:], "-f", "-"]
        env = {**os.environ, "KUBECONFIG": os.devnull}
        done = subprocess.run(command, input=input, capture_output=True, text=True, timeout=60, env=env)
        if done.returncode:
            raise RefusedError(done.stderr)
        return done.stdout


def changed(values: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The values with one more, its path written with dots."""
    key, _, rest = path.partition(".")
    inner = values.get(key)
    return {
        **values,
        key: changed(inner if isinstance(inner, Mapping) else {}, rest, value) if rest else value,
    }


def leaves(values: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The paths of all values that are no group of values."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{path}{key}.")
        else:
            yield path + key
