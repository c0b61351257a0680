"""The CRD's own hygiene: what a server would refuse, what people read, and what the operator checks by it."""

from __future__ import annotations

import copy
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import hypothesis.strategies as st
import jsonschema
import pytest
import yaml
from hypothesis import example, given

from builders import job
from control_plane import broken_rules, violations
from control_plane.violations import Case
from elf_operator import schema, templates
from elf_operator.spec import RECIPE, parse_job
from elf_worker.contract import Role

ROOT = pathlib.Path(__file__).parents[3]


def nodes(node: dict[str, Any], path: str = "spec") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, sub in node.get("properties", {}).items():
        yield from nodes(sub, f"{path}.{name}")
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        yield from nodes(node["additionalProperties"], f"{path}{{}}")


def root_schema() -> dict[str, Any]:
    return dict(schema.crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"])


SPEC_NODES = dict(nodes(schema.spec_schema()))
ALL_NODES = dict(nodes(root_schema(), ""))


@pytest.mark.parametrize("path", ALL_NODES)
def test_kubectl_can_explain_every_field(path: str) -> None:
    """The server has words of its own for the metadata, and lets nobody else describe it."""
    said = ALL_NODES[path].get("description", "")
    assert said.endswith(".") if path != ".metadata" else not said, "a sentence"


@pytest.mark.parametrize("path", SPEC_NODES)
def test_every_field_is_bounded(path: str) -> None:
    node = SPEC_NODES[path]
    if node.get("type") in ("integer", "number"):
        assert node.keys() >= {"minimum", "maximum"}
    if node.get("type") == "string":
        assert node.keys() & {"maxLength", "enum"}
    if bits := {"int32": 31, "int64": 63}.get(node.get("format", "")):
        assert node["maximum"] < 1 << bits
    if "default" in node:
        assert jsonschema.Draft202012Validator(node).is_valid(node["default"])


@pytest.mark.parametrize("path", ALL_NODES)
def test_the_schema_is_structural(path: str) -> None:
    """https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/."""
    node = ALL_NODES[path]
    pair = [{"type": "integer"}, {"type": "string"}]
    if node.get("x-kubernetes-int-or-string"):
        assert "type" not in node and node["anyOf"] == pair
    else:
        assert "type" in node
        for junctor in ("anyOf", "allOf", "oneOf", "not"):
            assert not set(keys(node.get(junctor, []))) & {"type", "default", "description", "nullable"}
    if "properties" in node or "additionalProperties" in node:
        assert node["type"] == "object"
    assert not ("properties" in node and "additionalProperties" in node)
    assert "$ref" not in node and "definitions" not in node
    assert ("items" in node) == (node.get("type") == "array")
    assert set(node.get("required", [])) <= set(node.get("properties", {}))


def keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        for sub in value.values():
            yield from keys(sub)
    elif isinstance(value, list):
        for sub in value:
            yield from keys(sub)


def rules(path: str) -> list[str]:
    return [v["rule"] for v in SPEC_NODES[path].get("x-kubernetes-validations", [])]


def test_rules_across_fields_are_also_the_servers() -> None:
    said = " ".join(rules("spec"))
    for fields in (
        ("self.miniDataCenters.replicas", "self.homes.replicas"),
        ("self.round.quorum", "self.homes.replicas"),
        ("self.homes.perPod", "self.homes.replicas"),
    ):
        assert f"{fields[0]} <= {fields[1]}" in said


@given(
    homes=st.integers(1, 40),
    mdcs=st.integers(1, 12),
    capacity=st.none() | st.integers(1, 40),
    size=st.integers(3, 12),
    method=st.sampled_from(["mean", "median"]),
)
def test_the_servers_rules_about_capacity_are_ours(
    homes: int, mdcs: int, capacity: int | None, size: int, method: str
) -> None:
    """CEL's operators, read as Python's; its division of integers is rounded towards zero."""
    room = {} if capacity is None else {"capacity": capacity}
    found = job(
        homes={"replicas": homes},
        miniDataCenters={"replicas": mdcs, **room},
        aggregation={"method": method, "groupSize": size},
    ).errors
    texts = [rule.partition(" || ")[2] for rule in rules("spec") if "self.miniDataCenters.capacity" in rule]
    assert len(texts) == 2
    for cel, python in (
        ("!has(self.miniDataCenters.capacity)", str(capacity is None)),
        ("self.miniDataCenters.capacity", str(capacity)),
        ("self.miniDataCenters.replicas", str(mdcs)),
        ("self.homes.replicas", str(homes)),
        ("self.aggregation.groupSize", str(size)),
        ("self.aggregation.method", repr(method)),
        ("||", "or"),
        ("/", "//"),
    ):
        texts = [text.replace(cel, python) for text in texts]
    if all(eval(text) for text in texts):
        assert not any("capacity" in error for error in found)
    else:
        assert found, "what the server refuses, we refuse, if perhaps for another reason"


@pytest.mark.parametrize("field", RECIPE)
def test_a_field_that_decides_the_bits_is_immutable_for_the_server_too(field: str) -> None:
    assert "self == oldSelf" in rules(f"spec.{field}")


def test_homes_of_groups_are_immutable_for_the_server_too() -> None:
    assert "self == oldSelf" in rules("spec.homes.perPod")
    assert "self == oldSelf" in rules("spec.homes.batching")
    same = "self.aggregation.method == 'mean' || self.homes.replicas == oldSelf.homes.replicas"
    assert same in rules("spec")


@pytest.mark.parametrize("field", RECIPE)
def test_a_field_that_decides_the_bits_can_neither_be_added_nor_removed(field: str) -> None:
    """A rule with oldSelf is not asked when its field comes or goes, so its parent must be."""
    always = field in schema.spec_schema()["required"] or "default" in SPEC_NODES[f"spec.{field}"]
    assert always or any(f"has(oldSelf.{field})" in rule for rule in rules("spec"))


def test_every_rule_has_its_sentence() -> None:
    for path, node in SPEC_NODES.items():
        for validation in node.get("x-kubernetes-validations", []):
            assert validation["message"], path


def test_the_subresource_and_the_columns_exist() -> None:
    version = schema.crd()["spec"]["versions"][0]
    assert version["subresources"] == {"status": {}}
    for column in version["additionalPrinterColumns"]:
        parts = column["jsonPath"].lstrip(".").split(".")
        if parts[0] != "metadata":
            assert ".".join(["", *parts]) in ALL_NODES, column["name"]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "manifests" / "samples").glob("*.yaml")), ids=lambda p: p.stem
)
def test_the_samples_are_valid(path: pathlib.Path) -> None:
    assert parse_job(yaml.safe_load(path.read_text())).errors == ()


# -- what a server would refuse -----------------------------------------------------------------------------


def unread(node: Mapping[str, Any], path: str = "spec") -> Iterator[str]:
    """Rules that read what a default lacks.

    A server asks the rules of a field, and of those below, of the field's default as it is written: before
    the defaults below it are filled in.
    """
    if "default" in node:
        yield from _unread(node, node["default"], path)
    for name, sub in node.get("properties", {}).items():
        yield from unread(sub, f"{path}.{name}")


def _unread(node: Mapping[str, Any], value: Any, path: str) -> Iterator[str]:
    for rule in (v["rule"] for v in node.get("x-kubernetes-validations", ())):
        for read in re.findall(r"\bself((?:\.\w+\b(?!\())+)", re.sub("'[^']*'", "''", rule)):
            there: Any = value
            for part in read[1:].split("."):
                there = there.get(part) if isinstance(there, Mapping) else None
            if there is None and f"has(self{read})" not in rule:
                yield f"{path}: {rule}"
    for name, sub in node.get("properties", {}).items():
        if isinstance(value, Mapping) and name in value:
            yield from _unread(sub, value[name], f"{path}.{name}")


def test_no_rule_reads_what_a_default_lacks() -> None:
    assert list(unread(schema.spec_schema())) == []


@pytest.mark.parametrize(
    ("rule", "refused"),
    [
        ("self.perPod == oldSelf.perPod", True),
        ("self.perPod > 0", True),
        ("!has(self.perPod) || self.perPod > 0", False),
        ("self.?perPod.orValue(1) > 0", False),
        ("self == oldSelf", False),
        ("self.all(k, k != 'self.perPod')", False),
    ],
)
def test_such_a_rule_would_be_found(rule: str, refused: bool) -> None:
    altered = copy.deepcopy(schema.spec_schema())
    altered["properties"]["homes"]["x-kubernetes-validations"] = [{"rule": rule}]
    assert list(unread(altered)) == ([f"spec.homes: {rule}"] if refused else [])


def test_a_rule_of_what_a_written_default_holds_may_read_it() -> None:
    altered = copy.deepcopy(schema.spec_schema())
    args = altered["properties"]["localOptimizer"]["properties"]["args"]
    args["x-kubernetes-validations"] = [{"rule": "self.lr != ''"}, {"rule": "self.momentum != ''"}]
    assert list(unread(altered)) == ["spec.localOptimizer.args: self.momentum != ''"]


# -- what is stored under an older CRD ----------------------------------------------------------------------


def test_a_rule_across_fields_is_asked_only_when_one_of_them_changes() -> None:
    """Or a job that was stored before there was such a rule could not even be suspended."""
    immutable = {f"self.{field}" for field in (*RECIPE, "homes.perPod")}
    for rule in SPEC_NODES["spec"]["x-kubernetes-validations"]:
        if "oldSelf." in rule["rule"] and "optionalOldSelf" not in rule:
            continue  # it is about a change in the first place
        unchanged, _, asked = rule["rule"].partition(" || ")
        first, *clauses = unchanged.split(" && ")
        assert first == "oldSelf.hasValue()" and rule["optionalOldSelf"] is True
        same = {clause.partition(" == ")[2].replace(".?", ".") for clause in clauses}
        assert {f"oldSelf.value(){field[4:]}" for field in same} == {
            clause.partition(" == ")[0].replace(".?", ".") for clause in clauses
        }
        read = set(re.findall(r"self(?:\.\w+\b)+", asked))
        assert {f for f in read if not any(f == i or f.startswith(f"{i}.") for i in immutable)} == same


@pytest.mark.parametrize("path", SPEC_NODES)
def test_a_rule_that_can_fail_with_an_error_is_asked_only_of_what_changes(path: str) -> None:
    """The server lets a stored value be that a rule finds wrong, but not one of which a rule cannot tell."""
    for rule in SPEC_NODES[path].get("x-kubernetes-validations", ()):
        if "double(" in rule["rule"]:
            assert rule["rule"].startswith("oldSelf.hasValue() && oldSelf.value() == self || ")
            assert rule["optionalOldSelf"] is True


def test_a_stored_job_keeps_its_name() -> None:
    [rule] = root_schema()["x-kubernetes-validations"]
    assert rule["rule"].startswith("oldSelf.hasValue() || ") and rule["optionalOldSelf"] is True
    assert root_schema()["properties"]["metadata"]["properties"]["name"].keys() == {"type", "description"}


# -- one check in two places --------------------------------------------------------------------------------

CASES = {
    f"{number} {case.label}": case
    for number, case in enumerate(
        (*violations.bounds(), *broken_rules.rules(), *broken_rules.templates(), *broken_rules.names())
    )
}


def test_what_a_server_is_asked_about_the_operator_refuses_by_name() -> None:
    """Whether the server is of the same mind is seen where there is one: tests/control_plane/test_crd.py."""
    assert len(CASES) > 500
    assert [s for label, case in CASES.items() for s in wrong(label, case)] == []


def wrong(label: str, case: Case) -> Iterator[str]:
    found = parse_job({"metadata": {"name": case.name}, "spec": case.spec}).errors
    if case.refused is not None and case.refused != bool(found):
        yield f"{label}: {found or 'accepted'}"
    if case.refused and not any(sentence.startswith(case.field) for sentence in found):
        yield f"{label}: nothing is said of {case.field}: {found}"


PATTERNS = {path: node["pattern"] for path, node in SPEC_NODES.items() if "pattern" in node}


@pytest.mark.parametrize("path", PATTERNS)
def test_a_pattern_means_the_same_to_go_and_to_python(path: str) -> None:
    """Anchored: a line break is no end. No classes of Unicode. And people are told what is expected."""
    pattern = PATTERNS[path]
    assert pattern.startswith("^") and pattern.endswith("$") and "$" not in pattern[:-1]
    assert not re.search(r"\\[a-zA-Z]|\(\?", pattern)
    assert path in schema._EXPECTED
    assert not schema.regex(pattern).search("a\n")


@pytest.mark.parametrize("path", [path for path in SPEC_NODES if SPEC_NODES[path].get("type") == "integer"])
def test_a_decimal_point_is_refused_by_the_server_too(path: str) -> None:
    """Its rules fail on 4.0 for an integer, and it takes one where there is none: so each integer has one."""
    assert {"type(self) == int", "false"} & set(rules(path))


@given(st.text(st.sampled_from("az09-.A\n"), max_size=42))
@example("a" * 40)
@example("a" * 41)
def test_a_name_is_refused_by_the_server_too(name: str) -> None:
    [rule] = root_schema()["x-kubernetes-validations"]
    [pattern] = re.findall(r"matches\('(.*)'\)", rule["rule"])
    assert bool(schema.regex(pattern).search(name)) == (not job(name).errors)


@pytest.mark.parametrize(
    ("part", "role"), [("homes", Role.HOME), ("miniDataCenters", Role.MDC), ("northPole", Role.NPDC)]
)
def test_what_the_operator_keeps_for_itself_stands_in_the_crd(part: str, role: Role) -> None:
    at = f"spec.{part}.template"
    own = templates._own_volumes(role)
    quoted = {at: set(re.findall("'([^']*)'", " ".join(rules(at)))) for at in SPEC_NODES}
    assert quoted[f"{at}.metadata.labels"] == {*templates._RESERVED_LABELS, "northpole.dev/"}
    assert quoted[f"{at}.spec.volumes[]"] == {"", *own}
    in_container = quoted[f"{at}.spec.containers[]"]
    assert set(templates._ENVIRONMENT) == {q for q in in_container if q.startswith("ELF_")}
    mounted = [re.compile(q) for q in in_container if "var/" in q]
    for volume in own.values():
        assert any(place.search(f"{volume.path}/x") for place in mounted)
    for field in templates._CONTAINER:
        assert f"self.?name.orValue('') != 'elf' || !has(self.{field})" in rules(f"{at}.spec.containers[]")
    for field in (*templates._SPEC, *(["serviceAccountName"] if role is Role.NPDC else [])):
        assert rules(f"{at}.spec.{field}") == ["false"]
