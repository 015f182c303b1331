"""
The parts of the benchmark, in the order in which they run.

A new one is a module with `measure` and `render`, a line here, and a section `serving:<name>` of the page.
"""

from __future__ import annotations

from benchmarks.part import Part
from benchmarks.serving import bulk, delay, growth, latency, scoring, start, throughput
from benchmarks.serving.bench import Bench

PARTS: tuple[Part[Bench], ...] = (
    Part("start", "from the start of the process to ready", start.measure, start.render),
    Part(
        "throughput",
        "beside the floor and the peers: one row and 64, JSON and binary",
        throughput.measure,
        throughput.render,
        wrk=True,
    ),
    Part("scoring", "anomaly-score beside scorer.onnx in process", scoring.measure, scoring.render, wrk=True),
    Part("bulk", "single rows beside a bulk caller", bulk.measure, bulk.render),
    Part("latency", "latency against offered load", latency.measure, latency.render, wrk=True),
    Part("growth", "cost by rows, columns and K", growth.measure, growth.render, wrk=True),
    Part("delay", "max_batch_delay_ms", delay.measure, delay.render, wrk=True),
)
