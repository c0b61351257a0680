"""The manifests of a job's pods: what the operator wants of each, with the user's template laid over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from elf_operator import identities, names
from elf_operator.builders import Defaults, Manifest, metadata
from elf_operator.merging import part, with_template
from elf_operator.spec import Job, Spec
from elf_worker import contract
from elf_worker.contract import JobConfig, Role, format_ids

UID = 10001
RESOURCES: dict[Role, dict[str, dict[str, str]]] = {
    Role.NPDC: {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "4Gi"}},
    Role.MDC: {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "2Gi"}},
    Role.HOME: {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "4Gi"}},
}
_GRACE_SECONDS = 2
_TMP = {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}
_SERVING: Manifest = {
    "ports": [{"name": "elf", "containerPort": contract.WIRE_PORT}],
    "readinessProbe": {
        "tcpSocket": {"port": contract.READY_PORT},
        "periodSeconds": 1,
        "failureThreshold": 3,
    },
}
"""Of a container that children connect to."""


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


@dataclass(frozen=True)
class _Wanted:
    """A pod to be made."""

    job: Job
    spec: Spec
    defaults: Defaults
    role: Role
    index: int
    incarnation: int
    config: str
    """`job_config` as JSON."""

    @property
    def homes(self) -> str:
        """Those that live in it, if it is one for homes."""
        return format_ids(self.spec.share(self.index, self.spec.homes))


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
    config = config or job_config(job, spec).to_json()
    wanted = _Wanted(job, spec, defaults, role, index, incarnation, config)
    manifest: Manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(job, names.pod(job.name, role, index, incarnation), _labels(wanted)),
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
            "containers": [_container(wanted)],
            "volumes": _volumes(wanted),
        },
    }
    if role is not Role.HOME:
        manifest["spec"]["topologySpreadConstraints"] = [_spread(job)]
    if role is Role.NPDC:
        manifest["spec"]["serviceAccountName"] = names.npdc(job.name)
    templates = {Role.NPDC: spec.npdc_template, Role.MDC: spec.mdc_template, Role.HOME: spec.home_template}
    return with_template(manifest, templates[role])


def _spread(job: Job) -> Manifest:
    """Data centers rather on different nodes: else one node would take all copies of the state with it."""
    roles = {"key": names.LABEL_ROLE, "operator": "In", "values": [str(Role.NPDC), str(Role.MDC)]}
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "nodeTaintsPolicy": "Honor",
        "labelSelector": {"matchLabels": {names.LABEL_JOB: job.name}, "matchExpressions": [roles]},
    }


def avoiding(manifest: Manifest, nodes: Sequence[str]) -> Manifest:
    """The pod, to be put on other nodes than these if there are any."""
    if not nodes:
        return manifest
    term = {
        "matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "NotIn", "values": list(nodes)}]
    }
    affinity = part(manifest["spec"], "affinity")
    node = part(affinity, "nodeAffinity")
    key = "preferredDuringSchedulingIgnoredDuringExecution"
    preferred = [*(node.get(key) or ()), {"weight": 100, "preference": term}]
    changed = {**affinity, "nodeAffinity": {**node, key: preferred}}
    return {**manifest, "spec": {**manifest["spec"], "affinity": changed}}


def _labels(wanted: _Wanted) -> dict[str, str]:
    job = wanted.job
    labels = names.pod_labels(job.name, wanted.role, wanted.index, wanted.incarnation)
    if wanted.role is Role.HOME:
        labels[names.LABEL_HOMES] = wanted.homes
    if queue := job.labels.get(names.LABEL_QUEUE):
        labels[names.LABEL_QUEUE] = queue
    return labels


def _volumes(wanted: _Wanted) -> list[Manifest]:
    job = wanted.job
    volumes: list[Manifest] = [_TMP]
    if wanted.role is Role.NPDC:
        volumes += _claims(wanted.spec)
    if wanted.defaults.authority is not None:
        volumes.append(identities.volume(job.name, job.uid, wanted.role, wanted.index, wanted.incarnation))
    return volumes


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


def _container(wanted: _Wanted) -> Manifest:
    spec, defaults, role = wanted.spec, wanted.defaults, wanted.role
    container: Manifest = {
        "name": names.CONTAINER,
        "image": spec.image or defaults.worker_image,
        "imagePullPolicy": defaults.pull_policy,
        "command": ["python3", "-m", "elf_worker", str(role)],
        "env": _environment(wanted),
        "resources": RESOURCES[role],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": _mounts(wanted),
    }
    if role is Role.NPDC and spec.output_secret:
        container["envFrom"] = [{"secretRef": {"name": spec.output_secret}}]
    if role is not Role.HOME:
        container |= _SERVING
    return container


def _environment(wanted: _Wanted) -> list[Manifest]:
    job, role = wanted.job, wanted.role
    env: list[Manifest] = [
        {"name": contract.ENV_JOB, "value": wanted.config},
        {"name": contract.ENV_INDEX, "value": str(wanted.index)},
        {"name": contract.ENV_INCARNATION, "value": str(wanted.incarnation)},
        {"name": contract.ENV_UID, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        {"name": contract.ENV_ADDRESS, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    if role is not Role.HOME:
        env.append({"name": contract.ENV_NODE, "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}})
    if role is Role.NPDC:
        env += _storage(job, wanted.spec)
    else:
        address = f"{names.npdc(job.name)}.{job.namespace}.svc:{contract.WIRE_PORT}"
        env.append({"name": contract.ENV_NPDC, "value": address})
    if role is Role.HOME:
        env.append({"name": contract.ENV_HOMES, "value": wanted.homes})
    if wanted.defaults.authority is not None:
        env.append({"name": contract.ENV_IDENTITY, "value": contract.IDENTITY_DIR})
        if role is not Role.HOME:
            tokens = identities.figures_tokens(wanted.defaults.authority, job.uid)
            env.append({"name": contract.ENV_FIGURES_TOKENS, "value": tokens})
    return env


def _storage(job: Job, spec: Spec) -> list[Manifest]:
    """What the NPDC reads and writes: the wiring, its checkpoints, the model at the end."""
    board = f"kube:{job.namespace}/{job.name}/{names.wiring(job.name)}"
    env = [{"name": contract.ENV_BOARD, "value": board}]
    if spec.volume_claim:
        env.append({"name": contract.ENV_CHECKPOINT, "value": contract.CHECKPOINT_DIR})
    if spec.output_url:
        env.append({"name": contract.ENV_OUTPUT, "value": spec.output_url})
    return env


def _mounts(wanted: _Wanted) -> list[Manifest]:
    spec = wanted.spec
    mounts: list[Manifest] = [{"name": "tmp", "mountPath": "/tmp"}]
    if wanted.role is Role.NPDC and spec.volume_claim:
        mounts.append({"name": "checkpoint", "mountPath": contract.CHECKPOINT_DIR})
    if wanted.role is Role.NPDC and spec.output_claim:
        mounts.append({"name": _output_volume(spec), "mountPath": contract.OUTPUT_DIR})
    if wanted.defaults.authority is not None:
        mounts.append({"name": names.IDENTITY_VOLUME, "mountPath": contract.IDENTITY_DIR, "readOnly": True})
    return mounts
