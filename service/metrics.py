"""
Every instrument of the service: name, unit, labels, buckets. Prefix vae_, base units, no unbounded label.

Requests and batches are gathered, and counted many at a time: one by one, the eight updates of a request would be a
tenth of its cost. Knows what is counted, not who counts it. Each service has a registry of its own, so tests can run
several.
"""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

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

from service.errors import ServiceError
from service.http.crowd import Why
from service.manifest import Operation
from service.queues import Waiting
from service.spent import Spent
from service.workers.sharing import P_VALUE, RESTARTS, VERSIONS, Shared

SECONDS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = tuple(float(2**i) for i in range(13))
MOST_GATHERED = 256  # requests, in 0.3 ms; 4,096 held the loop for 6 ms. A scrape counts those since the last one
P_VALUES = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)


Mode = Literal["livemax", "livemin", "livesum"]
QUEUE_ROWS = "vae_queue_rows", "Rows that wait for the model."
QUEUE_AGE = "vae_queue_oldest_age_seconds", "How long the oldest call has waited."


class Metrics:
    """
    The instruments of one service, in one registry; a Counter is exposed with _total behind its name.

    *counts*: the directory in which several workers count together, see workers/sharing.py.
    """

    def __init__(self, counts: Path | None = None) -> None:
        disable_created_metrics()  # a _created twin of every series, which nobody asked for
        r = CollectorRegistry()
        ProcessCollector(registry=r)
        PlatformCollector(registry=r)
        GCCollector(registry=r)
        self.registry = r
        self._shared = None if counts is None else Shared(counts)
        self._requests = Counter("vae_http_requests", "Requests answered.", ("route", "method", "code"), registry=r)
        self._request_seconds = _histogram(
            r, "vae_http_request_duration_seconds", "From the request's headers to its reply.", SECONDS, "route"
        )
        self._in_progress = _gauge(r, "vae_http_requests_in_progress", "Requests being answered.", "livesum", "route")
        self._connections = _gauge(r, "vae_connections", "Connections.", "livesum")
        self._connections_ended = Counter(
            "vae_connections_ended",
            "Connections that were ended for others, by why: idle, unread, or refused at once.",
            ("reason",),
            registry=r,
        )
        self._stage_seconds = _histogram(
            r, "vae_stage_duration_seconds", "Of parse, queue, compute (a batch), serialize.", SECONDS, "stage", "op"
        )
        self._batch_rows = _histogram(r, "vae_batch_rows", "Rows in one run of the model.", ROWS, "op")
        self._rows = Counter("vae_rows", "Rows answered.", ("op",), registry=r)
        self._padding_rows = Counter("vae_padding_rows", "Rows of padding run on a GPU.", ("op",), registry=r)
        self.rejected = Counter("vae_rejected", "Requests not answered, by the error's type.", ("reason",), registry=r)
        self.nonfinite = Counter("vae_nonfinite", "Replies withheld: the model gave NaN or infinity.", registry=r)
        self._model_info = _gauge(
            r, "vae_model_info", "The model served: 1.", "livemax", "name", "version", "bundle_id"
        )
        self.provider_info = _gauge(
            r, "vae_execution_provider_info", "What runs the model: 1.", "livemax", "requested", "actual", "device"
        )
        self._model_ready = _gauge(
            r, "vae_model_ready", "1: requests are answered; 0: starting (a worker is enough) or draining.", "livemin"
        )
        self._workers_ready = _gauge(r, "vae_workers_ready", "Workers that answer requests.", "livesum")
        Counter(*RESTARTS, registry=r)
        self._warmup_seconds = _gauge(
            r, "vae_warmup_duration_seconds", "To verify, load, check and warm the model.", "livemax"
        )
        self._reloads = Counter(
            "vae_reload",
            "Newer versions that were found, and taken (swapped) or not (refused).",
            ("result",),
            registry=r,
        )
        self._p_value = _histogram(
            r, P_VALUE, "Of scored rows; uniform on data like the calibration's.", P_VALUES, "version"
        )
        self._drift = _gauge(
            r,
            "vae_drift_log_martingale",
            "How surely complete rows are unlike the calibration's: ln of the winnings of a bet on that; NaN: no bets.",
            "livemax",
        )
        self._anomalies = Counter("vae_anomalies", "Rows called anomalous at the alpha of their request.", registry=r)
        self._scored_rows = Counter("vae_scored_rows", "Rows scored.", registry=r)
        for error in ServiceError.__subclasses__():
            self.rejected.labels(error.type)  # from the start, at 0: rate() misses the first event of a new series
        for result in ("swapped", "refused"):
            self._reloads.labels(result)
        for why in get_args(Why):
            self._connections_ended.labels(why)
        self._count_connections: Callable[[], int] = int
        self._tell_drift: Callable[[], float] = lambda: math.nan
        self._serving: Gauge | None = None
        self._versions: list[str] = []  # what is served, and what was before it
        self._running: defaultdict[str, int] = defaultdict(int)
        self._ended: list[tuple[str, str, int, float, Spent | None]] = []
        self._batches: list[tuple[str, int, int, float]] = []

    def began(self, route: str) -> None:
        """A request to *route* began."""
        self._running[route] += 1

    def ended(self, route: str, method: str, code: int, seconds: float, spent: Spent | None = None) -> None:
        """A request to *route* that had begun was answered; *spent*: a good answer of an operation."""
        self._running[route] -= 1
        self._ended.append((route, method, code, seconds, spent))
        if len(self._ended) >= MOST_GATHERED:
            self.flush()

    def batch(self, op: str, rows: int, padding: int, seconds: float) -> None:
        """One batch of *rows*, and *padding* rows more, was run in *seconds*."""
        self._batches.append((op, rows, padding, seconds))

    def flush(self) -> None:
        """Count what was gathered."""
        times: defaultdict[str, list[float]] = defaultdict(list)
        stages: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        answers: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        answered_rows: defaultdict[str, int] = defaultdict(int)
        for route, method, code, seconds, spent in self._ended:
            answers[route, method, str(code)] += 1
            times[route].append(seconds)
            if spent is not None:
                answered_rows[spent.op] += spent.rows
                for stage, took in (("parse", spent.parse), ("queue", spent.queue), ("serialize", spent.serialize)):
                    stages[stage, spent.op].append(took)
        sizes: defaultdict[str, list[float]] = defaultdict(list)
        for op, rows, padding, seconds in self._batches:
            stages["compute", op].append(seconds)
            sizes[op].append(rows)
            self._padding_rows.labels(op).inc(padding)  # 0 too: a share of padding needs the series to be there
        self._ended.clear()
        self._batches.clear()
        for labels, count in answers.items():
            self._requests.labels(*labels).inc(count)
        for op, count in answered_rows.items():
            self._rows.labels(op).inc(count)
        for route, values in times.items():
            _observe(self._request_seconds.labels(route), values)
        for (stage, op), values in stages.items():
            _observe(self._stage_seconds.labels(stage, op), values)
        for op, values in sizes.items():
            _observe(self._batch_rows.labels(op), values)
        for route, count in self._running.items():
            self._in_progress.labels(route).set(count)
        self._connections.set(self._count_connections())
        self._drift.set(self._tell_drift())

    def scored(self, version: int, p_values: NDArray[np.float64], is_anomaly: NDArray[np.bool_] | None) -> None:
        """Rows were scored by the bundle's *version*: of one that was served long ago, nobody asks for p-values."""
        if str(version) in self._versions:
            _observe(self._p_value.labels(str(version)), p_values)
        self._scored_rows.inc(len(p_values))
        if is_anomaly is not None:
            self._anomalies.inc(int(is_anomaly.sum()))

    def serves(self, name: str, version: int, bundle_id: str, seconds: float) -> None:
        """From now on this is served, and nothing else; it took *seconds* to make it ready."""
        if self._shared is None:
            self._model_info.clear()
        elif self._serving is not None:  # what is in a shared file cannot be taken out; 0 is left out when it is read
            self._serving.set(0)
        self._serving = self._model_info.labels(name, str(version), bundle_id)
        self._serving.set(1)
        self._warmup_seconds.set(seconds)
        self._keep(str(version))

    def _keep(self, version: str) -> None:
        """Of the p-values, those of *version*, of what was served before it, and of nothing older."""
        if version not in self._versions:
            self._versions.append(version)
        while len(self._versions) > VERSIONS:
            old = self._versions.pop(0)
            if self._shared is None:  # from shared files it is left out when they are read
                with contextlib.suppress(KeyError):  # nothing was scored
                    self._p_value.remove(old)

    def ready(self, ready: bool) -> None:
        """Whether requests are answered."""
        self._model_ready.set(ready)
        self._workers_ready.set(ready)

    def reloaded(self, result: str) -> None:
        """A newer version was swapped in, or refused."""
        self._reloads.labels(result).inc()

    def connection_ended(self, why: Why) -> None:
        """A connection was ended for others."""
        self._connections_ended.labels(why).inc()

    def watch_connections(self, count: Callable[[], int]) -> None:
        """Ask *count* how many connections there are, whenever that is told."""
        self._count_connections = count

    def watch_drift(self, tell: Callable[[], float] | None) -> None:
        """Ask *tell* for the log martingale of what is served now, whenever that is told; None: it has none."""
        self._tell_drift = tell or (lambda: math.nan)

    def watch_queue(self, waiting: Callable[[], Mapping[str, Waiting]]) -> None:
        """Read vae_queue_rows and vae_queue_oldest_age_seconds from *waiting*, by operation, at each scrape."""
        self._queue = _Queue(waiting)
        if self._shared is None:
            self.registry.register(self._queue)
        else:
            self._queue_rows = _gauge(self.registry, *QUEUE_ROWS, "livesum", "op")
            self._queue_age = _gauge(self.registry, *QUEUE_AGE, "livemax", "op")

    def refresh(self) -> None:
        """Tell the other workers what was counted and what waits in this one; for a worker, now and then."""
        self.flush()
        for gauge, family in zip((self._queue_rows, self._queue_age), self._queue.collect(), strict=True):
            for sample in family.samples:
                gauge.labels(sample.labels["op"]).set(sample.value)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes: of this process, or of all workers."""
        if self._shared is None:
            self.flush()
            return generate_latest(self.registry)
        self.refresh()
        registry = CollectorRegistry()
        registry.register(self._shared)
        PlatformCollector(registry=registry)
        return generate_latest(registry)


class _Queue(Collector):
    def __init__(self, waiting: Callable[[], Mapping[str, Waiting]]) -> None:
        self._waiting = waiting

    def collect(self) -> list[GaugeMetricFamily]:
        rows = GaugeMetricFamily(*QUEUE_ROWS, labels=["op"])
        age = GaugeMetricFamily(*QUEUE_AGE, labels=["op"])
        queues = self._waiting()
        for op in get_args(Operation):  # 0 where nothing waits: a gauge that is only there under load cannot be read
            waiting = queues.get(op, Waiting(0, 0.0))
            rows.add_metric([op], waiting.rows)
            age.add_metric([op], waiting.oldest_s)
        return [rows, age]


def _gauge(registry: CollectorRegistry, name: str, text: str, over_workers: Mode, *labels: str) -> Gauge:
    """*over_workers*: what becomes of the values of several (live: those of one that ended do not count)."""
    return Gauge(name, text, labels, registry=registry, multiprocess_mode=over_workers)


def _observe(histogram: Histogram, values: Sequence[float] | NDArray[np.float64]) -> None:
    """What `histogram.observe` does with each of *values*, at once."""
    counts = np.bincount(np.searchsorted(histogram._upper_bounds, values), minlength=len(histogram._upper_bounds))
    for bucket, count in zip(histogram._buckets, counts.tolist(), strict=True):
        if count:
            bucket.inc(count)
    histogram._sum.inc(float(np.sum(values)))


def _histogram(
    registry: CollectorRegistry, name: str, text: str, buckets: tuple[float, ...], *labels: str
) -> Histogram:
    return Histogram(name, text, labels, buckets=buckets, registry=registry)
