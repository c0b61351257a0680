"""Jobs that break a rule across fields, or just do not; and edits of one that exists. Written by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from builders import overlay
from control_plane.violations import BASE, Case

ROBUST = {"aggregation": {"method": "median", "groupSize": 4}}
RULES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (
        "more MDCs than homes",
        "miniDataCenters.replicas",
        {"homes": {"replicas": 2}, "miniDataCenters": {"replicas": 3}},
    ),
    ("more MDCs than homes by default", "miniDataCenters.replicas", {"miniDataCenters": {"replicas": 5}}),
    ("quorum above homes", "round.quorum", {"round": {"quorum": 5}}),
    ("perPod above homes", "homes.perPod", {"homes": {"replicas": 2, "perPod": 3}}),
    ("group above homes", "aggregation.groupSize", {"aggregation": {"method": "median", "groupSize": 5}}),
    (
        "more MDCs than groups",
        "miniDataCenters.replicas",
        {**ROBUST, "homes": {"replicas": 8}, "miniDataCenters": {"replicas": 3}},
    ),
    (
        "too little room",
        "miniDataCenters.capacity",
        {"homes": {"replicas": 8}, "miniDataCenters": {"replicas": 2, "capacity": 3}},
    ),
    (
        "too little room for groups",
        "miniDataCenters.capacity",
        {**ROBUST, "homes": {"replicas": 9}, "miniDataCenters": {"replicas": 2, "capacity": 4}},
    ),
    ("no output", "output", {"output": {}}),
    ("two outputs", "output", {"output": {"url": "s3://b/x", "volumeClaim": "c"}}),
    ("a secret for a volume", "output.secret", {"output": {"volumeClaim": "c", "secret": "s"}}),
    ("a path for a URL", "output.path", {"output": {"url": "s3://b/x", "path": "p"}}),
    ("a path out of the volume", "output.path", {"output": {"volumeClaim": "c", "path": "a/../.."}}),
    ("a target beyond numbers", "target.atLeast", {"target": {"metric": "f1", "atLeast": "-1e999"}}),
    *(
        (f"clipping to {norm}", "aggregation.clipNorm", {"aggregation": {"clipNorm": norm}})
        for norm in ("0", "0.0e5", "1e-999", "1e999")
    ),
    *(
        (
            f"stragglers from {factor}",
            "failurePolicy.stragglerFactor",
            {"failurePolicy": {"stragglerFactor": factor}},
        )
        for factor in ("1", "0.5", "1.0000000000000000001", "1e999")
    ),
)
FINE: Mapping[str, dict[str, Any]] = {
    "nothing else": {},
    "a quorum of all": {"round": {"quorum": 4}},
    "room": {"homes": {"replicas": 8}, "miniDataCenters": {"replicas": 2, "capacity": 4}},
    "room for groups": {
        **ROBUST,
        "homes": {"replicas": 9},
        "miniDataCenters": {"replicas": 2, "capacity": 5},
    },
    "as many MDCs as homes": {"miniDataCenters": {"replicas": 4}},
    "a group of all": {"aggregation": {"method": "trimmedMean", "groupSize": 4}},
    "no group of a mean": {"aggregation": {"groupSize": 5}},
    "dots in a path": {"output": {"volumeClaim": "c", "path": "a/..b/."}},
    "decimal numbers": {"aggregation": {"clipNorm": "+.5"}, "failurePolicy": {"stragglerFactor": "5.e0"}},
    "nulls among arguments": {"task": {"entrypoint": "a.b:C", "args": {"x": None, "y": [None]}}},
    "nulls for objects": {"homes": None, "round": None, "output": None, "statistics": None},
    "a whole share": {"faultInjection": {"homeFailureProbability": 1.0}},
}


def own(**fields: Any) -> dict[str, Any]:
    """A template that says this of the container that runs the role."""
    return {"spec": {"containers": [{"name": "elf", **fields}]}}


def mounts(*paths: str) -> dict[str, Any]:
    """A template that mounts something there."""
    return own(volumeMounts=[{"name": "mine", "mountPath": path} for path in paths])


TEMPLATES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("metadata.name", "a name", {"metadata": {"name": "mine"}}),
    ("metadata.labels", "a label of ours", {"metadata": {"labels": {"northpole.dev/role": "reindeer"}}}),
    ("metadata.labels", "a usual label", {"metadata": {"labels": {"app.kubernetes.io/instance": "mine"}}}),
    ("spec.restartPolicy", "restarts", {"spec": {"restartPolicy": "Always"}}),
    ("spec.terminationGracePeriodSeconds", "grace", {"spec": {"terminationGracePeriodSeconds": 5}}),
    ("spec.automountServiceAccountToken", "a token", {"spec": {"automountServiceAccountToken": False}}),
    ("spec.containers[0].command", "a command", own(command=["sh"])),
    ("spec.containers[0].args", "arguments", own(args=[])),
    ("spec.containers[0].ports", "ports", own(ports=[])),
    ("spec.containers[0].readinessProbe", "a probe", own(readinessProbe={})),
    ("spec.containers[0].env", "a variable of ours", own(env=[{"name": "A"}, {"name": "ELF_INDEX"}])),
    ("spec.containers[0].volumeMounts", "a mount over ours", mounts("/a", "/var//run/elf/identity/")),
    ("spec.containers[0].volumeMounts", "a mount within ours", mounts("var/run/elf/identity/key")),
    ("spec.containers[0].volumeMounts", "a winding mount", mounts("/var/elf/../run")),
    ("spec.volumes[0].name", "a volume of ours", {"spec": {"volumes": [{"name": "identity"}]}}),
)
FINE_TEMPLATES: Mapping[str, dict[str, Any]] = {
    "nulls": {"metadata": {"labels": {"a": None}, "annotations": None}, "spec": {"restartPolicy": None}},
    "null lists": own(env=None, volumeMounts=None, readinessProbe=None),
    "nulls that remove": {"spec": {"securityContext": None, "tolerations": None}},
    "a sidecar": {"spec": {"containers": [{"name": "s", "command": ["a"], "env": [{"name": "ELF_JOB"}]}]}},
    "mounts beside ours": mounts("/tmp", "/var/run/elf/identity-of-mine", "/a/.b/..c"),
    "what no pod has": {"spec": {"contaners": []}},
    "labels": {"metadata": {"labels": {"team": "elves"}, "annotations": {"northpole.dev/note": "mine"}}},
}
NPDC_TEMPLATES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("spec.serviceAccountName", "an account", {"spec": {"serviceAccountName": "mine"}}),
    ("spec.containers[0].volumeMounts", "a mount over the states", mounts("/var/elf/checkpoint")),
    ("spec.containers[0].volumeMounts", "a mount in the models", mounts("//var/elf/output/x")),
    ("spec.volumes[0].name", "the volume of states", {"spec": {"volumes": [{"name": "checkpoint"}]}}),
    ("spec.volumes[0].name", "the volume of models", {"spec": {"volumes": [{"name": "output"}]}}),
)
NAMES = {
    "a" * 41: True,
    "my.job": True,
    "2024-run": True,
    "9": True,
    "Sleigh": True,
    "a-": True,
    "a_b": True,
    "a": False,
    "a" * 40: False,
    "a-9": False,
}
"""A name, and whether it is refused."""


def rules() -> Iterator[Case]:
    """Each rule across fields broken, and kept by a hair."""
    for label, path, change in RULES:
        yield Case(label, f"spec.{path}", overlay(BASE, change), stored=True)
    for label, change in FINE.items():
        yield Case(label, "", overlay(BASE, change), refused=False)


def templates() -> Iterator[Case]:
    """What the operator decides of a pod, and what it does not."""
    for part in ("homes", "miniDataCenters", "northPole"):
        at = f"spec.{part}.template"
        for path, label, template in (*TEMPLATES, *(NPDC_TEMPLATES if part == "northPole" else ())):
            spec = {**BASE, part: {"template": template}}
            yield Case(f"{part}: {label}", f"{at}.{path}", spec, stored=path != "metadata.name")
        for label, template in FINE_TEMPLATES.items():
            yield Case(f"{part}: {label}", "", {**BASE, part: {"template": template}}, refused=False)
    for part in ("homes", "miniDataCenters"):
        for path, label, template in NPDC_TEMPLATES:
            yield Case(f"{part}: {label}", path, {**BASE, part: {"template": template}}, refused=False)


def names() -> Iterator[Case]:
    """Of jobs."""
    for name, refused in NAMES.items():
        yield Case(f"named {name!r}", "metadata.name", name=name, refused=refused, stored=name in STORABLE)


STORABLE = {"a" * 41, "my.job", "2024-run", "9"}
"""Names that an object of Kubernetes may have."""
STARTED: Mapping[str, Any] = {
    "task": {"entrypoint": "a.b:C", "args": {"one": 1}},
    "suspend": True,
    "seed": 7,
    "rounds": 150,
    "target": {"metric": "f1", "atLeast": "0.97"},
    "homes": {"replicas": 12, "perPod": 2},
    "miniDataCenters": {"replicas": 3},
    "optimizer": {"name": "Adam", "args": {"lr": "0.005"}},
}
"""A job that exists."""
STARTED_ROBUST = overlay(STARTED, ROBUST)
EDITS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("spec.task", {"task": {"entrypoint": "a.b:D"}}),
    ("spec.task", {"task": {"args": {"one": 2}}}),
    ("spec.task", {"task": {"args": {"two": 2}}}),
    ("spec.task", {"task": {"args": None}}),
    ("spec.seed", {"seed": 8}),
    ("spec.seed", {"seed": None}),
    ("spec.rounds", {"rounds": 151}),
    ("spec.target", {"target": {"atLeast": "0.98"}}),
    ("spec.target", {"target": None}),
    ("spec.evaluateEvery", {"evaluateEvery": 6}),
    ("spec.optimizer", {"optimizer": {"args": {"lr": "0.1"}}}),
    ("spec.optimizer", {"optimizer": None}),
    ("spec.localSteps", {"localSteps": 2}),
    ("spec.localOptimizer", {"localOptimizer": {"args": {"lr": "0.02"}}}),
    ("spec.round", {"round": {"quorum": "80%"}}),
    ("spec.round", {"round": {"quorum": 12}}),
    ("spec.round", {"round": {"deadlineSeconds": 31}}),
    ("spec.aggregation", {"aggregation": {"precision": "float16"}}),
    ("spec.aggregation", {"aggregation": {"clipNorm": "1"}}),
    ("spec.faultInjection", {"faultInjection": {"mdcFailureProbability": 0.1}}),
    ("spec.homes.perPod", {"homes": {"perPod": 3}}),
    ("spec.homes.batching", {"homes": {"batching": "fast"}}),
    ("spec.homes.perPod", {"homes": None}),
    ("spec.miniDataCenters.replicas", {"homes": {"replicas": 2}}),
    ("spec.miniDataCenters.replicas", {"miniDataCenters": {"replicas": 13}}),
    ("spec.miniDataCenters.capacity", {"miniDataCenters": {"capacity": 3}}),
    ("", {}),
    ("", {"round": None, "localOptimizer": {}}),
    ("", {"homes": {"replicas": 16}, "miniDataCenters": {"replicas": 16}}),
    ("", {"suspend": False, "image": "x", "statistics": ["a.b:C"]}),
    ("", {"homes": {"template": {"spec": {"nodeSelector": {"a": "b"}}}}}),
    ("", {"output": {"volumeClaim": "c"}, "activeDeadlineSeconds": 5, "ttlSecondsAfterFinished": 0}),
    ("", {"failurePolicy": {"stragglerFactor": "5"}, "northPole": {"checkpoint": {"volumeClaim": "c"}}}),
)
"""The field that the edit is refused for, or nothing; and the edit.

(1.0 for a 1 among arguments is a change for the server alone: it refuses it, so the operator never sees it.)
"""
ROBUST_EDITS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("spec.homes.replicas", {"homes": {"replicas": 16}}),
    ("spec.aggregation", {"aggregation": {"groupSize": 3}}),
    ("spec.aggregation", {"aggregation": {"method": "mean"}}),
    ("", {"miniDataCenters": {"replicas": 2}}),
)
