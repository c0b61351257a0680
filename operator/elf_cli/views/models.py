"""Where the trained model of a job is, and the pod that reads it. Pure."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from elf_cli.cluster import reader
from elf_cli.refusal import EXIT_WRONG, TroubleError
from elf_operator import builders, destination, names, podbuilder
from elf_operator.builders import Defaults, Manifest
from elf_operator.spec import parse_job
from elf_worker.contract import API_GROUP, CHECKPOINT_DIR, OUTPUT_DIR, Role
from elf_worker.roles.checkpoints import CHECKPOINT_FILE
from elf_worker.roles.delivery import MODEL_FILE

DEADLINE_SECONDS = 3600
"""A reader ends by then, whatever becomes of who made it."""
LABEL_READER = f"{API_GROUP}/model-reader"
"""Readers are no pods of the job: the operator must not count them."""


@dataclass(frozen=True)
class Kept:
    """What is known of a job's model."""

    namespace: str
    job: str
    state: str
    round: int
    digest: str
    claim: str
    """The volume claim that it can be fetched from; empty if there is none."""
    file: str
    """On the claim: the model itself, or the state that the model is a part of."""
    output: str
    """Where spec.output has put the model; empty if nowhere."""

    @property
    def why_not(self) -> str:
        """Why there is none to fetch, and what to do about it; empty if there is one."""
        if self.state in ("Failed", "Suspended"):
            return f"{self.job}: is {self.state} after {self.round} rounds: it has no trained model"
        if self.state != "Complete" or not self.digest:
            so_far = f"{self.job}: is {self.state} after {self.round} rounds"
            return (
                f"{so_far}: its model is there once it is Complete; "
                f"kubectl wait --for=condition=Complete etj/{self.job} -n {self.namespace} waits for that"
            )
        if not self.claim and self.output:
            return f"{self.job}: its model is where spec.output put it: {self.output}"
        if not self.claim:
            return (
                f"{self.job}: kept no model, its pods took it with them. For a job to keep it, "
                "set spec.output or spec.northPole.checkpoint.volumeClaim; trained again like that "
                f"it ends with the same bits ({self.digest})"
            )
        return ""

    def as_data(self) -> dict[str, Any]:
        """For `-o json`."""
        place = {"volumeClaim": self.claim, "file": self.file} if self.claim else None
        return {
            "namespace": self.namespace,
            "job": self.job,
            "state": self.state,
            "round": self.round,
            "modelDigest": self.digest or None,
            "keptOn": place,
            "output": self.output or None,
            "problem": self.why_not or None,
        }


def kept(body: Mapping[str, Any]) -> Kept:
    """From the job's JSON."""
    status = body.get("status") or {}
    training = status.get("training") or {}
    checkpoint = (body["spec"].get("northPole") or {}).get("checkpoint") or {}
    landed = destination.parse(body["spec"].get("output"))
    # What has landed is the model itself: no task has to be built to read it.
    claim, file = checkpoint.get("volumeClaim") or "", CHECKPOINT_FILE
    if landed and landed.claim:
        claim, file = landed.claim, landed.file(MODEL_FILE)
    return Kept(
        namespace=body["metadata"]["namespace"],
        job=body["metadata"]["name"],
        state=status.get("state") or "Pending",
        round=int(training.get("round", 0)),
        digest=training.get("modelDigest") or "",
        claim=claim,
        file=file if claim else "",
        output=landed.place_of(MODEL_FILE) if landed else "",
    )


def image_of(body: Mapping[str, Any], pods: Iterable[Mapping[str, Any]], asked: str | None) -> Defaults:
    """The image that the model was trained with, or the one that was asked for. Raises TroubleError."""
    if asked:
        return Defaults(worker_image=asked)
    for pod in pods:
        for container in pod["spec"]["containers"]:
            if container["name"] == names.CONTAINER:
                return Defaults(container["image"], container.get("imagePullPolicy", "IfNotPresent"))
    if image := body["spec"].get("image"):
        return Defaults(worker_image=image)
    raise TroubleError(
        f"{body['metadata']['name']}: none of its pods is left to tell which image it was trained with: "
        "give --image, that of the operator's --worker-image",
        EXIT_WRONG,
    )


def reader_pod(body: Mapping[str, Any], defaults: Defaults, suffix: str) -> Manifest:
    """A pod like the job's NPDC, which only reads the one volume: no token, no port, no labels of the job."""
    job = parse_job(dict(body))
    if job.spec is None:
        raise TroubleError(f"{job.name}: {'; '.join(job.errors)}", EXIT_WRONG)
    landed, spec = job.spec.output_claim is not None, replace(job.spec, output_secret=None)
    if landed:
        spec = replace(spec, volume_claim=None)
    else:
        spec = replace(spec, output_url=None, output_claim=None)
    manifest = podbuilder.pod(job, spec, defaults, Role.NPDC, 0, 0)
    meta, spec_of_pod = manifest["metadata"], manifest["spec"]
    arguments = [OUTPUT_DIR, kept(body).file] if landed else []
    own = [
        _reading(c, defaults, arguments) for c in spec_of_pod["containers"] if c["name"] == names.CONTAINER
    ]
    volumes = [v if v["name"] != "tmp" else {"name": "tmp", "emptyDir": {}} for v in spec_of_pod["volumes"]]
    return {
        **manifest,
        "metadata": {
            **meta,
            "name": f"{job.name}-model-{suffix}",
            "labels": {LABEL_READER: job.name, "app.kubernetes.io/name": "elf-model-reader"},
            "ownerReferences": [{**builders.owner(job), "controller": False}],
        },
        "spec": {
            **spec_of_pod,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": DEADLINE_SECONDS,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": own,
            "volumes": volumes,
        },
    }


def _reading(container: Mapping[str, Any], defaults: Defaults, arguments: list[str]) -> Manifest:
    kept = {key: value for key, value in container.items() if key not in ("ports", "livenessProbe", "args")}
    mounts = [
        {**mount, "readOnly": True} if mount["mountPath"] in (CHECKPOINT_DIR, OUTPUT_DIR) else mount
        for mount in container["volumeMounts"]
    ]
    return {
        **kept,
        "image": defaults.worker_image,
        "command": ["python3", "-c", inspect.getsource(reader), *arguments],
        "readinessProbe": {"exec": {"command": ["test", "-e", reader.SUMMARY]}, "periodSeconds": 1},
        "volumeMounts": mounts,
    }
