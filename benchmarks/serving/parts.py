"""
The parts of the benchmark, in the order in which they run.

A new one is a module with `measure` and `render`, a line here, and a section of the page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.serving import bulk, delay, growth, latency, scoring, start, throughput
from benchmarks.serving.bench import Bench, Result


@dataclass(frozen=True)
class Part:
    """*render* makes the section `serving:<name>` of the page. *wrk*: whether it cannot be measured without."""

    name: str
    about: str
    measure: Callable[[Bench], Result]
    render: Callable[[Mapping[str, Any]], str]
    wrk: bool = True


PARTS = (
    Part("start", "from the start of the process to ready", start.measure, start.render, wrk=False),
    Part(
        "throughput",
        "beside the floor and the peers: one row and 64, JSON and binary",
        throughput.measure,
        throughput.render,
    ),
    Part("scoring", "anomaly-score beside scorer.onnx in process", scoring.measure, scoring.render),
    Part("bulk", "single rows beside a bulk caller", bulk.measure, bulk.render, wrk=False),
    Part("latency", "latency against offered load", latency.measure, latency.render),
    Part("growth", "cost by rows, columns and K", growth.measure, growth.render),
    Part("delay", "max_batch_delay_ms", delay.measure, delay.render),
)
