"""
Latency against offered load: single rows in JSON from a Poisson process, from a tenth of the capacity to past it.

The capacity is each server's own, by wrk with 64 connections. Past it the queue grows for as long as it is measured, so
those latencies say how long that was, and that nothing broke.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.serving import tables
from benchmarks.serving.bench import Bench, Result, Work, bodies_for, closed_loop, middle, rows_of
from benchmarks.serving.ceiling import ceiling
from benchmarks.serving.contenders import FLOOR, MOSEC, OURS, TRITON, named
from benchmarks.serving.failures import Failure
from benchmarks.serving.in_process import InProcess
from benchmarks.serving.open_loop import CONNECTIONS, drive, poisson, request

SERVERS = (OURS, FLOOR, MOSEC, TRITON)
TRUSTED = 0.8
"""Of the generator's ceiling: above that it may be what is measured, and the load is left out."""


def measure(bench: Bench) -> Result:
    """By server: the capacity, and by offered load (percent of it) the percentiles of each round."""
    bundle, effort = bench.bundles.bench(), bench.effort
    graph = InProcess(bundle / "encoder.onnx")
    xs = rows_of(graph.columns, 1, bodies_for(1))
    servers: dict[str, Any] = {}
    missing: dict[str, str] = {}
    requests = [request("/v1/encode", body) for body in Work.of(named(OURS).json, xs, lambda x: {}).bodies]
    bench.say("latency: the generator's ceiling")
    most = ceiling(requests, bytes(1300), bench.port)
    for turn in range(effort.rounds):
        for one in map(named, SERVERS):
            if reason := one.missing(bench.peers) or missing.get(one.name):
                missing[one.name] = reason
                continue
            bench.say(f"latency, round {turn + 1} of {effort.rounds}: {one.name}")
            name = one.version(bench.peers)
            work = Work.of(one.json, xs, graph.codes)
            requests = [request(one.json.path, body) for body in work.bodies]
            try:
                with one.process(bundle, bench.port, bench.peers, bench.log(one.name)) as process:
                    if name not in servers:
                        capacity = closed_loop(process, one.json, work, CONNECTIONS, effort.seconds, effort.warm_s)
                        servers[name] = {"capacity_per_s": capacity["requests_per_s"], "points": {}}
                    else:
                        drive(process.port, requests, poisson(500, 1, turn))  # warm
                    for percent in effort.offered:
                        rate = servers[name]["capacity_per_s"] * percent / 100
                        if rate > TRUSTED * most:
                            continue
                        due = poisson(rate, effort.window_s, seed=1000 * turn + percent)
                        found = {**drive(process.port, requests, due).figures(), "offered_per_s": rate}
                        servers[name]["points"].setdefault(str(percent), []).append(found)
            except Failure as error:
                if one.name == OURS:
                    raise
                missing[one.name] = f"failed: {error}"
                servers.pop(name, None)
    return {"servers": servers, "missing": missing, "generator_per_s": most, "window_s": effort.window_s}


def curves(result: Mapping[str, Any]) -> dict[str, dict[str, list[list[float]]]]:
    """By server and percentile: (offered load, median, least, most) in requests a second and milliseconds."""
    found: dict[str, dict[str, list[list[float]]]] = {}
    for name, server in result["servers"].items():
        points = [middle(rounds) for rounds in server["points"].values()]
        found[name] = {p: [[q["offered_per_s"][0], *q[f"{p}_ms"]] for q in points] for p in ("p50", "p95", "p99")}
    return found


def render(result: Mapping[str, Any]) -> str:
    """The plot, and the figures behind it."""
    rows = []
    for name, server in result["servers"].items():
        for percent, rounds in server["points"].items():
            found = middle(rounds)
            cells = [name, f"{percent} %", f"{found['offered_per_s'][0]:,.0f}", tables.middle(found["achieved_per_s"])]
            cells += [tables.middle(found[f"{p}_ms"], "{:.2f}") for p in ("p50", "p95", "p99")]
            rows.append([*cells, tables.middle(found["late_ms"], "{:.2f}")])
    head = ["server", "of its capacity", "offered, requests/s", "answered", "p50, ms", "p95, ms", "p99, ms"]
    text = [
        "![p50, p95 and p99 of single rows against the offered load](latency.svg)",
        f"The generator alone does at least {result['generator_per_s']:,.0f} requests a second here; loads above "
        f"{TRUSTED:.0%} of that are left out. The last column is how late it was itself with a connection free. Each "
        f"load lasted {result['window_s']:g} s a round; above 100 % the queue grows until the end of that.",
        tables.table([*head, "generator late, p99, ms"], rows),
    ]
    text.append(tables.left_out(result["missing"]))
    return "\n\n".join(text)
