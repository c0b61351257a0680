"""Which cluster, and which namespace of it: what `--kubeconfig`, `--context` and `--namespace` say."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elf_cli.refusal import EXIT_WRONG, TroubleError

IN_POD = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Target:
    """What was asked for; None: whatever is usual."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None

    @property
    def explicit(self) -> bool:
        """Whether a kubeconfig is meant, in a pod too."""
        return bool(self.context or self.kubeconfig)

    def flags(self) -> str:
        """What a command that is proposed needs to mean the same cluster; begins with a blank."""
        asked = {"-n": self.namespace, "--context": self.context, "--kubeconfig": self.kubeconfig}
        return "".join(f" {flag} {value}" for flag, value in asked.items() if value)


def namespace_of(target: Target, contexts: Sequence[Mapping[str, Any]], active: Mapping[str, Any]) -> str:
    """The namespace that is meant: as asked, else that of the context, else `default`.

    Raises TroubleError for a context that the kubeconfig does not have.
    """
    chosen = active
    if target.context:
        found = [c for c in contexts if c["name"] == target.context]
        if not found:
            known = ", ".join(str(c["name"]) for c in contexts) or "none"
            raise TroubleError(
                f"--context: the kubeconfig has no context {target.context!r}; it has: {known}", EXIT_WRONG
            )
        chosen = found[0]
    return target.namespace or str((chosen.get("context") or {}).get("namespace") or "default")


def namespace_in_pod(target: Target) -> str:
    """The same within a cluster, where the service account has a namespace."""
    try:
        return target.namespace or IN_POD.read_text().strip() or "default"
    except OSError:
        return "default"
