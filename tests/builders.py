"""Small factories of jobs, pods and observations. The usual job: four homes, two MDCs, named `sleigh`."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from elf_operator import builders, names
from elf_operator.builders import Defaults
from elf_operator.observation import Observation, Pod
from elf_operator.planner import plan
from elf_operator.plans import Plan
from elf_operator.spec import Job, Spec, parse_job
from elf_worker.contract import WIRING_KEY, Role, Slot, Wiring

NOW = 1_700_000_000.0
JOB = "sleigh"
DEFAULTS = Defaults()
SPEC: Mapping[str, Any] = {
    "task": {"entrypoint": "elf_worker.tasks.digits:Digits"},
    "homes": {"replicas": 4},
    "miniDataCenters": {"replicas": 2},
}


def overlay(base: Any, changes: Any) -> Any:
    """`changes` over a copy of `base`, mappings by key. (Not the code under test's own merge.)"""
    if not isinstance(base, Mapping) or not isinstance(changes, Mapping):
        return copy.deepcopy(changes)
    out = copy.deepcopy(dict(base))
    for key, value in changes.items():
        out[key] = overlay(out[key], value) if key in out else copy.deepcopy(value)
    return out


def body(name: str = JOB, labels: Mapping[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """The resource's JSON: the usual spec with these changes."""
    meta = {"name": name, "namespace": "pole", "uid": f"uid-of-{name}", "generation": 1}
    return {"metadata": meta | ({"labels": dict(labels)} if labels else {}), "spec": overlay(SPEC, spec)}


def job(name: str = JOB, labels: Mapping[str, str] | None = None, **spec: Any) -> Job:
    """As parsed, valid or not."""
    return parse_job(body(name, labels, **spec))


def valid(parsed: Job) -> Spec:
    """The spec of a job that must be valid."""
    assert parsed.spec is not None, parsed.errors
    return parsed.spec


def pod(role: Role, index: int = 0, incarnation: int = 0, **fields: Any) -> Pod:
    """A pod that serves, unless `fields` say otherwise."""
    name = names.pod(JOB, role, index, incarnation)
    usual: dict[str, Any] = {"phase": "Running", "ready": True, "created": NOW - 1000.0, "node": "n1"}
    return Pod(name, f"uid-{name}", role, index, incarnation, **usual | fields)


def observation(parsed: Job | None = None, **fields: Any) -> Observation:
    """What is seen of a job: nothing, unless `fields` say otherwise."""
    return Observation(job=parsed or job(), **fields)


def service(parsed: Job, incarnation: int = 0) -> dict[str, Any]:
    """The NPDC's Service as it exists."""
    return builders.npdc_service(parsed, incarnation)


def slot(
    role: Role, index: int = 0, incarnation: int = 0, homes: Iterable[int] = (), replaced: int = 0
) -> Slot:
    """A slot filled by the pod that `pod` makes."""
    name = names.pod(JOB, role, index, incarnation)
    return Slot(incarnation, f"uid-{name}", frozenset(homes), replaced)


def settled(training: Mapping[str, Any] | None = None, **spec: Any) -> Observation:
    """The usual job in the middle of training: every pod serves, the status is written."""
    parsed = job(**spec)
    mdcs = valid(parsed).mdcs
    homes = range(valid(parsed).homes)
    pods = (
        pod(Role.NPDC),
        *(pod(Role.MDC, i) for i in range(mdcs)),
        *(pod(Role.HOME, i) for i in range(valid(parsed).home_pods)),
    )
    split = {i: slot(Role.MDC, i, homes=[h for h in homes if h % mdcs == i]) for i in range(mdcs)}
    progress = {"phase": "Training", "incarnation": 0, "round": 7, "homes": len(homes), **(training or {})}
    seen = observation(
        parsed,
        pods=pods,
        wiring=wired(parsed, split),
        service=service(parsed),
        status={"training": progress},
    )
    return written(seen, plan(seen, NOW - 500.0, DEFAULTS))


def wired(parsed: Job, mdcs: Mapping[int, Slot], **fields: Any) -> Wiring:
    """The wiring of a job whose homes all take part."""
    homes, quorum = valid(parsed).homes, valid(parsed).quorum
    usual: dict[str, Any] = {"homes": homes, "quorum": quorum, "expected": homes}
    return Wiring(5, slot(Role.NPDC), mdcs, parsed.recipe, **usual | fields)


def written(seen: Observation, decided: Plan) -> Observation:
    """With the plan's status as the job's status."""
    training = {"training": seen.training} if seen.training else {}
    return replace(seen, status={**decided.status, **training})


def with_pod(seen: Observation, name: str, **fields: Any) -> Observation:
    """With this pod changed."""
    assert any(p.name == name for p in seen.pods), name
    return replace(seen, pods=tuple(replace(p, **fields) if p.name == name else p for p in seen.pods))


def without(seen: Observation, *gone: str) -> Observation:
    """With these pods gone."""
    assert {p.name for p in seen.pods} >= set(gone), gone
    return replace(seen, pods=tuple(p for p in seen.pods if p.name not in gone))


def with_spec(seen: Observation, **spec: Any) -> Observation:
    """With another spec, of the next generation."""
    changed = body(**spec)
    changed["metadata"]["generation"] = seen.job.generation + 1
    return replace(seen, job=parse_job(changed))


def with_training(seen: Observation, **progress: Any) -> Observation:
    """With the NPDC saying something else."""
    return replace(seen, status={**seen.status, "training": {**seen.training, **progress}})


def decide(seen: Observation, now: float = NOW) -> Plan:
    """The plan."""
    return plan(seen, now, DEFAULTS)


def wiring_of(decided: Plan) -> Wiring | None:
    """The wiring that a plan applies, if it does."""
    texts = [m["data"][WIRING_KEY] for m in decided.apply if m["kind"] == "ConfigMap"]
    assert len(texts) <= 1
    return Wiring.from_json(texts[0]) if texts else None


def actions(decided: Plan) -> list[str]:
    """A plan in short: `apply Service`, `delete sleigh-mdc-1-0`, `create sleigh-mdc-1-1`."""
    return [
        *(f"apply {m['kind']}" for m in decided.apply),
        *(f"delete {d.name}" for d in decided.delete),
        *(f"remove {kind} {name}" for kind, name in decided.remove),
        *("apply Secret" for _ in decided.issue),
        *(f"create {c.manifest['metadata']['name']}" for c in decided.create),
    ]


def condition(status: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The condition of this type."""
    [found] = [c for c in status["conditions"] if c["type"] == kind]
    return dict(found)
