"""Pod templates: what the operator decides is refused by name; the rest is the user's."""

from __future__ import annotations

from typing import Any

import pytest

from builders import DEFAULTS, actions, decide, job, observation, valid
from elf_operator import names, podbuilder, templates
from elf_worker.contract import Role

ROLES = list(Role)
PARTS = {Role.HOME: "homes", Role.MDC: "miniDataCenters", Role.NPDC: "northPole"}


def own(**fields: Any) -> dict[str, Any]:
    """A template that says this of the container that runs the role."""
    return {"spec": {"containers": [{"name": "elf", **fields}]}}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a typo": ({"specs": {}}, "specs: no such field; did you mean 'spec'?"),
    "kind": ({"kind": "Deployment"}, "kind: no such field; known: metadata, spec"),
    "no object": ({"spec": 5}, "spec: is 5, an object is expected"),
    "no metadata": ({"metadata": "a"}, "metadata: is 'a', an object is expected"),
    "name": ({"metadata": {"name": "mine"}}, "metadata.name: no such field; known: annotations, labels"),
    "no name": ({"metadata": {"name": None}}, "metadata.name: no such field"),
    "owners": ({"metadata": {"ownerReferences": []}}, "metadata.ownerReferences: no such field"),
    "labels": ({"metadata": {"labels": ["a"]}}, "metadata.labels: is ['a'], an object is expected"),
    "a label": ({"metadata": {"labels": {"a": 1}}}, "metadata.labels.a: is 1, a string is expected"),
    "our label": (
        {"metadata": {"labels": {names.LABEL_ROLE: "reindeer"}}},
        "metadata.labels.northpole.dev/role: the operator finds its pods by it",
    ),
    "a standard label": (
        {"metadata": {"labels": {"app.kubernetes.io/instance": "mine"}}},
        "metadata.labels.app.kubernetes.io/instance: the operator finds",
    ),
    "restarts": (
        {"spec": {"restartPolicy": "Always"}},
        "spec.restartPolicy: the operator decides it: a home",
    ),
    "a token": (
        {"spec": {"automountServiceAccountToken": True}},
        "spec.automountServiceAccountToken: the operator",
    ),
    "containers": ({"spec": {"containers": {}}}, "spec.containers: is {}, an array is expected"),
    "nameless": (
        {"spec": {"containers": [{"image": "a"}]}},
        "spec.containers[0].name: is required",
    ),
    "volume": ({"spec": {"volumes": [{"emptyDir": {}}]}}, "spec.volumes[0].name: is required"),
    "command": (
        own(command=["sh"]),
        "spec.containers[0].command: the operator decides it: it starts this role",
    ),
    "probe": (own(readinessProbe={}), "spec.containers[0].readinessProbe: the operator decides it"),
    "environment": (
        own(env=[{"name": "A"}, {"name": "ELF_INDEX"}]),
        "spec.containers[0].env[1].name: the operator",
    ),
    "a field that is a number": ({1: {}}, "1: no such field; known: metadata, spec"),
    "a label that is a number": (
        {"metadata": {"labels": {1: "a", "b": "c"}}},
        'metadata.labels.1: its key is 1, a string is expected, such as "1"',
    ),
    "an annotation that is true": (
        {"metadata": {"annotations": {"b": "c", True: "a"}}},
        'metadata.annotations.True: its key is True, a string is expected, such as "True"',
    ),
    "the identity": (
        {"spec": {"volumes": [{"name": "mine"}, {"name": "identity", "emptyDir": {}}]}},
        "spec.volumes[1].name: the operator has a volume 'identity' of its own: with it the pod proves who "
        "it is; another name is expected",
    ),
    "a mount over the identity": (
        own(volumeMounts=[{"name": "mine", "mountPath": "/var//run/elf/identity/"}]),
        "spec.containers[0].volumeMounts[0].mountPath: the operator mounts its volume 'identity' at "
        "/var/run/elf/identity: with it the pod proves who it is; another path is expected",
    ),
    "a winding mount": (
        own(volumeMounts=[{"name": "a", "mountPath": "/var/elf/../run"}]),
        "spec.containers[0].volumeMounts[0].mountPath: is '/var/elf/../run', a path without . and .. is",
    ),
    "a mount within the identity": (
        own(volumeMounts=[{"name": "a", "mountPath": "/a"}, {"mountPath": "/var/run/elf/identity/key"}]),
        "spec.containers[0].volumeMounts[1].mountPath: the operator mounts its volume 'identity' at",
    ),
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("template", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_what_the_operator_decides_is_refused_by_name(
    role: Role, template: dict[str, Any], sentence: str
) -> None:
    [error] = job(**{PARTS[role]: {"template": template}}).errors
    assert error.startswith(f"spec.{PARTS[role]}.template.{sentence}")


ALLOWED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "nulls": {"metadata": None, "spec": None},
    "null lists": {"metadata": {"labels": None}, "spec": {"containers": None}},
    "null for what the operator decides": {"spec": {"restartPolicy": None}},
    "null for a label": {"metadata": {"labels": {"a": None}}},
    "labels": {"metadata": {"labels": {"team": "elves"}, "annotations": {"northpole.dev/note": "mine"}}},
    "scheduling": {"spec": {"nodeSelector": {"a": "b"}, "tolerations": [], "priorityClassName": "low"}},
    "pull secrets": {"spec": {"imagePullSecrets": [{"name": "registry"}]}},
    "a GPU": own(resources={"limits": {"nvidia.com/gpu": 1}}),
    "environment": own(env=[{"name": "ELF_LIKE", "value": "1"}], envFrom=[], image="mine"),
    "a sidecar": {"spec": {"containers": [{"name": "proxy", "command": ["p"], "ports": []}]}},
    "an init container": {"spec": {"initContainers": [{"name": "elf-data", "command": ["fetch"]}]}},
    "a volume": {"spec": {"volumes": [{"name": "data", "emptyDir": {}}]}},
    "room": {"spec": {"volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "9Gi"}}]}},
    "a mount": own(
        volumeMounts=[{"name": "tmp", "mountPath": "/var/tmp"}, {"name": "tmp", "mountPath": "/tmp"}]
    ),
    "a mount beside ours": own(volumeMounts=[{"name": "tmp", "mountPath": "/var/run/elf/identity-of-mine"}]),
    "no mounts": own(volumeMounts=None, env=None),
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("template", ALLOWED.values(), ids=ALLOWED.keys())
def test_the_rest_is_the_users(role: Role, template: dict[str, Any]) -> None:
    made = job(**{PARTS[role]: {"template": template}})
    assert made.errors == ()
    assert actions(decide(observation(made)))


def test_keys_of_two_kinds_are_named_one_by_one() -> None:
    """YAML has keys that are numbers, and they cannot be compared with strings."""
    errors = job(homes={"template": {1: {}, "a": {}, "metadata": {2: "", "name": "mine"}}}).errors
    assert sorted(error.partition(":")[0].removeprefix("spec.homes.template.") for error in errors) == [
        "1",
        "a",
        "metadata.2",
        "metadata.name",
    ]


def test_only_the_npdcs_account_is_the_operators() -> None:
    mine = {"spec": {"serviceAccountName": "mine"}}
    assert templates.errors("t", mine, Role.HOME) == []
    [error] = templates.errors("t", mine, Role.NPDC)
    assert error.startswith("t.spec.serviceAccountName: the operator decides it")


@pytest.mark.parametrize("role", ROLES)
def test_all_volumes_that_the_operator_gives_to_a_pod_are_refused_but_its_scratch(role: Role) -> None:
    """A volume that builders begins to add has to be thought of here."""
    made = job(northPole={"checkpoint": {"volumeClaim": "states"}}, output={"volumeClaim": "models"})
    spec = podbuilder.pod(made, valid(made), DEFAULTS, role, 0, 0)["spec"]
    for volume in spec["volumes"]:
        refused = templates.errors("t", {"spec": {"volumes": [volume]}}, role)
        assert bool(refused) == (volume["name"] != "tmp")
        assert all(error.startswith("t.spec.volumes[0].name: the operator has a volume") for error in refused)
    for mount in spec["containers"][0]["volumeMounts"]:
        refused = templates.errors("t", own(volumeMounts=[{**mount, "name": "mine"}]), role)
        assert bool(refused) == (mount["name"] != "tmp")
        assert all(mount["mountPath"] in error for error in refused)


def test_only_the_npdc_has_the_jobs_claims() -> None:
    """Volumes of these names do not meet the operator's in other pods."""
    mine = {"spec": {"volumes": [{"name": "checkpoint"}, {"name": "output"}]}}
    assert templates.errors("t", mine, Role.HOME) == templates.errors("t", mine, Role.MDC) == []
    first, second = templates.errors("t", mine, Role.NPDC)
    assert "spec.northPole.checkpoint.volumeClaim decides what it is; another name" in first
    assert "spec.output.volumeClaim decides what it is; another name" in second


@pytest.mark.parametrize("role", ROLES)
def test_all_that_the_operator_sets_in_a_container_is_refused_or_merged(role: Role) -> None:
    """A field that builders begins to set has to be thought of here."""
    made = job(northPole={"checkpoint": {"volumeClaim": "claim"}})
    [container] = podbuilder.pod(made, valid(made), DEFAULTS, role, 0, 0)["spec"]["containers"]
    merged = {"name", "image", "imagePullPolicy", "env", "resources", "securityContext", "volumeMounts"}
    for field in container.keys() - merged - {"terminationMessagePolicy"}:
        [error] = templates.errors("t", own(**{field: container[field]}), role)
        assert error.startswith(f"t.spec.containers[0].{field}: the operator decides it")
    for entry in container["env"]:
        [error] = templates.errors("t", own(env=[entry]), role)
        assert entry["name"] in error
