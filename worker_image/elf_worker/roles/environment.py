"""The environment of a pod, read once at the edge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from elf_worker import contract
from elf_worker.contract import JobConfig

T = TypeVar("T")


class BadEnvironmentError(ValueError):
    """A variable that the operator sets is missing or makes no sense."""


@dataclass(frozen=True)
class Environment:
    """What `elf_operator.builders` puts into every pod."""

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


def read(environ: Mapping[str, str]) -> Environment:
    """Raises BadEnvironmentError naming the variable that is missing."""
    try:
        return Environment(
            job=_parsed(environ, contract.ENV_JOB, JobConfig.from_json),
            uid=environ[contract.ENV_UID],
            address=environ[contract.ENV_ADDRESS],
            index=_parsed(environ, contract.ENV_INDEX, int),
            incarnation=_parsed(environ, contract.ENV_INCARNATION, int),
            npdc=environ.get(contract.ENV_NPDC, ""),
            board=environ.get(contract.ENV_BOARD, ""),
            checkpoint=environ.get(contract.ENV_CHECKPOINT, ""),
            model_out=environ.get(contract.ENV_MODEL_OUT, ""),
            history=environ.get(contract.ENV_HISTORY) or environ.get(contract.ENV_CHECKPOINT, ""),
        )
    except KeyError as error:
        raise BadEnvironmentError(f"{error.args[0]} is not set: pods are started by the operator") from None


def _parsed(environ: Mapping[str, str], name: str, parse: Callable[[str], T]) -> T:
    text = environ[name]
    try:
        return parse(text)
    except (ValueError, TypeError) as error:
        raise BadEnvironmentError(f"{name} makes no sense ({error}): {text[:100]!r}") from error
