"""Names and labels of everything a job owns. Deterministic, so that creating twice is a conflict."""

from __future__ import annotations

from elf_worker.contract import API_GROUP, Role

LABEL_JOB = f"{API_GROUP}/job"
LABEL_ROLE = f"{API_GROUP}/role"
LABEL_INDEX = f"{API_GROUP}/index"
LABEL_INCARNATION = f"{API_GROUP}/incarnation"
LABEL_HOMES = f"{API_GROUP}/homes"
"""Which homes a pod of homes holds, as `format_ids` writes them."""
LABEL_QUEUE = "kueue.x-k8s.io/queue-name"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "elf-training-operator"
FIELD_MANAGER = MANAGER

MAX_JOB_NAME = 40
CONTAINER = "elf"
"""The container of every pod that is ours; templates may bring others."""
IDENTITY_VOLUME = "identity"


def pod(job: str, role: Role, index: int, incarnation: int) -> str:
    """`<job>-npdc-<incarnation>`, `<job>-mdc-<i>-<incarnation>` or `<job>-home-<i>`."""
    if role is Role.NPDC:
        return f"{job}-npdc-{incarnation}"
    if role is Role.MDC:
        return f"{job}-mdc-{index}-{incarnation}"
    return f"{job}-home-{index}"


def npdc(job: str) -> str:
    """The NPDC's Service, service account, Role and RoleBinding."""
    return f"{job}-npdc"


def wiring(job: str) -> str:
    """The ConfigMap of wiring."""
    return f"{job}-wiring"


def links(job: str) -> str:
    """The NetworkPolicy of the links between a job's pods."""
    return f"{job}-links"


def labels(job: str) -> dict[str, str]:
    """Labels of every object of a job."""
    return {
        "app.kubernetes.io/name": "elf-training",
        "app.kubernetes.io/instance": job,
        LABEL_MANAGED_BY: MANAGER,
        LABEL_JOB: job,
    }


def pod_labels(job: str, role: Role, index: int, incarnation: int) -> dict[str, str]:
    """Labels of one pod."""
    return {
        **labels(job),
        "app.kubernetes.io/component": str(role),
        LABEL_ROLE: str(role),
        LABEL_INDEX: str(index),
        LABEL_INCARNATION: str(incarnation),
    }


def selector(job: str) -> str:
    """Label selector of a job's pods."""
    return f"{LABEL_JOB}={job}"
