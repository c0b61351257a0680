"""The CRD on a real API server: it is taken, refuses what the operator refuses, and lets stored jobs be.

The server has a copy of it under another group, which is gone afterwards; nobody acts on its jobs.
"""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import pytest
import pytest_asyncio

from builders import overlay
from control_plane import broken_rules, violations
from control_plane.api import APPLY, MERGE, Api, RefusedError
from control_plane.violations import BASE, Case
from elf_operator import schema
from elf_operator.spec import parse_job, refusals

pytestmark = pytest.mark.asyncio(loop_scope="session")
CRDS = "apis/apiextensions.k8s.io/v1/customresourcedefinitions"
STRICT = {"fieldValidation": "Strict"}
DRY = {"dryRun": "All", **STRICT}
PATIENCE_SECONDS = 60
BOUNDS = (
    *(
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "maxItems",
        "maxProperties",
        "pattern",
        "enum",
        "format",
    ),
    *("required", "x-kubernetes-validations"),
)
PROBE = {**BASE, "rounds": 0}
"""What the CRD refuses, and one without bounds takes."""


class Served:
    """A copy of the CRD that the server has, and a namespace for its jobs."""

    def __init__(self, api: Api, group: str, namespace: str) -> None:
        self.api, self.group, self.namespace = api, group, namespace
        self.crd = f"{CRDS}/elftrainingjobs.{group}"
        self.jobs = f"apis/{group}/v1alpha1/namespaces/{namespace}/elftrainingjobs"

    def body(self, loose: bool) -> dict[str, Any]:
        """The CRD as the server shall have it."""
        made = copy.deepcopy(schema.crd())
        made["metadata"] = {"name": f"elftrainingjobs.{self.group}"}
        made["spec"]["group"] = self.group
        for shared in ("shortNames", "categories"):
            del made["spec"]["names"][shared]
        if loose:
            root = made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
            del root["x-kubernetes-validations"]
            root["properties"]["spec"] = loosened(root["properties"]["spec"])
        return made

    async def install(self, loose: bool = False) -> None:
        """The CRD, or this instead of the one that is there, and wait until the server goes by it."""
        body = self.body(loose)
        if (there := await self.api.get(self.crd)) is None:
            await self.api.request("POST", CRDS, body)
        else:
            body["metadata"]["resourceVersion"] = there["metadata"]["resourceVersion"]
            await self.api.request("PUT", self.crd, body)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self.said("POST", self.jobs, self.job("probe", BASE)) or loose != (
                not await self.said("POST", self.jobs, self.job("probe", PROBE))
            ):
                await asyncio.sleep(0.1)

    async def release(self) -> None:
        """Let go of jobs that a failed test has left with their finalizer."""
        if not ((await self.api.get(self.jobs)) or {}).get("items"):
            return
        await self.install(loose=True)
        for job in (await self.api.request("GET", self.jobs))["items"]:
            path = f"{self.jobs}/{job['metadata']['name']}"
            await self.api.request("PATCH", path, {"metadata": {"finalizers": None}}, None, MERGE)

    def job(self, name: str, spec: Any) -> dict[str, Any]:
        """The resource's JSON."""
        kind = {"apiVersion": f"{self.group}/v1alpha1", "kind": "ElfTrainingJob"}
        return {**kind, "metadata": {"name": name}, "spec": spec}

    async def said(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any],
        query: Mapping[str, str] = DRY,
        content: str = "",
    ) -> str:
        """Why the server refuses this; empty if it does not."""
        try:
            await self.api.request(method, path, body, query, content or "application/json")
        except RefusedError as error:
            return error.said
        return ""

    async def differences(self, cases: Iterable[Case]) -> list[str]:
        """Where server and operator are not of one mind, or do not say where the fault is."""
        found: list[str] = []
        for case in cases:
            body = self.job(case.name, case.spec)
            found += differences(case, await self.said("POST", self.jobs, body), parse_job(body).errors)
        return found


def loosened(node: Any) -> Any:
    """A schema without bounds and rules, but for a required task: an absent one cannot be mended later."""
    if isinstance(node, list):
        return [loosened(sub) for sub in node]
    if not isinstance(node, dict):
        return node
    fields = {k: v for k, v in node.items() if k not in BOUNDS or not bound(k, v)}
    return {k: loosened(v) for k, v in fields.items()}


def bound(key: str, value: Any) -> bool:
    """Whether it is a bound of the schema, not a field that is called so."""
    return not isinstance(value, dict) and value != ["task"]


def differences(case: Case, server: str, operator: tuple[str, ...]) -> list[str]:
    """In sentences."""
    if bool(server) != bool(operator) or (case.refused is not None and case.refused != bool(server)):
        return [f"{case.label}: the server says {server or 'yes'}, the operator {operator or 'yes'}"]
    if not case.refused:
        return []
    out = []
    if case.field not in server:
        out.append(f"{case.label}: the server does not name {case.field}: {server}")
    if not any(sentence.startswith(case.field) for sentence in operator):
        out.append(f"{case.label}: the operator does not name {case.field}: {operator}")
    return out


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served(api: Api) -> AsyncIterator[Served]:
    made = Served(
        api, f"elf-e2e-{uuid.uuid4().hex[:6]}.northpole.example", f"elf-bench-{uuid.uuid4().hex[:6]}"
    )
    await api.request("POST", "api/v1/namespaces", {"metadata": {"name": made.namespace}})
    try:
        yield made
    finally:
        await made.release()
        await api.unless(404, "DELETE", made.crd)
        await api.unless(404, "DELETE", f"api/v1/namespaces/{made.namespace}")


@pytest_asyncio.fixture(loop_scope="session")
async def strict(served: Served) -> Served:
    await served.install()
    return served


async def test_each_bound_is_the_servers_and_the_operators(strict: Served) -> None:
    assert await strict.differences(violations.bounds()) == []


async def test_each_rule_is_the_servers_and_the_operators(strict: Served) -> None:
    assert await strict.differences(broken_rules.rules()) == []


async def test_what_the_operator_decides_of_pods_is_refused_by_the_server(strict: Served) -> None:
    assert await strict.differences(broken_rules.templates()) == []


async def test_names_that_the_operator_refuses_are_refused_by_the_server(strict: Served) -> None:
    assert await strict.differences(broken_rules.names()) == []


@pytest.mark.parametrize("spec", [None, [], "digits"])
async def test_what_is_no_spec(strict: Served, spec: Any) -> None:
    body = strict.job("x", spec)
    assert (
        differences(
            Case("no spec", "spec"), await strict.said("POST", strict.jobs, body), parse_job(body).errors
        )
        == []
    )


@pytest.mark.parametrize(
    ("name", "started", "edits"),
    [
        ("usual", broken_rules.STARTED, broken_rules.EDITS),
        ("robust", broken_rules.STARTED_ROBUST, broken_rules.ROBUST_EDITS),
        ("aimless", BASE, (("spec.target", {"target": {"metric": "f1", "atLeast": "0.5"}}),)),
    ],
)
async def test_an_edit_is_refused_by_both_or_by_none(
    strict: Served, name: str, started: Mapping[str, Any], edits: tuple[tuple[str, dict[str, Any]], ...]
) -> None:
    there = await strict.api.request("POST", strict.jobs, strict.job(name, started), STRICT)
    path = f"{strict.jobs}/{name}"
    found = []
    for field, edit in edits:
        edited = {**there, "spec": overlay(there["spec"], edit)}
        job = parse_job(edited)
        operator = job.errors or tuple(refusals(parse_job(there).recipe, job.recipe))
        case = Case(str(edit), field, refused=bool(field))
        found += differences(case, await strict.said("PUT", path, edited), operator)
    await strict.api.request("DELETE", path)
    assert found == []


@pytest.mark.timeout(600)
async def test_what_is_stored_stays_of_use_under_a_stricter_crd(served: Served) -> None:
    """Each bound and rule is broken by a job that was stored when there were none."""
    await served.install(loose=True)
    every = (*violations.bounds(), *broken_rules.rules(), *broken_rules.templates(), *broken_rules.names())
    cases = {
        case.name if case.name != "x" else f"case-{i}": case for i, case in enumerate(every) if case.stored
    }
    for name, case in cases.items():
        job = served.job(name, case.spec)
        job["metadata"]["finalizers"] = ["northpole.example/kept"]
        assert not (said := await served.said("POST", served.jobs, job, STRICT)), f"{case.label}: {said}"
    await served.install()
    found = await asyncio.gather(*(hindrances(served, name, case) for name, case in cases.items()))
    assert [sentence for sentences in found for sentence in sentences] == []


CONDITION = {"type": "Failed", "status": "True", "reason": "InvalidSpec", "message": "m"}
STATUS = {
    "state": "Failed",
    "conditions": [{**CONDITION, "lastTransitionTime": "2030-01-01T00:00:00Z"}],
    "homes": {"desired": 4, "ready": 0, "failed": 0, "summary": "0/4"},
}


async def hindrances(served: Served, name: str, case: Case) -> list[str]:
    """What cannot be done with a stored job, its deletion last."""
    path = f"{served.jobs}/{name}"
    progress = {k: v for k, v in served.job(name, None).items() if k != "spec"} | {
        "status": {"training": {"round": 7}}
    }
    apply = {"fieldManager": "npdc", "force": "true"}
    done = {
        "suspend": await served.said("PATCH", path, {"spec": {"suspend": True}}, STRICT, MERGE),
        "label": await served.said("PATCH", path, {"metadata": {"labels": {"a": "b"}}}, STRICT, MERGE),
        "write the status": await served.said("PATCH", f"{path}/status", {"status": STATUS}, STRICT, MERGE),
        "apply progress": await served.said("PATCH", f"{path}/status", progress, apply, APPLY),
        "delete": await served.said("DELETE", path, {}, {}),
        "let go": await served.said("PATCH", path, {"metadata": {"finalizers": None}}, STRICT, MERGE),
    }
    gone = await served.api.get(path) is None
    told = [f"{case.label}: cannot {what}: {said}" for what, said in done.items() if said]
    return told if gone else [*told, f"{case.label}: is still there"]


async def test_a_rule_that_a_stored_job_breaks_holds_for_edits_of_what_it_reads(served: Served) -> None:
    await served.install(loose=True)
    spec = {**BASE, "homes": {"replicas": 2}, "miniDataCenters": {"replicas": 9}}
    await served.api.request("POST", served.jobs, served.job("crowded", spec), STRICT)
    await served.install()
    path = f"{served.jobs}/crowded"
    for homes, refused in ((8, True), (9, False)):
        said = await served.said("PATCH", path, {"spec": {"homes": {"replicas": homes}}}, DRY, MERGE)
        assert ("spec.miniDataCenters.replicas" in said) == refused, said
    await served.api.request("DELETE", path)


async def test_kubectl_can_explain_every_field(strict: Served) -> None:
    """`kubectl explain` reads what the server publishes, which it does a little later."""
    name = ".".join(reversed(strict.group.split("."))) + ".v1alpha1.ElfTrainingJob"
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (published := await strict.api.get(f"openapi/v3/apis/{strict.group}/v1alpha1")) is None:
            await asyncio.sleep(0.1)
    root = published["components"]["schemas"][name]
    ours = {part: root["properties"][part] for part in ("spec", "status")}
    bare = [
        violations.text(p)
        for n in ours.values()
        for p, node in violations.nodes(n)
        if not node.get("description")
    ]
    assert bare == []
    wanted = list(violations.nodes(schema.spec_schema()))
    assert len(list(violations.nodes(ours["spec"]))) == len(wanted) > 100
