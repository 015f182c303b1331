"""
The servers on the same work, one after another, in rounds: encode 784 floats to 32 latents, JSON and binary.

Ratios are taken within a round, where both sides met the same machine, and the median over rounds is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.serving import tables
from benchmarks.serving.bench import Bench, Result, Work, bodies_for, closed_loop, middle, rows_of, spread
from benchmarks.serving.contenders import CONTENDERS, FLOOR, MOSEC, OURS, TRITON, Contender
from benchmarks.serving.failures import Failure
from benchmarks.serving.in_process import InProcess

JSON = (("json", 1, 1), ("json", 1, 64), ("json", 64, 8))
BINARY = (("binary", 64, 1), ("binary", 64, 8))
"""Format, rows, connections."""

NEEDED = {OURS, FLOOR, MOSEC, TRITON}
"""What the bars name."""


def measure(bench: Bench) -> Result:
    """Points by server, in the order of the rounds; what could not be measured with the reason."""
    bundle = bench.bundles.bench()
    graph = InProcess(bundle / "encoder.onnx")
    rounds: dict[str, dict[str, list[dict[str, float]]]] = {}
    missing = {} if bench.effort.peers else {one.name: "a quick run" for one in CONTENDERS if one.name not in NEEDED}
    in_process: list[float] = []
    xs = {rows: rows_of(graph.columns, rows, bodies_for(rows)) for rows in (1, 64)}
    works: dict[tuple[str, str, int], Work] = {}
    for turn in range(bench.effort.rounds):
        in_process.append(64 / graph.seconds([{"x": x} for x in xs[64]], bench.effort.in_process_s))
        for one in CONTENDERS:
            if reason := one.missing(bench.peers) or missing.get(one.name):
                missing[one.name] = reason
                continue
            bench.say(f"throughput, round {turn + 1} of {bench.effort.rounds}: {one.name}")
            try:
                with one.process(bundle, bench.port, bench.peers, bench.log(one.name)) as process:
                    for kind, rows, connections in _points(one):
                        wire = one.json if kind == "json" else one.binary
                        assert wire is not None
                        key = (one.name, kind, rows)
                        works[key] = works.get(key) or Work.of(wire, xs[rows], graph.codes)
                        effort = bench.effort
                        point = closed_loop(process, wire, works[key], connections, effort.seconds, effort.warm_s)
                        found = rounds.setdefault(one.version(bench.peers), {})
                        found.setdefault(f"{kind} {rows} {connections}", []).append(point)
            except Failure as error:
                if one.name == OURS:
                    raise
                missing[one.name] = f"failed: {error}"
                rounds.pop(one.version(bench.peers), None)
    return {"rounds": rounds, "missing": missing, "in_process_rows_per_s": in_process}


def ratio(result: Mapping[str, Any], point: str, figure: str, beside: str) -> list[float] | None:
    """Ours over *beside*'s, by round; None where the other is missing. *beside* may be "in process"."""
    ours = [found[figure] for found in result["rounds"][OURS][point]]
    if beside == "in process":
        others = result["in_process_rows_per_s"]
    else:
        name = next((name for name in result["rounds"] if name.startswith(beside)), None)
        if name is None or point not in result["rounds"][name]:
            return None
        others = [found[figure] for found in result["rounds"][name][point]]
    return [mine / other for mine, other in zip(ours, others, strict=True)]


def render(result: Mapping[str, Any]) -> str:
    """Two tables, their ratios, and what is not in them."""
    servers = {name: {key: middle(found) for key, found in points.items()} for name, points in result["rounds"].items()}
    json_rows, binary_rows = [], []
    for name, points in servers.items():
        label = f"**{name}**" if name == OURS else name
        one, many, bulk = (points[f"{kind} {rows} {connections}"] for kind, rows, connections in JSON)
        json_rows.append(
            [
                label,
                tables.middle(one["p50_ms"], "{:.2f}"),
                tables.middle(many["requests_per_s"]),
                tables.middle(many["p99_ms"], "{:.1f}"),
                f"{many['cpu_ms'][0]:.3f}",
                tables.middle(bulk["rows_per_s"]),
                tables.middle(bulk["p99_ms"], "{:.0f}"),
                f"{bulk['rss_mb'][0]:,.0f}",
            ]
        )
        if "binary 64 8" in points:
            alone, eight = points["binary 64 1"], points["binary 64 8"]
            figures = [tables.middle(alone["rows_per_s"]), tables.middle(alone["p50_ms"], "{:.2f}")]
            figures += [tables.middle(eight["rows_per_s"]), tables.middle(eight["p99_ms"], "{:.1f}")]
            binary_rows.append([label, *figures, f"{eight['cpu_ms'][0]:.3f}"])
    graph = tables.middle(spread(result["in_process_rows_per_s"]))
    binary_rows.append(["onnxruntime in process", graph, "", graph, "", ""])
    json_head = ["server", "1 row, 1 connection: p50, ms", "1 row, 64 connections: requests/s", "p99, ms"]
    json_head += ["CPU ms a request", "64 rows, 8 connections: rows/s", "p99, ms", "memory, MB"]
    binary_head = ["server", "64 rows, 1 connection: rows/s", "p50, ms", "64 rows, 8 connections: rows/s", "p99, ms"]
    text = [
        "In JSON:",
        tables.table(json_head, json_rows),
        "In binary tensors of the Open Inference Protocol, where a server has them (the floor takes the bare numbers):",
        tables.table([*binary_head, "CPU ms a request"], binary_rows),
        "The service over each, the median of the rounds' own ratios and their range:",
        _ratios(result, list(servers)),
    ]
    text.append(tables.left_out(result["missing"]))
    return "\n\n".join(text)


def _ratios(result: Mapping[str, Any], names: list[str]) -> str:
    figures = (
        ("json 1 1", "p50_ms"),
        ("json 1 64", "requests_per_s"),
        ("json 64 8", "rows_per_s"),
        ("binary 64 1", "rows_per_s"),
        ("binary 64 8", "rows_per_s"),
    )
    head = ["beside", "p50 of 1 row, JSON (less is better)", "1 row, 64 connections, JSON", "64 rows, JSON"]
    rows = []
    for name in [*(name for name in names if name != OURS), "in process"]:
        cells = [name]
        for point, figure in figures:
            known = name != "in process" or point.startswith("binary")
            found = ratio(result, point, figure, name) if known else None
            cells.append(tables.middle(spread(found), "{:.2f}") if found else "")
        rows.append(cells)
    return tables.table([*head, "64 rows, binary, 1 connection", "64 rows, binary, 8 connections"], rows)


def _points(one: Contender) -> tuple[tuple[str, int, int], ...]:
    return JSON + BINARY if one.binary is not None else JSON
