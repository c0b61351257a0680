"""Manifests: what every pod has, what a template may change, and what it may not."""

from __future__ import annotations

from typing import Any

import pytest

from builders import DEFAULTS, job, valid
from elf_operator import names
from elf_operator.builders import (
    Defaults,
    Manifest,
    npdc_account,
    npdc_service,
    owner,
    wiring_map,
)
from elf_operator.podbuilder import job_config, pod
from elf_operator.spec import Job
from elf_worker import contract
from elf_worker.contract import JobConfig, Role, Slot, Wiring

ROLES = list(Role)
PART = {Role.NPDC: "northPole", Role.MDC: "miniDataCenters", Role.HOME: "homes"}


def build(parsed: Job, role: Role = Role.MDC, index: int = 0, incarnation: int = 0) -> Manifest:
    return pod(parsed, valid(parsed), DEFAULTS, role, index, incarnation)


def templated(role: Role, template: dict[str, Any]) -> Manifest:
    return build(job(**{PART[role]: {"template": template}}), role)


def elf(manifest: Manifest) -> dict[str, Any]:
    [found] = [c for c in manifest["spec"]["containers"] if c["name"] == names.CONTAINER]
    return dict(found)


def env(manifest: Manifest) -> dict[str, Any]:
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in elf(manifest)["env"]}


# -- every pod ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_every_pod_keeps_to_the_restricted_profile(role: Role) -> None:
    spec = build(job(), role)["spec"]
    security = spec["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] >= 10000 and security["runAsGroup"] >= 10000
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}


@pytest.mark.parametrize(("role", "mounted"), [(Role.NPDC, True), (Role.MDC, False), (Role.HOME, False)])
def test_only_the_npdc_speaks_to_the_api_server(role: Role, mounted: bool) -> None:
    spec = build(job(), role)["spec"]
    assert spec["automountServiceAccountToken"] is mounted
    assert ("serviceAccountName" in spec) is mounted
    assert spec["enableServiceLinks"] is False


@pytest.mark.parametrize("role", ROLES)
def test_every_pod_has_requests_and_a_limit_of_memory(role: Role) -> None:
    resources = elf(build(job(), role))["resources"]
    assert resources["requests"].keys() == {"cpu", "memory"}
    assert "memory" in resources["limits"]


@pytest.mark.parametrize("role", ROLES)
def test_every_volume_has_a_size_and_every_mount_a_volume(role: Role) -> None:
    manifest = build(job(northPole={"checkpoint": {"volumeClaim": "freezer"}}), role)
    volumes = {v["name"]: v for v in manifest["spec"]["volumes"]}
    assert {m["name"] for m in elf(manifest)["volumeMounts"]} == set(volumes)
    assert all("sizeLimit" in v["emptyDir"] for v in volumes.values() if "emptyDir" in v)
    assert ("checkpoint" in volumes) == (role is Role.NPDC)


@pytest.mark.parametrize("role", ROLES)
def test_every_pod_is_named_labelled_and_owned(role: Role) -> None:
    parsed = job()
    meta = build(parsed, role, 2, 3)["metadata"]
    assert meta["name"] == names.pod("sleigh", role, 2, 3)
    assert meta["namespace"] == "pole"
    assert meta["ownerReferences"] == [owner(parsed)]
    assert meta["labels"] == {
        "app.kubernetes.io/name": "elf-training",
        "app.kubernetes.io/instance": "sleigh",
        "app.kubernetes.io/managed-by": "elf-training-operator",
        "app.kubernetes.io/component": role.value,
        "northpole.dev/job": "sleigh",
        "northpole.dev/role": role.value,
        "northpole.dev/index": "2",
        "northpole.dev/incarnation": "3",
    } | ({"northpole.dev/homes": "2"} if role is Role.HOME else {})


def test_the_owner_is_the_controller() -> None:
    assert owner(job()) == {
        "apiVersion": "northpole.dev/v1alpha1",
        "kind": "ElfTrainingJob",
        "name": "sleigh",
        "uid": "uid-of-sleigh",
        "controller": True,
    }


@pytest.mark.parametrize(
    ("role", "policy"), [(Role.NPDC, "Never"), (Role.MDC, "Never"), (Role.HOME, "OnFailure")]
)
def test_data_centers_are_replaced_and_homes_restarted(role: Role, policy: str) -> None:
    assert build(job(), role)["spec"]["restartPolicy"] == policy


@pytest.mark.parametrize(
    ("image", "expected"), [(None, "registry/worker:1"), ("mine@sha256:0", "mine@sha256:0")]
)
def test_the_image_is_the_jobs_or_the_operators(image: str | None, expected: str) -> None:
    parsed = job(**({"image": image} if image else {}))
    defaults = Defaults("registry/worker:1", "Always")
    container = elf(pod(parsed, valid(parsed), defaults, Role.HOME, 0, 0))
    assert (container["image"], container["imagePullPolicy"]) == (expected, "Always")


@pytest.mark.parametrize("role", ROLES)
def test_a_pod_learns_who_it_is(role: Role) -> None:
    parsed = job()
    manifest = build(parsed, role, 1, 2)
    told = env(manifest)
    assert elf(manifest)["command"] == ["python3", "-m", "elf_worker", role.value]
    assert JobConfig.from_json(told["ELF_JOB"]) == job_config(parsed, valid(parsed))
    assert (told["ELF_INDEX"], told["ELF_INCARNATION"]) == ("1", "2")
    assert told["ELF_POD_UID"] == {"fieldRef": {"fieldPath": "metadata.uid"}}
    assert told["ELF_POD_IP"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    if role is Role.NPDC:
        assert told["ELF_BOARD"] == "kube:pole/sleigh/sleigh-wiring" and "ELF_NPDC" not in told
    else:
        assert told["ELF_NPDC"] == "sleigh-npdc.pole.svc:7733" and "ELF_BOARD" not in told


def test_the_npdc_gets_its_checkpoint_volume() -> None:
    manifest = build(job(northPole={"checkpoint": {"volumeClaim": "freezer"}}), Role.NPDC)
    assert {"name": "checkpoint", "persistentVolumeClaim": {"claimName": "freezer"}} in manifest["spec"][
        "volumes"
    ]
    assert env(manifest)["ELF_CHECKPOINT"] == contract.CHECKPOINT_DIR
    assert {"name": "checkpoint", "mountPath": contract.CHECKPOINT_DIR} in elf(manifest)["volumeMounts"]


@pytest.mark.parametrize(("role", "probed"), [(Role.NPDC, True), (Role.MDC, True), (Role.HOME, False)])
def test_data_centers_are_probed(role: Role, probed: bool) -> None:
    container = elf(build(job(), role))
    assert ("readinessProbe" in container) is ("ports" in container) is probed
    if probed:
        assert container["readinessProbe"]["tcpSocket"] == {"port": contract.READY_PORT}


def test_the_config_says_what_the_spec_says() -> None:
    parsed = job(
        seed=7,
        rounds=9,
        target={"metric": "f1", "atLeast": "0.9"},
        evaluateEvery=3,
        optimizer={"name": "SGD", "args": {"lr": "0.5"}},
        localSteps=5,
        localOptimizer={"name": "AdamW", "args": {"lr": "0.25"}},
        round={"quorum": "50%", "deadlineSeconds": 11},
        homes={"perPod": 2},
        northPole={"checkpoint": {"everyRounds": 4}},
        failurePolicy={"mdcTimeoutSeconds": 6, "stragglerFactor": "2.5"},
        miniDataCenters={"replicas": 1},
        aggregation={
            "method": "trimmedMean",
            "trimPercent": 20,
            "groupSize": 3,
            "clipNorm": "0.5",
            "precision": "bfloat16",
        },
        statistics=["mine:Own"],
        faultInjection={"homeFailureProbability": 0.1, "mdcFailureProbability": 0.2, "seed": 4},
        task={"args": {"alpha": 1}},
    )
    assert job_config(parsed, valid(parsed)) == JobConfig(
        job="sleigh",
        uid="uid-of-sleigh",
        homes=4,
        per_pod=2,
        rounds=9,
        seed=7,
        entrypoint="elf_worker.tasks.digits:Digits",
        task_args={"alpha": 1},
        optimizer="SGD",
        optimizer_args={"lr": 0.5},
        local_steps=5,
        local_optimizer="AdamW",
        local_optimizer_args={"lr": 0.25},
        evaluate_every=3,
        target_metric="f1",
        target_at_least=0.9,
        quorum=2,
        deadline_seconds=11.0,
        checkpoint_every=4,
        silence_seconds=6.0,
        straggler_factor=2.5,
        aggregation="trimmedMean",
        trim_percent=20,
        group_size=3,
        clip_norm=0.5,
        precision="bfloat16",
        statistics=["mine:Own"],
        home_failure_probability=0.1,
        mdc_failure_probability=0.2,
        failure_seed=4,
    )


@pytest.mark.parametrize("role", ROLES)
def test_the_queue_is_carried_over(role: Role) -> None:
    queued = job(labels={names.LABEL_QUEUE: "nightly", "team": "elves"})
    labels = build(queued, role)["metadata"]["labels"]
    assert labels[names.LABEL_QUEUE] == "nightly" and "team" not in labels
    assert names.LABEL_QUEUE not in build(job(), role)["metadata"]["labels"]


# -- other objects ------------------------------------------------------------------------------------------


def test_the_service_leads_to_one_incarnation_ready_or_not() -> None:
    service = npdc_service(job(), 3)
    assert service["spec"]["selector"].items() <= build(job(), Role.NPDC, 0, 3)["metadata"]["labels"].items()
    assert (
        not service["spec"]["selector"].items() <= build(job(), Role.NPDC, 0, 2)["metadata"]["labels"].items()
    )
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert [p["port"] for p in service["spec"]["ports"]] == [contract.WIRE_PORT]


def test_the_npdc_may_do_two_things_to_two_objects() -> None:
    account, role, binding = npdc_account(job())
    assert account["automountServiceAccountToken"] is False
    assert [(r["resources"], r["resourceNames"], r["verbs"]) for r in role["rules"]] == [
        (["configmaps"], ["sleigh-wiring"], ["get", "list", "watch"]),
        (["elftrainingjobs/status"], ["sleigh"], ["patch"]),
    ]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": account["metadata"]["name"], "namespace": "pole"}
    ]
    assert build(job(), Role.NPDC)["spec"]["serviceAccountName"] == account["metadata"]["name"]


def test_everything_else_is_owned_and_labelled_too() -> None:
    parsed = job()
    for manifest in (wiring_map(parsed, Wiring()), npdc_service(parsed, 0), *npdc_account(parsed)):
        assert manifest["metadata"]["ownerReferences"] == [owner(parsed)]
        assert manifest["metadata"]["labels"].items() >= names.labels("sleigh").items()
        assert manifest["metadata"]["namespace"] == "pole"


def test_the_wiring_is_one_text_in_a_config_map() -> None:
    wiring = Wiring(3, Slot(1, "u"), {0: Slot(2, "v", frozenset({0, 1}))})
    assert Wiring.from_json(wiring_map(job(), wiring)["data"][contract.WIRING_KEY]) == wiring


# -- templates ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_a_template_adds_and_replaces(role: Role) -> None:
    mine = {
        "name": "elf",
        "env": [{"name": "LOUD", "value": "1"}],
        "resources": {"limits": {"memory": "9Gi", "nvidia.com/gpu": 1}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    data = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    tolerations = [{"key": "gpu", "operator": "Exists"}]
    spec = {
        "containers": [mine],
        "volumes": [data],
        "tolerations": tolerations,
        "nodeSelector": {"pool": "snow"},
        "securityContext": {"fsGroup": 5},
    }
    plain = build(job(), role)
    merged = templated(role, {"metadata": {"annotations": {"a": "b"}}, "spec": spec})
    assert env(merged) == {**env(plain), "LOUD": "1", "ELF_JOB": env(merged)["ELF_JOB"]}
    assert elf(merged)["resources"]["limits"] == {"memory": "9Gi", "nvidia.com/gpu": 1}
    assert elf(merged)["resources"]["requests"] == elf(plain)["resources"]["requests"]
    assert merged["spec"]["volumes"] == [*plain["spec"]["volumes"], data]
    assert elf(merged)["volumeMounts"] == [*elf(plain)["volumeMounts"], *mine["volumeMounts"]]
    assert merged["spec"]["tolerations"] == tolerations
    assert merged["spec"]["nodeSelector"] == {"pool": "snow"}
    assert merged["spec"]["securityContext"] == {**plain["spec"]["securityContext"], "fsGroup": 5}
    assert merged["metadata"]["annotations"] == {"a": "b"}


@pytest.mark.parametrize("role", ROLES)
def test_a_template_may_bring_a_sidecar(role: Role) -> None:
    sidecar = {"name": "a-sidecar", "image": "proxy"}
    merged = templated(role, {"spec": {"containers": [sidecar]}})
    assert [c["name"] for c in merged["spec"]["containers"]] == [names.CONTAINER, "a-sidecar"]


def test_each_template_is_for_one_role() -> None:
    parsed = job(homes={"template": {"spec": {"priorityClassName": "low"}}})
    assert [("priorityClassName" in build(parsed, role)["spec"]) for role in ROLES] == [False, False, True]


@pytest.mark.parametrize("role", ROLES)
def test_a_template_may_label_its_pods(role: Role) -> None:
    plain = build(job(), role)["metadata"]
    merged = templated(role, {"metadata": {"labels": {"team": "elves"}}})["metadata"]
    assert merged == {**plain, "labels": {**plain["labels"], "team": "elves"}}


def test_a_template_with_an_empty_spec_changes_nothing() -> None:
    """`spec:` with nothing behind it is null in YAML."""
    assert templated(Role.MDC, {"spec": None})["spec"].keys() == build(job())["spec"].keys()


def test_two_mounts_of_one_volume_stay_two() -> None:
    """Mounts are told apart by their path: a volume may be mounted twice."""
    mounts = [
        {"name": "data", "mountPath": "/a", "subPath": "a"},
        {"name": "data", "mountPath": "/b", "subPath": "b"},
    ]
    container = {"name": "elf", "volumeMounts": [*mounts, {"name": "tmp", "mountPath": "/var/tmp"}]}
    merged = elf(templated(Role.HOME, {"spec": {"containers": [container]}}))
    paths = [m["mountPath"] for m in merged["volumeMounts"]]
    assert sorted(paths) == ["/a", "/b", "/tmp", "/var/tmp"]


# -- nodes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "spread"), [(Role.NPDC, True), (Role.MDC, True), (Role.HOME, False)])
def test_data_centers_know_their_node_and_would_rather_be_on_different_ones(role: Role, spread: bool) -> None:
    manifest = build(job(), role)
    assert ("topologySpreadConstraints" in manifest["spec"]) is spread
    told = {"fieldRef": {"fieldPath": "spec.nodeName"}} if spread else None
    assert env(manifest).get("ELF_NODE") == told
    if spread:
        (rule,) = manifest["spec"]["topologySpreadConstraints"]
        assert (rule["whenUnsatisfiable"], rule["topologyKey"]) == (
            "ScheduleAnyway",
            "kubernetes.io/hostname",
        )
        selected, labels = rule["labelSelector"], manifest["metadata"]["labels"]
        assert selected["matchLabels"].items() <= labels.items()
        (roles,) = selected["matchExpressions"]
        assert sorted(roles["values"]) == ["mdc", "npdc"] and labels[roles["key"]] in roles["values"]


@pytest.mark.parametrize("role", [Role.NPDC, Role.MDC])
def test_a_template_replaces_how_data_centers_are_spread_or_lets_them_be(role: Role) -> None:
    mine = {"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}
    spec = templated(role, {"spec": {"topologySpreadConstraints": [mine]}})["spec"]
    assert spec["topologySpreadConstraints"] == [mine]
    for nothing in (None, []):
        spec = templated(role, {"spec": {"topologySpreadConstraints": nothing}})["spec"]
        assert not spec.get("topologySpreadConstraints")
