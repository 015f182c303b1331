"""
The training loop beside pythae's: the same model, data, batches and optimiser, on the same machine, in turns.

    python3.11 -m venv build/pythae
    build/pythae/bin/pip install pythae==0.1.2 torch==2.13.0
    python -m benchmarks.fit_throughput

pythae's default VAE, 784-512-32 and back with ReLU, Bernoulli, on MNIST-shaped binary rows; AdamW at 1e-3 without
decay, float32, CPU. What is timed: the steps of an epoch (drawing batches, forward, backward, update), the first epoch
left out. Ours also clips gradients, checks that they are finite and validates on 20 rows, and all that counts. Each
fit is a process of its own; ours and pythae's take turns. Prints Markdown: the median over all epochs, and the range.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.serving import machine
from training.binarize import binary_inputs
from training.data import from_arrays
from training.fit import FitOptions, fit
from training.models.mlp import VAE, VAEConfig

FEATURES, HIDDEN, LATENTS = 784, 512, 32
SETTINGS = ((1, 128), (1, 512), (2, 128), (2, 512))
"""Threads and rows in a batch."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, or with --ours the figures of one fit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fit_throughput", description=__doc__)
    parser.add_argument("--python", type=Path, default=Path("build/pythae/bin/python"), help="one that has pythae")
    parser.add_argument("--repeats", type=int, default=3, help="fits of each, in turns")
    parser.add_argument("--rows", type=int, default=25600)
    parser.add_argument("--epochs", type=int, default=4, help="of each fit, the first not timed")
    parser.add_argument("--ours", nargs=2, type=int, metavar=("THREADS", "BATCH"), help="one fit, as JSON")
    options = parser.parse_args(arguments)
    if options.ours:
        threads, batch = options.ours
        print(json.dumps(ours(threads, batch, options.rows, options.epochs)))
        return 0
    if not options.python.exists():
        print(f"{options.python} is not there: nothing is measured. How to make it:\n{__doc__}", file=sys.stderr)
        return 2
    print("| threads | batch | vae-train, rows/s | range | pythae, rows/s | range | ratio |")
    print("|---|---|---|---|---|---|---|")
    for threads, batch in SETTINGS:
        rates: dict[str, list[float]] = {"ours": [], "pythae": []}
        for _ in range(options.repeats):
            for name in rates:
                rates[name] += _measured(name, threads, batch, options)
        cells = [f"{statistics.median(r):,.0f} | {min(r):,.0f} to {max(r):,.0f}" for r in rates.values()]
        ratio = statistics.median(rates["ours"]) / statistics.median(rates["pythae"])
        print(f"| {threads} | {batch} | {cells[0]} | {cells[1]} | {ratio:.2f} |", flush=True)
    print(f"\n{options.repeats} fits of {options.epochs} epochs of {options.rows:,} rows each, in turns.", end=" ")
    print(f"{machine.words('torch')}, {_pythae(options.python)}.")
    return 0


def ours(threads: int, batch: int, rows: int, epochs: int) -> dict[str, object]:
    """The same fit by `training.fit`: the number of parameters, and rows a second of each epoch but the first."""
    x = (np.random.default_rng(0).random((rows, FEATURES)) < 0.2).astype(np.float32)
    config = VAEConfig(LATENTS, (HIDDEN,), "bernoulli", activation="relu", standardise=False)
    vae = VAE(binary_inputs(from_arrays("rows", {"X": x}).inputs), config)
    seconds: list[float] = []
    options = FitOptions(epochs=epochs, batch_size=batch, learning_rate=1e-3, threads=threads)
    fit(vae, x, x[:20], options, log=lambda record: seconds.append(record["seconds"]))
    return {
        "parameters": sum(p.numel() for p in vae.parameters()),
        "rows_per_second": [rows / found for found in seconds[1:]],
    }


def _measured(name: str, threads: int, batch: int, options: argparse.Namespace) -> list[float]:
    size = ["--rows", str(options.rows), "--epochs", str(options.epochs)]
    command = [sys.executable, "-m", "benchmarks.fit_throughput", "--ours", str(threads), str(batch), *size]
    if name == "pythae":
        shape = ["--features", str(FEATURES), "--latents", str(LATENTS)]
        command = [str(options.python), "-m", "benchmarks.fit_pythae", *size, *shape]
        command += ["--threads", str(threads), "--batch-size", str(batch)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    expected = 2 * FEATURES * HIDDEN + 3 * HIDDEN * LATENTS + FEATURES + 2 * HIDDEN + 2 * LATENTS
    if found["parameters"] != expected:
        raise SystemExit(f"{name} has {found['parameters']} parameters, not {expected}: not the same model")
    rates: list[float] = found["rows_per_second"]
    return rates


def _pythae(python: Path) -> str:
    command = [str(python), "-c", "from importlib.metadata import version; print('pythae', version('pythae'))"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
