"""What a call is, read from its path."""

from __future__ import annotations

import pytest

from control_plane.calls import Target, parsed, target

JOBS = "/apis/northpole.dev/v1alpha1/namespaces/town/elftrainingjobs"


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("GET", "/api/v1/namespaces/town/pods", {}, Target("list", "pods", "town")),
        ("GET", "/api/v1/namespaces/town/pods", {"watch": "true"}, Target("watch", "pods", "town")),
        ("GET", f"{JOBS}/sleigh", {}, Target("get", "elftrainingjobs", "town", "sleigh")),
        (
            "PATCH",
            f"{JOBS}/sleigh/status",
            {},
            Target("patch", "elftrainingjobs", "town", "sleigh", "status"),
        ),
        ("POST", "/api/v1/namespaces/town/pods", {}, Target("create", "pods", "town")),
        ("DELETE", "/api/v1/namespaces/town/pods/a", {}, Target("delete", "pods", "town", "a")),
        ("GET", "/api/v1/namespaces/town", {}, Target("get", "namespaces", "", "town")),
        ("GET", "/api/v1/nodes", {"watch": "true"}, Target("watch", "nodes")),
        ("GET", "/apis", {}, Target("get", "")),
        ("GET", "/api/v1", {}, Target("get", "")),
        ("GET", "/apis/northpole.dev/v1alpha1", {}, Target("get", "")),
    ],
)
def test_a_call_is_told_from_its_path(
    method: str, path: str, query: dict[str, str], expected: Target
) -> None:
    assert target(method, path, query) == expected


@pytest.mark.parametrize(
    ("method", "path", "mutating"),
    [
        ("POST", "/api/v1/namespaces/town/pods", True),
        ("PATCH", f"{JOBS}/sleigh/status", True),
        ("GET", f"{JOBS}/sleigh", False),
        ("POST", "/api/v1/namespaces/town/events", False),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/town/leases/l", False),
    ],
)
def test_what_counts_as_a_change_of_the_world(method: str, path: str, mutating: bool) -> None:
    assert target(method, path, {}).mutating == mutating


def test_what_is_no_object_says_nothing() -> None:
    assert parsed(b'{"a": 1}') == {"a": 1}
    assert parsed(b"") == parsed(b"[1]") == parsed(b"{") == {}
