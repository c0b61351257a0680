"""The environment of a pod, read once at the edge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from elf_worker import contract
from elf_worker.contract import JobConfig, parse_ids

T = TypeVar("T")


class BadEnvironmentError(ValueError):
    """A variable that the operator sets is missing or makes no sense."""


@dataclass(frozen=True)
class Environment:
    """What `elf_operator.podbuilder` puts into every pod."""

    job: JobConfig
    uid: str
    address: str
    index: int
    incarnation: int
    npdc: str
    board: str
    checkpoint: str
    model_out: str
    history: str
    homes: frozenset[int] = frozenset()
    """Those that a pod of homes holds."""
    output: str = ""
    identity: str = ""
    """Directory of the key and the certificates; empty: links are plain TCP."""
    figures_tokens: frozenset[str] = frozenset()
    """SHA-256 of the tokens that open the figures."""
    node: str = ""
    """The cluster's node that the pod runs on; empty: unknown."""


def read(environ: Mapping[str, str]) -> Environment:
    """Raises BadEnvironmentError naming the variable that is missing."""
    try:
        job = _parsed(environ, contract.ENV_JOB, JobConfig.from_json)
        index = _parsed(environ, contract.ENV_INDEX, int)
        return Environment(
            job=job,
            uid=environ[contract.ENV_UID],
            address=environ[contract.ENV_ADDRESS],
            index=index,
            incarnation=_parsed(environ, contract.ENV_INCARNATION, int),
            npdc=environ.get(contract.ENV_NPDC, ""),
            board=environ.get(contract.ENV_BOARD, ""),
            checkpoint=environ.get(contract.ENV_CHECKPOINT, ""),
            model_out=environ.get(contract.ENV_MODEL_OUT, ""),
            output=environ.get(contract.ENV_OUTPUT, ""),
            history=environ.get(contract.ENV_HISTORY) or environ.get(contract.ENV_CHECKPOINT, ""),
            homes=_homes(environ, job, index),
            identity=environ.get(contract.ENV_IDENTITY, ""),
            figures_tokens=frozenset(environ.get(contract.ENV_FIGURES_TOKENS, "").split(",")) - {""},
            node=environ.get(contract.ENV_NODE, ""),
        )
    except KeyError as error:
        raise BadEnvironmentError(f"{error.args[0]} is not set: pods are started by the operator") from None


def _homes(environ: Mapping[str, str], job: JobConfig, index: int) -> frozenset[int]:
    """As the operator says; an earlier one did not: this pod's share of those the job began with."""
    if contract.ENV_HOMES in environ:
        return _parsed(environ, contract.ENV_HOMES, parse_ids)
    first = index * job.per_pod
    return frozenset(range(first, min(first + job.per_pod, job.homes)))


def _parsed(environ: Mapping[str, str], name: str, parse: Callable[[str], T]) -> T:
    text = environ[name]
    try:
        return parse(text)
    except (ValueError, TypeError) as error:
        raise BadEnvironmentError(f"{name} makes no sense ({error}): {text[:100]!r}") from error
