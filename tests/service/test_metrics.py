"""What is counted, as Prometheus reads it."""

from __future__ import annotations

from typing import get_args

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from service.manifest import Operation
from service.metrics import Metrics
from service.queues import Waiting
from tests.server import Server

OPERATIONS = set(get_args(Operation))


def samples(text: str, name: str, label: str) -> dict[str, float]:
    """The samples of one name, by one of their labels."""
    families = text_string_to_metric_families(text)
    return {s.labels[label]: s.value for family in families for s in family.samples if s.name == name}


def test_a_queue_in_which_nothing_waits_has_0_rows() -> None:
    """A gauge that is only there under load cannot be read: no data might as well be no service."""
    metrics = Metrics()
    metrics.watch_queue(lambda: {"encode": Waiting(3, 0.5)})
    empty = dict.fromkeys(OPERATIONS, 0.0)
    text = metrics.exposition().decode()
    assert samples(text, "vae_queue_rows", "op") == empty | {"encode": 3.0}
    assert samples(text, "vae_queue_oldest_age_seconds", "op") == empty | {"encode": 0.5}


def test_padding_is_counted_where_there_is_none() -> None:
    """The share of padding is 0 on a CPU, and not unknown."""
    metrics = Metrics()
    metrics.batch("encode", rows=3, padding=0, seconds=0.001)
    assert samples(metrics.exposition().decode(), "vae_padding_rows_total", "op") == {"encode": 0.0}
    metrics.batch("encode", rows=3, padding=1, seconds=0.001)
    assert samples(metrics.exposition().decode(), "vae_padding_rows_total", "op") == {"encode": 1.0}


def test_the_process_and_its_garbage_collector_are_told_of() -> None:
    """CPU, memory, open files, start time, collections: what an operator looks at first."""
    text = Metrics().exposition().decode()
    assert samples(text, "python_gc_collections_total", "generation").keys() == {"0", "1", "2"}
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"):
        assert f"\n{name} " in text


def test_p_values_are_told_of_what_is_served_and_of_what_was_before_it() -> None:
    """Months of reloads would else be as many series; the rows of the version before may not be scraped yet."""
    metrics = Metrics()
    for version in range(1, 6):
        metrics.serves("pumps", version, "0" * 64, seconds=0.1)
        if version != 3:
            metrics.scored(version, np.array([0.5, 0.7]), None)
    metrics.scored(1, np.array([0.5]), None)  # a request that came four reloads ago
    text = metrics.exposition().decode()
    assert samples(text, "vae_anomaly_p_value_count", "version") == {"4": 2.0, "5": 2.0}
    assert "vae_scored_rows_total 9.0" in text


def test_metrics_are_sent_as_the_text_format_of_prometheus(table_server: Server) -> None:
    """Prometheus 3 refuses a scrape whose Content-Type it does not know."""
    reply = table_server.client.get("/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert any(family.name == "vae_model_ready" for family in text_string_to_metric_families(reply.text))
