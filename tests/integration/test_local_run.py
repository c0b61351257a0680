"""`elf run`, as a user starts it: real processes, real signals, real files."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import safetensors.numpy
import yaml

import elf_cli
from elf_operator.podbuilder import job_config
from elf_operator.spec import parse_job
from elf_worker import tasks
from elf_worker.exact import ExactSum
from elf_worker.messages import Stamp
from elf_worker.roles.chronicle import HISTORY_FILE
from elf_worker.roles.trainer import Trainer
from elf_worker.tasks import vectors

DEADLINE = 60.0
"""Seconds until a run is given up."""
ROUNDS = 100
REDONE = 5
"""Rounds that an NPDC may take with it, at most."""
HOMES = 6
MARK = "RUN_UNDER_TEST"
"""Every process of a run inherits this variable, so the run's processes can be told from all others."""
EMPTY_DIGEST = "sha256:" + hashlib.sha256().hexdigest()


def command() -> list[str]:
    if pathlib.Path(elf_cli.__file__).with_name("__main__.py").exists():
        return [sys.executable, "-m", "elf_cli"]
    return [str(pathlib.Path(sys.executable).with_name("elf"))]


def job(**changes: Any) -> dict[str, Any]:
    """A small job; `a__b=c` replaces `spec.a.b`, and None removes it."""
    body: dict[str, Any] = {
        "apiVersion": "northpole.dev/v1alpha1",
        "kind": "ElfTrainingJob",
        "metadata": {"name": "night"},
        "spec": {
            "task": {"entrypoint": "elf_worker.tasks.naughty_or_nice:NaughtyOrNice", "args": {}},
            "seed": 3,
            "rounds": ROUNDS,
            "evaluateEvery": 50,
            "optimizer": {"name": "Adam", "args": {"lr": "0.02"}},
            "round": {},
            "homes": {"replicas": HOMES, "perPod": 3},
            "miniDataCenters": {"replicas": 2},
        },
    }
    for path, value in changes.items():
        at = body["spec"]
        *parents, last = path.split("__")
        for key in parents:
            at = at[key]
        if value is None:
            del at[last]
        else:
            at[last] = value
    return body


def marked(mark: pathlib.Path) -> dict[int, str]:
    """The living processes of a run: their ids and command lines."""
    found = {}
    for process in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit() and f"{MARK}={mark}\0".encode() in (process / "environ").read_bytes():
                line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found[int(process.name)] = line
    return found


def wait_until(condition: Callable[[], Any], seconds: float = DEADLINE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it has not come about in time"
        time.sleep(0.02)


@dataclass
class Run:
    """One `elf run` in a folder of its own."""

    folder: pathlib.Path
    process: subprocess.Popen[str]

    @property
    def directory(self) -> pathlib.Path:
        return self.folder / "run"

    def round(self) -> int:
        try:
            return int(json.loads((self.directory / "progress.json").read_text())["round"])
        except FileNotFoundError:
            return 0

    def finish(self, seconds: float = DEADLINE) -> tuple[int, str, str]:
        """(exit status, stdout, stderr)."""
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, err

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.directory.glob("logs/*.log")))


Start = Callable[..., Run]


@contextlib.contextmanager
def starter(root: pathlib.Path) -> Iterator[Start]:
    """Starts runs; kills whatever is left of them in the end."""
    runs: list[Run] = []

    def start(body: dict[str, Any] | str, *flags: str, files: dict[str, str] | None = None) -> Run:
        folder = root / f"run-{len(runs)}"
        folder.mkdir()
        for name, text in (files or {}).items():
            (folder / name).write_text(text)
        text = body if isinstance(body, str) else yaml.safe_dump(body, sort_keys=False)
        (folder / "job.yaml").write_text(text)
        process = subprocess.Popen(
            [*command(), "run", "job.yaml", "--directory", "run", *flags],
            cwd=folder,
            env={**os.environ, MARK: str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        runs.append(Run(folder, process))
        return runs[-1]

    try:
        yield start
    finally:
        for run in runs:
            for pid in marked(run.folder):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            run.process.communicate(timeout=DEADLINE)


@pytest.fixture
def start(tmp_path) -> Iterator[Start]:
    with starter(tmp_path) as start:
        yield start


# -- runs that succeed ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    report: dict[str, Any]
    out: str
    model: pathlib.Path
    run: Run


def complete(start: Start, *flags: str, **changes: Any) -> Done:
    run = start(job(**changes), "--report", "report.json", "--model", "model.safetensors", *flags)
    code, out, err = run.finish()
    assert (code, err) == (0, ""), f"{out}\n{run.logs()}"
    report = json.loads((run.folder / "report.json").read_text())
    return Done(report, out, run.folder / "model.safetensors", run)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Iterator[Done]:
    """The run that all others are compared with."""
    with starter(tmp_path_factory.mktemp("undisturbed")) as start:
        yield complete(start)


def test_a_run_ends_well_and_its_report_says_how(undisturbed):
    report = undisturbed.report
    assert report["job"] == "night"
    assert report["state"] == "Complete"
    assert report["rounds"] == ROUNDS
    assert report["message"] == f"{ROUNDS} rounds done"
    assert report["exact"] is True
    assert 0 < report["loss"] < 0.7, "better than a coin"
    assert set(report["metrics"]) == {"accuracy", "f1"}
    assert report["metrics"]["accuracy"] > 0.6
    assert (report["replaced"], report["replacements"]) == (0, [])
    assert report["seconds"] > 0


def test_every_gradient_of_every_home_is_counted_once(undisturbed):
    assert undisturbed.report["gradientsByMdc"] == {"0": ROUNDS * HOMES // 2, "1": ROUNDS * HOMES // 2}


def test_the_history_goes_forward_and_ends_with_the_last_round(undisturbed):
    history = undisturbed.report["history"]
    rounds = [sample["round"] for sample in history]
    seconds = [sample["seconds"] for sample in history]
    assert rounds == sorted(rounds)
    assert seconds == sorted(seconds)
    assert rounds[-1] == ROUNDS
    assert history[-1]["metrics"] == undisturbed.report["metrics"]


def test_the_log_of_the_npdc_says_how_training_goes(undisturbed):
    told = rf"round 1 of {ROUNDS}: {HOMES} of {HOMES} homes counted, loss 0\.\d{{4}}\n"
    assert re.search(told, undisturbed.run.logs())


def test_what_is_printed_names_the_digest_and_the_logs(undisturbed):
    assert undisturbed.report["modelDigest"] in undisturbed.out
    assert str(undisturbed.run.directory / "logs") in undisturbed.out
    names = {path.name for path in undisturbed.run.directory.glob("logs/*")}
    assert names == {f"night-{pod}.log" for pod in ("npdc-0", "mdc-0-0", "mdc-1-0", "home-0", "home-1")}


def test_the_saved_model_is_the_one_whose_digest_was_reported(undisturbed):
    """Recomputed from the file by the documented rule: name, dtype, shape and bytes, in order of names."""
    sha = hashlib.sha256()
    for name, values in sorted(safetensors.numpy.load_file(undisturbed.model).items()):
        assert values.dtype == "<f4"
        sha.update(f"{name} torch.float32 {values.shape}\n".encode() + values.tobytes())
    assert undisturbed.report["modelDigest"] == f"sha256:{sha.hexdigest()}" != EMPTY_DIGEST


def test_a_run_leaves_no_process_behind(undisturbed):
    assert marked(undisturbed.run.folder) == {}


@pytest.mark.parametrize(("mdcs", "per_pod"), [(1, 6), (3, 6)])
def test_the_model_does_not_depend_on_the_number_of_data_centers_or_pods(mdcs, per_pod, undisturbed, start):
    done = complete(start, miniDataCenters__replicas=mdcs, homes__perPod=per_pod)
    assert len(done.report["gradientsByMdc"]) == mdcs
    assert done.report["modelDigest"] == undisturbed.report["modelDigest"]


def trained_by_hand(body: dict[str, Any], population: list[dict[str, int]]) -> str:
    """The digest of a job whose rounds had so many homes: without protocol, one home after the other."""
    parsed = parse_job(body)
    assert parsed.spec is not None
    trainer = Trainer(job_config(parsed, parsed.spec), 0, "")
    task = tasks.load(parsed.spec.entrypoint, {}, homes=HOMES, seed=parsed.spec.seed)
    model = vectors.build_model(task)
    weights = trainer.initialise().weights
    for round_ in range(parsed.spec.rounds):
        [*_, homes] = [entry["homes"] for entry in population if entry["round"] <= round_]
        vectors.unflatten(model, weights)
        found = [vectors.home_vector(task, model, home, round_) for home in range(homes)]
        total = ExactSum(len(found[0][0]))
        for vector, _ in found:
            total.add(vector)
        weight = sum(weight for _, weight in found)
        weights = trainer.step(Stamp(round_, 0), total, weight, True, homes).weights
    return trainer.digest()


@pytest.mark.slow
def test_a_scaled_run_ends_with_what_the_reported_schedule_leads_to(undisturbed, start):
    flags = ["--scale", "homes=10@round:5,mdcs=3@round:15", "--scale", "homes=5@round:75"]
    kills = ["--kill", "mdc/0@round:25,npdc@round:60,home/7@round:40"]
    done = complete(start, *flags, *kills, rounds=400)  # many are done while homes are taken away
    report = done.report
    population = report["population"]
    assert [entry["homes"] for entry in population] == [HOMES, 10, 5]
    assert [entry["round"] for entry in population] >= [0, 5, 75]
    assert report["exact"] is True, "every home of a round is in it"
    assert report["modelDigest"] == trained_by_hand(job(rounds=400), population)
    assert f"homes: {HOMES} from round 0 on, 10 from round" in done.out
    had = {record["round"]: record["homes"] for record in report["perRound"]}
    for entry in population:
        assert had[entry["round"] + 1] == entry["homes"], "rounds are numbered from 1 when they are done"
    assert len(report["gradientsByMdc"]) == 3
    assert undisturbed.report["population"] == [{"round": 0, "homes": HOMES}]
    assert marked(done.run.folder) == {}


def test_killing_each_kind_of_pod_costs_no_bit(undisturbed, start):
    done = complete(start, "--kill", "mdc/1@round:10,npdc@round:30", "--kill", "home/0@round:50")
    report = done.report
    assert report["modelDigest"] == undisturbed.report["modelDigest"]
    assert report["exact"] is True
    assert report["rounds"] == ROUNDS
    assert report["replaced"] == 2, "the home comes back in place"
    causes = {row["pod"]: row["cause"] for row in report["replacements"]}
    assert causes == {
        "night-mdc-1-0": "--kill mdc/1@round:10",
        "night-npdc-0": "--kill npdc@round:30",
        "night-home-0": "--kill home/0@round:50",
    }
    successors = {row["pod"]: row["successor"] for row in report["replacements"]}
    assert successors == {
        "night-mdc-1-0": "night-mdc-1-1",
        "night-npdc-0": "night-npdc-1",
        "night-home-0": None,
    }
    for row in report["replacements"]:
        assert row["atRound"] < ROUNDS
        if row["successor"]:
            assert 0 <= row["noticedAfter"] < 2, "a crash is acted on within two seconds"
            assert row["servingAfter"] is not None
        assert row["nextRoundAfter"] is not None
    rounds = [
        json.loads(line)["round"] for line in (done.run.directory / HISTORY_FILE).read_text().splitlines()
    ]
    back = max(before - after for before, after in itertools.pairwise(rounds))
    assert back <= REDONE, "the NPDC's successor took up a state that MDCs held, and did not start over"
    assert marked(done.run.folder) == {}


# -- runs that are ended ----------------------------------------------------------------------------------


def endless(start: Start) -> Run:
    """A run in the middle of its training."""
    run = start(job(rounds=1_000_000, homes__perPod=6))
    wait_until(lambda: run.round() > 0 or run.process.poll() is not None)
    assert run.process.poll() is None, run.finish()
    assert len(marked(run.folder)) >= 5, "the runner, the NPDC, two MDCs and the homes"
    return run


def test_ctrl_c_stops_every_process_and_says_so(start):
    run = endless(start)
    run.process.send_signal(signal.SIGINT)
    code, out, err = run.finish()
    assert code == 130
    assert "interrupted" in out
    assert err == ""
    assert marked(run.folder) == {}


def test_ctrl_c_while_pods_are_starting_stops_them_too(start):
    run = start(job())
    wait_until(lambda: list(run.directory.glob("logs/*.log")))
    run.process.send_signal(signal.SIGINT)
    code, _, err = run.finish()
    assert (code, err) == (130, "")
    assert marked(run.folder) == {}


def test_a_runner_that_is_killed_takes_its_processes_along(start):
    run = endless(start)
    run.process.kill()
    assert run.process.wait() == -signal.SIGKILL
    wait_until(lambda: not marked(run.folder), 15)


# -- runs that are refused --------------------------------------------------------------------------------


def refused(run: Run) -> str:
    """The one line on stderr of a run that exits with status 2 and leaves nothing running."""
    code, out, err = run.finish()
    assert "Traceback" not in out + err
    assert code == 2, f"exit status {code}\n{out}\n{err}"
    assert err.startswith("elf: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    assert marked(run.folder) == {}
    return err


KILL_FORMS = "mdc/INDEX@round:N, npdc@round:N or home/INDEX@round:N is expected"
BAD_FIELDS = {
    "no homes": ({"homes__replicas": 0}, "spec.homes.replicas: is 0, at least 1 is needed"),
    "more MDCs than homes": (
        {"miniDataCenters__replicas": 7},
        "spec.miniDataCenters.replicas: is 7, at most spec.homes.replicas (6) is allowed",
    ),
    "a fraction of a quorum": ({"round__quorum": 1.5}, "spec.round.quorum: 1.5 is malformed; a count (12)"),
    "a quorum above the homes": ({"round__quorum": 7}, "spec.round.quorum: is 7, at most "),
    "a quorum above 100%": ({"round__quorum": "101%"}, "spec.round.quorum: '101%' is malformed"),
    "an unknown field": ({"homes__replica": 3}, "spec.homes.replica: no such field; did you mean"),
    "no task": ({"task": None}, "spec.task: is required"),
    "a malformed entrypoint": ({"task__entrypoint": "digits"}, "spec.task.entrypoint: 'digits' is malformed"),
    "words for a number": ({"rounds": "many"}, "spec.rounds: is 'many', an integer is expected"),
}


@pytest.mark.parametrize(("changes", "message"), BAD_FIELDS.values(), ids=BAD_FIELDS.keys())
def test_a_field_that_cannot_be_is_named_before_anything_is_started(changes, message, start):
    run = start(job(**changes))
    assert refused(run).startswith(f"elf: job.yaml: {message}")
    assert not run.directory.exists()


BAD_FILES = {
    "broken YAML": ("kind: ElfTrainingJob\nspec:\n  task: {entrypoint: x\n", "job.yaml:4: not YAML: "),
    "a tab": ("kind: ElfTrainingJob\nspec:\n\trounds: 3\n", "job.yaml:3: not YAML: "),
    "no job": ("kind: ConfigMap\n", "job.yaml: holds 0 objects of kind ElfTrainingJob, one is expected"),
    "another version": (
        yaml.safe_dump({**job(), "apiVersion": "northpole.dev/v1"}),
        "job.yaml: apiVersion: is 'northpole.dev/v1', 'northpole.dev/v1alpha1' is expected",
    ),
    "no name": (yaml.safe_dump({**job(), "metadata": {}}), "job.yaml: metadata.name: is required"),
}


@pytest.mark.parametrize(("text", "message"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_file_that_is_no_job_is_named_with_the_line_where_there_is_one(text, message, start):
    assert refused(start(text)).startswith(f"elf: {message}")


BAD_FLAGS = {
    "a malformed kill": (["--kill", "mdc1@10"], f"--kill 'mdc1@10': {KILL_FORMS}"),
    "a kill of nobody": (["--kill", "mdc/2@round:9"], "--kill 'mdc/2@round:9': there is no mdc 2"),
    "a kill too late": (["--kill", f"npdc@round:{ROUNDS}"], f"--kill 'npdc@round:{ROUNDS}': training ends"),
    "a report to nowhere": (["--report", "no/where.json"], "no/where.json: there is no folder "),
}


@pytest.mark.parametrize(("flags", "message"), BAD_FLAGS.values(), ids=BAD_FLAGS.keys())
def test_a_flag_that_cannot_be_is_named(flags, message, start):
    assert refused(start(job(), *flags)).startswith(f"elf: {message}")


SMALL = {"homes__replicas": 1, "homes__perPod": 1, "miniDataCenters__replicas": 1}


def test_an_entrypoint_that_is_not_there_is_answered_with_the_one_that_was_meant(start):
    run = start(job(task__entrypoint="elf_worker.tasks.naughty_or_nice:NaughtyOrNize", **SMALL))
    message = refused(run)
    assert "spec.task.entrypoint: 'NaughtyOrNize' is not in" in message
    assert "did you mean 'NaughtyOrNice'?" in message


def test_an_optimizer_that_is_not_there_is_answered_with_the_one_that_was_meant(start):
    message = refused(start(job(optimizer__name="Adan", **SMALL)))
    assert "spec.optimizer.name: torch.optim has no 'Adan'; did you mean " in message
    assert "Adam" in message


BROKEN_TASK = """
from elf_worker.tasks.naughty_or_nice import NaughtyOrNice

class Broken(NaughtyOrNice):
    def batches(self, home, round):
        raise KeyError("the diary is lost")
"""


def test_a_task_that_raises_is_named_with_method_home_and_round(start):
    run = start(job(task__entrypoint="own_task:Broken", **SMALL), files={"own_task.py": BROKEN_TASK})
    message = refused(run)
    assert "batches() for home 0 in round 0 raised KeyError: 'the diary is lost'" in message
    assert "spec.task.entrypoint" in message
