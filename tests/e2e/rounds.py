"""What a job's NPDC says of its rounds, all of it: within an incarnation they never go back."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import tempfile
from collections.abc import Iterable, Iterator

from e2e.cluster import Kubectl

_FIELDS = (
    "{.metadata.name} {.metadata.uid} {.status.training.incarnation} "
    '{.status.training.round} {.status.training.phase}{"\\n"}'
)


@contextlib.contextmanager
def watched(kubectl: Kubectl) -> Iterator[None]:
    """Every version of the jobs of a namespace, as far as a watch lasts: it ends with its API server."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "versions")
        command = ["kubectl", f"--context={kubectl.context}", f"--namespace={kubectl.namespace}"]
        command += ["get", "elftrainingjobs", "--watch", f"--output=jsonpath={_FIELDS}"]
        with path.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
            try:
                yield
            finally:
                process.terminate()
        fallen = list(falls(path.read_text().splitlines()))
    assert not fallen, f"progress has gone back in {kubectl.namespace}: {'; '.join(fallen)}"


def falls(versions: Iterable[str]) -> Iterator[str]:
    """Where a round is below an earlier one of its incarnation, or a job is complete and then is not."""
    newest: dict[tuple[str, ...], tuple[bool, int]] = {}
    for version in versions:
        match version.split():
            case [job, uid, incarnation, count, phase] if incarnation.isdecimal() and count.isdecimal():
                said, known = (phase == "Complete", int(count)), newest.get((uid, incarnation), (False, 0))
                if said[0] < known[0] or said[1] < known[1]:
                    yield f"{job}, incarnation {incarnation}: {phase} {count} after {known[1]} rounds"
                newest[uid, incarnation] = (said[0] or known[0], max(said[1], known[1]))
