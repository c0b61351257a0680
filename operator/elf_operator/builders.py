"""The manifests of what a job owns beside its pods: one function per kind, plain dicts out.

`podbuilder` makes the pods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elf_operator import identities, names
from elf_operator.authority import Authority
from elf_operator.spec import Job
from elf_worker import contract
from elf_worker.contract import Role, Wiring

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Defaults:
    """What the operator fills in where a job says nothing."""

    worker_image: str = "elf-worker:latest"
    pull_policy: str = "IfNotPresent"
    authority: Authority | None = None
    """Who vouches for pods; None: their links are plain TCP."""
    network_policies: bool = False
    """Whether each job gets a NetworkPolicy."""
    figures_from: tuple[Mapping[str, Any], ...] = ()
    """Who else may reach the figures' port then: peers, as in a NetworkPolicy."""


def owner(job: Job) -> Manifest:
    """Everything goes when the job goes."""
    return {
        "apiVersion": f"{contract.API_GROUP}/{contract.API_VERSION}",
        "kind": "ElfTrainingJob",
        "name": job.name,
        "uid": job.uid,
        "controller": True,
    }


def metadata(job: Job, name: str, labels: Mapping[str, str] | None = None) -> Manifest:
    """Of an object of the job; `labels`: other ones than all its objects have."""
    return {
        "name": name,
        "namespace": job.namespace,
        "labels": names.labels(job.name) if labels is None else dict(labels),
        "ownerReferences": [owner(job)],
    }


def wiring_map(job: Job, wiring: Wiring, replaces: str | None = None) -> Manifest:
    """The ConfigMap by which the NPDC learns who is current and who serves whom.

    `replaces`: resourceVersion of the one it was made from, empty if there was none; another that has come
    since is left alone.
    """
    meta = metadata(job, names.wiring(job.name))
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
        "metadata": metadata(job, names.npdc(job.name)),
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
            "metadata": metadata(job, name),
            "automountServiceAccountToken": False,
        },
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": metadata(job, name), "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": metadata(job, name),
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": job.namespace}],
        },
    ]


def network_policy(job: Job, figures_from: Sequence[Mapping[str, Any]]) -> Manifest:
    """Who may open connections to the job's pods: each other, and these peers for figures."""
    ours = {"podSelector": {"matchLabels": {names.LABEL_JOB: job.name}}}
    ingress = [_let_in([ours], contract.WIRE_PORT)]
    if figures_from:
        ingress.append(_let_in(figures_from, contract.FIGURES_PORT))
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(job, names.links(job.name)),
        "spec": {
            **ours,
            "policyTypes": ["Ingress"],
            "ingress": ingress,
        },
    }


def _let_in(peers: Sequence[Mapping[str, Any]], port: int) -> Manifest:
    return {"from": [dict(peer) for peer in peers], "ports": [{"protocol": "TCP", "port": port}]}


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
        "metadata": metadata(job, name),
        "type": kind,
        "immutable": True,
        "data": dict(data),
    }
