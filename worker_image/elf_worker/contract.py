"""What the operator and the worker agree on. Standard library only: both sides import it.

Three things cross this border: the environment a pod is started with (`ENV_*`, `JobConfig`), the
*wiring* by which the operator tells the NPDC which MDC incarnations are current and which homes each of
them serves (`Wiring`), and the *progress* the NPDC reports back (plain JSON under `status.training`).
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

API_GROUP = "northpole.dev"
API_VERSION = "v1alpha1"
API_PLURAL = "elftrainingjobs"
FIELD_MANAGER_NPDC = "elf-npdc"
"""Owns `status.training`, and nothing else."""

WIRE_VERSION = 3
WIRE_PORT = 7733
"""Port on which the NPDC and each MDC take connections from their children."""
FIGURES_PORT = 7735
"""Port on which a data center shows its figures over HTTP."""
MAX_PAYLOAD = 1 << 33
"""Bytes: the sums or the state of half a billion parameters."""
READY_PORT = 7734
"""Port that accepts connections only while the data center can serve (for readiness probes)."""

WIRING_KEY = "wiring.json"
"""Key of the wiring inside the job's ConfigMap, and its file name in local mode."""
PROGRESS_FILE = "progress.json"
"""In local mode: the file beside the wiring that holds what a cluster has under `status.training`."""
CHECKPOINT_DIR = "/var/elf/checkpoint"
"""Where a checkpoint volume is mounted in the NPDC's pod."""


class Role(StrEnum):
    """The three kinds of pods."""

    NPDC = "npdc"
    MDC = "mdc"
    HOME = "home"


ENV_JOB = "ELF_JOB"
"""JSON of `JobConfig`."""
ENV_UID = "ELF_POD_UID"
"""The pod's UID: its fencing token. Two lives under one name differ in it."""
ENV_ADDRESS = "ELF_POD_IP"
"""The address this pod binds to and can be reached at."""
ENV_NODE = "ELF_NODE"
"""Name of the cluster's node that this pod runs on; absent in local mode."""
ENV_INDEX = "ELF_INDEX"
ENV_INCARNATION = "ELF_INCARNATION"
ENV_HOMES = "ELF_HOMES"
"""Ids of the homes that a pod of homes holds, as `format_ids` writes them."""
ENV_NPDC = "ELF_NPDC"
"""`host:port` of the NPDC's Service."""
ENV_BOARD = "ELF_BOARD"
"""Where the wiring is read and the progress written: `kube:NAMESPACE/JOB/CONFIGMAP` or `file:DIRECTORY`."""
ENV_CHECKPOINT = "ELF_CHECKPOINT"
"""Directory for durable checkpoints; absent when the job has no volume."""
ENV_HISTORY = "ELF_HISTORY"
"""Directory that receives the history of rounds and the statistics (optional)."""
ENV_OUTPUT = "ELF_OUTPUT"
"""URL of the folder that receives the trained model and the report (optional)."""
OUTPUT_DIR = "/var/elf/output"
"""Where the volume for them is mounted in the NPDC's pod."""
ENV_MODEL_OUT = "ELF_MODEL_OUT"
"""File that receives the trained model as safetensors (optional)."""
ENV_IDENTITY = "ELF_IDENTITY"
"""Directory with this pod's key and certificate, if the job's links are mutual TLS."""
ENV_FIGURES_TOKENS = "ELF_FIGURES_TOKENS"
"""SHA-256 (hex, separated by commas) of the tokens that open the figures; absent: they are open to all."""
FIGURES_TOKEN_HEADER = "X-Elf-Token"
"""Beside `Authorization: Bearer`, which API servers keep to themselves when they forward a request."""
IDENTITY_DIR = "/var/run/elf/identity"
CERTIFICATE_FILE, KEY_FILE, AUTHORITY_FILE = "tls.crt", "tls.key", "ca.crt"
"""Names within it, as in every Secret of the type kubernetes.io/tls."""
TRUST_DOMAIN = f"jobs.{API_GROUP}"


@dataclass(frozen=True)
class Peer:
    """Who a certificate says its holder is. `incarnation` is 0 for pods of homes, which have none."""

    job: str
    """UID of the job."""
    role: Role
    index: int
    incarnation: int

    def to_uri(self) -> str:
        """As a SPIFFE ID, the certificate's one subject alternative name."""
        return f"spiffe://{TRUST_DOMAIN}/{self.job}/{self.role}/{self.index}/{self.incarnation}"

    @classmethod
    def from_uri(cls, uri: str) -> Peer:
        """Inverse of `to_uri`. Raises ValueError for anything else."""
        try:
            job, role, index, incarnation = uri.removeprefix(f"spiffe://{TRUST_DOMAIN}/").split("/")
            peer = cls(job, Role(role), int(index), int(incarnation))
        except ValueError:
            peer = None
        if peer is None or peer.to_uri() != uri:
            raise ValueError(f"{uri!r} names no pod of a job")
        return peer

    def __str__(self) -> str:
        """For logs."""
        return f"{self.role} {self.index}, incarnation {self.incarnation}"


@dataclass(frozen=True)
class JobConfig:
    """The part of a job's spec that its pods need. Values are already validated and defaulted."""

    job: str
    uid: str
    homes: int
    """How many homes the job was started with. Tasks share out their data by it; now there may be others."""
    per_pod: int
    rounds: int
    seed: int
    entrypoint: str
    task_args: dict[str, Any] = field(default_factory=dict)
    optimizer: str = "Adam"
    optimizer_args: dict[str, Any] = field(default_factory=dict)
    batching: str = "exact"
    """How a pod computes its homes: off (one by one), exact (together where that changes no bit) or fast."""
    local_steps: int = 1
    local_optimizer: str = "SGD"
    local_optimizer_args: dict[str, Any] = field(default_factory=dict)
    evaluate_every: int = 5
    target_metric: str | None = None
    target_at_least: float | None = None
    quorum: int = 1
    """Homes that must be counted before a round may close, 1..homes; a wiring may say otherwise."""
    deadline_seconds: float = 30.0
    aggregation: str = "mean"
    """How homes are combined: mean, trimmedMean or median."""
    trim_percent: int = 10
    group_size: int = 4
    """Homes, at least, that a robust method combines; see `groups`."""
    clip_norm: float | None = None
    statistics: list[str] = field(default_factory=list)
    """Further statistics, as module:Class."""
    home_failure_probability: float = 0.0
    mdc_failure_probability: float = 0.0
    failure_seed: int = 0
    precision: str = "float32"
    """Element type of gradients on the wire: float32, float16 or bfloat16."""
    checkpoint_every: int = 10
    silence_seconds: float = 5.0
    """A peer that says nothing for this long is taken for dead (failurePolicy.mdcTimeoutSeconds)."""
    straggler_factor: float | None = None
    """An MDC that takes more than so many times the median of the others is reported; None: none is."""

    def to_json(self) -> str:
        """The value of `ENV_JOB`: one line of JSON with sorted keys."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> JobConfig:
        """Inverse of `to_json`."""
        return cls(**json.loads(text))


def injected(probability: float, seed: int, *who: object) -> bool:
    """Whether a rehearsed fault strikes: a pure function, true for this share of all `who`."""
    if probability <= 0:
        return False
    text = ":".join(map(str, (seed, *who))).encode()
    drawn = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
    return drawn < probability * 2**64


def groups(homes: int, size: int) -> list[range]:
    """Homes `0 .. homes-1` in as many consecutive groups of at least `size` as there are, sizes within one.

    A pure function of the two numbers: who is combined with whom does not depend on any data center.
    """
    count = max(1, homes // size)
    base, extra = divmod(homes, count)
    starts = [index * base + min(index, extra) for index in range(count + 1)]
    return [range(first, last) for first, last in itertools.pairwise(starts)]


def group_of(home: int, homes: int, size: int) -> range:
    """The one of `groups(homes, size)` that holds this home, without making them all."""
    count = max(1, homes // size)
    base, extra = divmod(homes, count)
    large = extra * (base + 1)  # homes in the groups that have one more
    if home < large:
        first = home // (base + 1) * (base + 1)
        return range(first, first + base + 1)
    first = large + (home - large) // base * base
    return range(first, first + base)


def format_ids(ids: Iterable[int]) -> str:
    """Home ids as compact ranges: `{0,1,2,7}` is `"0-2,7"`."""
    parts: list[str] = []
    for low, high in _runs(sorted(set(ids))):
        parts.append(str(low) if low == high else f"{low}-{high}")
    return ",".join(parts)


def parse_ids(text: str) -> frozenset[int]:
    """Inverse of `format_ids`. Raises ValueError for anything else."""
    ids: set[int] = set()
    for part in text.split(",") if text else ():
        low, dash, high = part.partition("-")
        first, last = int(low), int(high if dash else low)
        if last < first:
            raise ValueError(f"{part!r} is no range of ids")
        ids.update(range(first, last + 1))
    return frozenset(ids)


def _runs(ids: list[int]) -> Iterator[tuple[int, int]]:
    start = previous = None
    for i in ids:
        if start is None or previous is None:
            start = previous = i
        elif i == previous + 1:
            previous = i
        else:
            yield start, previous
            start = previous = i
    if start is not None and previous is not None:
        yield start, previous


@dataclass(frozen=True)
class Loss:
    """A pod that was replaced because of a fault: for people. `time`: seconds since the epoch."""

    pod: str
    reason: str
    message: str
    time: float


@dataclass(frozen=True)
class Slot:
    """One data center's place in the tree, which outlives the pods that fill it.

    `incarnation` counts the pods that have filled the slot. `uid` is the UID of the pod that may act for
    it now; empty: nobody may (the last one is fenced and its successor is not there yet).
    """

    incarnation: int
    uid: str = ""
    homes: frozenset[int] = frozenset()
    replaced: int = 0
    """How many pods of this slot were replaced because of a fault (a resumed job is not a fault)."""
    failures: int = 0
    """How many of its pods in a row did not live long."""
    not_before: float = 0.0
    """No successor before this time (seconds since the epoch): each short life makes the next wait longer."""
    nodes: tuple[str, ...] = ()
    """Nodes on which the last of these short lives were spent, the newest last."""
    loss: Loss | None = None
    """The last of its pods that was replaced because of a fault."""
    predecessor: str = ""
    """UID of the pod that still acts for the slot until the pod `uid` can take over between two rounds."""


@dataclass(frozen=True)
class Wiring:
    """Who is who, written by the operator alone. The NPDC follows it and never argues.

    Law: the homes of `mdcs` are disjoint. A home in none of them waits.
    """

    version: int = 0
    npdc: Slot = Slot(incarnation=0)
    mdcs: Mapping[int, Slot] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """The fields of the spec that may not change once the job has started, as first seen."""
    homes: int = 0
    """Homes of the rounds that begin from now on: `0 .. homes-1`. 0: as many as in `JobConfig`."""
    quorum: int = 0
    """The quorum of these rounds. 0: as in `JobConfig`."""
    expected: int = 0
    """Homes there will be once all pods are ready: so many may ask for their MDC. 0: no more than `homes`."""
    absent: frozenset[int] = frozenset()
    """Homes that are known to send nothing for now. A round need not wait for them if its quorum is met."""
    authority: str = ""
    """SHA-256 of the certificate that all pods of the job trust. Empty: their links are plain TCP."""
    failed_moves: int = 0
    """How many times in a row no MDC could be moved to another node; for the operator alone."""
    move_after: float = 0.0
    """No such attempt before this time (seconds since the epoch)."""

    def to_json(self) -> str:
        """One line of JSON with sorted keys, so equal wirings are equal texts."""
        return json.dumps(
            {
                "version": self.version,
                "npdc": _slot_to_data(self.npdc),
                "mdcs": {str(i): _slot_to_data(s) for i, s in self.mdcs.items()},
                "recipe": self.recipe,
                "homes": self.homes,
                "quorum": self.quorum,
                "expected": self.expected,
                "absent": format_ids(self.absent),
                **({"authority": self.authority} if self.authority else {}),
                **({"failedMoves": self.failed_moves} if self.failed_moves else {}),
                **({"moveAfter": self.move_after} if self.move_after else {}),
            },
            sort_keys=True,
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str) -> Wiring:
        """Inverse of `to_json`. Raises ValueError for anything else."""
        data = json.loads(text)
        try:
            return cls._from_data(data)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no wiring: {error!r}") from error

    @classmethod
    def _from_data(cls, data: Any) -> Wiring:
        return cls(
            version=int(data["version"]),
            npdc=_slot_from_data(data["npdc"]),
            mdcs={int(i): _slot_from_data(s) for i, s in data["mdcs"].items()},
            recipe=data.get("recipe", {}),
            homes=int(data.get("homes", 0)),
            quorum=int(data.get("quorum", 0)),
            expected=int(data.get("expected", 0)),
            absent=parse_ids(data.get("absent", "")),
            authority=str(data.get("authority", "")),
            failed_moves=int(data.get("failedMoves", 0)),
            move_after=float(data.get("moveAfter", 0.0)),
        )

    def home_of(self) -> dict[int, int]:
        """Which MDC index serves each home; homes that wait are absent."""
        return {home: index for index, slot in self.mdcs.items() for home in slot.homes}


def _slot_to_data(slot: Slot) -> dict[str, Any]:
    return {
        "incarnation": slot.incarnation,
        "uid": slot.uid,
        "homes": format_ids(slot.homes),
        "replaced": slot.replaced,
        "failures": slot.failures,
        "notBefore": slot.not_before,
        "nodes": list(slot.nodes),
        **({"predecessor": slot.predecessor} if slot.predecessor else {}),
        **({"loss": asdict(slot.loss)} if slot.loss else {}),
    }


def _slot_from_data(data: Mapping[str, Any]) -> Slot:
    return Slot(
        incarnation=int(data["incarnation"]),
        uid=str(data["uid"]),
        predecessor=str(data.get("predecessor", "")),
        homes=parse_ids(data["homes"]),
        replaced=int(data.get("replaced", 0)),
        failures=int(data.get("failures", 0)),
        not_before=float(data.get("notBefore", 0.0)),
        nodes=tuple(map(str, data.get("nodes", ()))),
        loss=Loss(**data["loss"]) if data.get("loss") else None,
    )


class Phase(StrEnum):
    """`status.training.phase`: where the NPDC is."""

    STARTING = "Starting"
    RECOVERING = "Recovering"
    TRAINING = "Training"
    COMPLETE = "Complete"
    FAILED = "Failed"
