"""Writes docs/reference.md from the CustomResourceDefinition: `python docs/reference.py`."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

HERE = pathlib.Path(__file__).resolve().parent
CRD = HERE.parent / "manifests" / "crd.yaml"
PAGE = HERE / "reference.md"
HEAD = """# ElfTrainingJob

Made from the resource definition by `python docs/reference.py`; `kubectl explain etj.spec` says the same.
Of fields below an object that is not given, the defaults hold all the same.
"""


def page(crd: Mapping[str, Any]) -> str:
    """The whole page."""
    [version] = crd["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    kind = (
        f"`{crd['spec']['group']}/{version['name']}`, short name `{crd['spec']['names']['shortNames'][0]}`."
    )
    parts = [HEAD, kind, ""]
    for part in ("spec", "status"):
        parts += [f"## {part}", "", schema["properties"][part]["description"], ""]
        parts += ["| field | type | default | |", "|---|---|---|---|"]
        parts += [*_rows(schema["properties"][part], ""), ""]
        if rules := list(_rules(schema["properties"][part], "")):
            parts += ["Rules:", "", *_grouped(rules), ""]
    return "\n".join(parts)


def _rows(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        here = f"{path}{name}"
        default = "required" if name in required else _plain(field)
        said = " ".join(str(field.get("description", "")).split()).replace("|", "\\|")
        yield f"| `{here}` | {_type(field)} | {default} | {said} |"
        inner = field["items"] if field.get("type") == "array" else field
        yield from _rows(inner, f"{here}[]." if inner is not field else f"{here}.")


def _plain(field: Mapping[str, Any]) -> str:
    """A default that says something; an object's are those of its fields."""
    if "default" not in field or field["default"] in ({}, []):
        return ""
    return f"`{json.dumps(field['default'])}`"


def _type(field: Mapping[str, Any]) -> str:
    if field.get("x-kubernetes-int-or-string"):
        return "integer or string"
    kind = str(field.get("type", ""))
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    least, most = field.get("minimum"), field.get("maximum")
    if least is not None and most is not None and most < 1 << 31:
        return f"{kind}, {least} to {most}" if most != (1 << 31) - 1 else f"{kind}, at least {least}"
    if kind == "array":
        return f"list of {_type(field['items'])}s"
    return f"{kind}, at least {least}" if least is not None else kind


def _rules(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """Path and sentence of each."""
    for rule in schema.get("x-kubernetes-validations", ()):
        yield path + rule.get("fieldPath", ""), rule["message"]
    for name, field in schema.get("properties", {}).items():
        inner, here = (
            (field["items"], f"{path}.{name}[]")
            if field.get("type") == "array"
            else (field, f"{path}.{name}")
        )
        yield from _rules(inner, here)


def _grouped(rules: Iterable[tuple[str, str]]) -> Iterator[str]:
    """A line for each sentence, with all fields that it is about."""
    paths: dict[str, list[str]] = {}
    for path, message in rules:
        paths.setdefault(message, []).append(f"`{path.removeprefix('.')}`")
    for message, fields in paths.items():
        yield f"- {', '.join(dict.fromkeys(fields))}: {message}"


if __name__ == "__main__":
    PAGE.write_text(page(yaml.safe_load(CRD.read_text())))
