"""Which Secrets a plan makes and takes away, so that each pod finds its identity when it starts."""

from __future__ import annotations

from functools import partial

from elf_operator import builders, identities
from elf_operator.builders import Defaults
from elf_operator.plans import Issue
from elf_operator.spec import Job
from elf_worker.contract import Role


def authority_of(uid: str, defaults: Defaults) -> str:
    """What a job that begins now is to trust; see `Wiring.authority`."""
    return defaults.authority.fingerprint(uid) if defaults.authority is not None else ""


class Issuer:
    """For one plan. Without an authority it has nothing to issue."""

    def __init__(self, job: Job, defaults: Defaults) -> None:
        self._job, self._authority = job, defaults.authority
        self._secrets: dict[str, Issue] = {}
        self.revoked: list[tuple[str, str]] = []
        """(kind, name) of what nobody shall start with any more."""

    @property
    def issued(self) -> tuple[Issue, ...]:
        """The Secrets to be made."""
        return tuple(self._secrets.values())

    def identify(self, role: Role, index: int, incarnation: int) -> tuple[str, ...]:
        """This pod is about to be created; names of the Secrets before it. Pods of homes share theirs."""
        job, authority = self._job, self._authority
        if authority is None:
            return ()
        name = self._name(role, index, incarnation)
        if name not in self._secrets:
            make = partial(builders.identity_secret, job, authority, role, index, incarnation)
            self._secrets[name] = Issue(name, make)
        if role is not Role.NPDC:
            return (name,)
        figures = identities.figures_name(job.name, job.uid)
        self._secrets[figures] = Issue(figures, partial(builders.figures_secret, job, authority))
        return (name, figures)

    def revoke(self, role: Role, index: int, incarnation: int) -> None:
        """This data center is replaced, or not wanted any more."""
        if self._authority is not None:
            self.revoked.append(("Secret", self._name(role, index, incarnation)))

    def _name(self, role: Role, index: int, incarnation: int) -> str:
        return identities.secret_name(self._job.name, self._job.uid, role, index, incarnation)
