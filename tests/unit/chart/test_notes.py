"""What helm says after an installation: a job that is taken, and warnings that are meant."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from elf_operator.spec import parse_job
from unit.chart.rendered import CHART, Chart

META = {"namespace": "default", "uid": "a", "generation": 1, "resourceVersion": "1"}


def taken(job: dict[str, Any]) -> None:
    assert (job["apiVersion"], job["kind"]) == ("northpole.dev/v1alpha1", "ElfTrainingJob")
    assert parse_job({**job, "metadata": {**META, **job["metadata"]}}).errors == ()


def test_the_first_job_of_the_notes_is_taken(chart: Chart) -> None:
    found = re.search(r"<<'END'\n(.*?)\n  END\n", chart.notes(), re.DOTALL)
    assert found
    taken(yaml.safe_load(found[1]))


def test_the_example_for_artifact_hub_is_taken() -> None:
    annotations = yaml.safe_load((CHART / "Chart.yaml").read_text())["annotations"]
    (job,) = yaml.safe_load(annotations["artifacthub.io/crdsExamples"])
    taken(job)


def test_a_namespaced_operator_is_shown_a_job_where_it_looks(chart: Chart) -> None:
    notes = chart.notes({"watch": {"namespaces": ["team-a", "team-b"]}})
    assert "in team-a, team-b." in notes and "--namespace team-a -f -" in notes


NOTHING_ODD = {"watch": {"namespaces": ["x"]}}
WARNINGS: dict[str, dict[str, Any]] = {
    "watch.namespaces is empty": {},
    "watch.namespaces is set": NOTHING_ODD,
    "crds.install is false": {"crds": {"install": False}},
    "crds.keep is false": {"crds": {"keep": False}},
    "rbac.create is false": {"rbac": {"create": False}},
    "serviceAccount.create is false": {"serviceAccount": {"create": False}},
    "podDisruptionBudget.enabled is false": {"replicas": 2, "podDisruptionBudget": {"enabled": False}},
    "podDisruptionBudget.maxUnavailable": {"replicas": 2, "podDisruptionBudget": {"maxUnavailable": 2}},
    "replicas is 0": {"replicas": 0},
    "image.pullPolicy is Never": {"image": {"pullPolicy": "Never"}, "imagePullSecrets": [{"name": "a"}]},
    "networkPolicy.metricsFrom is set": {
        "serviceMonitor": {"enabled": True},
        "networkPolicy": {"metricsFrom": [{"podSelector": {}}]},
    },
    "jobs.figuresFrom is empty": {"podMonitor": {"enabled": True}},
    "podMonitor.enabled is false": {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}},
}


@pytest.mark.parametrize("words", WARNINGS)
def test_a_dubious_combination_is_named(chart: Chart, words: str) -> None:
    values = WARNINGS[words]
    warned = [line for line in chart.notes(values).splitlines() if line.startswith("  * ")]
    assert any(line.startswith(f"  * {words}") or words in line for line in warned), warned
    # That the operator is the only one, or is not, is said to everybody; nothing else is.
    assert len(warned) == (1 if words.startswith("watch.") else 2), json.dumps(values)
