"""What must hold of every release: functions from a world to the sentences that say what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from unit.chart.rendered import World

STANDARD = {"name", "instance", "component", "version", "part-of", "managed-by"}
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
VOLUMES = set("configMap csi downwardAPI emptyDir ephemeral persistentVolumeClaim projected secret".split())
CLUSTER_SCOPED = {"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"}


def restricted(pod: Mapping[str, Any]) -> Iterator[str]:
    """What of a pod's spec the Pod Security level `restricted` refuses."""
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield f"{key} is true"
    for volume in pod.get("volumes") or ():
        for kind in set(volume) - {"name"} - VOLUMES:
            yield f"volume {volume['name']} is a {kind}"
    whole = pod.get("securityContext") or {}
    if whole.get("sysctls"):
        yield "sysctls are set"
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for container in pod.get(kind) or ():
            for wrong in _container(container, whole):
                yield f"{container['name']}: {wrong}"


def _container(container: Mapping[str, Any], pod: Mapping[str, Any]) -> Iterator[str]:
    own = container.get("securityContext") or {}
    both = {**pod, **own}
    dropped = (own.get("capabilities") or {}).get("drop") or ()
    added = set((own.get("capabilities") or {}).get("add") or ()) - {"NET_BIND_SERVICE"}
    profile = (both.get("seccompProfile") or {}).get("type")
    wrong = {
        "privileged": own.get("privileged"),
        "allowPrivilegeEscalation is not false": own.get("allowPrivilegeEscalation") is not False,
        "capabilities: ALL is not dropped": "ALL" not in dropped,
        f"capabilities: {sorted(added)} are added": added,
        "runAsNonRoot is not true": both.get("runAsNonRoot") is not True,
        "runAsUser is 0": both.get("runAsUser") == 0,
        "seccompProfile is of no use": profile not in ("RuntimeDefault", "Localhost"),
        "procMount is not Default": own.get("procMount", "Default") != "Default",
        "hostProcess is true": (both.get("windowsOptions") or {}).get("hostProcess"),
        "seLinuxOptions name a user or a role": (both.get("seLinuxOptions") or {}).keys() & {"user", "role"},
        "a hostPort is taken": any(port.get("hostPort") for port in container.get("ports") or ()),
    }
    yield from (sentence for sentence, is_so in wrong.items() if is_so)


def pods_are_restricted(world: World) -> Iterator[str]:
    for name, pod in world.templates():
        yield from (f"{name}: {wrong}" for wrong in restricted(pod))


def containers_write_nowhere_and_are_bounded(world: World) -> Iterator[str]:
    for name, pod in world.templates():
        if (pod["securityContext"].get("runAsUser") or 0) < 10000:
            yield f"{name}: its user may be one of the node's"
        for container in pod["containers"]:
            if not container["securityContext"].get("readOnlyRootFilesystem"):
                yield f"{name}: its root can be written to"
            resources = container["resources"]
            for kind, what in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory")):
                if what not in resources[kind]:
                    yield f"{name}: resources.{kind}.{what} is not set"
        for volume in pod.get("volumes") or ():
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                yield f"{name}: {volume['name']} may fill the node"


def images_are_pinned(world: World) -> Iterator[str]:
    images = [c["image"] for _, pod in world.templates() for c in pod["containers"]]
    for image in [*images, world.env["ELF_WORKER_IMAGE"]]:
        name = image.rpartition("/")[2]
        if "@sha256:" not in name and (":" not in name or name.endswith((":", ":latest"))):
            yield f"{image} may be another one tomorrow"


_REFUSED = {
    "pods/exec",
    "pods/attach",
    "pods/portforward",
    "serviceaccounts/token",
    "nodes/proxy",
}


def rights_are_named(world: World) -> Iterator[str]:
    """No wildcard, no Secret to be read but its own, no exec, nothing that makes rights out of nothing."""
    for role in [*world.all("Role"), *world.all("ClusterRole")]:
        for rule in role["rules"]:
            for sentence in _too_much(rule):
                yield f"{role['kind']} {role['metadata']['name']}: {sentence}"
    for binding in [*world.all("RoleBinding"), *world.all("ClusterRoleBinding")]:
        if ("ClusterRole", binding["roleRef"]["name"]) == ("ClusterRole", "cluster-admin"):
            yield "somebody is cluster-admin"


def _too_much(rule: dict[str, Any]) -> Iterator[str]:
    for key in ("apiGroups", "resources", "verbs"):
        if any("*" in word for word in rule[key]):
            yield f"{key} has a wildcard"
    if "nonResourceURLs" in rule:
        yield "has nonResourceURLs"
    blind = "resourceNames" in rule or set(rule["verbs"]) <= {"create", "delete"}
    if "secrets" in rule["resources"] and not blind:
        yield "reads all Secrets"
    if found := _REFUSED & set(rule["resources"]):
        yield f"reaches {sorted(found)}"
    if found := {"escalate", "bind", "impersonate"} & set(rule["verbs"]):
        yield f"may {sorted(found)}"


def bindings_lead_somewhere(world: World) -> Iterator[str]:
    for binding in [*world.all("RoleBinding"), *world.all("ClusterRoleBinding")]:
        ref, meta = binding["roleRef"], binding["metadata"]
        namespace = meta.get("namespace", "") if ref["kind"] == "Role" else ""
        if (ref["kind"], namespace, ref["name"]) not in world.names:
            yield f"{meta['name']}: there is no {ref['kind']} {ref['name']}"
        for subject in binding["subjects"]:
            if subject["name"] != world.pod["serviceAccountName"]:
                yield f"{meta['name']}: {subject['name']} is not the operator"
            if subject["namespace"] != world.deployment["metadata"]["namespace"]:
                yield f"{meta['name']}: the operator is not in {subject['namespace']}"


def labels_are_standard(world: World) -> Iterator[str]:
    for it in world.objects:
        labels = it["metadata"].get("labels") or {}
        name = f"{it['kind']} {it['metadata']['name']}"
        if missing := {f"app.kubernetes.io/{key}" for key in STANDARD} - set(labels):
            yield f"{name}: {sorted(missing)} are missing"
        if "helm.sh/chart" not in labels:
            yield f"{name}: helm.sh/chart is missing"
        pods = it["spec"]["template"]["metadata"]["labels"] if it["kind"] == "Deployment" else {}
        for key, value in {**labels, **pods}.items():
            if not isinstance(value, str) or not LABEL.fullmatch(value):
                yield f"{name}: {key} is {value!r}"


def names_are_valid(world: World) -> Iterator[str]:
    for it in world.objects:
        name = it["metadata"]["name"]
        form = DNS_LABEL if it["kind"] in ("Service", "Deployment") else DNS_NAME
        if not isinstance(name, str) or not form.fullmatch(name):
            yield f"{it['kind']} {name!r}: no name for it"
        namespace = it["metadata"].get("namespace")
        if (it["kind"] in CLUSTER_SCOPED) != (namespace is None) or not isinstance(namespace, str | None):
            yield f"{it['kind']} {name}: its namespace is {namespace!r}"
    if len(world.names) != len(world.objects):
        yield "two objects have one name"


def selectors_find_the_operator_only(world: World) -> Iterator[str]:
    operator = world.deployment["spec"]["template"]["metadata"]["labels"]
    test = world.one("Pod")["metadata"]["labels"]
    for what, selector in _selectors(world):
        if not selector.items() <= operator.items():
            yield f"{what} does not select the operator"
        if selector.items() <= test.items():
            yield f"{what} selects the pod of helm test"


def _selectors(world: World) -> Iterator[tuple[str, Mapping[str, str]]]:
    yield "Deployment", world.deployment["spec"]["selector"]["matchLabels"]
    for it in world.all("Service"):
        yield "Service", it["spec"]["selector"]
    for it in world.all("PodDisruptionBudget"):
        yield "PodDisruptionBudget", it["spec"]["selector"]["matchLabels"]
    for it in world.all("NetworkPolicy"):
        if not it["metadata"]["name"].endswith("-test"):
            yield "NetworkPolicy", it["spec"]["podSelector"]["matchLabels"]


def monitors_find_the_service(world: World) -> Iterator[str]:
    for monitor in world.all("ServiceMonitor"):
        service = world.one("Service")
        if not monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items():
            yield "the ServiceMonitor does not select the Service"
        if monitor["spec"]["endpoints"][0]["port"] != service["spec"]["ports"][0]["name"]:
            yield "the ServiceMonitor names a port that the Service has not"


def ports_are_declared(world: World) -> Iterator[str]:
    declared = {port["name"]: port["containerPort"] for port in world.container["ports"]}
    probes = [world.container[key]["httpGet"]["port"] for key in ("livenessProbe", "readinessProbe")]
    targets = [port["targetPort"] for it in world.all("Service") for port in it["spec"]["ports"]]
    for port in {*probes, *targets} - set(declared):
        yield f"port {port} is not declared"
    if not world.container["args"][0].endswith(f":{declared['health']}"):
        yield "the operator listens elsewhere"
    for policy in world.all("NetworkPolicy"):
        for rule in policy["spec"]["ingress"]:
            if [p["port"] for p in rule["ports"]] != [declared["health"]]:
                yield "the NetworkPolicy lets in other ports"


def probes_differ(world: World) -> Iterator[str]:
    if world.container["livenessProbe"]["httpGet"] == world.container["readinessProbe"]["httpGet"]:
        yield "an operator that is not ready would be killed"


def environment_names_nothing_twice(world: World) -> Iterator[str]:
    names = [e["name"] for e in world.container["env"]]
    if len(set(names)) != len(names):
        yield f"of {names} one comes twice"
    args = [arg.partition("=")[0] for arg in world.container["args"] if not arg.startswith("--namespace=")]
    if len(set(args)) != len(args):
        yield f"of {args} one comes twice"


def accounts_are_the_release_s_own(world: World) -> Iterator[str]:
    accounts = {it["metadata"]["name"]: it for it in world.all("ServiceAccount")}
    for name, pod in world.templates():
        account = accounts.get(pod["serviceAccountName"])
        if account is None:
            yield f"{name}: no account {pod['serviceAccountName']} is made"
        elif account["automountServiceAccountToken"] is not False:
            yield f"{name}: its token is given to whoever names the account"
        if pod["automountServiceAccountToken"] is not True or pod["enableServiceLinks"] is not False:
            yield f"{name}: it does not say what is mounted into it"


def replicas_are_apart_and_budgeted(world: World) -> Iterator[str]:
    if world.deployment["spec"]["replicas"] < 2:
        if world.all("PodDisruptionBudget"):
            yield "a budget for one pod stops every drain"
        return
    if not world.pod.get("affinity") and not world.pod.get("topologySpreadConstraints"):
        yield "all replicas may be on one node"
    for budget in world.all("PodDisruptionBudget"):
        if "minAvailable" in budget["spec"] or budget["spec"]["maxUnavailable"] in (0, "0%"):
            yield "the budget stops every drain"


def apis_are_stable(world: World) -> Iterator[str]:
    for it in world.objects:
        version = it["apiVersion"]
        if re.search("alpha|beta", version) and "monitoring.coreos.com" not in version:
            yield f"{it['kind']} is of {version}"


def hooks_are_of_tests_only(world: World) -> Iterator[str]:
    for it in world.objects:
        hook = (it["metadata"].get("annotations") or {}).get("helm.sh/hook")
        of_test = it["metadata"]["labels"]["app.kubernetes.io/component"] == "test"
        if (hook == "test") != of_test or (hook and hook != "test"):
            yield f"{it['kind']} {it['metadata']['name']}: its hook is {hook}"


Rule = Callable[[World], Iterator[str]]
RULES: list[Rule] = [
    pods_are_restricted,
    containers_write_nowhere_and_are_bounded,
    images_are_pinned,
    rights_are_named,
    bindings_lead_somewhere,
    labels_are_standard,
    names_are_valid,
    selectors_find_the_operator_only,
    monitors_find_the_service,
    ports_are_declared,
    probes_differ,
    environment_names_nothing_twice,
    accounts_are_the_release_s_own,
    replicas_are_apart_and_budgeted,
    apis_are_stable,
    hooks_are_of_tests_only,
]
