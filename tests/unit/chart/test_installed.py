"""The program of `helm test`, against an API server and an operator that are played."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any

import pytest

from unit.chart.rendered import CHART, Chart

SERVED = {"resources": [{"name": "elftrainingjobs"}, {"name": "elftrainingjobs/status"}]}


class Played:
    """Answers by path: (status, JSON)."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[str] = []
        played = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                played.asked.append(self.path)
                status, body = played.answers.get(self.path, (404, {}))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def played() -> Iterator[Played]:
    made = Played()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@pytest.fixture
def program(played: Played, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """As a module whose API server is the played one: certificates and tokens are the pod's."""
    spec = importlib.util.spec_from_file_location("installed", CHART / "files" / "installed.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def api(path: str) -> Any:
        with module.urllib.request.urlopen(played.url + path, timeout=5) as answer:
            return json.load(answer)

    monkeypatch.setattr(module, "api", api)
    monkeypatch.setenv("READYZ", f"{played.url}/readyz")
    return module


def test_all_is_well(program: ModuleType, played: Played, capsys: pytest.CaptureFixture[str]) -> None:
    played.answers = {program.GROUP: (200, SERVED), "/readyz": (200, "ready")}
    assert program.passes(program.crd_is_served) and program.passes(program.operator_is_ready)
    assert capsys.readouterr().out.split() == "ok crd is served ok operator is ready".split()


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [
        ("crd_is_served", (404, {}), "404"),
        ("crd_is_served", (200, {"resources": [{"name": "others"}]}), "no elftrainingjobs"),
        ("crd_is_served", (200, {}), "KeyError"),
        ("operator_is_ready", (503, "the cluster has not been seen yet"), "503"),
    ],
)
def test_what_is_wrong_is_said(
    program: ModuleType,
    played: Played,
    capsys: pytest.CaptureFixture[str],
    check: str,
    answer: tuple[int, Any],
    words: str,
) -> None:
    played.answers = {program.GROUP: answer, "/readyz": answer}
    assert not program.passes(getattr(program, check), seconds=-1.0)
    said = capsys.readouterr().out
    assert said.startswith("FAILED") and words in said


def test_it_waits_for_what_comes_late(
    program: ModuleType, played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    played.answers = {"/readyz": (503, "")}
    comes = lambda seconds: played.answers.update({"/readyz": (200, "")})  # noqa: E731
    monkeypatch.setattr(program.time, "sleep", comes)
    assert program.passes(program.operator_is_ready)
    assert played.asked == ["/readyz"] * 2


def test_its_pod_runs_this_text(chart: Chart) -> None:
    (container,) = chart.render().test_pod["containers"]
    assert container["command"] == ["python3", "-c"]
    assert container["args"][0].strip() == (CHART / "files" / "installed.py").read_text().strip()
    assert container["env"] == [
        {"name": "READYZ", "value": "http://elf-elf-training-operator.elf-system.svc:8080/readyz"}
    ]
