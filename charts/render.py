"""Writes what is made from the chart: `manifests/`, and the table of values in the docs.

`make manifests` calls it. The CRD goes the other way: its source is `manifests/crd.yaml`, which is part of
the operator's package, too, and the chart has a copy.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "elf-training-operator"
CRD = ROOT / "manifests" / "crd.yaml"
DOCS = ROOT / "docs" / "install.md"
NAME, NAMESPACE = "elf-operator", "elf-system"
SETTINGS = {
    "nameOverride": NAME,
    "clusterNameOverride": NAME,
    "crds.install": "false",
    "crds.keep": "false",  # only helm knows what that means
    "image.tag": "dev",  # what `make images` makes
    "worker.image.tag": "dev",
}
FILES = {
    "rbac.yaml": ("serviceaccount.yaml", "master-key.yaml", "rbac.yaml", "user-roles.yaml"),
    "operator.yaml": ("deployment.yaml",),
    "network.yaml": ("service.yaml", "networkpolicy.yaml"),
}
"""A manifest, and the templates it is made of."""
HEADER = "# Made from charts/elf-training-operator by `make manifests`: change that instead.\n"
NAMESPACE_OBJECT = f"""apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
  labels:
    pod-security.kubernetes.io/enforce: restricted
"""
_HELM_ONLY = re.compile(r"^ *(app\.kubernetes\.io/managed-by|helm\.sh/chart): .*\n", re.MULTILINE)
_DOCUMENT = re.compile(r"^---\n# Source: \S*/templates/(\S+)\n", re.MULTILINE)
TABLE = re.compile(r"(?<=<!-- values: made by `make manifests` -->\n).*(?=<!-- end -->)", re.DOTALL)


def made(helm: str) -> dict[pathlib.Path, str]:
    """Every file that is made, and its text. Raises RuntimeError if helm refuses the chart."""
    crd = CRD.read_text()
    texts = {CHART / "files" / "crd.yaml": crd}
    documents = _rendered(helm)
    for name, templates in FILES.items():
        parts = [text for template in templates for text in documents.get(template, [])]
        first = [NAMESPACE_OBJECT] if name == "rbac.yaml" else []
        texts[ROOT / "manifests" / name] = HEADER + "---\n".join([*first, *parts])
    docs = DOCS.read_text()
    if not TABLE.search(docs):
        raise RuntimeError(f"{DOCS} has no place for the table of values")
    table = values_table((CHART / "values.yaml").read_text())
    texts[DOCS] = TABLE.sub(lambda _: table, docs)
    return texts


def _rendered(helm: str) -> dict[str, list[str]]:
    """Template → the documents it renders to, without what only Helm says."""
    settings = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    command = [helm, "template", NAME, str(CHART), "--namespace", NAMESPACE, *settings]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise RuntimeError(f"helm template: {done.stderr.strip()}")
    pieces = _DOCUMENT.split(done.stdout)[1:]
    documents: dict[str, list[str]] = {}
    for template, text in zip(pieces[::2], pieces[1::2], strict=True):
        documents.setdefault(template, []).append(_HELM_ONLY.sub("", text).strip() + "\n")
    return documents


@dataclass(frozen=True)
class Value:
    """One value of `values.yaml`: its path, its default as written, and the comment above it."""

    path: str
    default: str
    text: str


def values(text: str) -> Iterator[Value]:
    """The values of a file written as ours is: block style, and a comment above each value."""
    stack: list[tuple[int, str]] = []
    comment: list[str] = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        stripped = line.strip()
        if stripped.startswith("#"):
            comment.append(stripped.lstrip("# "))
        elif not stripped:
            comment = []
        else:
            indent = len(line) - len(line.lstrip())
            key, _, default = stripped.partition(":")
            stack = [(i, k) for i, k in stack if i < indent] + [(indent, key)]
            following = lines[number + 1] if number + 1 < len(lines) else ""
            opens = not default and len(following) - len(following.lstrip()) > indent
            if not opens:
                yield Value(".".join(k for _, k in stack), default.strip(), " ".join(comment))
                comment = []
            elif stack and comment and following.strip().startswith("#"):
                comment = []  # it is about the whole, and each part has its own


def values_table(text: str) -> str:
    """The values as a table in Markdown."""
    rows = [f"| `{v.path}` | `{v.default}` | {v.text} |" for v in values(text)]
    return "\n".join(["| value | default | what it does |", "|---|---|---|", *rows]) + "\n"


def main() -> int:
    """Write what has changed, and say so."""
    helm = os.environ.get("HELM") or "helm"
    try:
        texts = made(helm)
    except (OSError, RuntimeError) as error:
        print(f"charts/render.py: {error}", file=sys.stderr)
        return 1
    for path, text in texts.items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
