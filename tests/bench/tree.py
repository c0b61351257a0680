"""Round trips of the tree: 8 homes that compute nothing, 2 MDCs and the NPDC, each a process of its own.

Everything but the homes' arithmetic is what runs in pods: links, rounds, exact sums, statistics, the
optimizer's step, the history file and the states that the MDCs keep. Each home has a vector of random numbers
and offers it every round.

    python tests/bench/tree.py --bytes 4000000 --rounds 30 [--mtls]
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass

import processes

from elf_operator.authority import MASTER_BYTES, Authority
from elf_worker import contract
from elf_worker.contract import JobConfig, Peer, Role, Slot, Wiring

HERE = pathlib.Path(__file__).resolve()
MDCS = 2
HOMES = 8
WARM_UP = 3
"""Rounds at the beginning that are not counted."""
PATIENCE, SILENCE = 300.0, 60.0
CPU: list[tuple[int, list[float]]] = []
"""(rounds done, seconds of CPU of each pod) as last seen."""


def measure(size: int, rounds: int, mtls: bool) -> list[float]:
    """Seconds of each of so many rounds, one from the end of the one before, with vectors of `size` bytes."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        uid, counted = str(uuid.uuid4()), rounds + WARM_UP + 1
        job = processes.flat_job("bench", uid, HOMES, size, counted, PATIENCE, SILENCE)
        (folder / contract.WIRING_KEY).write_text(_wiring().to_json())
        pods: list[subprocess.Popen[bytes]] = []
        with processes.killed(pods):
            _start(pods, Pods(job, folder, _net(), Authority(os.urandom(MASTER_BYTES)) if mtls else None))
            _wait(pods, folder)
        if os.environ.get("ELF_BENCH_LOGS"):
            for log in sorted(folder.glob("*.log")):
                print(log.name, log.read_text()[-1500:], file=sys.stderr)
        return _seconds(folder)[WARM_UP:]


def _wiring() -> Wiring:
    share = HOMES // MDCS
    slots = {i: Slot(0, f"mdc-{i}", frozenset(range(i * share, (i + 1) * share))) for i in range(MDCS)}
    return Wiring(version=1, npdc=Slot(0, "npdc"), mdcs=slots, homes=HOMES, quorum=HOMES)


def _net() -> str:
    """Loopback addresses that hardly another run of this has."""
    return f"127.{os.getpid() % 200 + 20}.{int(time.time()) % 250}"


@dataclass(frozen=True)
class Pods:
    """How the pods of one run are started."""

    job: JobConfig
    folder: pathlib.Path
    net: str
    authority: Authority | None
    """Who vouches for pods; None: their links are plain TCP."""

    def start(self, role: Role, index: int, uid: str, last: int, **more: str) -> subprocess.Popen[bytes]:
        """At the address of the net that ends with `last`; `more`: variables of its environment."""
        address, npdc = f"{self.net}.{last}", f"{self.net}.1"
        env = processes.with_flat(processes.environment(self.job, uid, address, npdc, index))
        env |= {contract.ENV_IDENTITY: self._identity(role, index), **more}
        home = [str(HERE.with_name("idle_home.py"))]
        command = [sys.executable, *(home if role is Role.HOME else ["-m", "elf_worker", role])]
        with (self.folder / f"{role}-{index}.log").open("wb") as log:
            return subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)

    def _identity(self, role: Role, index: int) -> str:
        """The folder with what proves who it is; empty if nobody asks."""
        if self.authority is None:
            return ""
        made = self.authority.identity(Peer(self.job.uid, role, index, 0))
        place = self.folder / f"identity-{role}-{index}"
        place.mkdir()
        files = {
            contract.CERTIFICATE_FILE: made.certificate,
            contract.KEY_FILE: made.key,
            contract.AUTHORITY_FILE: made.authority,
        }
        for name, text in files.items():
            (place / name).write_text(text if isinstance(text, str) else text.decode())
        return str(place)


def _start(started: list[subprocess.Popen[bytes]], pods: Pods) -> None:
    """The NPDC, the MDCs, the homes; each is among `started` at once, lest one outlives a failure."""
    kept = {contract.ENV_BOARD: f"file:{pods.folder}", contract.ENV_HISTORY: str(pods.folder)}
    started.append(pods.start(Role.NPDC, 0, "npdc", 1, **kept))
    for i in range(MDCS):
        started.append(pods.start(Role.MDC, i, f"mdc-{i}", i + 2))
    for i in range(HOMES):
        started.append(pods.start(Role.HOME, i, f"home-{i}", i + 100, **{contract.ENV_HOMES: str(i)}))


def _seconds(folder: pathlib.Path) -> list[float]:
    """From the end of each round to that of the next, as the NPDC has noted them."""
    done = [json.loads(line)["at"] for line in (folder / "history.jsonl").read_text().splitlines()]
    return [after - before for before, after in itertools.pairwise(done)]


def _wait(pods: list[subprocess.Popen[bytes]], folder: pathlib.Path) -> None:
    """Until the NPDC is done; meanwhile see what CPU the roles take."""
    began = time.monotonic()
    CPU.clear()
    while pods[0].poll() is None:
        if time.monotonic() - began > PATIENCE:
            raise TimeoutError((folder / "npdc-0.log").read_text()[-2000:])
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            done = (folder / "history.jsonl").read_bytes().count(b"\n")
            CPU.append((done, [processes.cpu_of(pod.pid) for pod in pods]))
        time.sleep(0.1)
    if pods[0].returncode:
        raise RuntimeError((folder / "npdc-0.log").read_text()[-2000:])


def cpu_by_role() -> dict[str, float]:
    """Seconds of CPU a round, of all pods of a role, in the last `measure`.

    From the first look after the warm-up to the first at the last round: what comes after it is the end.
    Empty where no two looks are so far apart.
    """
    seen = [entry for entry in CPU if entry[0] >= WARM_UP]
    if not seen or seen[0][0] == seen[-1][0]:
        return {}
    first, before = seen[0]
    last, after = next(entry for entry in seen if entry[0] == seen[-1][0])
    spent = [(b - a) / (last - first) for a, b in zip(before, after, strict=True)]
    return {"npdc": spent[0], "mdcs": sum(spent[1 : 1 + MDCS]), "homes": sum(spent[1 + MDCS :])}


def main() -> None:
    """Print medians."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--bytes", type=int, default=4_000_000, help="of a home's vector (default: 4 MB)")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--mtls", action="store_true")
    args = parser.parse_args()
    taken = measure(args.bytes, args.rounds, args.mtls)
    middle = statistics.median(taken)
    print(f"{1 / middle:.2f} rounds/s, median of {len(taken)}: {middle * 1e3:.2f} ms "
          f"[{min(taken) * 1e3:.2f}–{max(taken) * 1e3:.2f}]")  # fmt: skip
    print("CPU a round: " + ", ".join(f"{role} {ms * 1e3:.2f} ms" for role, ms in cpu_by_role().items()))


if __name__ == "__main__":
    main()
