"""OpenTelemetry spans of rounds, where an exporter is configured. Where none is, nothing is imported or done.

Configured by OpenTelemetry's own variables: `OTEL_EXPORTER_OTLP_ENDPOINT` or
`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`. The context travels in `Work` as W3C `traceparent`, so a round is one
trace: the NPDC's round, in it each MDC's, in them the gradients of homes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any, Protocol

_log = logging.getLogger(__name__)
_CONFIGURED_BY = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Span(Protocol):
    """Something that takes time."""

    @property
    def context(self) -> str:
        """`traceparent` for what happens inside; empty without an exporter."""

    def end(self, **attributes: Any) -> None:
        """It is over; a second time changes nothing."""


class Tracer(Protocol):
    """Makes spans."""

    def begin(self, name: str, inside: str = "", **attributes: Any) -> Span:
        """A span that begins now, inside the one with that context."""

    def close(self) -> None:
        """Send what is not sent yet."""


class _NoSpan:
    context = ""

    def end(self, **attributes: Any) -> None:
        pass


class NoTracer:
    """Does nothing."""

    _span = _NoSpan()

    def begin(self, name: str, inside: str = "", **attributes: Any) -> Span:
        """See `Tracer`."""
        return self._span

    def close(self) -> None:
        """See `Tracer`."""


def open_tracer(role: str, job: str, environ: Mapping[str, str] = os.environ) -> Tracer:
    """A tracer that exports, if the environment configures an exporter and OpenTelemetry is installed."""
    if not any(environ.get(name) for name in _CONFIGURED_BY):
        return NoTracer()
    try:
        return _Exporting(role, job)
    except ImportError as error:
        _log.warning("no traces: %s; pip install 'elf-training-operator[tracing]'", error)
        return NoTracer()


class _Exporting:
    def __init__(self, role: str, job: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        resource = Resource.create({"service.name": f"elf-{role}", "elf.job": job})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("elf_worker")
        self._carrier = TraceContextTextMapPropagator()

    def begin(self, name: str, inside: str = "", **attributes: Any) -> Span:
        parent = self._carrier.extract({"traceparent": inside}) if inside else None
        return _ExportedSpan(
            self._tracer.start_span(name, context=parent, attributes=attributes), self._carrier
        )

    def close(self) -> None:
        self._provider.shutdown()


class _ExportedSpan:
    def __init__(self, span: Any, carrier: Any) -> None:
        from opentelemetry import trace

        self._span = span
        found: dict[str, str] = {}
        carrier.inject(found, context=trace.set_span_in_context(span))
        self.context = found.get("traceparent", "")

    def end(self, **attributes: Any) -> None:
        if self._span.is_recording():
            self._span.set_attributes(attributes)
            self._span.end()
