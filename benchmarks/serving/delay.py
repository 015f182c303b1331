"""
`max_batch_delay_ms`: when does waiting for others pay?

Three sizes of model, each with no delay and with several, under closed loops and under Poisson load in percent of the
capacity without delay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.serving import tables
from benchmarks.serving.bench import Bench, Result, Work, bodies_for, closed_loop, rows_of
from benchmarks.serving.bundles import SHIPPED
from benchmarks.serving.contenders import OURS, named, serve
from benchmarks.serving.in_process import InProcess
from benchmarks.serving.open_loop import CONNECTIONS, drive, poisson, request

CLOSED = (8, 64)
"""Connections."""
OPEN = (30, 80)
"""Percent of the capacity."""
WORTH = 0.05
"""A gain that is less than this share is taken for noise."""


def measure(bench: Bench) -> Result:
    """By model: what a row costs alone and in a batch of 64, and the points by load and delay."""
    effort, wire = bench.effort, named(OURS).json
    models = {"digits (shipped)": SHIPPED, "784-400-400-32": bench.bundles.bench()}
    if not effort.quick:
        models["784-2048-2048-64"] = bench.bundles.wide()
    found: dict[str, Any] = {}
    for name, bundle in models.items():
        graph = InProcess(bundle / "encoder.onnx")
        xs = [x.reshape(1, *graph.shape) for x in rows_of(graph.columns, 1, bodies_for(1))]
        many = [x.reshape(64, *graph.shape) for x in rows_of(graph.columns, 64, 4)]
        alone = 1e6 * graph.seconds([{"x": x} for x in xs], effort.in_process_s / 3)
        batched = 1e6 * graph.seconds([{"x": x} for x in many], effort.in_process_s / 3) / 64
        work = Work.of(wire, xs, graph.codes)
        requests = [request(wire.path, body) for body in work.bodies]
        points: dict[str, dict[str, dict[str, float]]] = {}
        capacity = 0.0
        for delay in effort.delays_ms:
            bench.say(f"delay: {name}, {delay:g} ms")
            with serve(bundle, bench.port, bench.log("delay"), max_batch_delay_ms=delay) as process:
                for connections in CLOSED:
                    point = closed_loop(process, wire, work, connections, effort.window_s, 1)
                    points.setdefault(f"{connections} connections", {})[f"{delay:g}"] = point
                capacity = capacity or point["requests_per_s"]
                for percent in OPEN:
                    due = poisson(capacity * percent / 100, effort.window_s, seed=percent)
                    before = process.cpu_s()
                    figures = drive(process.port, requests, due, CONNECTIONS).figures()
                    cpu_ms = 1000 * (process.cpu_s() - before) / len(due)
                    point = {**figures, "requests_per_s": figures["achieved_per_s"], "cpu_ms": cpu_ms}
                    points.setdefault(f"{percent} % offered", {})[f"{delay:g}"] = point
        found[name] = {"alone_us": alone, "batched_us": batched, "points": points}
    return {"models": found}


def gains(result: Mapping[str, Any]) -> list[str]:
    """Where a delay beat none by more than WORTH, in requests a second or in p99, in words."""
    told = []
    for name, model in result["models"].items():
        for load, points in model["points"].items():
            none = points["0"]
            for delay, point in points.items():
                better = []
                if load.endswith("connections") and point["requests_per_s"] > (1 + WORTH) * none["requests_per_s"]:
                    better.append(f"{point['requests_per_s'] / none['requests_per_s'] - 1:.0%} more requests")
                if point["p99_ms"] < (1 - WORTH) * none["p99_ms"]:
                    better.append(f"{1 - point['p99_ms'] / none['p99_ms']:.0%} less p99")
                if point["cpu_ms"] < (1 - WORTH) * none["cpu_ms"]:
                    better.append(f"{1 - point['cpu_ms'] / none['cpu_ms']:.0%} less CPU a request")
                if better and delay != "0":
                    told.append(f"{name}, {load}, {delay} ms: {', '.join(better)}")
    return told


def render(result: Mapping[str, Any]) -> str:
    """A table for each model, and a sentence."""
    text = []
    for name, model in result["models"].items():
        gain = model["alone_us"] / model["batched_us"]
        text.append(
            f"`{name}`: in process a row takes {model['alone_us']:,.0f} us alone and {model['batched_us']:,.1f} us "
            f"in a batch of 64: {gain:.1f} times less. Cells: requests/s, p50, p99 in ms, CPU ms a request."
        )
        delays = list(next(iter(model["points"].values())))
        rows = [[load, *(_cell(points[delay]) for delay in delays)] for load, points in model["points"].items()]
        text.append(tables.table(["load", *(f"{delay} ms" for delay in delays)], rows))
    told = gains(result)
    if told:
        listed = "\n".join(f"- {line}" for line in told)
        text.append(f"A delay was better by more than {WORTH:.0%} in something here, one window each:\n\n{listed}")
    else:
        text.append(f"In none of these did a delay gain more than {WORTH:.0%} of anything: leave it at 0.")
    return "\n\n".join(text)


def _cell(point: Mapping[str, float]) -> str:
    return f"{point['requests_per_s']:,.0f}; {point['p50_ms']:.2f}, {point['p99_ms']:.1f}; {point['cpu_ms']:.3f}"
