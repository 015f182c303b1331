"""
Tables of unusual shapes through the whole path: 1,500 columns, and 80 rows. Of mixed kinds, 10 % missing.

    python -m benchmarks.table_sizes

Makes each table as CSV under build/, with a schema that says which columns have an order, fits to it on one core
(`vae-train fit`, --epochs at most), opens the bundle as the service does, and scores rows with it. Prints Markdown: CPU
seconds and peak memory of each step, the sizes of the graphs, and what the calibration allows.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.fit_steps import measured
from benchmarks.mixed_table import ALL_KINDS, write_mixed, write_schema
from service.bundle import Bundle, open_bundle
from service.calibration import false_alarm_rate
from service.engine import Engine
from training.scorer import scores_of

SHAPES = {"wide": (2000, 1500), "small": (80, 12)}
_SCORED = 64


def main(arguments: Sequence[str] | None = None) -> int:
    """Make, fit, score, print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table_sizes", description=__doc__)
    parser.add_argument("--tables", default="wide,small")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("build/table-sizes"))
    options = parser.parse_args(arguments)
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    notes = []
    for i, name in enumerate(options.tables.split(",")):
        rows, columns = SHAPES[name]
        file, schema, model = (options.folder / f"{name}{end}" for end in (".csv", ".toml", ""))
        write_mixed(file, rows, columns, 0.1, ALL_KINDS)
        write_schema(schema, file)
        given = ["--data", str(file), "--schema", str(schema), "--output", str(model)]
        fit = measured([*given, "--epochs", str(options.epochs), "--threads", "1"], {"OMP_NUM_THREADS": "1"})
        bundle = open_bundle(model)
        start = time.process_time()
        engine = Engine.open(bundle, threads=1)
        opened = time.process_time() - start
        if not i:
            steps = [f"{step.name}, s" for step in fit.steps]
            heads = (
                "table",
                "file, MB",
                *steps,
                "the whole fit, s",
                "peak, GB",
                "open and check, s",
                "score 64 rows, ms",
            )
            print(f"| {' | '.join(heads)} | graphs, MB |\n" + "|---" * (len(heads) + 1) + "|")
        cells = [f"{rows:,} rows, {columns:,} columns", f"{file.stat().st_size / 1e6:.1f}"]
        cells += [f"{cpu_s:.1f}" for cpu_s in (*(step.cpu_s for step in fit.steps), fit.cpu_s)]
        cells += [f"{fit.peak / 1e9:.2f}", f"{opened:.1f}", f"{_score_ms(bundle, engine):.1f}"]
        cells += [", ".join(f"{graph} {len(data) / 1e6:.1f}" for graph, data in bundle.graphs.items())]
        print(f"| {' | '.join(cells)} |", flush=True)
        notes += [f"- {rows:,} rows: {line}" for line in (*fit.said.strip().splitlines(), _alphas(bundle))]
    print("\n" + "\n".join(notes))
    return 0


def _score_ms(bundle: Bundle, engine: Engine) -> float:
    """The median CPU time that the default score of 64 rows takes."""
    golden = bundle.golden["scorer"]["x"]
    x = golden[np.arange(_SCORED) % len(golden)]
    times = []
    for _ in range(11):
        start = time.process_time()
        scores_of(bundle, engine, x)
        times.append(time.process_time() - start)
    return 1e3 * sorted(times)[len(times) // 2]


def _alphas(bundle: Bundle) -> str:
    entry = bundle.manifest.calibrated[0]
    least = 1 / (entry.rows + 1)
    low, high = false_alarm_rate(entry.rows, least)
    return (
        f"{entry.rows} calibration rows: the least alpha is {least:.3g}, whose real rate is {low:.2g} to {high:.2g} in "
        f"90 % of all calibrations; thresholds at {', '.join(f'{threshold.alpha:g}' for threshold in entry.thresholds)}"
    )


if __name__ == "__main__":
    sys.exit(main())
