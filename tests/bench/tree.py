"""Round trips of the tree: 8 homes that compute nothing, 2 MDCs and the NPDC, each a process of its own.

Everything but the homes' arithmetic is what runs in pods: links, rounds, exact sums, statistics, the
optimizer's step, the history file and the states that the MDCs keep. Each home has a vector of random numbers
and offers it every round.

    python tests/bench/tree.py --bytes 4000000 --rounds 30 [--mtls]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np

HERE = pathlib.Path(__file__).resolve()
MDCS = 2
HOMES = 8
WARM_UP = 3
"""Rounds at the beginning that are not counted."""
PATIENCE = 300.0


def measure(size: int, rounds: int, mtls: bool) -> list[float]:
    """Seconds of each of so many rounds, one from the end of the one before, with vectors of `size` bytes."""
    with tempfile.TemporaryDirectory() as folder:
        return _run(pathlib.Path(folder), size, rounds, mtls)


def _run(folder: pathlib.Path, size: int, rounds: int, mtls: bool) -> list[float]:
    from elf_worker import contract
    from elf_worker.contract import JobConfig, Role, Slot, Wiring

    job = JobConfig(
        job="bench",
        uid=str(uuid.uuid4()),
        homes=HOMES,
        per_pod=1,
        rounds=rounds + WARM_UP + 1,
        seed=1,
        entrypoint="tree:Flat",
        task_args={"parameters": size // 4},
        optimizer="SGD",
        optimizer_args={"lr": 1e-3},
        evaluate_every=1_000_000,
        quorum=HOMES,
        deadline_seconds=PATIENCE,
        silence_seconds=60.0,
    )
    share = HOMES // MDCS
    slots = {i: Slot(0, f"mdc-{i}", frozenset(range(i * share, (i + 1) * share))) for i in range(MDCS)}
    wiring = Wiring(version=1, npdc=Slot(0, "npdc"), mdcs=slots, homes=HOMES, quorum=HOMES)
    (folder / contract.WIRING_KEY).write_text(wiring.to_json())
    net = f"127.{os.getpid() % 200 + 20}.{int(time.time()) % 250}"
    identify = _identities(folder, job.uid) if mtls else lambda role, index: ""

    def start(role: Role, index: int, uid: str, address: str, **more: str) -> subprocess.Popen[bytes]:
        env = {k: v for k, v in os.environ.items() if not k.startswith("ELF_") or k == "ELF_KERNEL"}
        env |= {
            contract.ENV_JOB: job.to_json(),
            contract.ENV_UID: uid,
            contract.ENV_ADDRESS: address,
            contract.ENV_INDEX: str(index),
            contract.ENV_INCARNATION: "0",
            contract.ENV_NPDC: f"{net}.1:{contract.WIRE_PORT}",
            contract.ENV_IDENTITY: identify(role, index),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(HERE.parent), env.get("PYTHONPATH", "")]),
            **more,
        }
        command = [sys.executable, str(HERE), "--role", role] if role == Role.HOME else [
            sys.executable, "-m", "elf_worker", role
        ]  # fmt: skip
        with (folder / f"{role}-{index}.log").open("wb") as log:
            return subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)

    pods: list[subprocess.Popen[bytes]] = []
    try:
        kept = {contract.ENV_BOARD: f"file:{folder}", contract.ENV_HISTORY: str(folder)}
        pods.append(start(Role.NPDC, 0, "npdc", f"{net}.1", **kept))
        for i in range(MDCS):
            pods.append(start(Role.MDC, i, f"mdc-{i}", f"{net}.{i + 2}"))
        for i in range(HOMES):
            pods.append(start(Role.HOME, i, f"home-{i}", f"{net}.{i + 100}", **{contract.ENV_HOMES: str(i)}))
        _wait(pods, folder)
    finally:
        for pod in pods:
            pod.kill()
        for pod in pods:
            pod.wait()
    if os.environ.get("ELF_BENCH_LOGS"):
        for log in sorted(folder.glob("*.log")):
            print(log.name, log.read_text()[-1500:], file=sys.stderr)
    done = [json.loads(line)["at"] for line in (folder / "history.jsonl").read_text().splitlines()]
    return [after - before for before, after in itertools.pairwise(done)][WARM_UP:]


def _wait(pods: list[subprocess.Popen[bytes]], folder: pathlib.Path) -> None:
    """Until the NPDC is done; meanwhile see what CPU the roles take."""
    began = time.monotonic()
    CPU.clear()
    while pods[0].poll() is None:
        if time.monotonic() - began > PATIENCE:
            raise TimeoutError((folder / "npdc-0.log").read_text()[-2000:])
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            done = (folder / "history.jsonl").read_bytes().count(b"\n")
            CPU.append((done, [_cpu(pod.pid) for pod in pods]))
        time.sleep(0.1)
    if pods[0].returncode:
        raise RuntimeError((folder / "npdc-0.log").read_text()[-2000:])


CPU: list[tuple[int, list[float]]] = []
"""(rounds done, seconds of CPU of each pod) as last seen."""


def _cpu(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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


def _identities(folder: pathlib.Path, uid: str) -> Any:
    from elf_operator.authority import MASTER_BYTES, Authority
    from elf_worker.contract import AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE, Peer, Role

    authority = Authority(os.urandom(MASTER_BYTES))

    def identify(role: Role, index: int) -> str:
        made = authority.identity(Peer(uid, role, index, 0))
        place = folder / f"identity-{role}-{index}"
        place.mkdir()
        for name, text in (
            (CERTIFICATE_FILE, made.certificate), (KEY_FILE, made.key), (AUTHORITY_FILE, made.authority)
        ):  # fmt: skip
            (place / name).write_text(text if isinstance(text, str) else text.decode())
        return str(place)

    return identify


# -- in the pods ------------------------------------------------------------------------------------------


def _live_at_home() -> None:
    """A home as it is, but for its arithmetic."""
    from elf_worker.roles import environment
    from elf_worker.roles.home import HomeShell

    async def live() -> None:
        await _home_shell(HomeShell)(environment.read(os.environ)).live()

    asyncio.run(live())


def _home_shell(base: Any) -> Any:
    from elf_worker.aggregation.household import Answer
    from elf_worker.messages import Facts

    class Idle:
        def __init__(self, parameters: int, home: int) -> None:
            rng = np.random.default_rng(home)
            vector = (rng.standard_normal(parameters + 1) * 1e-2).astype("<f4")
            self._payload = memoryview(vector.data).cast("B")

        def gradient(self, work: Any, asked: float) -> Any:
            facts = Facts(0.0, 0.0, (32,), {str(work.home % 10): 32})
            return Answer(work.stamp, 32, self._payload, facts=facts)

    class IdleShell(base):
        def _make_computer(self) -> Any:
            if self._computer is None:
                self._computer = Idle(self._config.task_args["parameters"], min(self._env_homes))
            return self._computer

        def __init__(self, env: Any) -> None:
            self._env_homes = env.homes
            super().__init__(env)

    return IdleShell


def __getattr__(name: str) -> Any:
    """The task is made only where it is asked for: torch takes seconds to import."""
    if name != "Flat":
        raise AttributeError(name)
    import torch

    from elf_worker.tasks import Task

    class Flat(Task):
        """So many parameters; never asked for a gradient."""

        def __init__(self, *, homes: int, seed: int, parameters: int) -> None:
            super().__init__(homes=homes, seed=seed)
            self.parameters = parameters

        def model(self) -> Any:
            model = torch.nn.Module()
            model.flat = torch.nn.Parameter(torch.zeros(self.parameters))
            return model

        def batches(self, home: int, round: int) -> Iterator[Any]:
            raise NotImplementedError

        def loss(self, model: Any, batch: Any) -> Any:
            raise NotImplementedError

        def evaluate(self, model: Any) -> dict[str, float]:
            return {}

    globals()["Flat"] = Flat
    return Flat


def main() -> None:
    """Print medians."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--bytes", type=int, default=4_000_000, help="of a home's vector (default: 4 MB)")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--mtls", action="store_true")
    args = parser.parse_args()
    if args.role:
        with contextlib.suppress(KeyboardInterrupt):
            _live_at_home()
        return
    taken = measure(args.bytes, args.rounds, args.mtls)
    middle = float(np.median(taken))
    print(f"{1 / middle:.2f} rounds/s, median of {len(taken)}: {middle * 1e3:.2f} ms "
          f"[{min(taken) * 1e3:.2f}–{max(taken) * 1e3:.2f}]")  # fmt: skip
    print("CPU a round: " + ", ".join(f"{role} {ms * 1e3:.2f} ms" for role, ms in cpu_by_role().items()))


if __name__ == "__main__":
    main()
