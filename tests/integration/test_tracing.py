"""A round is one trace: the NPDC's, in it the MDCs', in them the homes', sent to whoever collects them."""

from __future__ import annotations

import http.server
import os
import pathlib
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

JOB = {
    "apiVersion": "northpole.dev/v1alpha1",
    "kind": "ElfTrainingJob",
    "metadata": {"name": "traced"},
    "spec": {
        "rounds": 3,
        "evaluateEvery": 3,
        "task": {
            "entrypoint": "elf_worker.tasks.naughty_or_nice:NaughtyOrNice",
            "args": {"records": 40, "batch_size": 8},
        },
        "homes": {"replicas": 4, "perPod": 2},
        "miniDataCenters": {"replicas": 2},
    },
}


class Collector:
    """Takes spans over HTTP, as OpenTelemetry's exporter sends them."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = ExportTraceServiceRequest.FromString(body)
                for resource in request.resource_spans:
                    service = {a.key: a.value.string_value for a in resource.resource.attributes}[
                        "service.name"
                    ]
                    for scope in resource.scope_spans:
                        collector.spans += [(service, span) for span in scope.spans]
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.mark.timeout(120)
def test_a_round_is_one_trace_from_the_npdc_to_its_homes(
    collector: Collector, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(JOB))
    environment = os.environ | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
    }
    command = [sys.executable, "-m", "elf_cli", "run", "job.yaml", "--plain"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    by_id = {span.span_id: (service, span) for service, span in collector.spans}
    homes = [span for service, span in collector.spans if service == "elf-home"]
    assert len(homes) == 4 * 3
    for span in homes:
        service, mdc = by_id[span.parent_span_id]
        assert service == "elf-mdc"
        service, round_ = by_id[mdc.parent_span_id]
        assert service == "elf-npdc"
        assert not round_.parent_span_id
        assert span.trace_id == mdc.trace_id == round_.trace_id
    rounds = {span.trace_id for service, span in collector.spans if service == "elf-npdc"}
    assert len(rounds) == 3
