"""Whether NetworkPolicies are enforced in a cluster: it is tried, for no API says so."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from e2e.cluster import Kubectl, bystander, wait

PORT = 8000
SERVER = f"import http.server as s; s.HTTPServer(('', {PORT}), s.BaseHTTPRequestHandler).serve_forever()"
KNOCK = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close()
except OSError:
    print("shut")
else:
    print("open")
"""
DENY: Mapping[str, Any] = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "nobody"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
}
ENFORCED_WITHIN = 20.0
"""Seconds that a network plugin may need for a new policy."""


class Gate:
    """A pod that a policy keeps everybody from, and a pod that knocks at it."""

    def __init__(self, kubectl: Kubectl, image: str) -> None:
        self._kubectl, self._image = kubectl, image
        self._host = ""

    @contextlib.contextmanager
    def standing(self) -> Iterator[Gate]:
        """With both pods, and the policy."""
        serving = bystander(self._kubectl, "gate", self._image, user=10002, program=SERVER)
        with serving, bystander(self._kubectl, "knocker", self._image, user=10002):
            self._host = self._kubectl.get("pod", "gate")["status"]["podIP"]
            wait("a pod reaches another without a policy", self.open, 60)
            assert self._kubectl.apply(DENY).returncode == 0
            yield self

    def open(self) -> bool:
        """Whether it can be reached now."""
        return "open" in self._kubectl.python("knocker", KNOCK, self._host, str(PORT))

    def shut(self) -> bool:
        """Whether the policy is enforced now."""
        return not self.open()

    def enforced(self) -> bool:
        """Whether the policy comes into force in time."""
        with contextlib.suppress(AssertionError):
            wait("the policy is enforced", self.shut, ENFORCED_WITHIN)
            return True
        return False
