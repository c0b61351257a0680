"""What a pod template may say: anything but what the operator itself decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

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
)


def errors(path: str, template: Mapping[str, Any], role: Role) -> list[str]:
    """What is wrong with a template, one sentence a field, each beginning with the field's path.

    What only the API server knows, such as whether a field of a pod exists, it says itself.
    """
    return list(_template(path, template, role))


def _template(path: str, template: Mapping[str, Any], role: Role) -> Iterator[str]:
    for key in sorted(set(template) - {"metadata", "spec"}):
        yield f"{path}.{key}: no such field; a template has metadata and spec"
    for key in ("metadata", "spec"):
        if template.get(key) is not None and not isinstance(template[key], Mapping):
            yield f"{path}.{key}: is {template[key]!r}, an object is expected"
            return
    yield from _metadata(f"{path}.metadata", template.get("metadata") or {})
    spec = template.get("spec") or {}
    decided = dict(_SPEC)
    if role is Role.NPDC:
        decided["serviceAccountName"] = "its account may read the wiring and report progress"
    yield from _decided(f"{path}.spec", spec, decided)
    yield from _containers(f"{path}.spec", spec)


def _metadata(path: str, metadata: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(set(metadata) - set(_METADATA)):
        yield f"{path}.{key}: the operator decides it; labels and annotations are yours"
    for part in _METADATA:
        found = metadata.get(part)
        if found is None:
            continue
        if not isinstance(found, Mapping):
            yield f"{path}.{part}: is {found!r}, an object is expected"
            continue
        for key, value in sorted(found.items()):
            if not isinstance(value, str):
                yield f'{path}.{part}.{key}: is {value!r}, a string is expected, such as "{value}"'
            if part == "labels" and (key in _RESERVED_LABELS or key.startswith(f"{contract.API_GROUP}/")):
                yield f"{path}.{part}.{key}: the operator finds its pods by it"


def _containers(path: str, spec: Mapping[str, Any]) -> Iterator[str]:
    for part in ("containers", "initContainers", "volumes"):
        found = spec.get(part)
        if found is None:
            continue
        if not isinstance(found, list):
            yield f"{path}.{part}: is {found!r}, a list is expected"
            continue
        for number, item in enumerate(found):
            where = f"{path}.{part}[{number}]"
            if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
                hint = f"; {names.CONTAINER!r} is the one that runs the role" if part == "containers" else ""
                yield f"{where}.name: is required{hint}"
            elif part == "containers" and item["name"] == names.CONTAINER:
                yield from _own_container(where, item)


def _own_container(path: str, container: Mapping[str, Any]) -> Iterator[str]:
    yield from _decided(path, container, _CONTAINER)
    env = container.get("env")
    for number, entry in enumerate(env if isinstance(env, list) else ()):
        name = entry.get("name") if isinstance(entry, Mapping) else None
        if name in _ENVIRONMENT:
            yield f"{path}.env[{number}].name: the operator sets {name}"


def _decided(path: str, found: Mapping[str, Any], reasons: Mapping[str, str]) -> Iterator[str]:
    for key in sorted(set(found) & set(reasons)):
        yield f"{path}.{key}: the operator decides it: {reasons[key]}"
