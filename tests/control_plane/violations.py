"""Specs that break one bound of the CRD, and some that just do not: made from its schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from builders import overlay
from elf_operator import schema

BASE: Mapping[str, Any] = {"task": {"entrypoint": "a.b:C"}}
VALID: Mapping[str, Any] = {
    "task": BASE["task"],
    "entrypoint": "a.b:C",
    "statistics[0]": "a.b:C",
    "metric": "f1",
    "atLeast": "0.5",
    "clipNorm": "1.5",
    "stragglerFactor": "5",
    "quorum": "50%",
    "image": "registry.example/worker:1.2",
    "url": "s3://bucket/folder",
    "secret": "keys",
    "volumeClaim": "models",
    "path": "runs/digits",
    "name": "Mine",
    "containers[0].name": "elf",
    "initContainers[0].name": "fetch",
    "volumes[0].name": "data",
    "env[0].name": "A",
}
"""Values that fields with a pattern may have, and required ones: by the end of the field's path."""
WRONG_TYPE = {"integer": "many", "number": "many", "string": 5, "boolean": "yes", "object": "x", "array": "x"}


@dataclass(frozen=True)
class Case:
    """A job, and what is to be said of it."""

    label: str
    field: str
    """Path of the field that is wrong; what both say begins with it, or has it."""
    spec: Mapping[str, Any] = field(default_factory=lambda: dict(BASE))
    refused: bool | None = True
    """Whether it is refused; None: as the operator says."""
    name: str = "x"
    stored: bool = False
    """A server whose CRD has no bounds and no rules would take it."""


def text(path: tuple[str | int, ...]) -> str:
    """A path as the server and the operator write it."""
    return "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def nodes(
    node: Mapping[str, Any], path: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], Mapping[str, Any]]]:
    """Every field with its schema: a list by its first item, a map by a key named `key`."""
    yield path, node
    for name, sub in node.get("properties", {}).items():
        yield from nodes(sub, (*path, name))
    if "items" in node:
        yield from nodes(node["items"], (*path, 0))
    if "additionalProperties" in node:
        yield from nodes(node["additionalProperties"], (*path, "key"))


def valid(path: tuple[str | int, ...], node: Mapping[str, Any]) -> Any:
    """A value that the field may have."""
    found = [key for key in VALID if text(path).endswith(f".{key}")]
    if found:
        return VALID[max(found, key=len)]
    if node.get("type") == "object":
        needed = {name: node["properties"][name] for name in node.get("required", ())}
        return {name: valid((*path, name), sub) for name, sub in needed.items()}
    raise LookupError(f"{text(path)}: VALID has no value for it")


def placed(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """The smallest spec that has this value there."""
    return dict(overlay(BASE, _placed(schema.spec_schema(), (), path, value)))


def _placed(
    node: Mapping[str, Any], above: tuple[str | int, ...], rest: tuple[str | int, ...], value: Any
) -> Any:
    if not rest:
        return value
    here = (*above, rest[0])
    if isinstance(rest[0], int):
        return [_placed(node["items"], here, rest[1:], value)]
    sub = node.get("properties", {}).get(rest[0]) or node["additionalProperties"]
    return {**valid(above, node), rest[0]: _placed(sub, here, rest[1:], value)}


def bounds() -> Iterator[Case]:
    """Each bound of the schema broken, and met; each type, each required and each unknown field."""
    for path, node in nodes(schema.spec_schema()):
        for what, value in _beyond(path, node):
            yield Case(f"{text(path)}: {what}", text(path), placed(path, value), stored=True)
        if not path:
            continue
        for what, value in _of_another_kind(node):
            yield Case(f"{text(path)}: {what}", text(path), placed(path, value))
        for what, value in (*_within(node), ("null", None)):
            yield Case(f"{text(path)}: {what}", text(path), placed(path, value), refused=None)
    yield from _objects()


def _objects() -> Iterator[Case]:
    for path, node in nodes(schema.spec_schema()):
        for name in node.get("required", ()):
            there = {k: v for k, v in valid(path, node).items() if k != name}
            spec = placed(path, there) if path else {}
            if path == ("task",):
                spec = {"task": there}
            yield Case(f"{text((*path, name))}: missing", text((*path, name)), spec, stored=bool(path))
        if "properties" in node and not node.get("x-kubernetes-preserve-unknown-fields"):
            spec = placed(path, {**valid(path, node), "nonesuch": 1})
            yield Case(f"{text(path)}: unknown field", text((*path, "nonesuch")), spec)


def _beyond(path: tuple[str | int, ...], node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if "minimum" in node:
        yield "below the minimum", node["minimum"] - 1
    if "maximum" in node:
        yield "above the maximum", node["maximum"] + 1
    if "enum" in node:
        yield "not in the enum", "nonesuch"
    if "pattern" in node:
        yield "against the pattern", "ä ö"
        yield "a line break", f"{valid(path, node)}\n"
    if "maxLength" in node:
        yield "too long", "a" * (node["maxLength"] + 1)
    if node.get("minLength"):
        yield "too short", ""
    if "maxItems" in node:
        yield "too many", [valid((*path, 0), node["items"])] * (node["maxItems"] + 1)
    if "maxProperties" in node:
        yield "too many", {f"a{i}": "b" for i in range(node["maxProperties"] + 1)}


def _of_another_kind(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if "x-kubernetes-int-or-string" in node:
        kinds: tuple[Any, ...] = (1.5, 4.0, True, [], {})
    elif node["type"] == "integer":
        kinds = (WRONG_TYPE["integer"], 1.5, float(node["minimum"] or 4), True)
    else:
        kinds = (WRONG_TYPE[node["type"]],)
    yield from ((f"{value!r} instead", value) for value in kinds)
    if node.get("type") == "array":
        yield "null for an item", [None]


def _within(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for bound in ("minimum", "maximum"):
        if bound in node:
            yield f"at the {bound}", node[bound]
            if node.get("type") == "number":
                yield f"at the {bound}, as a decimal", float(node[bound])
    if "maxLength" in node and "pattern" not in node:
        yield "as long as may be", "😀" * min(node["maxLength"], 1000)
