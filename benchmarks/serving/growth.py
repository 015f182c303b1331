"""How the cost of a request grows with its rows, its columns and the draws K, beside the same graph in process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.serving import tables
from benchmarks.serving.bench import Bench, Result, Work, bodies_for, closed_loop, middle, rows_of
from benchmarks.serving.contenders import OURS, named, serve
from benchmarks.serving.in_process import InProcess
from benchmarks.serving.scoring import PATH, ROWS, Scorer
from benchmarks.serving.wire import tensor_binary

COLUMN_ROWS = 16
"""Rows in a request while the columns grow."""

Points = dict[str, dict[str, list[dict[str, float]]]]


def measure(bench: Bench) -> Result:
    """By what grows: by its size and format the points of each round, and the milliseconds in process."""
    effort = bench.effort
    found: dict[str, Points] = {"rows": {}, "columns": {}, "draws": {}}
    for turn in range(effort.rounds):
        bench.say(f"growth, round {turn + 1} of {effort.rounds}: rows")
        _encode(bench, bench.bundles.bench(), effort.rows, found["rows"])
        for columns in effort.columns:
            bench.say(f"growth, round {turn + 1} of {effort.rounds}: {columns} columns")
            _encode(bench, bench.bundles.columns(columns), (COLUMN_ROWS,), found["columns"], str(columns))
        bench.say(f"growth, round {turn + 1} of {effort.rounds}: K")
        _score(bench, bench.bundles.draws(), effort.draws, found["draws"])
    return dict(found)


def _encode(bench: Bench, bundle: Path, sizes: Sequence[int], points: Points, name: str | None = None) -> None:
    graph, ours, seconds = InProcess(bundle / "encoder.onnx"), named(OURS), _seconds(bench)
    assert ours.binary is not None
    with serve(bundle, bench.port, bench.log("growth")) as process:
        for rows in sizes:
            xs = rows_of(graph.columns, rows, min(16, bodies_for(rows)))
            into = points.setdefault(name or str(rows), {})
            alone = graph.seconds([{"x": x} for x in xs], seconds / 2)
            into.setdefault("in process", []).append({"p50_ms": 1000 * alone})
            for kind, wire in (("JSON", ours.json), ("binary", ours.binary)):
                work = Work.of(wire, xs, graph.codes)
                into.setdefault(kind, []).append(closed_loop(process, wire, work, 1, seconds, 1))


def _score(bench: Bench, bundle: Path, samples: Sequence[int], points: Points) -> None:
    scorer, seconds = Scorer(bundle), _seconds(bench)
    xs = rows_of(scorer.columns, ROWS, 8)
    with serve(bundle, bench.port, bench.log("growth")) as process:
        for draws in samples:
            into = points.setdefault(str(draws), {})
            alone = ROWS / scorer.rows_per_s(xs, draws, seconds / 2)
            into.setdefault("in process", []).append({"p50_ms": 1000 * alone})
            wire = tensor_binary(PATH, samples=draws)
            work = Work.of(wire, xs, partial(scorer.scores, draws=draws))
            into.setdefault("binary", []).append(closed_loop(process, wire, work, 1, seconds, 1))


def _seconds(bench: Bench) -> float:
    return min(1.0, bench.effort.seconds)


def render(result: Mapping[str, Any]) -> str:
    """Three tables."""
    texts = []
    for what, about in (
        ("rows", "encode 784 columns, by the rows of a request"),
        ("columns", f"encode {COLUMN_ROWS} rows, by their columns (columns-400-400-32)"),
        ("draws", f"anomaly-score of {ROWS} rows of 784 columns in binary, by the draws K"),
    ):
        formats = [kind for kind in ("JSON", "binary") if kind in next(iter(result[what].values()))]
        rows = []
        for size, points in result[what].items():
            alone = middle(points["in process"])["p50_ms"]
            cells = [f"{int(size):,}", _ms(alone)]
            for kind in formats:
                found = middle(points[kind])
                cells += [_ms(found["p50_ms"]), _ms(found["cpu_ms"]), f"{found['p50_ms'][0] / alone[0]:.1f}"]
            rows.append(cells)
        head = [what if what != "draws" else "K", "in process, ms"]
        for kind in formats:
            head += [f"{kind}: p50, ms", f"{kind}: CPU ms", f"{kind}: p50 over in process"]
        texts += [f"{about[0].upper()}{about[1:]}, one connection:", tables.table(head, rows)]
    return "\n\n".join(texts)


def _ms(found: Sequence[float]) -> str:
    return tables.middle(found, "{:.2f}" if found[0] < 100 else "{:,.0f}")
