"""A job as typed values, and the rules across fields that a schema cannot say."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from elf_operator import destination, names, schema, templates
from elf_worker.contract import Role, groups

_SERVICE_NAME = re.compile("[a-z]([-a-z0-9]*[a-z0-9])?")
RECIPE = (
    "task",
    "seed",
    "rounds",
    "target",
    "evaluateEvery",
    "optimizer",
    "localSteps",
    "localOptimizer",
    "round",
    "aggregation",
    "faultInjection",
)
"""Fields that decide which bits come out: they may not change once the job has started."""
HOMES = "homes.replicas"
"""In a recipe: how many homes the job was started with."""
BATCHING = "homes.batching"


@dataclass(frozen=True)
class Spec:
    """A valid, defaulted spec. Field names follow the resource's."""

    suspend: bool
    active_deadline_seconds: int | None
    ttl_seconds: int | None
    """Seconds that the job is kept once it has ended; None: until somebody deletes it."""
    image: str | None
    output_url: str | None
    """Folder for the model and the report."""
    output_secret: str | None
    """Secret whose keys become environment variables of the NPDC."""
    output_claim: str | None
    """Volume claim that the folder is on."""
    entrypoint: str
    task_args: Mapping[str, Any]
    seed: int
    rounds: int
    target_metric: str | None
    target_at_least: float | None
    evaluate_every: int
    optimizer: str
    optimizer_args: Mapping[str, Any]
    local_steps: int
    local_optimizer: str
    local_optimizer_args: Mapping[str, Any]
    aggregation: str
    trim_percent: int
    group_size: int
    clip_norm: float | None
    precision: str
    statistics: tuple[str, ...]
    home_failure_probability: float
    mdc_failure_probability: float
    failure_seed: int
    quorum_rule: int | str
    """A count of homes or a percentage; see `quorum_of`."""
    deadline_seconds: int
    homes: int
    first_homes: int
    """How many homes the job was started with."""
    per_pod: int
    batching: str
    home_template: Mapping[str, Any]
    mdcs: int
    mdc_capacity: int | None
    """Homes that one MDC serves at most."""
    mdc_template: Mapping[str, Any]
    npdc_template: Mapping[str, Any]
    checkpoint_every: int
    volume_claim: str | None
    mdc_timeout_seconds: int
    max_replacements: int
    straggler_factor: float | None

    @property
    def quorum(self) -> int:
        """Homes that must be counted when all that are wanted take part."""
        return self.quorum_of(self.homes)

    def quorum_of(self, homes: int) -> int:
        """Homes that must be counted in a round that has so many."""
        return min(homes, count_of(self.quorum_rule, homes))

    @property
    def units(self) -> list[range]:
        """`units_of` all homes that are wanted."""
        return self.units_of(self.homes)

    def units_of(self, homes: int) -> list[range]:
        """Homes that only move together: the groups of a robust method, else each home alone."""
        return groups(homes, self.group_size if self.aggregation != "mean" else 1)

    def share(self, index: int, homes: int) -> range:
        """The homes of one pod where there are so many."""
        first = index * self.per_pod
        return range(first, max(first, min(first + self.per_pod, homes)))

    @property
    def home_pods(self) -> int:
        """Pods that hold all homes."""
        return math.ceil(self.homes / self.per_pod)


@dataclass(frozen=True)
class Job:
    """One ElfTrainingJob. `spec` is None exactly when there are `errors`."""

    name: str
    namespace: str
    uid: str
    generation: int
    spec: Spec | None
    errors: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """The defaulted fields named in RECIPE, and homes' replicas and perPod."""
    labels: Mapping[str, str] = field(default_factory=dict)


def parse_job(body: Mapping[str, Any]) -> Job:
    """From the resource's JSON. Never raises for a bad spec: it says so in `errors`."""
    meta = body.get("metadata") or {}
    raw = body.get("spec")
    spec = schema.defaulted(raw if raw is not None else {})
    found = _name_errors(str(meta.get("name", ""))) + schema.errors(spec)
    found = found or _rule_errors(spec)
    return Job(
        name=meta.get("name", ""),
        namespace=meta.get("namespace", "default"),
        uid=meta.get("uid", ""),
        generation=meta.get("generation", 0),
        spec=None if found else _typed(spec),
        errors=tuple(found),
        recipe={} if found else _recipe(spec),
        labels=meta.get("labels") or {},
    )


def completed(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe written by an earlier version, with the defaults of the fields it did not know."""
    known = {BATCHING: "exact"} | schema.defaulted(dict(recipe))
    return {key: value for key, value in known.items() if key in {*RECIPE, BATCHING, *recipe}}


def changed_fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Fields of the recipe that differ, as `spec.…` paths.

    `homes.replicas` may differ, except where it decides who is in a group with whom.
    """
    free = set() if robust_method(after) else {HOMES}
    keys = sorted({*before, *after} - free)
    return [f"spec.{key}" for key in keys if before.get(key) != after.get(key)]


def refusals(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """`changed_fields` in sentences for people."""
    found = []
    for path in changed_fields(before, after):
        why = "once the job has started"
        if path == f"spec.{HOMES}":
            why = f"while aggregation.method is {robust_method(after)}: it decides which homes form a group"
        found.append(f"{path}: cannot change {why}; make a new job")
    return found


def robust_method(recipe: Mapping[str, Any]) -> str:
    """The aggregation method if it is one that works on groups of homes, else nothing."""
    method = str(recipe.get("aggregation", {}).get("method", "mean"))
    return method if method != "mean" else ""


def _recipe(spec: Mapping[str, Any]) -> dict[str, Any]:
    recipe = {key: spec[key] for key in RECIPE if key in spec}
    recipe[HOMES] = spec["homes"]["replicas"]
    recipe["homes.perPod"] = spec["homes"]["perPod"]
    recipe[BATCHING] = spec["homes"]["batching"]
    return dict(json.loads(json.dumps(recipe)))


def _name_errors(name: str) -> list[str]:
    if len(name) > names.MAX_JOB_NAME:
        return [f"metadata.name: has {len(name)} characters, at most {names.MAX_JOB_NAME} are allowed"]
    if name and not _SERVICE_NAME.fullmatch(name):
        rule = "lower-case letters, digits and hyphens are expected, a letter first and no hyphen last"
        return [f"metadata.name: {name!r} cannot be the name of a Service; {rule}"]
    return [] if name else ["metadata.name: is required"]


def _rule_errors(spec: Mapping[str, Any]) -> list[str]:
    homes, mdcs = spec["homes"]["replicas"], spec["miniDataCenters"]["replicas"]
    quorum, per_pod = spec["round"]["quorum"], spec["homes"]["perPod"]
    found = []
    if mdcs > homes:
        found.append(
            f"spec.miniDataCenters.replicas: is {mdcs}, at most spec.homes.replicas ({homes}) is allowed: "
            "an MDC without a home has nothing to add up"
        )
    if isinstance(quorum, int) and quorum > homes:
        found.append(f"spec.round.quorum: is {quorum}, at most spec.homes.replicas ({homes}) is allowed")
    if per_pod > homes:
        found.append(f"spec.homes.perPod: is {per_pod}, at most spec.homes.replicas ({homes}) is allowed")
    if (factor := spec["failurePolicy"].get("stragglerFactor")) and not 1 < float(factor) < math.inf:
        found.append(f"spec.failurePolicy.stragglerFactor: is {factor}, a number above 1 is expected")
    if (target := spec.get("target")) and math.isinf(float(target["atLeast"])):
        found.append(
            f"spec.target.atLeast: is {target['atLeast']}, a number that 64 bits can hold is expected"
        )
    found += _aggregation_errors(spec["aggregation"], homes, mdcs)
    found += destination.errors(spec.get("output"))
    for part, role in (("homes", Role.HOME), ("miniDataCenters", Role.MDC), ("northPole", Role.NPDC)):
        found += templates.errors(f"spec.{part}.template", spec[part]["template"], role)
    return found or _capacity_errors(spec)


def _capacity_errors(spec: Mapping[str, Any]) -> list[str]:
    """All MDCs together have to hold all homes; of a robust method, in whole groups."""
    homes, mdcs = spec["homes"]["replicas"], spec["miniDataCenters"]["replicas"]
    capacity, where = spec["miniDataCenters"].get("capacity"), "spec.miniDataCenters.capacity"
    if capacity is None:
        return []
    if spec["aggregation"]["method"] == "mean":
        if mdcs * capacity >= homes:
            return []
        return [
            f"{where}: is {capacity}, at least {-(-homes // mdcs)} is needed: spec.miniDataCenters.replicas "
            f"({mdcs}) times {capacity} is {mdcs * capacity}, spec.homes.replicas is {homes}"
        ]
    units = groups(homes, spec["aggregation"]["groupSize"])
    largest, each = max(map(len, units)), -(-len(units) // mdcs)
    if capacity // largest >= each:
        return []
    return [
        f"{where}: is {capacity}, at least {each * largest} is needed: an MDC serves whole groups, "
        f"{homes} homes make {len(units)} of up to {largest}, and {mdcs} MDCs have to serve up to {each} each"
    ]


def _aggregation_errors(aggregation: Mapping[str, Any], homes: int, mdcs: int) -> list[str]:
    """A robust method needs enough homes in every group, and a whole group for every MDC."""
    size, where = aggregation["groupSize"], "spec.aggregation"
    found = []
    clip = aggregation.get("clipNorm")
    if clip is not None and not 0 < float(clip) < math.inf:
        found.append(f"{where}.clipNorm: is {clip}, a number above 0 is expected")
    if aggregation["method"] == "mean":
        return found
    if size > homes:
        found.append(f"{where}.groupSize: is {size}, at most spec.homes.replicas ({homes}) is allowed")
    elif mdcs > (count := len(groups(homes, size))):
        made = f"{homes} homes make {count} group{'s' * (count > 1)} of spec.aggregation.groupSize ({size})"
        found.append(
            f"spec.miniDataCenters.replicas: is {mdcs}, at most {count} is allowed: {made}, "
            "and an MDC serves whole groups"
        )
    return found


def _typed(spec: Mapping[str, Any]) -> Spec:
    target = spec.get("target") or {}
    homes = spec["homes"]["replicas"]
    output = destination.parse(spec.get("output"))
    return Spec(
        suspend=spec["suspend"],
        active_deadline_seconds=spec.get("activeDeadlineSeconds"),
        ttl_seconds=spec.get("ttlSecondsAfterFinished"),
        image=spec.get("image"),
        output_url=output.mounted if output else None,
        output_secret=output.secret if output else None,
        output_claim=output.claim if output else None,
        entrypoint=spec["task"]["entrypoint"],
        task_args=spec["task"]["args"],
        seed=spec["seed"],
        rounds=spec["rounds"],
        target_metric=target.get("metric"),
        target_at_least=float(target["atLeast"]) if target else None,
        evaluate_every=spec["evaluateEvery"],
        optimizer=spec["optimizer"]["name"],
        optimizer_args={k: _number(v) for k, v in spec["optimizer"]["args"].items()},
        local_steps=spec["localSteps"],
        local_optimizer=spec["localOptimizer"]["name"],
        local_optimizer_args={k: _number(v) for k, v in spec["localOptimizer"]["args"].items()},
        aggregation=spec["aggregation"]["method"],
        trim_percent=spec["aggregation"]["trimPercent"],
        group_size=spec["aggregation"]["groupSize"],
        clip_norm=_decimal(spec["aggregation"].get("clipNorm")),
        precision=spec["aggregation"]["precision"],
        statistics=tuple(spec["statistics"]),
        home_failure_probability=float(spec["faultInjection"]["homeFailureProbability"]),
        mdc_failure_probability=float(spec["faultInjection"]["mdcFailureProbability"]),
        failure_seed=spec["faultInjection"]["seed"],
        quorum_rule=spec["round"]["quorum"],
        deadline_seconds=spec["round"]["deadlineSeconds"],
        homes=homes,
        first_homes=homes,
        per_pod=spec["homes"]["perPod"],
        batching=spec["homes"]["batching"],
        home_template=spec["homes"]["template"],
        mdcs=spec["miniDataCenters"]["replicas"],
        mdc_capacity=spec["miniDataCenters"].get("capacity"),
        mdc_template=spec["miniDataCenters"]["template"],
        npdc_template=spec["northPole"]["template"],
        checkpoint_every=spec["northPole"]["checkpoint"]["everyRounds"],
        volume_claim=spec["northPole"]["checkpoint"].get("volumeClaim"),
        mdc_timeout_seconds=spec["failurePolicy"]["mdcTimeoutSeconds"],
        max_replacements=spec["failurePolicy"]["maxReplacements"],
        straggler_factor=_decimal(spec["failurePolicy"].get("stragglerFactor")),
    )


def count_of(quorum: int | str, homes: int) -> int:
    """A quorum as a count: percentages are rounded up."""
    if isinstance(quorum, int):
        return quorum
    return math.ceil(int(quorum.strip().rstrip("%")) * homes / 100)


def _decimal(text: str | None) -> float | None:
    return None if text is None else float(text)


def _number(value: Any) -> Any:
    """Numbers written as strings, also inside lists, as numbers; everything else as it is."""
    if isinstance(value, list):
        return [_number(v) for v in value]
    if isinstance(value, str):
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
    return value
