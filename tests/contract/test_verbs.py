"""Verbs of `elf` against an API server: what they ask of it, and what they make of its answers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import pathlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from builders import body
from contract.apiserver import Server, in_background, listening
from elf_cli.cluster import completion, log_following, reader, session, watching
from elf_cli.cluster.target import Target
from elf_cli.main import app
from elf_cli.verbs import events, model
from elf_operator import apiserver, identities, names
from elf_worker.contract import ENV_FIGURES_TOKENS, Role, Slot, Wiring

JOBS = "apis/northpole.dev/v1alpha1/namespaces/town/elftrainingjobs"
CORE = "api/v1/namespaces/town"
SECONDS = 20.0
BORN = "2026-11-23T09:00:00Z"


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def kubeconfig(server: Server, tmp_path: pathlib.Path) -> Iterator[str]:
    with in_background(server) as url:
        yield config(tmp_path / "kubeconfig", url)


def config(path: pathlib.Path, url: str) -> str:
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "pole",
                "contexts": [
                    {"name": "pole", "context": {"cluster": "c", "user": "u", "namespace": "town"}},
                    {"name": "moon", "context": {"cluster": "c", "user": "u"}},
                ],
                "clusters": [{"name": "c", "cluster": {"server": url}}],
                "users": [{"name": "u", "user": {"token": "secret"}}],
            }
        )
    )
    return str(path)


@pytest.fixture
def elf(kubeconfig: str) -> Callable[..., Result]:
    def run(*args: str, **kwargs: Any) -> Result:
        command = [*args, "--kubeconfig", kubeconfig]
        return CliRunner().invoke(app, command, env={"COLUMNS": "200"}, **kwargs)

    return run


def keep(server: Server, **status: Any) -> dict[str, Any]:
    """The server has the job `sleigh`: four homes, two MDCs."""
    made = body()
    made["metadata"] |= {"namespace": "town", "creationTimestamp": BORN}
    made["spec"] |= {"rounds": 50, "homes": {"replicas": 4, "perPod": 1}}
    serving = [{"mdc": i, "incarnation": 0, "homes": 2} for i in (0, 1)]
    training = {"round": 7, "incarnation": 0, "serving": serving}
    assignments = [{"mdc": i, "incarnation": 0, "homes": 2} for i in (0, 1)]
    made["status"] = {"state": "Running", "training": training, "assignments": assignments, **status}
    return server.put(f"{JOBS}/sleigh", made)


def pod(server: Server, role: Role, index: int = 0, incarnation: int = 0, **status: Any) -> str:
    name = names.pod("sleigh", role, index, incarnation)
    ready = {"type": "Ready", "status": "True"}
    made = {
        "metadata": {
            "name": name,
            "namespace": "town",
            "uid": f"uid-{name}",
            "creationTimestamp": BORN,
            "labels": names.pod_labels("sleigh", role, index, incarnation),
        },
        "spec": {"nodeName": "n1", "containers": [{"name": "elf", "image": "trained:1"}]},
        "status": {"phase": "Running", "conditions": [ready], **status},
    }
    server.put(f"{CORE}/pods/{name}", made)
    return name


def populate(server: Server) -> None:
    keep(server)
    pod(server, Role.NPDC)
    for index in (0, 1):
        pod(server, Role.MDC, index)
    for index in range(4):
        pod(server, Role.HOME, index)
    halves = {i: Slot(0, uid=f"uid-sleigh-mdc-{i}-0", homes=frozenset({2 * i, 2 * i + 1})) for i in (0, 1)}
    wiring = Wiring(1, Slot(0, uid="uid-sleigh-npdc-0"), halves, homes=4)
    wired = {"metadata": {"name": "sleigh-wiring"}, "data": {"wiring.json": wiring.to_json()}}
    server.put(f"{CORE}/configmaps/sleigh-wiring", wired)


def until(what: str, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {SECONDS:g} s: {what}"
        time.sleep(0.01)


class Beside:
    """Runs in a thread beside a command; what goes wrong in it is raised at the end."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work, self._error = work, None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._error: BaseException | None = error

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join(SECONDS)
        if self._error is not None:
            raise self._error


# -- status -------------------------------------------------------------------------------------------------


def test_status_of_a_job(server: Server, elf: Callable[..., Result]) -> None:
    populate(server)
    said = elf("status", "sleigh").output
    assert "sleigh  Running  round 7 of 50" in said and "● NPDC" in said
    assert said.count("2 homes: 2 ready") == 2
    data = json.loads(elf("status", "sleigh", "-o", "json").output)
    assert [mdc["health"] for mdc in data["tree"]["mdcs"]] == ["serves", "serves"]
    assert yaml.safe_load(elf("status", "sleigh", "-o", "yaml").output)["round"] == 7
    assert server.writes() == []


def test_status_of_pods_that_come_in_pages(
    server: Server, elf: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    populate(server)
    monkeypatch.setattr(session, "PAGE", "3")
    assert elf("status", "sleigh").output.count("2 homes: 2 ready") == 2
    pages = [path for method, path, _ in server.asked if path == f"{CORE}/pods"]
    assert len(pages) == 3, "seven pods, three at a time"


def test_status_without_the_right_to_read_the_wiring(server: Server, elf: Callable[..., Result]) -> None:
    populate(server)
    server.denied.add("configmaps")
    done = elf("status", "sleigh")
    assert done.exit_code == 0 and "who serves them is not known" in done.output


def test_status_of_all_jobs(server: Server, elf: Callable[..., Result]) -> None:
    assert elf("status").output == "no jobs in namespace town\n"
    keep(server)
    other = {**body("cookies"), "metadata": {**body("cookies")["metadata"], "namespace": "pole"}}
    server.put("apis/northpole.dev/v1alpha1/namespaces/pole/elftrainingjobs/cookies", other)
    here, everywhere = elf("status").output, elf("status", "-A").output
    assert "sleigh" in here and "cookies" not in here
    assert [line.split()[:2] for line in everywhere.splitlines()[1:]] == [
        ["pole", "cookies"],
        ["town", "sleigh"],
    ]
    assert [job["name"] for job in json.loads(elf("status", "-A", "-o", "json").output)] == [
        "cookies",
        "sleigh",
    ]


@pytest.mark.timeout(60)
def test_watching_until_the_job_is_complete(
    server: Server, elf: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    populate(server)
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(watching, "CALM_SECONDS", 0.01)
    shows, said = watching._say, []

    def say(lines: list[str]) -> None:
        said.extend(lines)
        shows(lines)

    monkeypatch.setattr(watching, "_say", say)

    def change() -> None:
        until("the job is shown", lambda: said)
        server.remove(f"{CORE}/pods/sleigh-mdc-1-0")
        done = {"type": "Complete", "status": "True", "reason": "Trained", "message": "50 rounds"}
        keep(server, state="Complete", conditions=[done], completionTime=BORN)

    with Beside(change):
        shown = elf("status", "sleigh", "--watch")
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    assert "sleigh  Running  round 7 of 50" in lines[0]
    assert any("sleigh  Complete  round 7 of 50" in line for line in lines[1:])


# -- events -------------------------------------------------------------------------------------------------


def event(server: Server, name: str, about: dict[str, str], minute: int, **fields: Any) -> None:
    at = f"2026-11-23T09:{minute:02}:00Z"
    made = {"metadata": {"name": name}, "involvedObject": about, "type": "Warning", "reason": "PodGone"}
    server.put(
        f"{CORE}/events/{name}",
        {**made, "firstTimestamp": at, "lastTimestamp": at, "message": name, **fields},
    )


def test_events_of_the_job_and_of_no_other(server: Server, elf: Callable[..., Result]) -> None:
    keep(server)
    event(server, "second", {"kind": "Pod", "name": "sleigh-mdc-0-0"}, 20, count=3)
    event(server, "first", {"kind": "ElfTrainingJob", "name": "sleigh", "uid": "uid-of-sleigh"}, 10)
    event(server, "others", {"kind": "Pod", "name": "cookies-mdc-0-0"}, 15)
    rows = elf("events", "sleigh").output.splitlines()
    assert rows[0].split("   ")[0] == "LAST SEEN" and len(rows) == 3
    assert rows[1].endswith("first") and rows[2].endswith("3       second")
    found = json.loads(elf("events", "sleigh", "-o", "json").output)
    assert [(e["message"], e["count"]) for e in found] == [("first", 1), ("second", 3)]


def test_a_job_without_events(server: Server, elf: Callable[..., Result]) -> None:
    keep(server)
    done = elf("events", "sleigh")
    assert done.exit_code == 0 and "no events" in done.output


@pytest.mark.timeout(60)
def test_following_events_tells_each_once_until_somebody_has_seen_enough(
    server: Server, elf: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(server)
    itself = {"kind": "ElfTrainingJob", "name": "sleigh", "uid": "uid-of-sleigh"}
    event(server, "first", itself, 10)
    shows, said = events._say, []

    def say(happening: Any, output: str | None) -> None:
        shows(happening, output)
        said.append(happening.message)
        if happening.message == "last":
            raise KeyboardInterrupt

    monkeypatch.setattr(events, "_say", say)

    def happen() -> None:
        until("the first one is told", lambda: said)
        event(server, "others", {"kind": "Pod", "name": "cookies-mdc-0-0"}, 11)
        event(server, "first", itself, 12, count=2)
        event(server, "last", {"kind": "Pod", "name": "sleigh-npdc-0"}, 13)

    with Beside(happen):
        done = elf("events", "sleigh", "-f", "-o", "json")
    assert done.exit_code == 130
    told = [json.loads(line) for line in done.output.splitlines()]
    assert [(e["message"], e["count"]) for e in told] == [("first", 1), ("first", 2), ("last", 1)]


# -- logs ---------------------------------------------------------------------------------------------------


def test_logs_are_merged_in_the_order_of_time(server: Server, elf: Callable[..., Result]) -> None:
    populate(server)
    server.write("sleigh-npdc-0", "2026-11-23T09:00:01.5Z b", "2026-11-23T09:00:03Z d")
    server.write("sleigh-mdc-0-0", "2026-11-23T09:00:01.25Z a", "2026-11-23T09:00:02Z c")
    done = elf("logs", "sleigh")
    assert done.exit_code == 0, done.output
    assert [line.split() for line in done.output.splitlines()] == [
        ["sleigh-mdc-0-0", "a"],
        ["sleigh-npdc-0", "b"],
        ["sleigh-mdc-0-0", "c"],
        ["sleigh-npdc-0", "d"],
    ]
    assert (
        elf("logs", "sleigh", "--role", "mdc", "--index", "0", "--tail", "1").output == "sleigh-mdc-0-0  c\n"
    )


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (["--role", "mdc", "--index", "7"], 2, "there is no mdc 7, they are numbered 0 to 1"),
        (["--index", "1"], 2, "--index: of what?"),
        (["--previous", "--follow"], 2, "give one of them"),
        (["--previous"], 1, "has a container before this one"),
        ([], 1, "has written anything yet"),
    ],
)
def test_logs_that_are_not_there(
    server: Server, elf: Callable[..., Result], args: list[str], status: int, said: str
) -> None:
    populate(server)
    done = elf("logs", "sleigh", *args)
    assert done.exit_code == status and said in done.stderr


def test_the_log_of_the_container_before(server: Server, elf: Callable[..., Result]) -> None:
    populate(server)
    server.write("sleigh-home-2/previous", "2026-11-23T09:00:01Z last words")
    assert elf("logs", "sleigh", "--previous").output == "sleigh-home-2   last words\n"


@pytest.mark.timeout(60)
def test_following_goes_on_with_the_pod_that_comes_instead(
    server: Server, elf: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(server)
    pod(server, Role.NPDC)
    server.write("sleigh-npdc-0", "2026-11-23T09:00:01Z one")
    monkeypatch.setattr(log_following, "AGAIN_SECONDS", 0.05)
    asked = lambda name: f"{CORE}/pods/{name}/log" in [path for _, path, _ in server.asked]  # noqa: E731

    def replace() -> None:
        until("its log is followed", lambda: asked("sleigh-npdc-0"))
        server.write("sleigh-npdc-0", "2026-11-23T09:00:02Z two", over=True)
        server.remove(f"{CORE}/pods/sleigh-npdc-0")
        pod(server, Role.NPDC, 0, 1, phase="Pending")
        server.write("sleigh-npdc-1", "2026-11-23T09:00:03Z three")
        pod(server, Role.NPDC, 0, 1)
        until("its successor's log is followed", lambda: asked("sleigh-npdc-1"))
        server.write("sleigh-npdc-1", "2026-11-23T09:00:04Z four", over=True)
        pod(server, Role.NPDC, 0, 1, phase="Succeeded")
        keep(server, state="Complete", completionTime=BORN)

    with Beside(replace):
        done = elf("logs", "sleigh", "-f")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        "sleigh-npdc-0  one",
        "sleigh-npdc-0  two",
        "sleigh-npdc-1  three",
        "sleigh-npdc-1  four",
    ]


# -- kill, suspend, resume ----------------------------------------------------------------------------------


def test_killing_deletes_this_very_pod_at_once(server: Server, elf: Callable[..., Result]) -> None:
    populate(server)
    done = elf("kill", "sleigh", "mdc/1", "--yes")
    assert done.exit_code == 0, done.output
    ((_, path, sent),) = [asked for asked in server.asked if asked[0] == "DELETE"]
    assert path == f"{CORE}/pods/sleigh-mdc-1-0"
    assert sent == {"gracePeriodSeconds": 0, "preconditions": {"uid": "uid-sleigh-mdc-1-0"}}
    assert "sleigh-mdc-1-0 is dead" in done.output and "elf status sleigh" in done.output


def test_a_pod_of_the_same_name_that_has_come_meanwhile_lives(
    server: Server, elf: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    populate(server)
    monkeypatch.setattr("elf_cli.verbs.kill.newest", lambda found: _as_another(found))
    done = elf("kill", "sleigh", "home/2", "--yes")
    assert done.exit_code == 1 and "has left by itself meanwhile; nothing was killed" in done.stderr
    assert f"{CORE}/pods/sleigh-home-2" in server.objects


def _as_another(found: list[dict[str, Any]]) -> Any:
    from elf_operator.observation import parse_pod

    return parse_pod({**found[0], "metadata": {**found[0]["metadata"], "uid": "of-the-one-before"}})


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (["mdc/1"], 2, "nobody to ask: give --yes"),
        (["elf", "--yes"], 2, "such as mdc/1"),
        (["mdc/5", "--yes"], 2, "there is no mdc 5, they are numbered 0 to 1"),
        (["npdc", "--yes"], 1, "nobody is npdc/0 now"),
    ],
)
def test_what_is_not_killed(
    server: Server, elf: Callable[..., Result], args: list[str], status: int, said: str
) -> None:
    keep(server)
    done = elf("kill", "sleigh", *args)
    assert done.exit_code == status and said in done.stderr
    assert server.writes() == []


def test_suspending_and_resuming_change_one_field(server: Server, elf: Callable[..., Result]) -> None:
    keep(server)
    before = server.objects[f"{JOBS}/sleigh"]["spec"]
    assert "is not suspended; nothing is changed" in elf("resume", "sleigh").output
    assert server.writes() == []
    assert "will be suspended" in elf("suspend", "sleigh").output
    assert server.objects[f"{JOBS}/sleigh"]["spec"] == {**before, "suspend": True}
    assert "is suspended already" in elf("suspend", "sleigh").output
    assert "is resumed" in elf("resume", "sleigh").output
    assert server.objects[f"{JOBS}/sleigh"]["spec"] == {**before, "suspend": False}
    assert len(server.writes()) == 2


def test_a_job_that_has_ended_is_not_suspended(server: Server, elf: Callable[..., Result]) -> None:
    keep(server, state="Complete")
    done = elf("suspend", "sleigh")
    assert done.exit_code == 1 and "is Complete: there is nothing to suspend" in done.stderr


# -- model --------------------------------------------------------------------------------------------------


CHECKPOINT: dict[str, Any] = {"northPole": {"checkpoint": {"volumeClaim": "states"}}}
OUTPUT: dict[str, Any] = {"output": {"volumeClaim": "states", "path": "night"}}


def trained(
    server: Server, content: bytes, tmp_path: pathlib.Path, kept: dict[str, Any] = CHECKPOINT
) -> None:
    """The job is complete, its volume holds this, and a kubelet runs whoever wants to read it."""
    from elf_cli.views import weights

    (tmp_path / "true").write_bytes(content)
    digest = weights.digest(tmp_path / "true")
    made = keep(server, state="Complete", training={"round": 50, "modelDigest": digest})
    made["spec"].update(kept)
    server.put(f"{CORE}/persistentvolumeclaims/states", {"metadata": {"name": "states"}})
    pod(server, Role.NPDC, phase="Succeeded")

    def kubelet(path: str, created: dict[str, Any]) -> None:
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        server.put(path, {**created, "status": {"phase": "Running", **ready}})

    server.kubelet = kubelet
    server.run = lambda _, command: (_file(command, content, kept), b"", 0)


def _file(command: list[str], content: bytes, kept: dict[str, Any] = CHECKPOINT) -> bytes:
    """What the reader's command writes: a piece of one of its two files."""
    path, offset, size = command[-3], int(command[-2]), int(command[-1])
    told: dict[str, Any] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    if kept is CHECKPOINT:
        told |= {"round": 50, "file": reader.MODEL}
    else:
        told |= {"file": "/var/elf/output/night/model.safetensors"}
    whole = {told["file"]: content, reader.SUMMARY: json.dumps(told).encode()}[path]
    return whole[offset : offset + size]


def a_model() -> bytes:
    raw = bytes(range(256)) * 4
    header = json.dumps({"a": {"dtype": "F32", "shape": [256], "data_offsets": [0, len(raw)]}}).encode()
    return len(header).to_bytes(8, "little") + header + raw


def readers(server: Server) -> list[str]:
    return [path for path in server.objects if "/pods/sleigh-model-" in path]


@pytest.mark.parametrize("kept", [CHECKPOINT, OUTPUT], ids=["checkpoint", "output"])
@pytest.mark.parametrize("cut", [0, 2])
def test_a_model_is_fetched_and_checked(
    server: Server,
    elf: Callable[..., Result],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    cut: int,
    kept: dict[str, Any],
) -> None:
    trained(server, a_model(), tmp_path, kept)
    monkeypatch.setattr(model, "PIECE", 300)
    server.cut = cut
    done = elf("model", "sleigh", "--output", str(tmp_path))
    assert done.exit_code == 0, done.output + done.stderr
    assert (tmp_path / "sleigh.safetensors").read_bytes() == a_model()
    assert [method for method, _ in server.writes()] == ["POST", "DELETE"] and readers(server) == []
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    made = next(sent for method, _, sent in server.asked if method == "POST")
    assert made["spec"]["containers"][0]["image"] == "trained:1"
    claims = [v["persistentVolumeClaim"] for v in made["spec"]["volumes"] if "persistentVolumeClaim" in v]
    assert claims == [{"claimName": "states"}]


def test_another_model_than_the_jobs_is_not_written(
    server: Server, elf: Callable[..., Result], tmp_path: pathlib.Path
) -> None:
    trained(server, a_model(), tmp_path)
    other = a_model()[:-1] + b"\x00"
    server.run = lambda _, command: (_file(command, other), b"", 0)
    done = elf("model", "sleigh", "--output", str(tmp_path / "out"))
    assert done.exit_code == 1 and "this is not the job's model: its digest is sha256:" in done.stderr
    assert not (tmp_path / "out").exists() and readers(server) == []


def test_a_reader_that_fails_says_why_and_is_deleted(
    server: Server, elf: Callable[..., Result], tmp_path: pathlib.Path
) -> None:
    trained(server, a_model(), tmp_path)
    ended = {"exitCode": 1, "message": "the volume holds the state of another job by now"}
    container = {"name": "elf", "state": {"terminated": ended}, "restartCount": 0}
    failed = {"phase": "Failed", "containerStatuses": [container]}
    server.kubelet = lambda path, created: server.put(path, {**created, "status": failed}) and None
    done = elf("model", "sleigh", "--output", str(tmp_path / "out"))
    assert done.exit_code == 1 and "the volume holds the state of another job by now" in done.stderr
    assert readers(server) == []


def test_a_reader_that_no_node_takes_is_not_waited_for_for_ever(
    server: Server, elf: Callable[..., Result], tmp_path: pathlib.Path
) -> None:
    trained(server, a_model(), tmp_path)
    waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no volume"}
    status = {"phase": "Pending", "conditions": [waits]}
    server.kubelet = lambda path, created: server.put(path, {**created, "status": status}) and None
    done = elf("model", "sleigh", "--output", str(tmp_path / "out"), "--timeout", "1")
    assert done.exit_code == 1
    waits, why = done.stderr.splitlines()[1:]
    assert waits.endswith(": no node takes it: no volume") and waits.startswith("elf: pod sleigh-model-")
    assert "has no model after 1 s: no node takes it: no volume; --timeout" in why
    assert readers(server) == []


def test_a_model_without_the_right_to_run_commands_in_pods(
    server: Server, elf: Callable[..., Result], tmp_path: pathlib.Path
) -> None:
    trained(server, a_model(), tmp_path)
    server.denied.add("pods/exec")
    done = elf("model", "sleigh", "--output", str(tmp_path / "out"))
    assert done.exit_code == 1 and "resources: [pods/exec], verbs: [create, get]" in done.stderr
    assert readers(server) == []


@pytest.mark.parametrize("kept", [CHECKPOINT, OUTPUT], ids=["checkpoint", "output"])
def test_a_claim_that_is_gone_is_said_before_a_pod_waits_for_it(
    server: Server, elf: Callable[..., Result], tmp_path: pathlib.Path, kept: dict[str, Any]
) -> None:
    trained(server, a_model(), tmp_path, kept)
    server.remove(f"{CORE}/persistentvolumeclaims/states")
    done = elf("model", "sleigh", "--output", str(tmp_path / "out"))
    assert (done.exit_code, done.stderr) == (
        1,
        "elf: sleigh: its model was on the volume claim states, and there is none of this name in namespace "
        "town any more\n",
    )
    assert server.writes() == []


def test_who_may_not_look_at_claims_fetches_all_the_same(
    server: Server, elf: Callable[..., Result], tmp_path: pathlib.Path
) -> None:
    trained(server, a_model(), tmp_path, OUTPUT)
    server.denied.add("persistentvolumeclaims")
    assert elf("model", "sleigh", "--output", str(tmp_path / "out")).exit_code == 0
    assert (tmp_path / "out").read_bytes() == a_model()


def test_a_model_that_landed_needs_an_image_to_be_read_with(
    server: Server, elf: Callable[..., Result], tmp_path: pathlib.Path
) -> None:
    trained(server, a_model(), tmp_path, OUTPUT)
    server.remove(f"{CORE}/pods/sleigh-npdc-0")
    done = elf("model", "sleigh", "--output", str(tmp_path / "out"))
    assert done.exit_code == 2 and "give --image, that of the operator's --worker-image" in done.stderr
    assert server.writes() == []
    assert elf("model", "sleigh", "--output", str(tmp_path / "out"), "--image", "w:1").exit_code == 0


@pytest.mark.parametrize("answered", [True, False], ids=["while it waits", "while it is being made"])
async def test_a_reader_of_a_command_that_is_interrupted_is_deleted(
    tmp_path: pathlib.Path, answered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, made = Server(), asyncio.Event()
    trained(server, a_model(), tmp_path, OUTPUT)
    server.kubelet = lambda path, created: None
    post = apiserver.KubeApi.request

    async def slow(self: apiserver.KubeApi, method: str, path: str, *args: Any, **kwargs: Any) -> Any:
        answer = await post(self, method, path, *args, **kwargs)
        if method == "POST":
            made.set()
            if not answered:
                await asyncio.Event().wait()
        return answer

    monkeypatch.setattr(apiserver.KubeApi, "request", slow)
    async with listening(server) as url:
        target = Target(None, None, config(tmp_path / "kubeconfig", url))
        async with session.connect(target) as connected:
            body_of_job = await connected.job("sleigh")
            work = model.fetch(connected, body_of_job, tmp_path / "out", None, 300.0)
            fetching = asyncio.create_task(work)
            async with asyncio.timeout(SECONDS):
                await made.wait()
                assert len(readers(server)) == 1
                fetching.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await fetching
    assert readers(server) == [] and not (tmp_path / "out").exists()


def test_a_reader_that_is_refused_is_not_looked_for(
    server: Server, elf: Callable[..., Result], tmp_path: pathlib.Path
) -> None:
    trained(server, a_model(), tmp_path, OUTPUT)
    server.refuse["POST"] = 403
    done = elf("model", "sleigh", "--output", str(tmp_path / "out"))
    assert done.exit_code == 1 and "quota says no" in done.stderr
    assert [method for method, _ in server.writes()] == ["POST"]


def test_a_reader_that_cannot_be_deleted_is_named(
    server: Server, elf: Callable[..., Result], tmp_path: pathlib.Path
) -> None:
    trained(server, a_model(), tmp_path, OUTPUT)
    server.refuse["DELETE"] = 500
    done = elf("model", "sleigh", "--output", str(tmp_path / "out"))
    assert done.exit_code == 0 and "could not be deleted" in done.stderr


def test_a_job_that_kept_no_model(server: Server, elf: Callable[..., Result], tmp_path: pathlib.Path) -> None:
    keep(server, state="Complete", training={"round": 50, "modelDigest": "sha256:ab"})
    done = elf("model", "sleigh", "--output", str(tmp_path))
    assert done.exit_code == 1 and "set spec.output or spec.northPole.checkpoint.volumeClaim" in done.stderr
    assert server.writes() == []
    told = json.loads(elf("model", "sleigh", "-o", "json").output)
    assert told["modelDigest"] == "sha256:ab" and told["keptOn"] is None


# -- what the older verbs ask, and errors -------------------------------------------------------------------


def test_figures_come_from_the_npdc(server: Server, elf: Callable[..., Result]) -> None:
    populate(server)
    server.pages["/statistics"] = {"round": 7, "lastRound": {}, "total": {}, "mdcs": {}}
    assert yaml.safe_load(elf("stats", "sleigh", "-o", "yaml").output)["round"] == 7
    assert any(path.endswith("/pods/sleigh-npdc-0:7735/proxy/statistics") for _, path, _ in server.asked)


def locked(server: Server) -> None:
    """The job has identities, so its figures need a token."""
    server.token = "open sesame"
    path = f"{CORE}/pods/sleigh-npdc-0"
    made = server.objects[path]
    env = [{"name": ENV_FIGURES_TOKENS, "value": "digest"}]
    made["spec"]["containers"][0]["env"] = env
    made["metadata"]["ownerReferences"] = [{"uid": "uid-of-sleigh"}]


def token_path() -> str:
    return f"{CORE}/secrets/{identities.figures_name('sleigh', 'uid-of-sleigh')}"


def test_figures_that_need_a_token(server: Server, elf: Callable[..., Result]) -> None:
    populate(server)
    locked(server)
    server.pages["/statistics"] = {"round": 7, "lastRound": {}, "total": {}, "mdcs": {}}
    token = base64.b64encode(b"open sesame").decode()
    server.put(token_path(), {"metadata": {"name": "figures"}, "data": {"token": token}})
    assert yaml.safe_load(elf("stats", "sleigh", "-o", "yaml").output)["round"] == 7
    assert any("/pods/https:sleigh-npdc-0:7735/proxy/statistics" in path for _, path, _ in server.asked)


def test_figures_without_their_token(server: Server, elf: Callable[..., Result]) -> None:
    populate(server)
    locked(server)
    done = elf("stats", "sleigh")
    assert done.exit_code == 1 and "there is no Secret sleigh-figures-" in done.stderr
    server.denied.add("secrets")
    done = elf("stats", "sleigh")
    assert done.exit_code == 1 and "resources: [secrets], verbs: [get]" in done.stderr


def test_figures_that_a_policy_keeps_from_the_api_server(server: Server, elf: Callable[..., Result]) -> None:
    populate(server)
    server.shut = True
    done = elf("stats", "sleigh")
    assert done.exit_code == 1 and "connection refused" in done.stderr and "jobs.figuresFrom" in done.stderr


def test_a_plan_of_a_job_on_the_cluster(server: Server, elf: Callable[..., Result]) -> None:
    keep(server, conditions=[])
    found = json.loads(elf("plan", "sleigh", "-o", "json").output)
    assert "sleigh-npdc-0" in [create["pod"] for create in found["create"]]


EVERY_VERB = [
    ["status", "sleihg"],
    ["status", "sleihg", "-w"],
    ["events", "sleihg"],
    ["logs", "sleihg"],
    ["logs", "sleihg", "-f"],
    ["kill", "sleihg", "npdc", "-y"],
    ["suspend", "sleihg"],
    ["resume", "sleihg"],
    ["model", "sleihg"],
    ["stats", "sleihg"],
    ["plan", "sleihg"],
]


@pytest.mark.parametrize("args", EVERY_VERB, ids=" ".join)
def test_no_such_job(server: Server, elf: Callable[..., Result], args: list[str]) -> None:
    keep(server)
    done = elf(*args)
    assert done.exit_code == 1 and "did you mean sleigh?" in done.stderr
    assert done.stderr.startswith("elf: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("args", EVERY_VERB, ids=" ".join)
def test_no_crd(server: Server, elf: Callable[..., Result], args: list[str]) -> None:
    server.crd = False
    done = elf(*args)
    assert done.exit_code == 1 and "kubectl apply -f manifests/crd.yaml" in done.stderr


@pytest.mark.parametrize(
    ("args", "resource", "verb"),
    [
        (["status"], "elftrainingjobs", "list"),
        (["status", "sleigh"], "pods", "list"),
        (["status", "sleigh", "-w"], "pods", "list"),
        (["events", "sleigh"], "events", "list"),
        (["logs", "sleigh"], "pods/log", "get"),
        (["suspend", "sleigh"], "elftrainingjobs", "get"),
    ],
)
def test_no_right(
    server: Server, elf: Callable[..., Result], args: list[str], resource: str, verb: str
) -> None:
    populate(server)
    server.denied.add(resource)
    done = elf(*args)
    assert done.exit_code == 1, done.output
    assert f"rudolph may not {verb} {resource} in namespace town" in done.stderr
    assert f"resources: [{resource}], verbs: [{verb}]" in done.stderr


def test_nobody_answers(tmp_path: pathlib.Path) -> None:
    dead = config(tmp_path / "kubeconfig", "http://127.0.0.1:9")
    done = CliRunner().invoke(app, ["status", "--kubeconfig", dead])
    assert done.exit_code == 1 and "http://127.0.0.1:9 does not answer" in done.stderr


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (["--kubeconfig", "/nowhere"], 1, "there is no kubeconfig /nowhere"),
        (["--context", "sun", "--kubeconfig", "HERE"], 2, "no context 'sun'; it has: pole, moon"),
    ],
)
def test_no_cluster(kubeconfig: str, args: list[str], status: int, said: str) -> None:
    done = CliRunner().invoke(app, ["status", *(kubeconfig if arg == "HERE" else arg for arg in args)])
    assert done.exit_code == status and said in done.stderr


def test_the_namespace_of_the_context_is_meant(server: Server, elf: Callable[..., Result]) -> None:
    assert "namespace town" in elf("status").output
    assert "namespace default" in elf("status", "--context", "moon").output
    assert "namespace asked" in elf("status", "-n", "asked").output


# -- completion ---------------------------------------------------------------------------------------------


def test_kubectl_completes_verbs_jobs_and_places(server: Server, kubeconfig: str) -> None:
    keep(server)
    words = ["status", "--kubeconfig", kubeconfig, "sl"]
    assert completion.kubectl(words).splitlines() == ["sleigh", ":4"]
    found = completion.kubectl(["kill", "--kubeconfig", kubeconfig, "sleigh", "mdc/"]).splitlines()
    assert found == ["mdc/0", "mdc/1", ":4"]
    verbs = completion.kubectl(["su"]).splitlines()
    assert [line.split("\t")[0] for line in verbs] == ["suspend", ":4"]


@pytest.mark.parametrize("args", [["--kubeconfig", "/nowhere"], ["--context", "sun"]])
def test_completion_says_nothing_when_it_fails(
    kubeconfig: str, args: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    known = [] if "--kubeconfig" in args else ["--kubeconfig", kubeconfig]
    assert completion.kubectl(["status", *known, *args, ""]).splitlines() == [":4"]
    assert capfd.readouterr().err == ""


def test_completion_of_a_server_that_hangs_is_given_up(
    server: Server, kubeconfig: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(server)
    monkeypatch.setattr(completion, "SECONDS", 0.0)
    assert completion.kubectl(["status", "--kubeconfig", kubeconfig, ""]).splitlines() == [":4"]


def test_names_that_are_null_are_none(server: Server, elf: Callable[..., Result]) -> None:
    server.nulls = True
    assert "and no other either" in elf("status", "sleigh").stderr


def test_the_helper_of_kubectl_answers_in_its_protocol(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["kubectl_complete-elf", "mod"])
    completion.main()
    *proposed, directive = capsys.readouterr().out.splitlines()
    assert directive == ":4" and [line.split("\t")[0] for line in proposed] == ["model"]
