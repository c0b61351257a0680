"""Checks a spec against the CRD's own schema, and fills in its defaults.

The API server does the same, but not everywhere: `elf run` has none, and what is stored may be older than the
schema. One schema serves all, read as the server reads it, so they cannot disagree.
"""

from __future__ import annotations

import copy
import difflib
import functools
import math
import pathlib
import re
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


def defaulted(value: Any, schema: Schema | None = None) -> Any:
    """A copy of `value` with the schema's defaults filled in, as the API server does it.

    A null in a field that the schema knows is a field that is not there; among arguments, say, it stays.
    """
    schema = spec_schema() if schema is None else schema
    if isinstance(value, list) and "items" in schema:
        return [defaulted(item, schema["items"]) for item in value]
    if not isinstance(value, Mapping):
        return value
    fields, others = schema.get("properties", {}), schema.get("additionalProperties")
    out = {}
    for name, found in value.items():
        sub = fields.get(name, others)
        if found is not None or sub is None:
            out[name] = found if sub is None else defaulted(found, sub)
    for name, sub in fields.items():
        if name not in out and "default" in sub:
            out[name] = defaulted(copy.deepcopy(sub["default"]), sub)
    return out


def errors(spec: Any) -> list[str]:
    """What is wrong with a defaulted spec, one sentence a field, each beginning with the field's path."""
    if not isinstance(spec, Mapping):
        return ["spec: an object is expected"]
    found = sorted(_validator().iter_errors(spec), key=lambda e: list(map(str, e.absolute_path)))
    return [sentence for error in found for sentence in _sentences(error)]


@functools.cache
def _validator() -> Any:
    return _Validator(_close(spec_schema()))


def _integer(_: Any, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(_: Any, value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _matches(_: Any, pattern: str, value: object, __: Any) -> Iterator[jsonschema.ValidationError]:
    if isinstance(value, str) and not regex(pattern).search(value):
        yield jsonschema.ValidationError(f"{value!r} does not match {pattern}")


@functools.cache
def regex(pattern: str) -> re.Pattern[str]:
    """A pattern that ends in `$`, as the API server reads it: a line break after the end is no end."""
    return re.compile(pattern.removesuffix("$") + r"\Z", re.ASCII)


_Validator = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    jsonschema.Draft202012Validator,
    {"pattern": _matches},
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
        # 4.0 is no integer: the server's rules take none, and kubectl sends 4 where a file says 4.0.
        {"integer": _integer, "number": _number}
    ),
)


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
    path = "spec" + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error.absolute_path)
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
        case "minLength":
            yield f"{path}: is empty"
        case "maxLength":
            yield f"{path}: has {len(value)} characters, at most {limit} are allowed"
        case "maxItems" | "maxProperties":
            yield f"{path}: has {len(value)} entries, at most {limit} are allowed"
        case "type":
            yield f"{path}: is {value!r}, {_article(limit)} is expected{_whole(value, limit)}"
        case "anyOf" | "pattern":
            expected = _EXPECTED.get(re.sub(r"\[\d+\]", "[]", path), f"it must match {limit}")
            yield f"{path}: {value!r} is malformed; {expected}"
        case _:
            yield f"{path}: {error.message}"


def _unknown_fields(path: str, found: Mapping[str, Any], known: list[str]) -> Iterator[str]:
    for name in sorted(set(found) - set(known), key=str):
        near = difflib.get_close_matches(str(name), known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        yield f"{path}.{name}: no such field; {hint}"


def _article(kind: object) -> str:
    return f"an {kind}" if str(kind)[0] in "aeiou" else f"a {kind}"


def _whole(value: object, kind: object) -> str:
    whole = kind == "integer" and isinstance(value, float) and value.is_integer()
    return f", without a decimal point: {value:.0f}" if whole else ""


_CLASS = "`module:Class` is expected, such as"
_DECIMAL = "a decimal number as a string is expected, such as"
_OPTIMIZER = "the name of a class of torch.optim is expected, such as"
_CLAIM = "the name of a PersistentVolumeClaim is expected"
_NAME = "lower-case letters, digits and hyphens are expected, and no hyphen first or last"
_EXPECTED = {
    "spec.image": "the name of an image is expected, such as registry.example/elf-worker:1.2",
    "spec.task.entrypoint": f"{_CLASS} elf_worker.tasks.digits:Digits",
    "spec.statistics[]": f"{_CLASS} my_package.statistics:Ages",
    "spec.round.quorum": 'a count (12) or a percentage from "1%" to "100%" is expected',
    "spec.failurePolicy.stragglerFactor": f'{_DECIMAL} "5"',
    "spec.aggregation.clipNorm": f'{_DECIMAL} "1.5"',
    "spec.target.atLeast": f'{_DECIMAL} "0.95"',
    "spec.optimizer.name": f"{_OPTIMIZER} Adam",
    "spec.localOptimizer.name": f"{_OPTIMIZER} SGD",
    "spec.northPole.checkpoint.volumeClaim": _CLAIM,
    "spec.output.volumeClaim": _CLAIM,
    "spec.output.secret": "the name of a Secret is expected",
    "spec.output.url": "the URL of a folder is expected, such as s3://bucket/folder",
    "spec.output.path": "letters, digits and . _ - / are expected, such as runs/digits",
    **{
        f"spec.{part}.template.spec.{kind}[].name": _NAME
        for part in ("homes", "miniDataCenters", "northPole")
        for kind in ("containers", "initContainers", "volumes")
    },
}
"""What is expected of a field that has a pattern."""
