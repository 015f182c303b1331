"""
Every instrument of the service: name, unit, labels, buckets. Prefix vae_, base units, no unbounded label.

Knows what is counted, not who counts it. Each service has a registry of its own, so tests can run several.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from service.batcher import Waiting
from service.errors import ServiceError
from service.manifest import Operation

SECONDS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = tuple(float(2**i) for i in range(13))
P_VALUES = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)


class Metrics:
    """The instruments of one service, in one registry; a Counter is exposed with _total behind its name."""

    def __init__(self) -> None:
        disable_created_metrics()  # a _created twin of every series, which nobody asked for
        r = CollectorRegistry()
        ProcessCollector(registry=r)
        PlatformCollector(registry=r)
        GCCollector(registry=r)
        self.registry = r
        self._requests = Counter("vae_http_requests", "Requests answered.", ("route", "method", "code"), registry=r)
        self._request_seconds = _histogram(
            r, "vae_http_request_duration_seconds", "From the request's headers to its reply.", SECONDS, "route"
        )
        self._in_progress = Gauge("vae_http_requests_in_progress", "Requests being answered.", ("route",), registry=r)
        self._stage_seconds = _histogram(
            r, "vae_stage_duration_seconds", "Of parse, queue, compute (a batch), serialize.", SECONDS, "stage", "op"
        )
        self._batch_rows = _histogram(r, "vae_batch_rows", "Rows in one run of the model.", ROWS, "op")
        self._rows = Counter("vae_rows", "Rows answered.", ("op",), registry=r)
        self._padding_rows = Counter("vae_padding_rows", "Rows of padding run on a GPU.", ("op",), registry=r)
        self.rejected = Counter("vae_rejected", "Requests not answered, by the error's type.", ("reason",), registry=r)
        self.nonfinite = Counter("vae_nonfinite", "Replies withheld: the model gave NaN or infinity.", registry=r)
        self.model_info = Gauge("vae_model_info", "The model served: 1.", ("name", "version", "bundle_id"), registry=r)
        self.provider_info = Gauge(
            "vae_execution_provider_info", "What runs the model: 1.", ("requested", "actual", "device"), registry=r
        )
        self.model_ready = Gauge("vae_model_ready", "1: requests are answered; 0: starting or draining.", registry=r)
        self.warmup_seconds = Gauge(
            "vae_warmup_duration_seconds", "To verify, load, check and warm the model.", registry=r
        )
        self._p_value = _histogram(
            r, "vae_anomaly_p_value", "Of scored rows; uniform on data like the calibration's.", P_VALUES, "version"
        )
        self._anomalies = Counter("vae_anomalies", "Rows called anomalous at the alpha of their request.", registry=r)
        self._scored_rows = Counter("vae_scored_rows", "Rows scored.", registry=r)
        for error in ServiceError.__subclasses__():
            self.rejected.labels(error.type)  # from the start, at 0: rate() misses the first event of a new series
        # labels() takes a lock and a dictionary; on the hot path it would be a tenth of a request
        self._children: dict[tuple[Any, ...], Any] = {}

    def progress(self, route: str, change: int) -> None:
        """A request to *route* began (1) or ended (-1)."""
        self._child(self._in_progress, route).inc(change)

    def answered(self, route: str, method: str, code: int, seconds: float) -> None:
        """A request to *route* was answered."""
        self._child(self._requests, route, method, str(code)).inc()
        self._child(self._request_seconds, route).observe(seconds)

    def answered_rows(self, op: str, rows: int) -> None:
        """A request for *op* was answered with *rows*."""
        self._child(self._rows, op).inc(rows)

    def stage(self, stage: str, op: str, seconds: float) -> None:
        """One stage (parse, queue, compute, serialize) of *op* took *seconds*."""
        self._child(self._stage_seconds, stage, op).observe(seconds)

    def batch(self, op: str, rows: int, padding: int, seconds: float) -> None:
        """One batch of *rows*, and *padding* rows more, was run in *seconds*."""
        self.stage("compute", op, seconds)
        self._child(self._batch_rows, op).observe(rows)
        self._child(self._padding_rows, op).inc(padding)  # 0 too: a share of padding needs the series to be there

    def scored(self, version: int, p_values: NDArray[np.float64], is_anomaly: NDArray[np.bool_] | None) -> None:
        """Rows were scored by the bundle's *version*."""
        histogram = self._child(self._p_value, str(version))
        for p in p_values:
            histogram.observe(float(p))
        self._scored_rows.inc(len(p_values))
        if is_anomaly is not None:
            self._anomalies.inc(int(is_anomaly.sum()))

    def watch_queue(self, waiting: Callable[[], Mapping[str, Waiting]]) -> None:
        """Read vae_queue_rows and vae_queue_oldest_age_seconds from *waiting*, by operation, at each scrape."""
        self.registry.register(_Queue(waiting))

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)

    def _child(self, instrument: Any, *labels: str) -> Any:
        key = (instrument, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = instrument.labels(*labels)
        return child


class Stopwatch:
    """Times the stages of one request: *seconds* by stage."""

    __slots__ = ("_at", "_metrics", "_op", "seconds")

    def __init__(self, metrics: Metrics, op: str) -> None:
        self._metrics = metrics
        self._op = op
        self.seconds: dict[str, float] = {}
        self._at = time.perf_counter()

    def lap(self, stage: str | None) -> None:
        """What passed since the last lap was *stage*; None: it is counted elsewhere."""
        now = time.perf_counter()
        if stage is not None:
            self.seconds[stage] = now - self._at
            self._metrics.stage(stage, self._op, now - self._at)
        self._at = now


class _Queue(Collector):
    def __init__(self, waiting: Callable[[], Mapping[str, Waiting]]) -> None:
        self._waiting = waiting

    def collect(self) -> list[GaugeMetricFamily]:
        rows = GaugeMetricFamily("vae_queue_rows", "Rows that wait for the model.", labels=["op"])
        age = GaugeMetricFamily("vae_queue_oldest_age_seconds", "How long the oldest call has waited.", labels=["op"])
        queues = self._waiting()
        for op in get_args(Operation):  # 0 where nothing waits: a gauge that is only there under load cannot be read
            waiting = queues.get(op, Waiting(0, 0.0))
            rows.add_metric([op], waiting.rows)
            age.add_metric([op], waiting.oldest_s)
        return [rows, age]


def _histogram(
    registry: CollectorRegistry, name: str, text: str, buckets: tuple[float, ...], *labels: str
) -> Histogram:
    return Histogram(name, text, labels, buckets=buckets, registry=registry)
