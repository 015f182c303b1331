"""anomaly-score in binary tensors, 64 rows, K = 16, beside scorer.onnx in process with the same feeds and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving import tables
from benchmarks.serving.bench import Bench, Result, Work, closed_loop, middle, rows_of, spread
from benchmarks.serving.contenders import serve
from benchmarks.serving.in_process import InProcess, nll
from benchmarks.serving.wire import Arrays, Floats, tensor_binary

ROWS, DRAWS = 64, 16
CONNECTIONS = (1, 8)
PATH = "/v2/models/anomaly-score/infer"
OUTPUTS = ("log_w",)
"""Of the scorer, all that the default score needs; the explanations' outputs cost more and are not asked for."""


class Scorer:
    """scorer.onnx of a bundle in this process."""

    def __init__(self, bundle: Path) -> None:
        self._graph = InProcess(bundle / "scorer.onnx")
        self._eps = np.load(bundle / "eps.npy")
        self.columns = self._graph.columns

    def scores(self, x: Floats, draws: int) -> Arrays:
        """What the service must answer: {"score": (B,)}."""
        return {"score": nll(self._graph.run(self._feeds(x, draws), OUTPUTS)["log_w"])}

    def rows_per_s(self, xs: list[Floats], draws: int, seconds: float) -> float:
        """Rows a second, *xs* in turn."""
        feeds = [self._feeds(x, draws) for x in xs]
        return len(xs[0]) / self._graph.seconds(feeds, seconds, OUTPUTS)

    def _feeds(self, x: Floats, draws: int) -> Arrays:
        return {"x": x, "eps": self._eps[:draws]}


def measure(bench: Bench) -> Result:
    """In process in runs of 16 rows (as the service cuts them: a scored row counts once a draw) and of 64."""
    bundle, effort = bench.bundles.bench(), bench.effort
    scorer = Scorer(bundle)
    xs = rows_of(scorer.columns, ROWS, 16)
    wire = tensor_binary(PATH, samples=DRAWS)
    work = Work.of(wire, xs, partial(scorer.scores, draws=DRAWS))
    points: dict[str, list[dict[str, float]]] = {}
    in_process: dict[str, list[float]] = {}
    for turn in range(effort.rounds):
        bench.say(f"scoring, round {turn + 1} of {effort.rounds}")
        for rows in (16, ROWS):
            parts = [x[:rows] for x in xs]
            found = scorer.rows_per_s(parts, DRAWS, effort.in_process_s)
            in_process.setdefault(str(rows), []).append(found)
        with serve(bundle, bench.port, bench.log("scoring")) as process:
            for connections in CONNECTIONS:
                point = closed_loop(process, wire, work, connections, effort.seconds, effort.warm_s)
                points.setdefault(str(connections), []).append(point)
    return {"points": points, "in_process_rows_per_s": in_process}


def ratios(result: Mapping[str, Any], connections: int = 8) -> list[float]:
    """Rows a second over those in process, by round: over the faster of the two sizes of runs."""
    best = [max(pair) for pair in zip(*result["in_process_rows_per_s"].values(), strict=True)]
    ours = [point["rows_per_s"] for point in result["points"][str(connections)]]
    return [mine / other for mine, other in zip(ours, best, strict=True)]


def render(result: Mapping[str, Any]) -> str:
    """One table."""
    rows = []
    for connections, points in result["points"].items():
        found = middle(points)
        cells = [f"vae-serve, {connections} connection{'s' if connections != '1' else ''}"]
        cells += [tables.middle(found["rows_per_s"]), tables.middle(found["p50_ms"], "{:.2f}")]
        cells += [tables.middle(found["p99_ms"], "{:.1f}"), f"{found['cpu_ms'][0]:.2f}"]
        rows.append([*cells, tables.middle(spread(ratios(result, int(connections))), "{:.2f}")])
    for size, values in result["in_process_rows_per_s"].items():
        rows.append([f"in process, {size} rows a run", tables.middle(spread(values)), "", "", "", ""])
    head = ["", "rows/s", "p50, ms", "p99, ms", "CPU ms a request", "of in process"]
    return tables.table(head, rows)
