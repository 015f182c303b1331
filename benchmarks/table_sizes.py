"""
Tables of unusual shapes through the whole path: 1,500 columns, and 80 rows. Of mixed kinds, with missing values.

    python -m benchmarks.table_sizes

Makes each table as CSV under build/, fits to it (`vae-train fit`, --epochs at most), opens the bundle as the service
does, and scores rows with it. Prints Markdown: seconds, the sizes of the graphs, and what the calibration allows.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from service.bundle import Bundle, open_bundle
from service.calibration import false_alarm_rate
from service.engine import Engine
from training.scorer import scores_of

SHAPES = {"wide": (5000, 1500), "small": (80, 12)}
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
    heads = ("table", "file, MB", "`vae-train fit`, s", "of these the steps", "open and check, s", "score 64 rows, ms")
    print(f"| {' | '.join(heads)} | graphs, MB |\n" + "|---" * 7 + "|")
    notes = []
    for name in options.tables.split(","):
        rows, columns = SHAPES[name]
        file, model = options.folder / f"{name}.csv", options.folder / name
        make(file, rows, columns)
        start = time.perf_counter()
        command = [sys.executable, "-m", "training", "fit", "--data", str(file), "--output", str(model), "--quiet"]
        done = subprocess.run(
            [*command, "--epochs", str(options.epochs)], check=True, stderr=subprocess.PIPE, text=True
        )
        whole = time.perf_counter() - start
        bundle = open_bundle(model)
        start = time.perf_counter()
        engine = Engine.open(bundle, threads=1)
        opened = time.perf_counter() - start
        fitted = json.loads(json.dumps(bundle.manifest.training))["result"]["seconds"]
        sizes = {graph: len(data) / 1e6 for graph, data in bundle.graphs.items()}
        print(
            f"| {rows:,} rows, {columns:,} columns | {file.stat().st_size / 1e6:.1f} | {whole:.0f} | {fitted:.0f} | "
            f"{opened:.1f} | {_score_ms(bundle, engine):.1f} | "
            f"{', '.join(f'{graph} {size:.1f}' for graph, size in sizes.items())} |",
            flush=True,
        )
        notes += [f"- {rows:,} rows: {line}" for line in (*done.stderr.strip().splitlines(), _alphas(bundle))]
    print("\n" + "\n".join(notes))
    return 0


def make(file: Path, rows: int, columns: int, seed: int = 0) -> None:
    """A third of the columns numbers, a third counts, a third categories, all of a few hidden causes; 2 % missing."""
    generator = np.random.default_rng(seed)
    causes = generator.standard_normal((rows, 8)) @ generator.standard_normal((8, columns)) / 8**0.5
    missing = generator.random((rows, columns)) < 0.02
    table = []
    for c in range(columns):
        if c % 3 == 0:
            texts = np.char.mod("%.4f", causes[:, c] * 10.0 ** (c % 5))
        elif c % 3 == 1:
            texts = generator.poisson(np.exp(causes[:, c])).astype(str)
        else:
            texts = np.array(["low", "mid", "high"])[np.clip(np.rint(causes[:, c]), -1, 1).astype(int) + 1]
        table.append(np.where(missing[:, c], "", texts))
    lines = [",".join(f"c{c}" for c in range(columns)), *(",".join(row) for row in zip(*table, strict=True))]
    file.write_text("\n".join(lines) + "\n")


def _score_ms(bundle: Bundle, engine: Engine) -> float:
    """The median time that the default score of 64 rows takes."""
    golden = bundle.golden["scorer"]["x"]
    x = golden[np.arange(_SCORED) % len(golden)]
    times = []
    for _ in range(11):
        start = time.perf_counter()
        scores_of(bundle, engine, x)
        times.append(time.perf_counter() - start)
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
