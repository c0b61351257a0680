"""What an API server's refusals mean, and what to do about them. Pure: texts in, sentences out."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection

from elf_worker.contract import API_GROUP, API_PLURAL

_DENIED = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)" '
    r'in API group "(?P<group>[^"]*)"(?: in the namespace "(?P<namespace>[^"]+)")?'
)
CHARS = 300


def said(body: object) -> str:
    """The server's own words: the message of a Status, or the text as it is."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return " ".join(text.split())[:CHARS]


def denied(message: str) -> str | None:
    """Which RBAC rule is missing, if this is a 403 of RBAC."""
    found = _DENIED.search(message)
    if found is None:
        return None
    rule = (
        f"{{apiGroups: [{json.dumps(found['group'])}], resources: [{found['resource']}], "
        f"verbs: [{found['verb']}]}}"
    )
    where, kind = "at the scope of the cluster", "ClusterRole"
    if found["namespace"]:
        where, kind = f"in namespace {found['namespace']}", "Role"
    return (
        f"{found['user']} may not {found['verb']} {found['resource']} {where}; "
        f"a {kind} that is bound to it needs the rule {rule}"
    )


def of_answer(what: str, status: int, reason: str, body: object) -> str:
    """An answer that is not 2xx, in one sentence."""
    message = said(body)
    if status == 401:
        return (
            f"{what}: the API server does not know you (HTTP 401): log in again, or choose another --context"
        )
    if status == 403 and (missing := denied(message)):
        return f"{what}: {missing}"
    if status == 404 and _no_such_kind(message):  # all other kinds that are asked for come with Kubernetes
        return no_crd()
    return f"{what}: HTTP {status} {reason}: {message}".rstrip(": ")


def lacks_crd(body: object) -> bool:
    """Whether a 404 for a job means that the cluster knows no jobs at all, not that this one is missing."""
    return _no_such_kind(said(body))


def no_crd() -> str:
    """The cluster has no such kind."""
    return (
        f"this cluster knows no {API_PLURAL}.{API_GROUP}: install the operator first "
        "(kubectl apply -f manifests/crd.yaml, or the Helm chart), or choose another --context"
    )


def _no_such_kind(message: str) -> bool:
    return "could not find the requested resource" in message or message.startswith("404 page not found")


def no_such_job(name: str, namespace: str, here: Collection[str], elsewhere: Collection[str] = ()) -> str:
    """With the nearest name, or the namespace in which there is one of this name."""
    text = f"{name}: there is no ElfTrainingJob of this name in namespace {namespace}"
    if elsewhere:
        return f"{text}; there is one in {', '.join(sorted(elsewhere))}: say -n {min(elsewhere)}"
    if near := difflib.get_close_matches(name, sorted(here), 1, 0.5):
        return f"{text}; did you mean {near[0]}?"
    if here:
        some = sorted(here)[:5]
        return f"{text}; there are {', '.join(some)}{' and more' if len(here) > len(some) else ''}"
    return f"{text}, and no other either; elf status -A shows those of all namespaces"


def exec_denied(namespace: str) -> str:
    """A refused WebSocket has no body: what RBAC would have said."""
    return (
        f"you may not run commands in pods of namespace {namespace}; "
        'a Role there needs the rule {apiGroups: [""], resources: [pods/exec], verbs: [create, get]}'
    )


def unreachable(server: str, why: str) -> str:
    """Nobody answers there."""
    return (
        f"the API server {server} does not answer ({why}); is the cluster up, and is it the right one? "
        "--context and --kubeconfig choose another"
    )


def no_config(why: str) -> str:
    """There is no kubeconfig to find a cluster with."""
    reason = " ".join(why.split()).rstrip(".")
    return f"no cluster is known: {reason}; set KUBECONFIG, or give --kubeconfig FILE"
