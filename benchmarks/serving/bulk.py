"""
A single row's latency beside a bulk caller: what one caller can do to another.

Single rows come as a Poisson process, slow enough to cost next to nothing; one bulk caller posts 1,024 rows, again and
again without pause, in binary and then in JSON. Told as a multiple of one batch's time: 256 rows in process. The
generator of single rows goes ahead of all else: how long it waits for a processor is not the service's doing.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import httpx

from benchmarks.serving import answers, tables
from benchmarks.serving.bench import Bench, Result, Work, middle, rows_of, spread
from benchmarks.serving.bulk_caller import BulkCaller
from benchmarks.serving.contenders import OURS, named, serve
from benchmarks.serving.in_process import InProcess
from benchmarks.serving.open_loop import ahead_of_others, drive, poisson, request

ROWS, BATCH = 1024, 256
TRICKLE_PER_S = 100
ALONE, BINARY, JSON = "no bulk caller", "binary bulk", "JSON bulk"


def measure(bench: Bench) -> Result:
    """The single rows' percentiles alone and beside each bulk caller, and the seconds of a batch in process."""
    bundle, effort, ours = bench.bundles.bench(), bench.effort, named(OURS)
    assert ours.binary is not None
    graph = InProcess(bundle / "encoder.onnx")
    ones, many = rows_of(graph.columns, 1, 64), rows_of(graph.columns, ROWS, 4)
    batches = [{"x": x[:BATCH]} for x in many]
    single = Work.of(ours.json, ones, graph.codes)
    bulk = {name: (wire, Work.of(wire, many, graph.codes)) for name, wire in ((BINARY, ours.binary), (JSON, ours.json))}
    requests = [request(ours.json.path, body) for body in single.bodies]
    points: dict[str, list[dict[str, float]]] = {}
    batch_ms, parse_ms = [], []
    for turn in range(effort.rounds):
        bench.say(f"bulk, round {turn + 1} of {effort.rounds}")
        batch_ms.append(1000 * graph.seconds(batches, effort.in_process_s))
        with serve(bundle, bench.port, bench.log("bulk")) as process:
            answers.check(process.port, ours.json, single.bodies[: len(single.expected)], single.expected)
            for number, name in enumerate((ALONE, BINARY, JSON)):
                caller = None
                if name != ALONE:
                    wire, work = bulk[name]
                    answers.check(process.port, wire, work.bodies[: len(work.expected)], work.expected)
                    caller = BulkCaller(process.port, wire, work.bodies)
                before = _parses(process.port)
                due = poisson(TRICKLE_PER_S, effort.bulk_s, seed=10 * turn + number)
                with caller or nullcontext():
                    with ahead_of_others():
                        outcome = drive(process.port, requests, due, connections=16)
                    found = outcome.figures()
                    replies = caller.replies() if caller else 0
                points.setdefault(name, []).append({**found, "bulk_rows_per_s": replies * ROWS / effort.bulk_s})
                if name == JSON:
                    parse_ms.append(_bulk_parse_ms(before, _parses(process.port), replies))
    return {"points": points, "batch_ms": batch_ms, "json_parse_ms": parse_ms}


def multiples(result: Mapping[str, Any], name: str = BINARY) -> list[float]:
    """p99 in batches' times, by round."""
    found = zip(result["points"][name], result["batch_ms"], strict=True)
    return [point["p99_ms"] / batch_ms for point, batch_ms in found]


def multiples_past_parse(result: Mapping[str, Any]) -> list[float]:
    """p99 beside the JSON bulk caller less the parse of one of its bodies, in batches' times, by round; 0 at least."""
    found = zip(result["points"][JSON], result["json_parse_ms"], result["batch_ms"], strict=True)
    return [max(0.0, point["p99_ms"] - parse_ms) / batch_ms for point, parse_ms, batch_ms in found]


def render(result: Mapping[str, Any]) -> str:
    """One table, and what a batch and a parse take."""
    rows = []
    for name, points in result["points"].items():
        found = middle(points)
        cells = [name, *(tables.middle(found[f"{p}_ms"], "{:.2f}") for p in ("p50", "p95", "p99"))]
        cells.append(tables.middle(spread(multiples(result, name)), "{:.1f}"))
        cells.append(tables.middle(found["bulk_rows_per_s"]) if name != ALONE else "")
        rows.append([*cells, tables.middle(found["late_ms"], "{:.2f}")])
    head = [
        "beside",
        "p50, ms",
        "p95, ms",
        "p99, ms",
        "p99 in batches' times",
        "bulk rows/s",
        "generator late, p99, ms",
    ]
    batch = tables.middle(spread(result["batch_ms"]), "{:.2f}")
    parse = tables.middle(spread(result["json_parse_ms"]), "{:.1f}")
    return (
        f"{tables.table(head, rows)}\n\nOne batch of {BATCH} rows in process takes {batch} ms; one JSON body of "
        f"{ROWS:,} rows is parsed in about {parse} ms (by the service's own `vae_stage_duration_seconds`)."
    )


def _parses(port: int) -> float:
    """Seconds that the service has spent on parsing bodies for encode so far."""
    for line in httpx.get(f"http://127.0.0.1:{port}/metrics").text.splitlines():
        if line.startswith("vae_stage_duration_seconds_sum") and 'stage="parse"' in line and 'op="encode"' in line:
            return float(line.rsplit(" ", 1)[1])
    return 0.0


def _bulk_parse_ms(before: float, after: float, replies: int) -> float:
    """Of one bulk body. The single rows' own parsing, some 0.02 ms each, is in it and does not show."""
    return 1000 * (after - before) / max(1, replies)
