"""What a call to the API server is, read from its method, path and query. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MUTATING = frozenset({"create", "patch", "update", "delete"})
UNCOUNTED = frozenset({"leases", "events"})
"""Written without end by whoever leads, or for people only: no part of what a run leads to."""
_VERBS = {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}


@dataclass(frozen=True)
class Target:
    """Which verb on which resource; `name` is empty for a collection."""

    verb: str
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def mutating(self) -> bool:
        """Whether it changes the world."""
        return self.verb in MUTATING and self.resource not in UNCOUNTED

    def __str__(self) -> str:
        thing = "/".join(filter(None, (self.resource, self.name, self.subresource)))
        return f"{self.verb} {thing}"


def target(method: str, path: str, query: Mapping[str, str]) -> Target:
    """`GET /api/v1/namespaces/x/pods?watch=true` is a watch on pods. Discovery is `get` on nothing."""
    parts = path.strip("/").split("/")
    skip = 2 if parts[0] == "api" else 3
    rest, namespace = parts[skip:], ""
    if len(rest) > 2 and rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    resource, name, subresource = [*rest, "", "", ""][:3]
    verb = _VERBS.get(method)
    if verb is None:
        watched = query.get("watch", "") in ("true", "1", "True")
        verb = "watch" if watched else "get" if name or not resource else "list"
    return Target(verb, resource, namespace, name, subresource)


@dataclass
class Call:
    """A call that changes the world, as one operator made it and as it was answered."""

    operator: str
    target: Target
    at: float
    body: Mapping[str, Any] = field(default_factory=dict)
    status: int | None = None
    """None: it has not reached the API server, or not been answered."""
    answer: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""

    @property
    def committed(self) -> bool:
        """Whether the world has changed."""
        return self.status is not None and 200 <= self.status <= 299

    def __str__(self) -> str:
        fault = f" ({self.fault})" if self.fault else ""
        return f"{self.at:8.3f} {self.operator}: {self.target} -> {self.status}{fault}"


def parsed(data: bytes) -> dict[str, Any]:
    """A JSON object, or nothing."""
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
