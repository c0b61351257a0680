"""What a pod template may say: anything but what the operator itself decides.

What it looks like is the schema's business (`elf_operator.schema`). The CRD has the rules that are here, too,
for the API server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from elf_operator import names
from elf_worker import contract
from elf_worker.contract import Role

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
    contract.ENV_NODE,
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
    """What is wrong with a template that fits the schema, one sentence a field, each beginning with its path.

    What only the API server knows, such as whether a field of a pod exists, it says itself.
    """
    return list(_template(path, template, role))


def _template(path: str, template: Mapping[str, Any], role: Role) -> Iterator[str]:
    yield from _metadata(f"{path}.metadata", template.get("metadata", {}))
    spec = template.get("spec", {})
    decided = dict(_SPEC)
    if role is Role.NPDC:
        decided["serviceAccountName"] = "its account may read the wiring and report progress"
    yield from _decided(f"{path}.spec", spec, decided)
    own = _own_volumes(role)
    for number, container in enumerate(spec.get("containers", ())):
        if container["name"] == names.CONTAINER:
            yield from _own_container(f"{path}.spec.containers[{number}]", container, own)
    for number, volume in enumerate(spec.get("volumes", ())):
        if volume["name"] in own:
            yield (
                f"{path}.spec.volumes[{number}].name: the operator has a volume {volume['name']!r} of its "
                f"own: {own[volume['name']].why}; another name is expected"
            )


def _metadata(path: str, metadata: Mapping[str, Any]) -> Iterator[str]:
    for part, found in sorted(metadata.items()):
        for key in sorted(found, key=str):
            where = f"{path}.{part}.{key}"
            if not isinstance(key, str):
                yield f'{where}: its key is {key!r}, a string is expected, such as "{key}"'
            elif part == "labels" and (key in _RESERVED_LABELS or key.startswith(f"{contract.API_GROUP}/")):
                yield f"{where}: the operator finds its pods by it"


def _own_volumes(role: Role) -> Mapping[str, _Volume]:
    return {**_VOLUMES, **(_NPDC_VOLUMES if role is Role.NPDC else {})}


def _own_container(path: str, container: Mapping[str, Any], own: Mapping[str, _Volume]) -> Iterator[str]:
    yield from _decided(path, container, _CONTAINER)
    for number, variable in enumerate(container.get("env", ())):
        if variable["name"] in _ENVIRONMENT:
            yield f"{path}.env[{number}].name: the operator sets {variable['name']}"
    for number, mount in enumerate(container.get("volumeMounts", ())):
        where, place = f"{path}.volumeMounts[{number}].mountPath", mount.get("mountPath", "")
        if {".", ".."} & set(place.split("/")):
            yield f"{where}: is {place!r}, a path without . and .. is expected"
        for name, volume in own.items():
            if _within(place, volume.path):
                yield (
                    f"{where}: the operator mounts its volume {name!r} at {volume.path}: {volume.why}; "
                    "another path is expected"
                )


def _within(path: str, folder: str) -> bool:
    return re.sub("/+", "/", f"/{path}/").startswith(f"{folder}/")


def _decided(path: str, found: Mapping[str, Any], reasons: Mapping[str, str]) -> Iterator[str]:
    for key in sorted(set(found) & set(reasons)):
        yield f"{path}.{key}: the operator decides it: {reasons[key]}"
