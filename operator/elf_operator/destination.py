"""`spec.output`: where the trained model and the report land."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from elf_worker.contract import OUTPUT_DIR


@dataclass(frozen=True)
class Destination:
    """A folder: behind a URL, or on a volume claim."""

    url: str = ""
    """As the job says it; empty for a folder on a claim."""
    secret: str | None = None
    """Its keys become environment variables of the NPDC."""
    claim: str | None = None
    folder: str = ""
    """On the claim, without slashes around it; empty for its top."""

    @property
    def mounted(self) -> str:
        """The folder's URL in a pod that has the claim at `OUTPUT_DIR`."""
        return f"file://{self.path_of('')}" if self.claim else self.url

    def path_of(self, file: str) -> str:
        """Of a file on the claim, in a pod that has it at `OUTPUT_DIR`."""
        return "/".join(part for part in (OUTPUT_DIR, self.file(file)) if part)

    def file(self, name: str) -> str:
        """The path of a file, from the top of the claim."""
        return "/".join(part for part in (self.folder, name) if part)

    def place_of(self, file: str) -> str:
        """Where a file is, for people."""
        if self.claim:
            return f"volume claim {self.claim}, file {self.file(file)}"
        return f"{self.url.rstrip('/')}/{file}"


def parse(output: Mapping[str, Any] | None) -> Destination | None:
    """Of a valid `spec.output`; None where there is none."""
    if not output:
        return None
    return Destination(
        url=output.get("url") or "",
        secret=output.get("secret"),
        claim=output.get("volumeClaim"),
        folder=str(output.get("path", "")).strip("/"),
    )


def errors(output: Mapping[str, Any] | None) -> list[str]:
    """One place, and what belongs to it; one sentence a field, each beginning with the field's path."""
    if output is None:
        return []
    found = []
    if ("url" in output) == ("volumeClaim" in output):
        found.append("spec.output: either url or volumeClaim is expected")
    if "secret" in output and "url" not in output:
        found.append("spec.output.secret: is for spec.output.url; a volume claim needs none")
    if "path" in output and "volumeClaim" not in output:
        found.append("spec.output.path: is for spec.output.volumeClaim; a url has a path of its own")
    if ".." in str(output.get("path", "")).split("/"):
        found.append("spec.output.path: leads out of the volume; a path without `..` is expected")
    return found
