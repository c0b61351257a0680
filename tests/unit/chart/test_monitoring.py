"""Alerts and the dashboard look at metrics that there are, and say what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from elf_operator.master import SCRAPE_KEY
from elf_operator.metrics import Metrics
from elf_worker.contract import FIGURES_PORT, WIRE_PORT
from unit.chart.rendered import ROOT, Chart, World

OPERATOR = ROOT / "operator" / "elf_operator"
NPDC = ROOT / "worker_image" / "elf_worker" / "roles" / "npdc.py"
LOOKS = re.compile(r"\b(?:elf|process|python)_\w+|\bup\b")
LABELS = re.compile(r"\{([^}]*)\}")
BY = re.compile(r"by \(([^)]*)\)")
TARGETS = {"namespace", "job", "pod", "le"}
"""Labels that Prometheus adds, and that of buckets."""


@pytest.fixture(scope="module")
def world(chart: Chart) -> World:
    on = {"enabled": True}
    names = ("serviceMonitor", "podMonitor", "prometheusRule", "grafanaDashboard")
    return chart.render({"replicas": 2, **dict.fromkeys(names, on)})


@pytest.fixture(scope="module")
def served() -> dict[str, set[str]]:
    """Series that an operator serves, and the NPDC's own → their labels."""
    metrics = Metrics()
    metrics.requested("list", "pods", 200, 0.1)
    metrics.reconciles.labels("done").inc()
    metrics.replacements.labels("mdc", "PodGone").inc()
    metrics.errors_logged.labels("kopf").inc()
    for name in re.findall(r'metrics\.show\("(\w+)"', (OPERATOR / "handlers.py").read_text()):
        metrics.show(name, name, lambda: 1.0)
    for label, name in re.findall(
        r'metrics\.show_by\("(\w+)", "(\w+)"', (OPERATOR / "handlers.py").read_text()
    ):
        metrics.show_by(label, name, name, lambda: {"any": 1})
    found: dict[str, set[str]] = {"up": set()}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    for name in re.findall(r'yield "(\w+)", \{\}', NPDC.read_text()):
        found[f"elf_{name}"] = set()
    return found


def rules(world: World) -> Iterator[dict[str, Any]]:
    for group in world.one("PrometheusRule")["spec"]["groups"]:
        yield from group["rules"]


def dashboard(world: World) -> dict[str, Any]:
    (text,) = world.one("ConfigMap")["data"].values()
    return dict(json.loads(text))


def queries(world: World) -> Iterator[str]:
    yield from (str(rule["expr"]) for rule in rules(world))
    for panel in dashboard(world)["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for variable in dashboard(world)["templating"]["list"][1:]:
        yield variable["query"]["query"]


def test_every_query_looks_at_series_and_labels_that_there_are(
    world: World, served: dict[str, set[str]]
) -> None:
    for query in queries(world):
        names = set(LOOKS.findall(query))
        assert names and names <= set(served), f"{query}: {names - set(served)} is served by nobody"
        known = set().union(*(served[name] for name in names)) | TARGETS
        asked = {part.partition("=")[0].rstrip("~!") for s in LABELS.findall(query) for part in s.split(",")}
        asked |= {word.strip() for s in BY.findall(query) for word in s.split(",")}
        assert asked <= known, f"{query}: {asked - known} are no labels of {names}"


def test_there_is_an_alert_for_each_thing_that_goes_wrong(world: World) -> None:
    assert [rule["alert"] for rule in rules(world)] == [
        "ElfOperatorDown",
        "ElfOperatorNotLeading",
        "ElfOperatorNoGoodList",
        "ElfOperatorApiErrors",
        "ElfOperatorRefused",
        "ElfOperatorBug",
        "ElfJobsDegraded",
        "ElfReplacementsStorm",
        "ElfJobStalled",
    ]


def test_each_alert_says_what_it_means_and_what_to_do(world: World) -> None:
    for rule in rules(world):
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}, rule["alert"]
        assert len(rule["annotations"]["runbook"].split()) > 15, rule["alert"]


def test_alerts_of_one_release_are_about_its_operator(world: World) -> None:
    """Two releases with one Prometheus do not answer for each other."""
    own = 'namespace="elf-system",job="elf-elf-training-operator"'
    for rule in rules(world):
        if rule["alert"] != "ElfJobStalled":
            assert rule["expr"].count(own) == len(LOOKS.findall(rule["expr"])), rule["alert"]


def test_what_runbooks_quote_from_the_log_is_logged(world: World) -> None:
    """Words in quotes are what to look for."""
    code = "".join(path.read_text() for path in OPERATOR.glob("*.py"))
    for rule in rules(world):
        for words in re.findall(r'"([^"]+)"', rule["annotations"]["runbook"]):
            assert words in code, f"{rule['alert']}: {words!r} is logged nowhere"


def test_outcomes_and_codes_are_those_of_the_code(world: World) -> None:
    code = (OPERATOR / "workqueue.py").read_text()
    for outcome in re.findall(r'outcome="(\w+)"', str(list(queries(world)))):
        assert f'"{outcome}"' in code


def test_the_dashboard_is_whole(world: World) -> None:
    panels = dashboard(world)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [tuple(panel["gridPos"][key] for key in "xy") for panel in panels]
    assert len(set(places)) == len(places)
    assert all(panel["title"] and panel["targets"] for panel in panels)


@pytest.mark.parametrize("mtls", [True, False])
def test_prometheus_shows_the_token_that_opens_the_figures_of_all_jobs(chart: Chart, mtls: bool) -> None:
    world = chart.render({"jobs": {"mtls": mtls}, "podMonitor": {"enabled": True}})
    (endpoint,) = world.one("PodMonitor")["spec"]["podMetricsEndpoints"]
    assert (endpoint.get("scheme") == "https") == mtls
    if mtls:
        held = endpoint["authorization"]["credentials"]
        assert held == {"name": world.one("Secret")["metadata"]["name"], "key": SCRAPE_KEY}


def test_pods_of_jobs_are_asked_at_the_port_of_their_figures(world: World) -> None:
    (endpoint,) = world.one("PodMonitor")["spec"]["podMetricsEndpoints"]
    (relabel,) = endpoint["relabelings"]
    template = relabel["replacement"].replace("$1", r"\1")
    for address in ("10.0.0.1", "[fd00::1]"):
        assert re.sub(relabel["regex"], template, f"{address}:{WIRE_PORT}") == f"{address}:{FIGURES_PORT}"
