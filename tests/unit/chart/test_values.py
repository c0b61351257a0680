"""Each value of values.yaml changes what it says."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from unit.chart.rendered import CHART, Chart, World, changed, leaves

DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
DIGEST = "sha256:" + "ab" * 32
HOME = "app.kubernetes.io/"
OPERATOR, WORKER = "ghcr.io/northpole-dev/elf-operator", "ghcr.io/northpole-dev/elf-worker"


@dataclass(frozen=True)
class Row:
    """With `path` set to `value`, where `given` holds anyway, `look` sees `then`, and did not before."""

    path: str
    value: Any
    look: Callable[[World], Any]
    then: Any
    given: Mapping[str, Any] = field(default_factory=dict)


def kinds(*wanted: str) -> Callable[[World], dict[str, int]]:
    return lambda w: {kind: len(w.all(kind)) for kind in wanted}


def spec(kind: str, *path: str | int) -> Callable[[World], Any]:
    """What is at this path of the spec of the only object of a kind."""
    return lambda w: _at(w.one(kind)["spec"], path)


def meta(kind: str, key: str, name: str) -> Callable[[World], Any]:
    return lambda w: (w.one(kind)["metadata"].get(key) or {}).get(name)


def _at(found: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        found = found[step] if isinstance(step, int) and found else (found or {}).get(step)
    return found


def pod(*path: str | int) -> Callable[[World], Any]:
    return lambda w: _at(w.pod, path)


def both_pods(*path: str | int) -> Callable[[World], Any]:
    """Of the operator's pod and that of helm test, where they agree."""

    def look(world: World) -> Any:
        found = [_at(spec, path) for _, spec in world.templates()]
        assert found[0] == found[1], "helm test runs otherwise than the operator"
        return found[0]

    return look


def argument(text: str) -> Callable[[World], bool]:
    return lambda w: text in w.container["args"]


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def policy(*path: str | int) -> Callable[[World], Any]:
    """Of the operator's NetworkPolicy; that of helm test is another."""
    return lambda w: _at(w.one("NetworkPolicy", "operator")["spec"], path)


def api_ports(world: World) -> list[int]:
    return [port["port"] for port in policy("egress", 1, "ports")(world)]


def expressions(world: World) -> str:
    return str([rule["expr"] for g in world.one("PrometheusRule")["spec"]["groups"] for rule in g["rules"]])


def alerts(*words: str) -> Callable[[World], bool]:
    return lambda w: all(word in expressions(w) for word in words)


MONITORED = {"serviceMonitor": {"enabled": True}}
ALERTED = {**MONITORED, "prometheusRule": {"enabled": True}, "podMonitor": {"enabled": True}}
PEER = {"namespaceSelector": {"matchLabels": {"a": "b"}}}
SPREAD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
OWN = {f"{HOME}name": "elf-training-operator", f"{HOME}instance": "elf", f"{HOME}component": "operator"}
TOLERATION = {"key": "a", "operator": "Exists"}
LOST = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
DASHBOARD = {"grafanaDashboard": {"enabled": True}}
SHOWN = {"dashboard": {"enabled": True}}
BUDGETED = {"replicas": 3}
NODE = {"nodeAffinity": {"a": 1}}
CIDR = "10.0.0.1/32"
SPREAD_OUT = {**SPREAD, "labelSelector": {"matchLabels": OWN}}
BINDINGS = ("Role", "RoleBinding", "ClusterRoleBinding")
template_label = spec("Deployment", "template", "metadata", "labels", "a")
image = both_pods("containers", 0, "image")


def team(world: World) -> set[str]:
    return {it["metadata"]["labels"].get("team") for it in world.objects}


def role_namespaces(world: World) -> set[str]:
    return {role["metadata"]["namespace"] for role in world.all("Role")}


def accounts(world: World) -> list[str]:
    return [it["metadata"]["name"].rpartition("-")[2] for it in world.all("ServiceAccount")]


def annotated(world: World) -> Any:
    return world.one("ServiceAccount", "operator")["metadata"].get("annotations")


def worker(world: World) -> Any:
    return world.env["ELF_WORKER_IMAGE"]


def readyz(world: World) -> Any:
    return world.test_pod["containers"][0]["env"][0]["value"]


def tolerated(world: World) -> Any:
    """By the pod of helm test, and by the operator's where its node is not lost."""
    own = [t for t in world.pod["tolerations"] if t["key"] not in LOST]
    assert own == world.test_pod.get("tolerations", []), "helm test runs otherwise than the operator"
    return own


def lost_node(world: World) -> Any:
    fields = ("key", "operator", "effect", "tolerationSeconds")
    return [tuple(t.get(f) for f in fields) for t in world.pod["tolerations"] if t["key"] in LOST]


ROWS = [
    Row("nameOverride", "santa", lambda w: w.deployment["metadata"]["name"], "elf-santa"),
    Row("nameOverride", "santa", meta("Deployment", "labels", f"{HOME}name"), "santa"),
    Row("fullnameOverride", "santa", lambda w: w.deployment["metadata"]["name"], "santa"),
    Row("clusterNameOverride", "santa", lambda w: w.one("ClusterRoleBinding")["metadata"]["name"], "santa"),
    Row("commonLabels", {"team": "a"}, team, {"a"}),
    Row("commonLabels", {"team": "a"}, spec("Deployment", "template", "metadata", "labels", "team"), "a"),
    Row("replicas", 3, spec("Deployment", "replicas"), 3),
    Row("image.repository", "here/op", image, "here/op:0.1.0"),
    Row("image.tag", "v2", image, f"{OPERATOR}:v2"),
    Row("image.digest", DIGEST, image, f"{OPERATOR}@{DIGEST}"),
    Row("image.pullPolicy", "Always", both_pods("containers", 0, "imagePullPolicy"), "Always"),
    Row("imagePullSecrets", [{"name": "key"}], both_pods("imagePullSecrets"), [{"name": "key"}]),
    Row("worker.image.repository", "here/w", worker, "here/w:0.1.0"),
    Row("worker.image.tag", "v2", worker, f"{WORKER}:v2"),
    Row("worker.image.digest", DIGEST, worker, f"{WORKER}@{DIGEST}"),
    Row("worker.image.pullPolicy", "Never", lambda w: w.env["ELF_PULL_POLICY"], "Never"),
    Row("watch.namespaces", ["x"], argument("--namespace=x"), True),
    Row("watch.namespaces", ["x"], role_namespaces, {"x", "elf-system"}),
    Row("watch.namespaces", ["x"], spec("PodMonitor", "namespaceSelector"), {"matchNames": ["x"]}, ALERTED),
    Row("crds.install", False, kinds("CustomResourceDefinition"), {"CustomResourceDefinition": 0}),
    Row("crds.keep", False, meta("CustomResourceDefinition", "annotations", "helm.sh/resource-policy"), None),
    Row("serviceAccount.create", False, accounts, ["test"]),
    Row("serviceAccount.create", False, pod("serviceAccountName"), "default"),
    Row("serviceAccount.name", "joe", pod("serviceAccountName"), "joe"),
    Row("serviceAccount.name", "joe", lambda w: w.one("RoleBinding")["subjects"][0]["name"], "joe"),
    Row("serviceAccount.annotations", {"a": "b"}, annotated, {"a": "b"}),
    Row("rbac.create", False, kinds(*BINDINGS), dict.fromkeys(BINDINGS, 0)),
    Row("rbac.userRoles", False, kinds("ClusterRole"), {"ClusterRole": 1}),
    Row("log.format", "text", argument("--log-format=text"), True),
    Row("log.level", "debug", argument("--verbose"), True),
    Row("listen.address", "[::]", argument("--listen=[::]:8080"), True),
    Row("listen.port", 9000, argument("--listen=0.0.0.0:9000"), True),
    Row("listen.port", 9000, pod("containers", 0, "ports", 0, "containerPort"), 9000),
    Row("listen.port", 9000, policy("ingress", 0, "ports", 0, "port"), 9000),
    Row("extraArgs", ["--verbose"], argument("--verbose"), True),
    Row("extraEnv", [{"name": "TZ", "value": "UTC"}], lambda w: w.env.get("TZ"), "UTC"),
    Row("resources.requests.cpu", "1", pod("containers", 0, "resources", "requests", "cpu"), "1"),
    Row("resources.requests.memory", "1Gi", pod("containers", 0, "resources", "requests", "memory"), "1Gi"),
    Row("resources.limits.memory", "1Gi", pod("containers", 0, "resources", "limits", "memory"), "1Gi"),
    Row("podLabels", {"a": "b"}, template_label, "b"),
    Row("podLabels", {f"{HOME}name": "x", "a": "b"}, template_label, "b"),
    Row("podAnnotations", {"a": "b"}, spec("Deployment", "template", "metadata", "annotations"), {"a": "b"}),
    Row("priorityClassName", "high", pod("priorityClassName"), "high"),
    Row("nodeSelector", {"a": "b"}, both_pods("nodeSelector"), {"a": "b"}),
    Row("tolerations", [TOLERATION], tolerated, [TOLERATION]),
    Row("lostNodeSeconds", 9, lost_node, [(key, "Exists", "NoExecute", 9) for key in LOST]),
    Row("affinity", NODE, pod("affinity"), NODE),
    Row("affinity", NODE, pod("affinity"), NODE, {"replicas": 2}),
    Row("topologySpreadConstraints", [SPREAD], pod("topologySpreadConstraints"), [SPREAD_OUT]),
    Row(
        "podDisruptionBudget.enabled",
        False,
        kinds("PodDisruptionBudget"),
        {"PodDisruptionBudget": 0},
        BUDGETED,
    ),
    Row("podDisruptionBudget.maxUnavailable", 2, spec("PodDisruptionBudget", "maxUnavailable"), 2, BUDGETED),
    Row("service.enabled", False, kinds("Service"), {"Service": 0}),
    Row("service.enabled", False, readyz, ""),
    Row("service.port", 80, spec("Service", "ports", 0, "port"), 80),
    Row("service.port", 80, readyz, "http://elf-elf-training-operator.elf-system.svc:80/readyz"),
    Row("service.annotations", {"a": "b"}, meta("Service", "annotations", "a"), "b"),
    Row("networkPolicy.enabled", False, kinds("NetworkPolicy"), {"NetworkPolicy": 0}),
    Row("networkPolicy.metricsFrom", [PEER], policy("ingress", 0, "from", 0), PEER),
    Row("networkPolicy.apiServer.ports", [8443], api_ports, [8443]),
    Row("networkPolicy.apiServer.cidrs", [CIDR], policy("egress", 1, "to"), [{"ipBlock": {"cidr": CIDR}}]),
    Row("serviceMonitor.enabled", True, kinds("ServiceMonitor"), {"ServiceMonitor": 1}),
    Row("serviceMonitor.interval", "5s", spec("ServiceMonitor", "endpoints", 0, "interval"), "5s", MONITORED),
    Row("serviceMonitor.labels", {"a": "b"}, meta("ServiceMonitor", "labels", "a"), "b", MONITORED),
    Row("podMonitor.enabled", True, kinds("PodMonitor"), {"PodMonitor": 1}),
    Row("podMonitor.enabled", True, alerts("elf_round"), True, {**ALERTED, "podMonitor": {"enabled": False}}),
    Row("podMonitor.interval", "5s", spec("PodMonitor", "podMetricsEndpoints", 0, "interval"), "5s", ALERTED),
    Row("podMonitor.labels", {"a": "b"}, meta("PodMonitor", "labels", "a"), "b", ALERTED),
    Row("prometheusRule.enabled", True, kinds("PrometheusRule"), {"PrometheusRule": 1}, MONITORED),
    Row("prometheusRule.labels", {"a": "b"}, meta("PrometheusRule", "labels", "a"), "b", ALERTED),
    Row("prometheusRule.replacementsStorm", 7, alerts("[10m])) > 7"), True, ALERTED),
    Row("prometheusRule.stalledMinutes", 7, alerts("elf_round[7m]", "offset 7m"), True, ALERTED),
    Row("jobs.mtls", False, kinds("Secret"), {"Secret": 0}),
    Row("jobs.masterKeySecret", "mine", argument("--master-key=elf-system/mine"), True),
    Row("jobs.networkPolicy", False, argument("--network-policies"), False),
    Row("jobs.figuresFrom", [PEER], argument(f"--figures-from={_compact([PEER])}"), True),
    Row("dashboard.enabled", True, argument("--dashboard=127.0.0.1:8081"), True),
    Row("dashboard.port", 9999, argument("--dashboard=127.0.0.1:9999"), True, SHOWN),
    Row("grafanaDashboard.enabled", True, kinds("ConfigMap"), {"ConfigMap": 1}),
    Row(
        "grafanaDashboard.labels.grafana_dashboard",
        "2",
        meta("ConfigMap", "labels", "grafana_dashboard"),
        "2",
        DASHBOARD,
    ),
    Row("grafanaDashboard.annotations", {"a": "b"}, meta("ConfigMap", "annotations", "a"), "b", DASHBOARD),
]


@pytest.mark.parametrize("row", ROWS, ids=[f"{i}-{row.path}" for i, row in enumerate(ROWS)])
def test_a_value_changes_what_it_says(chart: Chart, row: Row) -> None:
    # The CRD is long, and most rows do not look at it.
    given = row.given if row.path.startswith("crds.") else {"crds": {"install": False}, **row.given}
    assert row.look(chart.render(given)) != row.then, "it was so before"
    assert row.look(chart.render(changed(given, row.path, row.value))) == row.then


def test_every_value_has_a_row_and_every_row_a_value() -> None:
    assert {row.path for row in ROWS} == set(leaves(DEFAULTS))


def test_one_replica_is_put_anywhere_and_more_rather_apart(chart: Chart) -> None:
    assert "affinity" not in chart.render().pod
    (term,) = chart.render({"replicas": 2}).pod["affinity"]["podAntiAffinity"][
        "preferredDuringSchedulingIgnoredDuringExecution"
    ]
    assert term["podAffinityTerm"]["labelSelector"]["matchLabels"] == OWN


def test_an_operator_leaves_a_lost_node_in_seconds_unless_the_values_say_otherwise(chart: Chart) -> None:
    usual = [(key, "Exists", "NoExecute", 20) for key in LOST]
    assert lost_node(chart.render()) == usual
    slow = {"key": LOST[1], "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 600}
    (ours,) = usual[:1]
    # Kubernetes takes the shortest of several.
    assert lost_node(chart.render({"tolerations": [slow]})) == [(*slow.values(),), ours]
    ever = {"key": LOST[0], "operator": "Exists"}
    assert lost_node(chart.render({"tolerations": [ever]}))[1:] == usual[1:]
    other = {"key": LOST[0], "operator": "Exists", "effect": "NoSchedule"}
    assert lost_node(chart.render({"tolerations": [other]}))[1:] == usual
    assert lost_node(chart.render({"lostNodeSeconds": 0}))[0][3] == 0
    assert lost_node(chart.render({"tolerations": None})) == usual
    both = chart.render({"tolerations": [ever, slow]})
    assert both.pod["tolerations"] == [ever, slow]


def test_the_operator_s_own_labels_cannot_be_taken_away(chart: Chart) -> None:
    mine = {f"{HOME}name": "x", f"{HOME}managed-by": "me", "helm.sh/chart": "y"}
    given = {"commonLabels": mine, "podLabels": mine, "grafanaDashboard": {"enabled": True, "labels": mine}}
    assert chart.render(given).names == chart.render(DASHBOARD).names
    for it in chart.render(given).objects:
        assert it["metadata"]["labels"][f"{HOME}name"] == "elf-training-operator"
        assert it["metadata"]["labels"][f"{HOME}managed-by"] == "Helm"


def test_whoever_may_read_metrics_is_joined_by_helm_test(chart: Chart) -> None:
    world = chart.render({"networkPolicy": {"metricsFrom": [PEER]}})
    *_, last = policy("ingress", 0, "from")(world)
    labels = world.one("Pod")["metadata"]["labels"]
    assert last["podSelector"]["matchLabels"].items() <= labels.items()
