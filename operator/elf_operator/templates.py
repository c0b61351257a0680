"""What a pod template may say: anything but what the operator itself decides."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from elf_operator import names
from elf_worker import contract
from elf_worker.contract import Role

_METADATA = ("labels", "annotations")
_SPEC = {
    "restartPolicy": "a home restarts, data centers are replaced",
    "terminationGracePeriodSeconds": "a replacement waits for it",
    "automountServiceAccountToken": "only the NPDC has a token, for two things",
}
"""Fields of a pod's spec, and why they are not the user's."""
_CONTAINER = {
    "command": "it starts this role; put what has to be done before into an init container",
    "args": "the command takes none",
    "ports": "they are the wire's",
    "readinessProbe": "by it the operator sees who serves",
}
"""The same for the container that runs the role."""
_RESERVED_LABELS = (
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    names.LABEL_MANAGED_BY,
)
_ENVIRONMENT = (
    contract.ENV_JOB,
    contract.ENV_UID,
    contract.ENV_ADDRESS,
    contract.ENV_INDEX,
    contract.ENV_INCARNATION,
    contract.ENV_HOMES,
    contract.ENV_NPDC,
    contract.ENV_BOARD,
    contract.ENV_CHECKPOINT,
    contract.ENV_OUTPUT,
    contract.ENV_IDENTITY,
    contract.ENV_FIGURES_TOKENS,
)


class _Volume(NamedTuple):
    """One that the operator itself gives to a pod."""

    path: str
    why: str


# `tmp` is not among them: a template may make it larger, or mount it once more.
_VOLUMES = {names.IDENTITY_VOLUME: _Volume(contract.IDENTITY_DIR, "with it the pod proves who it is")}
_NPDC_VOLUMES = {
    "checkpoint": _Volume(
        contract.CHECKPOINT_DIR, "spec.northPole.checkpoint.volumeClaim decides what it is"
    ),
    "output": _Volume(contract.OUTPUT_DIR, "spec.output.volumeClaim decides what it is"),
}


def errors(path: str, template: Mapping[str, Any], role: Role) -> list[str]:
    """What is wrong with a template, one sentence a field, each beginning with the field's path.

    What only the API server knows, such as whether a field of a pod exists, it says itself.
    """
    return list(_template(path, template, role))


def _template(path: str, template: Mapping[str, Any], role: Role) -> Iterator[str]:
    for key in sorted(set(template) - {"metadata", "spec"}, key=str):
        yield f"{path}.{key}: no such field; a template has metadata and spec"
    parts, wrong = _parts(path, template, ("metadata", "spec"), Mapping)
    yield from wrong
    if wrong:
        return
    yield from _metadata(f"{path}.metadata", parts.get("metadata", {}))
    spec = parts.get("spec", {})
    decided = dict(_SPEC)
    if role is Role.NPDC:
        decided["serviceAccountName"] = "its account may read the wiring and report progress"
    yield from _decided(f"{path}.spec", spec, decided)
    yield from _lists(f"{path}.spec", spec, role)


def _metadata(path: str, metadata: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(set(metadata) - set(_METADATA), key=str):
        yield f"{path}.{key}: the operator decides it; labels and annotations are yours"
    parts, wrong = _parts(path, metadata, _METADATA, Mapping)
    yield from wrong
    for part, found in parts.items():
        for key, value in sorted(found.items(), key=lambda item: str(item[0])):
            where = f"{path}.{part}.{key}"
            if not isinstance(key, str):
                yield f'{where}: its key is {key!r}, a string is expected, such as "{key}"'
                continue
            if not isinstance(value, str):
                yield f'{where}: is {value!r}, a string is expected, such as "{value}"'
            if part == "labels" and (key in _RESERVED_LABELS or key.startswith(f"{contract.API_GROUP}/")):
                yield f"{where}: the operator finds its pods by it"


def _lists(path: str, spec: Mapping[str, Any], role: Role) -> Iterator[str]:
    """Of a pod's spec: what is told apart by name."""
    parts, wrong = _parts(path, spec, ("containers", "initContainers", "volumes"), list)
    yield from wrong
    own = _own_volumes(role)
    for part, found in parts.items():
        for number, item in enumerate(found):
            where = f"{path}.{part}[{number}]"
            if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
                hint = f"; {names.CONTAINER!r} is the one that runs the role" if part == "containers" else ""
                yield f"{where}.name: is required{hint}"
            elif part == "containers" and item["name"] == names.CONTAINER:
                yield from _own_container(where, item, own)
            elif part == "volumes" and item["name"] in own:
                yield (
                    f"{where}.name: the operator has a volume {item['name']!r} of its own: "
                    f"{own[item['name']].why}; another name is expected"
                )


def _parts(
    path: str, whole: Mapping[str, Any], wanted: Iterable[str], kind: type[Any]
) -> tuple[dict[str, Any], list[str]]:
    """What is there of the wanted parts, null being nothing; sentences about parts of another kind."""
    there = {part: whole[part] for part in wanted if whole.get(part) is not None}
    expected = "a list" if kind is list else "an object"
    wrong = {part: found for part, found in there.items() if not isinstance(found, kind)}
    said = [f"{path}.{part}: is {found!r}, {expected} is expected" for part, found in wrong.items()]
    return {part: found for part, found in there.items() if part not in wrong}, said


def _own_volumes(role: Role) -> Mapping[str, _Volume]:
    return {**_VOLUMES, **(_NPDC_VOLUMES if role is Role.NPDC else {})}


def _own_container(path: str, container: Mapping[str, Any], own: Mapping[str, _Volume]) -> Iterator[str]:
    yield from _decided(path, container, _CONTAINER)
    for where, name in _entries(path, container, "env", "name"):
        if name in _ENVIRONMENT:
            yield f"{where}: the operator sets {name}"
    for where, place in _entries(path, container, "volumeMounts", "mountPath"):
        for name, volume in own.items():
            if _within(str(place), volume.path):
                yield (
                    f"{where}: the operator mounts its volume {name!r} at {volume.path}: {volume.why}; "
                    "another path is expected"
                )


def _entries(path: str, container: Mapping[str, Any], part: str, key: str) -> Iterator[tuple[str, Any]]:
    """What the entries of a list have under this key, and where; what is no list says nothing."""
    found = container.get(part)
    for number, entry in enumerate(found if isinstance(found, list) else ()):
        if isinstance(entry, Mapping) and key in entry:
            yield f"{path}.{part}[{number}].{key}", entry[key]


def _within(path: str, folder: str) -> bool:
    return f"{posixpath.normpath('/' + path.lstrip('/'))}/".startswith(f"{folder}/")


def _decided(path: str, found: Mapping[str, Any], reasons: Mapping[str, str]) -> Iterator[str]:
    for key in sorted(set(found) & set(reasons)):
        yield f"{path}.{key}: the operator decides it: {reasons[key]}"
