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
WORTH = 0.1
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


def gain(model: Mapping[str, Any], figure: str, more: bool) -> str:
    """The most that a delay gained over none in *figure*, by how much, and where; in words."""
    best, where = 0.0, ""
    for load, points in model["points"].items():
        if more and not load.endswith("connections"):
            continue  # under an offered load the rate is given
        for delay, point in points.items():
            change = point[figure] / points["0"][figure] - 1
            if (change if more else -change) > best:
                best, where = abs(change), f"{load}, {delay} ms"
    if best < WORTH:
        return f"nothing above {WORTH:.0%}"
    return f"{best:.0%} {'more' if more else 'less'} ({where})"


def render(result: Mapping[str, Any]) -> str:
    """For each model a table, and a sentence on what a delay gained at most."""
    text = []
    for name, model in result["models"].items():
        share = model["alone_us"] / model["batched_us"]
        text.append(
            f"`{name}`: in process a row takes {model['alone_us']:,.0f} us alone and {model['batched_us']:,.1f} us "
            f"in a batch of 64: {share:.1f} times less. Cells: requests/s, p50, p99 in ms, CPU ms a request."
        )
        delays = list(next(iter(model["points"].values())))
        rows = [[load, *(_cell(points[delay]) for delay in delays)] for load, points in model["points"].items()]
        text.append(tables.table(["load", *(f"{delay} ms" for delay in delays)], rows))
        text.append(
            f"The most that any delay gained here over none: requests/s, {gain(model, 'requests_per_s', True)}; "
            f"p99, {gain(model, 'p99_ms', False)}; CPU a request, {gain(model, 'cpu_ms', False)}."
        )
    return "\n\n".join(text)


def _cell(point: Mapping[str, float]) -> str:
    return f"{point['requests_per_s']:,.0f}; {point['p50_ms']:.2f}, {point['p99_ms']:.1f}; {point['cpu_ms']:.3f}"
