"""The manifests of everything a job owns: one function per kind, settings as arguments, plain dicts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elf_operator import identities, names
from elf_operator.authority import Authority
from elf_operator.spec import Job, Spec
from elf_worker import contract
from elf_worker.contract import JobConfig, Role, Wiring, format_ids

Manifest = dict[str, Any]
UID = 10001
_GRACE_SECONDS = 2
_TMP = {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}


@dataclass(frozen=True)
class Defaults:
    """What the operator fills in where a job says nothing."""

    worker_image: str = "elf-worker:latest"
    pull_policy: str = "IfNotPresent"
    authority: Authority | None = None
    """Who vouches for pods; None: their links are plain TCP."""
    network_policies: bool = False
    """Whether each job gets a NetworkPolicy."""


_RESOURCES: dict[Role, dict[str, dict[str, str]]] = {
    Role.NPDC: {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "4Gi"}},
    Role.MDC: {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "2Gi"}},
    Role.HOME: {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "4Gi"}},
}


def job_config(job: Job, spec: Spec) -> JobConfig:
    """The part of the spec that pods need."""
    return JobConfig(
        job=job.name,
        uid=job.uid,
        homes=spec.first_homes,
        per_pod=spec.per_pod,
        rounds=spec.rounds,
        seed=spec.seed,
        entrypoint=spec.entrypoint,
        task_args=dict(spec.task_args),
        optimizer=spec.optimizer,
        optimizer_args=dict(spec.optimizer_args),
        batching=spec.batching,
        local_steps=spec.local_steps,
        local_optimizer=spec.local_optimizer,
        local_optimizer_args=dict(spec.local_optimizer_args),
        evaluate_every=spec.evaluate_every,
        target_metric=spec.target_metric,
        target_at_least=spec.target_at_least,
        aggregation=spec.aggregation,
        trim_percent=spec.trim_percent,
        group_size=spec.group_size,
        clip_norm=spec.clip_norm,
        precision=spec.precision,
        statistics=list(spec.statistics),
        home_failure_probability=spec.home_failure_probability,
        mdc_failure_probability=spec.mdc_failure_probability,
        failure_seed=spec.failure_seed,
        quorum=spec.quorum_of(spec.first_homes),
        deadline_seconds=float(spec.deadline_seconds),
        checkpoint_every=spec.checkpoint_every,
        silence_seconds=float(spec.mdc_timeout_seconds),
        straggler_factor=spec.straggler_factor,
    )


def owner(job: Job) -> Manifest:
    """Everything goes when the job goes."""
    return {
        "apiVersion": f"{contract.API_GROUP}/{contract.API_VERSION}",
        "kind": "ElfTrainingJob",
        "name": job.name,
        "uid": job.uid,
        "controller": True,
    }


def _meta(job: Job, name: str) -> Manifest:
    return {
        "name": name,
        "namespace": job.namespace,
        "labels": names.labels(job.name),
        "ownerReferences": [owner(job)],
    }


def wiring_map(job: Job, wiring: Wiring, replaces: str | None = None) -> Manifest:
    """The ConfigMap by which the NPDC learns who is current and who serves whom.

    `replaces`: resourceVersion of the one it was made from, empty if there was none; another that has come
    since is left alone.
    """
    meta = _meta(job, names.wiring(job.name))
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta if replaces is None else {**meta, "resourceVersion": replaces},
        "data": {contract.WIRING_KEY: wiring.to_json()},
    }


def npdc_service(job: Job, incarnation: int) -> Manifest:
    """The one stable address. It selects one incarnation, so a fenced NPDC gets no more connections.

    Not-ready addresses are published: children may dial in while the NPDC still loads its model.
    """
    labels = names.pod_labels(job.name, Role.NPDC, 0, incarnation)
    wanted = (names.LABEL_JOB, names.LABEL_ROLE, names.LABEL_INCARNATION)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(job, names.npdc(job.name)),
        "spec": {
            "type": "ClusterIP",
            "publishNotReadyAddresses": True,
            "selector": {key: labels[key] for key in wanted},
            "ports": [{"name": "elf", "protocol": "TCP", "port": contract.WIRE_PORT}],
        },
    }


def npdc_account(job: Job) -> list[Manifest]:
    """Service account, Role and RoleBinding of the NPDC: two things to two objects, nothing more."""
    name = names.npdc(job.name)
    rules = [
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": [names.wiring(job.name)],
            "verbs": ["get", "list", "watch"],
        },
        {
            "apiGroups": [contract.API_GROUP],
            "resources": [f"{contract.API_PLURAL}/status"],
            "resourceNames": [job.name],
            "verbs": ["patch"],
        },
    ]
    rbac = "rbac.authorization.k8s.io"
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": _meta(job, name),
            "automountServiceAccountToken": False,
        },
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": _meta(job, name), "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": _meta(job, name),
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": job.namespace}],
        },
    ]


def network_policy(job: Job) -> Manifest:
    """Who may open connections to the job's pods: each other, and for figures whoever has a token."""
    ports = {port: {"protocol": "TCP", "port": port} for port in (contract.WIRE_PORT, contract.FIGURES_PORT)}
    ours = {"podSelector": {"matchLabels": {names.LABEL_JOB: job.name}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _meta(job, names.links(job.name)),
        "spec": {
            **ours,
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [ours], "ports": [ports[contract.WIRE_PORT]]},
                {"ports": [ports[contract.FIGURES_PORT]]},
            ],
        },
    }


def identity_secret(job: Job, authority: Authority, role: Role, index: int, incarnation: int) -> Manifest:
    """The Secret that this pod's identity is in, perhaps with those of others."""
    kind, data = identities.secret_data(authority, job.uid, role, index, incarnation)
    name = identities.secret_name(job.name, job.uid, role, index, incarnation)
    return _secret(job, name, kind, data)


def figures_secret(job: Job, authority: Authority) -> Manifest:
    """The Secret with the token for the job's figures."""
    name = identities.figures_name(job.name, job.uid)
    return _secret(job, name, "Opaque", identities.figures_data(authority, job.uid))


def _secret(job: Job, name: str, kind: str, data: Mapping[str, str]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _meta(job, name),
        "type": kind,
        "immutable": True,
        "data": dict(data),
    }


def pod(
    job: Job,
    spec: Spec,
    defaults: Defaults,
    role: Role,
    index: int,
    incarnation: int,
    config: str | None = None,
) -> Manifest:
    """One pod of the job, the user's template merged in.

    `config`: `job_config` as JSON, where there are many pods of one spec; None: it is made.
    """
    template = {Role.NPDC: spec.npdc_template, Role.MDC: spec.mdc_template, Role.HOME: spec.home_template}[
        role
    ]
    manifest: Manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": names.pod(job.name, role, index, incarnation),
            "namespace": job.namespace,
            "labels": names.pod_labels(job.name, role, index, incarnation),
            "ownerReferences": [owner(job)],
        },
        "spec": {
            "restartPolicy": "OnFailure" if role is Role.HOME else "Never",
            "terminationGracePeriodSeconds": _GRACE_SECONDS,
            "enableServiceLinks": False,
            "automountServiceAccountToken": role is Role.NPDC,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": UID,
                "runAsGroup": UID,
                "fsGroup": UID,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(job, spec, defaults, role, index, incarnation, config)],
            "volumes": [_TMP],
        },
    }
    if role is Role.HOME:
        manifest["metadata"]["labels"][names.LABEL_HOMES] = format_ids(spec.share(index, spec.homes))
    if queue := job.labels.get(names.LABEL_QUEUE):
        manifest["metadata"]["labels"][names.LABEL_QUEUE] = queue
    if role is Role.NPDC:
        manifest["spec"]["serviceAccountName"] = names.npdc(job.name)
        manifest["spec"]["volumes"] += _claims(spec)
    if defaults.authority is not None:
        manifest["spec"]["volumes"].append(identities.volume(job.name, job.uid, role, index, incarnation))
    return _with_template(manifest, template)


def _claims(spec: Spec) -> list[Manifest]:
    """The NPDC's volumes."""
    claims = {"checkpoint": spec.volume_claim}
    if spec.output_claim:
        claims[_output_volume(spec)] = spec.output_claim
    return [
        {"name": name, "persistentVolumeClaim": {"claimName": claim}}
        for name, claim in claims.items()
        if claim
    ]


def _output_volume(spec: Spec) -> str:
    """A pod that names one claim twice is not started by every kubelet: one volume, mounted twice."""
    return "output" if spec.output_claim != spec.volume_claim else "checkpoint"


def avoiding(manifest: Manifest, nodes: Sequence[str]) -> Manifest:
    """The pod, to be put on other nodes than these if there are any."""
    if not nodes:
        return manifest
    term = {
        "matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "NotIn", "values": list(nodes)}]
    }
    affinity = _part(manifest["spec"], "affinity")
    node = _part(affinity, "nodeAffinity")
    key = "preferredDuringSchedulingIgnoredDuringExecution"
    preferred = [*(node.get(key) or ()), {"weight": 100, "preference": term}]
    changed = {**affinity, "nodeAffinity": {**node, key: preferred}}
    return {**manifest, "spec": {**manifest["spec"], "affinity": changed}}


def _with_template(manifest: Manifest, template: Mapping[str, Any]) -> Manifest:
    """The user's labels, annotations and pod spec merged in; what ties the pod to its job stays ours."""
    meta = manifest["metadata"]
    theirs = _part(template, "metadata")
    merged: Manifest = {**manifest, "spec": merge(manifest["spec"], _part(template, "spec"))}
    merged["metadata"] = {**meta, "labels": {**_part(theirs, "labels"), **meta["labels"]}}
    if annotations := _part(theirs, "annotations"):
        merged["metadata"]["annotations"] = dict(annotations)
    return merged


def _part(whole: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object within a template; what is no object says nothing."""
    found = whole.get(key)
    return found if isinstance(found, Mapping) else {}


def _container(
    job: Job,
    spec: Spec,
    defaults: Defaults,
    role: Role,
    index: int,
    incarnation: int,
    config: str | None,
) -> Manifest:
    mounts: list[Manifest] = [{"name": "tmp", "mountPath": "/tmp"}]
    env: list[Manifest] = [
        {"name": contract.ENV_JOB, "value": config or job_config(job, spec).to_json()},
        {"name": contract.ENV_INDEX, "value": str(index)},
        {"name": contract.ENV_INCARNATION, "value": str(incarnation)},
        {"name": contract.ENV_UID, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        {"name": contract.ENV_ADDRESS, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    if role is Role.NPDC:
        _add_storage(job, spec, env, mounts)
    else:
        address = f"{names.npdc(job.name)}.{job.namespace}.svc:{contract.WIRE_PORT}"
        env.append({"name": contract.ENV_NPDC, "value": address})
    if role is Role.HOME:
        env.append({"name": contract.ENV_HOMES, "value": format_ids(spec.share(index, spec.homes))})
    if defaults.authority is not None:
        env.append({"name": contract.ENV_IDENTITY, "value": contract.IDENTITY_DIR})
        mounts.append({"name": names.IDENTITY_VOLUME, "mountPath": contract.IDENTITY_DIR, "readOnly": True})
        if role is not Role.HOME:
            tokens = identities.figures_tokens(defaults.authority, job.uid)
            env.append({"name": contract.ENV_FIGURES_TOKENS, "value": tokens})
    container: Manifest = {
        "name": names.CONTAINER,
        "image": spec.image or defaults.worker_image,
        "imagePullPolicy": defaults.pull_policy,
        "command": ["python3", "-m", "elf_worker", str(role)],
        "env": env,
        "resources": _RESOURCES[role],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }
    if role is Role.NPDC and spec.output_secret:
        container["envFrom"] = [{"secretRef": {"name": spec.output_secret}}]
    if role is not Role.HOME:
        container |= _SERVING
    return container


_SERVING: Manifest = {
    "ports": [{"name": "elf", "containerPort": contract.WIRE_PORT}],
    "readinessProbe": {
        "tcpSocket": {"port": contract.READY_PORT},
        "periodSeconds": 1,
        "failureThreshold": 3,
    },
}
"""Of a container that children connect to."""


def _add_storage(job: Job, spec: Spec, env: list[Manifest], mounts: list[Manifest]) -> None:
    """What the NPDC reads and writes: the wiring, its checkpoints, the model at the end."""
    board = f"kube:{job.namespace}/{job.name}/{names.wiring(job.name)}"
    env.append({"name": contract.ENV_BOARD, "value": board})
    if spec.volume_claim:
        env.append({"name": contract.ENV_CHECKPOINT, "value": contract.CHECKPOINT_DIR})
        mounts.append({"name": "checkpoint", "mountPath": contract.CHECKPOINT_DIR})
    if spec.output_url:
        env.append({"name": contract.ENV_OUTPUT, "value": spec.output_url})
    if spec.output_claim:
        mounts.append({"name": _output_volume(spec), "mountPath": contract.OUTPUT_DIR})


def merge(base: Any, overlay: Any) -> Any:
    """`overlay` laid over `base`, neither changed: objects by key, lists of objects by their key.

    That key is `mountPath` where all have one, else `name`. Any other value of the overlay replaces the
    base's; null in the overlay removes a key.
    """
    if isinstance(overlay, Mapping):
        out = dict(base) if isinstance(base, Mapping) else {}
        for key, value in overlay.items():
            if value is None:
                out.pop(key, None)
            else:
                out[key] = merge(out.get(key), value)
        return out
    for key in ("mountPath", "name"):
        if _keyed(base, key) and _keyed(overlay, key):
            own = {item[key]: item for item in base}
            laid = {item[key]: merge(own.get(item[key]), item) for item in overlay}
            return list({**own, **laid}.values())
    return overlay


def _keyed(value: Any, key: str) -> bool:
    return isinstance(value, list) and all(isinstance(v, Mapping) and key in v for v in value)
