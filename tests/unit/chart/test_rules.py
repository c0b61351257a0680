"""What holds of every release, whatever its values, its name and the server's version."""

from __future__ import annotations

import copy
import json
import shutil
from typing import Any

import pytest
import yaml

from unit.chart import rules
from unit.chart.rendered import CHART, NEWEST, OLDEST, Chart, RefusedError, World

EVERYTHING = yaml.safe_load((CHART / "ci" / "everything-values.yaml").read_text())
BARE: dict[str, Any] = {
    "crds": {"install": False},
    "rbac": {"userRoles": False},
    "service": {"enabled": False},
    "networkPolicy": {"enabled": False},
}
NAMESPACED = {"watch": {"namespaces": ["team-a", "y"]}}
LONG = "a-release-whose-name-is-as-long-as-helm-lets-it-be-53"
COMBINATIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "defaults on 1.30": {"version": OLDEST},
    "defaults on a vendor's 1.30": {"version": "1.30.4-gke.100"},
    "everything": {"values": EVERYTHING},
    "everything on 1.30": {"values": EVERYTHING, "version": OLDEST},
    "next to nothing": {"values": BARE},
    "some namespaces": {"values": NAMESPACED},
    "everything in some namespaces": {"values": {**EVERYTHING, **NAMESPACED}},
    "three replicas": {"values": {"replicas": 3}},
    "a release with a digit and a dot": {"release": "1st.elf", "namespace": "1234"},
    "a release named like the chart": {"release": "elf-training-operator"},
    "a long name": {"release": LONG, "values": EVERYTHING},
    "names that YAML takes for something else": {
        "release": "on",
        "namespace": "null",
        "values": {"nameOverride": "true", "fullnameOverride": "no", "watch": {"namespaces": ["off"]}},
    },
}


@pytest.fixture(params=COMBINATIONS, scope="module")
def world(request: pytest.FixtureRequest, chart: Chart) -> World:
    return chart.render(**COMBINATIONS[request.param])


def broken(world: World) -> list[str]:
    return [f"{rule.__name__}: {sentence}" for rule in rules.RULES for sentence in rule(world)]


def test_every_rule_holds(world: World) -> None:
    assert not broken(world)


# -- the rules can fail -----------------------------------------------------------------------------------

BREAKS: dict[str, tuple[str, Any]] = {
    "hostNetwork": ("hostNetwork", True),
    "hostPID": ("hostPID", True),
    "is a hostPath": ("volumes", [{"name": "tmp", "hostPath": {"path": "/"}}]),
    "sysctls": ("securityContext.sysctls", [{"name": "kernel.shm_rmid_forced", "value": "1"}]),
    "runAsNonRoot": ("securityContext.runAsNonRoot", False),
    "runAsUser is 0": ("securityContext.runAsUser", 0),
    "seccompProfile": ("securityContext.seccompProfile", {"type": "Unconfined"}),
    "privileged": ("containers.securityContext.privileged", True),
    "allowPrivilegeEscalation": ("containers.securityContext.allowPrivilegeEscalation", None),
    "ALL is not dropped": ("containers.securityContext.capabilities", {"drop": ["NET_RAW"]}),
    "are added": ("containers.securityContext.capabilities", {"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
    "procMount": ("containers.securityContext.procMount", "Unmasked"),
    "seLinuxOptions": ("securityContext.seLinuxOptions", {"user": "root"}),
    "hostProcess": ("securityContext.windowsOptions", {"hostProcess": True}),
    "hostPort": ("containers.ports", [{"containerPort": 8080, "hostPort": 8080}]),
}


@pytest.mark.parametrize("word", BREAKS)
def test_the_check_for_the_restricted_level_finds(chart: Chart, word: str) -> None:
    path, value = BREAKS[word]
    pod = copy.deepcopy(chart.render().pod)
    assert not list(rules.restricted(pod))
    at: Any = pod
    *steps, last = path.split(".")
    for step in steps:
        at = at[step][0] if step == "containers" else at[step]
    at[last] = value
    assert any(word in sentence for sentence in rules.restricted(pod))


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"apiGroups": ["*"], "resources": ["pods"], "verbs": ["get"]}, "apiGroups has a wildcard"),
        ({"apiGroups": [""], "resources": ["pods/*"], "verbs": ["get"]}, "resources has a wildcard"),
        ({"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]}, "verbs has a wildcard"),
        ({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}, "reads all Secrets"),
        ({"apiGroups": [""], "resources": ["secrets"], "verbs": ["delete", "list"]}, "reads all Secrets"),
        ({"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]}, "reaches ['pods/exec']"),
        ({"apiGroups": [""], "resources": ["roles"], "verbs": ["escalate"]}, "may ['escalate']"),
    ],
)
def test_the_check_of_rights_finds(chart: Chart, rule: dict[str, Any], words: str) -> None:
    objects = copy.deepcopy(chart.render().objects)
    world = World(objects)
    world.one("Role")["rules"].append(rule)
    assert any(words in sentence for sentence in rules.rights_are_named(world))


# -- rights -----------------------------------------------------------------------------------------------

JOBS = {
    ("northpole.dev", "elftrainingjobs"): "get list watch delete",
    ("northpole.dev", "elftrainingjobs/status"): "get patch",
    ("", "pods"): "get list watch create delete",
    ("", "configmaps"): "get list watch create patch delete",
    ("", "services"): "get create patch delete",
    ("", "serviceaccounts"): "get create patch delete",
    ("rbac.authorization.k8s.io", "roles"): "get create patch delete",
    ("rbac.authorization.k8s.io", "rolebindings"): "get create patch delete",
    ("", "events"): "create patch",
    ("", "secrets"): "create delete",
    ("networking.k8s.io", "networkpolicies"): "get create patch",
}
"""What the operator's code asks of the API server where jobs are. More of it here needs a reason."""


def rights(role: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {
        (group, resource): " ".join(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def test_one_operator_for_all_namespaces_has_these_rights_and_sees_nodes(chart: Chart) -> None:
    world = chart.render({"rbac": {"userRoles": False}})
    assert rights(world.one("ClusterRole")) == {**JOBS, ("", "nodes"): "get list watch"}


def test_a_namespaced_operator_has_no_right_outside_its_namespaces(chart: Chart) -> None:
    world = chart.render({**NAMESPACED, "rbac": {"userRoles": False}})
    assert not world.all("ClusterRole") + world.all("ClusterRoleBinding")
    there = {r["metadata"]["namespace"]: r for r in world.all("Role")}
    assert set(there) == {"team-a", "y", "elf-system"}
    assert rights(there["team-a"]) == rights(there["y"]) == JOBS
    bound = {b["metadata"]["namespace"] for b in world.all("RoleBinding")}
    assert bound == set(there)


@pytest.mark.parametrize(
    ("value", "right"),
    [("mtls", ("", "secrets")), ("networkPolicy", ("networking.k8s.io", "networkpolicies"))],
)
def test_what_jobs_do_not_have_it_has_no_right_to(chart: Chart, value: str, right: tuple[str, str]) -> None:
    world = chart.render({"jobs": {value: False}, "rbac": {"userRoles": False}})
    assert rights(world.one("ClusterRole")) == {
        key: verbs for key, verbs in {**JOBS, ("", "nodes"): "get list watch"}.items() if key != right
    }


@pytest.mark.parametrize("own", ["", "mine"])
def test_it_reads_and_fills_the_one_secret_with_its_key(chart: Chart, own: str) -> None:
    world = chart.render({"jobs": {"masterKeySecret": own}})
    made = [secret["metadata"]["name"] for secret in world.all("Secret")]
    assert made == ([] if own else ["elf-elf-training-operator-master-key"])
    (rule,) = [r for r in world.one("Role")["rules"] if r["resources"] == ["secrets"]]
    assert (rule["resourceNames"], rule["verbs"]) == ([own or made[0]], ["get", "patch"])
    assert f"--master-key=elf-system/{own or made[0]}" in world.container["args"]
    assert all("data" not in secret for secret in world.all("Secret")), "an upgrade would write over the key"


def test_at_home_it_has_rights_to_its_own_lease_only(chart: Chart) -> None:
    world = chart.render({"jobs": {"mtls": False}})
    create, use = world.one("Role")["rules"]
    assert create == {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]}
    assert use["verbs"] == ["get", "update"]
    lease = next(arg for arg in world.container["args"] if arg.startswith("--lease="))
    assert lease == f"--lease=elf-system/{use['resourceNames'][0]}"


def test_users_get_what_their_role_says(chart: Chart) -> None:
    world = chart.render()
    for role, status in (("view", "get"), ("edit", "get"), ("admin", "get update patch")):
        found = world.one("ClusterRole", f"-{role}")
        assert found["metadata"]["labels"][f"rbac.authorization.k8s.io/aggregate-to-{role}"] == "true"
        may = rights(found)
        assert may.pop(("northpole.dev", "elftrainingjobs/status")) == status
        (jobs,) = may.values()
        assert ("create" in jobs) == (role != "view")


# -- versions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_the_crd_is_ours(chart: Chart, version: str) -> None:
    ours = yaml.safe_load((CHART.parents[1] / "manifests" / "crd.yaml").read_text())
    found = chart.render(version=version).one("CustomResourceDefinition")
    assert found["spec"] == ours["spec"]
    assert found["metadata"]["name"] == ours["metadata"]["name"]


def test_a_server_that_is_too_old_is_refused(chart: Chart) -> None:
    with pytest.raises(RefusedError, match=r"1\.30\.0"):
        chart.render(version="1.29.14")


# -- the API server's ports -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [([], [443, 6443]), ([16443], [16443])],
    ids=["no cluster to look them up in", "said by hand"],
)
def test_the_operator_and_helm_test_reach_the_api_server(
    chart: Chart, given: list[int], expected: list[int]
) -> None:
    world = chart.render({"networkPolicy": {"apiServer": {"ports": given}}})
    for policy in world.all("NetworkPolicy"):
        ports = [port["port"] for port in policy["spec"]["egress"][1]["ports"]]
        assert ports == expected, policy["metadata"]["name"]


# -- names and upgrades -----------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [EVERYTHING, BARE, NAMESPACED], ids=["everything", "bare", "namespaced"])
def test_an_upgrade_changes_no_selector(chart: Chart, values: dict[str, Any]) -> None:
    """The API server would refuse it."""
    before, after = chart.render().deployment, chart.render(values).deployment
    assert after["spec"]["selector"] == before["spec"]["selector"]
    assert after["metadata"]["name"] == before["metadata"]["name"]


def test_a_newer_chart_has_the_same_selector_and_names(chart: Chart, helm: str, tmp_path: Any) -> None:
    newer = tmp_path / "chart"
    shutil.copytree(CHART, newer)
    about = (newer / "Chart.yaml").read_text()
    (newer / "Chart.yaml").write_text(about.replace("ersion: 0.1.0", "ersion: 7.0.0+build"))
    before, after = chart.render(), Chart(helm, newer).render()
    assert after.container["image"].endswith(":7.0.0_build"), "neither tags nor labels may have a plus"
    assert after.names == before.names and not broken(after)
    assert after.deployment["spec"]["selector"] == before.deployment["spec"]["selector"]


@pytest.mark.parametrize("names", [("a", "a"), ("a", "b")], ids=["one name", "two names"])
def test_two_namespaced_releases_share_nothing(chart: Chart, names: tuple[str, str]) -> None:
    first = chart.render({"watch": {"namespaces": ["x"]}}, release=names[0], namespace="one")
    values = {"watch": {"namespaces": ["x"]}, "crds": {"install": False}}
    second = chart.render(values, release=names[1], namespace="two")
    assert not first.names & second.names


def test_helm_finds_nothing_to_warn_of(chart: Chart) -> None:
    both: list[dict[str, Any]] = [{}, EVERYTHING]
    for values in both:
        chart.run("lint", "--strict", input=json.dumps(values))
