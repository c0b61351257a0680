"""What the operator counts of itself, in the text format of Prometheus. No label has a row per job."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from elf_operator.logs import demote_retries

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """One operator's counters."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.reconciles = Counter(
            "elf_operator_reconciles",
            "Looks at a job, by what came of them: done, outage (the API server did not do as asked), bug.",
            ["outcome"],
            registry=self._registry,
        )
        self.reconcile_seconds = Histogram(
            "elf_operator_reconcile_seconds",
            "Time from a look at a job to its status.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.api_requests = Counter(
            "elf_operator_api_requests",
            "Requests to the API server, by verb, resource and HTTP status; code 0: no answer.",
            ["verb", "resource", "code"],
            registry=self._registry,
        )
        self.api_seconds = Histogram(
            "elf_operator_api_request_seconds",
            "Time of a request to the API server.",
            ["verb"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.replacements = Counter(
            "elf_operator_replacements",
            "Data centers replaced because of a fault.",
            ["role", "reason"],
            registry=self._registry,
        )
        self.errors_logged = Counter(
            "elf_operator_errors_logged",
            "Log records of level ERROR and above, by the package that wrote them.",
            ["logger"],
            registry=self._registry,
        )
        self.events_dropped = Counter(
            "elf_operator_events_dropped",
            "Events not written because their job had too many.",
            registry=self._registry,
        )

    def show(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A gauge whose value is asked for when somebody reads it."""
        Gauge(f"elf_operator_{name}", text, registry=self._registry).set_function(value)

    def show_by(self, label: str, name: str, text: str, values: Callable[[], Mapping[str, int]]) -> None:
        """A gauge with a row per value of a label, which are asked for when somebody reads it."""
        self._registry.register(_Rows(f"elf_operator_{name}", text, label, values))

    def requested(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """One request to the API server; `code` 0: it was not answered."""
        self.api_requests.labels(verb, resource, str(code)).inc()
        self.api_seconds.labels(verb).observe(seconds)

    def counts_errors(self) -> logging.Handler:
        """A handler of log records that only counts."""
        return _ErrorCount(self.errors_logged)

    def text(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self._registry)


class _Rows(Collector):
    def __init__(self, name: str, text: str, label: str, values: Callable[[], Mapping[str, int]]) -> None:
        self._name, self._text, self._label, self._values = name, text, label, values

    def collect(self) -> Iterator[GaugeMetricFamily]:
        rows = GaugeMetricFamily(self._name, self._text, labels=[self._label])
        for value, count in sorted(self._values().items()):
            rows.add_metric([value], count)
        yield rows


class _ErrorCount(logging.Handler):
    def __init__(self, counter: Counter) -> None:
        super().__init__(logging.ERROR)
        self._counter = counter

    def emit(self, record: logging.LogRecord) -> None:
        if demote_retries(record) and record.levelno >= logging.ERROR:
            self._counter.labels(record.name.partition(".")[0]).inc()
