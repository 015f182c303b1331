"""
What a fit needs of memory: the peak of `vae-train fit` on a table of 1,000,000 rows of 100 columns.

    python -m benchmarks.fit_memory

Makes the table (correlated Gaussians, float64) under build/ as .npy and, in a smaller number of digits, as .csv; fits
one epoch to each in a process of its own; prints Markdown: the process's largest resident set, by the kernel's count.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]

_BLOCK = 50_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the files, fit, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fit_memory", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=Path("build/fit-memory"))
    parser.add_argument("--formats", default="npy,csv")
    parser.add_argument("--run", metavar="FILE", help="fit to FILE in this process, and print the peak in bytes")
    options = parser.parse_args(arguments)
    if options.run:
        command = [sys.executable, "-m", "training", "fit", "--data", options.run, "--epochs", "1", "--quiet"]
        command += ["--output", str(options.folder / "model"), "--batch-size", "512", "--draws", "1"]
        subprocess.run(command, check=True)
        print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
        return 0
    options.folder.mkdir(parents=True, exist_ok=True)
    print(
        f"{options.rows:,} rows of {options.columns} columns: {8e-9 * options.rows * options.columns:.2f} GB as float64"
    )
    print("\n| file | size, GB | peak of `vae-train fit`, GB | seconds |\n|---|---|---|---|")
    for suffix in options.formats.split(","):
        file = options.folder / f"rows.{suffix}"
        _make(file, options.rows, options.columns)
        start = time.perf_counter()
        again = [sys.executable, "-m", "benchmarks.fit_memory", "--run", str(file), "--folder", str(options.folder)]
        done = subprocess.run(again, check=True, stdout=subprocess.PIPE, text=True)
        peak, seconds = int(done.stdout), time.perf_counter() - start
        print(f"| .{suffix} | {file.stat().st_size / 1e9:.2f} | {peak / 1e9:.2f} | {seconds:.0f} |", flush=True)
        file.unlink()
    return 0


def _make(file: Path, rows: int, columns: int) -> None:
    generator = np.random.default_rng(0)
    mix = generator.standard_normal((8, columns))
    if file.suffix == ".npy":
        x = np.lib.format.open_memmap(file, "w+", np.float64, (rows, columns))
        for start in range(0, rows, _BLOCK):
            x[start : start + _BLOCK] = _block(generator, min(_BLOCK, rows - start), mix)
        x.flush()
        return
    with file.open("w") as out:
        out.write(",".join(f"x{c}" for c in range(columns)) + "\n")
        for start in range(0, rows, _BLOCK):
            np.savetxt(out, _block(generator, min(_BLOCK, rows - start), mix), fmt="%.5g", delimiter=",")


def _block(generator: np.random.Generator, rows: int, mix: Table) -> Table:
    signal: Table = generator.standard_normal((rows, len(mix))) @ mix
    signal += 0.5 * generator.standard_normal(signal.shape)
    return signal


if __name__ == "__main__":
    sys.exit(main())
