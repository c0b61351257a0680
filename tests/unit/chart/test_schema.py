"""values.schema.json: a typo is refused by its name, a wrong value by the name of its field."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import pytest
import yaml

from unit.chart.rendered import CHART, Chart, RefusedError, changed, leaves

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
FREE = {"properties.global", "definitions.whatKubernetesChecks"}
"""Where anything goes: what is not ours, and what is deep and checked by the API server."""
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)


def groups(values: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The paths of all groups of values, the whole included."""
    yield path
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from groups(value, f"{path}.{key}".lstrip("."))


def schemas(node: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(node, Mapping):
        if node.get("type") == "object":
            yield path.lstrip("."), node
        for key, value in node.items():
            yield from schemas(value, f"{path}.{key}")


def test_the_schema_is_one_and_the_defaults_meet_it() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert not list(VALIDATOR.iter_errors(DEFAULTS))


def test_every_object_is_closed() -> None:
    found = dict(schemas(SCHEMA))
    open_ones = {path for path, schema in found.items() if schema.get("additionalProperties", True) is True}
    assert open_ones == FREE
    assert all(s["additionalProperties"] is False for s in found.values() if "properties" in s)


def test_the_schema_knows_every_value_and_no_other() -> None:
    known = {path for path in _known(SCHEMA) if path != "global"}
    ours = set(leaves(DEFAULTS))
    # Free maps have keys of their own in values.yaml, or none; resources may have more than the defaults.
    assert {p for p in ours if p not in known} == {"grafanaDashboard.labels.grafana_dashboard"}
    more = {p for p in known if p not in ours and not p.startswith(("resources.", "affinity."))}
    assert more == {"grafanaDashboard.labels"}


def _known(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    while "$ref" in schema:
        schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
    if "properties" not in schema:
        yield path
        return
    for key, inner in schema["properties"].items():
        yield from _known(inner, f"{path}.{key}".lstrip("."))
    if path == "affinity":
        yield path


@pytest.mark.parametrize("group", sorted(set(groups(DEFAULTS)) - {"grafanaDashboard.labels"}))
def test_a_typo_is_refused_by_its_name(group: str) -> None:
    errors = list(VALIDATOR.iter_errors(changed(DEFAULTS, f"{group}.tpyo".lstrip("."), 1)))
    assert [".".join(map(str, error.absolute_path)) for error in errors] == [group]
    assert "tpyo" in errors[0].message


WRONG: dict[str, Any] = {
    "nameOverride": "No Name",
    "fullnameOverride": "1elf",
    "clusterNameOverride": "UPPER",
    "commonLabels": {"a": "two words"},
    "replicas": -1,
    "image.repository": "",
    "image.tag": "latest",
    "image.digest": "sha256:short",
    "image.pullPolicy": "always",
    "imagePullSecrets": ["name"],
    "worker.image.tag": "latest",
    "watch.namespaces": ["*"],
    "jobs.figuresFrom": [{"podSelecter": {}}],
    "crds.install": "yes",
    "serviceAccount.name": "Joe",
    "serviceAccount.annotations": {"a": 1},
    "log.format": "xml",
    "log.level": "warning",
    "listen.port": 80,
    "extraArgs": ["verbose"],
    "extraEnv": [{"nmae": "TZ"}],
    "resources.limits.memory": "512 MB",
    "resources.limits.memroy": "512Mi",
    "podAnnotations": {"a": True},
    "tolerations": [{"keyy": "a"}],
    "lostNodeSeconds": -1,
    "affinity": {"podAntiAfinity": {}},
    "topologySpreadConstraints": [{"maxSkew": 1}],
    "podDisruptionBudget.maxUnavailable": 0,
    "service.port": 70000,
    "networkPolicy.metricsFrom": [{"podSelecter": {}}],
    "networkPolicy.apiServer.ports": [0],
    "networkPolicy.apiServer.cidrs": ["10.0.0.1"],
    "serviceMonitor.interval": "often",
    "prometheusRule.replacementsStorm": 0,
    "grafanaDashboard.labels": {"a": 1},
}


@pytest.mark.parametrize("path", WRONG)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(path: str) -> None:
    errors = list(VALIDATOR.iter_errors(changed(DEFAULTS, path, WRONG[path])))
    said = [".".join(map(str, error.absolute_path)) + " " + error.message for error in errors]
    assert said and all(_names(path, words) for words in said), said


def _names(path: str, words: str) -> bool:
    group, _, last = path.rpartition(".")
    return words.startswith(path) or (words.startswith(group) and repr(last) in words)


def test_helm_refuses_by_the_same_schema(chart: Chart) -> None:
    with pytest.raises(RefusedError, match=r"(?s)/image.*'tga'"):
        chart.render({"image": {"tga": "v1"}})
    with pytest.raises(RefusedError, match="/image/tag"):
        chart.render({"image": {"tag": "latest"}})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"serviceMonitor": {"enabled": True}, "service": {"enabled": False}}, r"service\.enabled"),
        ({"prometheusRule": {"enabled": True}}, r"serviceMonitor\.enabled"),
    ],
)
def test_values_that_contradict_each_other_are_refused(
    chart: Chart, values: dict[str, Any], words: str
) -> None:
    with pytest.raises(RefusedError, match=words):
        chart.render(values)


def test_the_chart_may_be_part_of_another(chart: Chart) -> None:
    assert chart.render({"global": {"whatever": 1}}).names == chart.render().names
