"""Checks a spec against the CRD's own schema, and fills in its defaults.

The API server does the same, but not everywhere: an old one drops rules, and `elf run` has none. One
schema serves all, so they cannot disagree.
"""

from __future__ import annotations

import copy
import difflib
import functools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import yaml

Schema = Mapping[str, Any]


@functools.cache
def crd() -> dict[str, Any]:
    """The CustomResourceDefinition: inside an installed package, or in a source tree's `manifests`."""
    here = pathlib.Path(__file__).resolve()
    packaged = here.with_name("crd.yaml")
    path = packaged if packaged.exists() else here.parents[2] / "manifests" / "crd.yaml"
    return dict(yaml.safe_load(path.read_text()))


@functools.cache
def spec_schema() -> dict[str, Any]:
    """The OpenAPI v3 schema of `spec`."""
    root = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return dict(root["properties"]["spec"])


@functools.cache
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(_close(spec_schema()))


def defaulted(value: Any, schema: Schema | None = None) -> Any:
    """A copy of `value` with the schema's defaults filled in (and 4 for 4.0), as the API server does it."""
    schema = spec_schema() if schema is None else schema
    if isinstance(value, Mapping) and "properties" in schema:
        out = dict(value)
        for name, sub in schema["properties"].items():
            if name not in out and "default" in sub:
                out[name] = copy.deepcopy(sub["default"])
            if name in out:
                out[name] = defaulted(out[name], sub)
        return out
    whole = schema.get("type") == "integer" or "x-kubernetes-int-or-string" in schema
    return int(value) if whole and isinstance(value, float) and value.is_integer() else value


def errors(spec: Any) -> list[str]:
    """What is wrong with a spec, one sentence a field, each beginning with the field's path."""
    if not isinstance(spec, Mapping):
        return ["spec: an object is expected"]
    found = sorted(_validator().iter_errors(spec), key=lambda e: list(map(str, e.absolute_path)))
    return [sentence for error in found for sentence in _sentences(error)]


def _close(schema: Any) -> Any:
    """The schema with unknown fields refused where the API server would drop them."""
    if isinstance(schema, Mapping):
        out = {k: _close(v) for k, v in schema.items()}
        keeps = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
        if schema.get("type") == "object" and "properties" in schema and not keeps:
            out["additionalProperties"] = False
        return out
    return [_close(s) for s in schema] if isinstance(schema, list) else schema


def _sentences(error: jsonschema.ValidationError) -> Iterator[str]:
    path = ".".join(["spec", *map(str, error.absolute_path)])
    value: Any = error.instance
    limit: Any = error.validator_value
    schema: Any = error.schema
    match error.validator:
        case "additionalProperties":
            yield from _unknown_fields(path, value, sorted(schema["properties"]))
        case "required":
            yield from (f"{path}.{name}: is required" for name in limit if name not in value)
        case "minimum":
            yield f"{path}: is {value}, at least {limit} is needed"
        case "maximum":
            yield f"{path}: is {value}, at most {limit} is allowed"
        case "type":
            yield f"{path}: is {value!r}, {_article(limit)} is expected"
        case "anyOf" | "pattern":
            yield f"{path}: {value!r} is malformed; {_EXAMPLES.get(path, f'it must match {limit}')}"
        case _:
            yield f"{path}: {error.message}"


def _unknown_fields(path: str, found: Mapping[str, Any], known: list[str]) -> Iterator[str]:
    for name in sorted(set(found) - set(known), key=str):
        near = difflib.get_close_matches(str(name), known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        yield f"{path}.{name}: no such field; {hint}"


def _article(kind: object) -> str:
    return f"an {kind}" if str(kind)[0] in "aeiou" else f"a {kind}"


_EXAMPLES = {
    "spec.task.entrypoint": "`module:Class` is expected, such as elf_worker.tasks.digits:Digits",
    "spec.round.quorum": 'a count (12) or a percentage from "1%" to "100%" is expected',
    "spec.failurePolicy.stragglerFactor": 'a decimal number as a string is expected, such as "5"',
    "spec.target.atLeast": 'a decimal number as a string is expected, such as "0.95"',
    "spec.optimizer.name": "the name of a class of torch.optim is expected, such as Adam",
    "spec.northPole.checkpoint.volumeClaim": "the name of a PersistentVolumeClaim is expected",
    "spec.output.volumeClaim": "the name of a PersistentVolumeClaim is expected",
    "spec.output.secret": "the name of a Secret is expected",
    "spec.output.url": "the URL of a folder is expected, such as s3://bucket/folder",
}
