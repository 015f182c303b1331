"""
What a table of 1,000,000 rows of 100 columns needs of memory: to be read, and for the whole of `vae-train fit`.

    python -m benchmarks.fit_memory

Makes the table (correlated Gaussians, float64) under build/ as .npy, .parquet and, in a smaller number of digits, .csv.
Reads each, and fits one epoch to each, in processes of their own; prints Markdown: a process's largest resident set, by
the kernel's count, and its seconds. What Python needs before it reads anything (some 0.1 GB) is in it.
"""

from __future__ import annotations

import argparse
import importlib
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data import load

Table = NDArray[np.float64]

_BLOCK = 50_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the files, read them, fit, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fit_memory", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=Path("build/fit-memory"))
    parser.add_argument("--formats", default="npy,parquet,csv")
    parser.add_argument("--read", metavar="FILE", help="read FILE in this process, and print the peak in bytes")
    parser.add_argument("--fit", metavar="FILE", help="fit to FILE in this process, and print the peak in bytes")
    options = parser.parse_args(arguments)
    if options.read:
        load(options.read)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        return 0
    if options.fit:
        command = [sys.executable, "-m", "training", "fit", "--data", options.fit, "--epochs", "1", "--quiet"]
        command += ["--output", str(options.folder / "model"), "--batch-size", "512", "--draws", "1"]
        subprocess.run(command, check=True)
        print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
        return 0
    options.folder.mkdir(parents=True, exist_ok=True)
    print(
        f"{options.rows:,} rows of {options.columns} columns: {8e-9 * options.rows * options.columns:.2f} GB as float64"
    )
    print("\n| file | size, GB | read: peak, GB | seconds | `vae-train fit`: peak, GB | seconds |\n" + "|---" * 6 + "|")
    for suffix in options.formats.split(","):
        file = options.folder / f"rows.{suffix}"
        _make(file, options.rows, options.columns)
        cells = [f".{suffix}", f"{file.stat().st_size / 1e9:.2f}"]
        for what in ("--read", "--fit"):
            start = time.perf_counter()
            again = [sys.executable, "-m", "benchmarks.fit_memory", what, str(file), "--folder", str(options.folder)]
            done = subprocess.run(again, check=True, stdout=subprocess.PIPE, text=True)
            cells += [f"{int(done.stdout) / 1e9:.2f}", f"{time.perf_counter() - start:.0f}"]
        print(f"| {' | '.join(cells)} |", flush=True)
        file.unlink()
    return 0


def _make(file: Path, rows: int, columns: int) -> None:
    generator = np.random.default_rng(0)
    mix = generator.standard_normal((8, columns))
    blocks = (_block(generator, min(_BLOCK, rows - start), mix) for start in range(0, rows, _BLOCK))
    names = [f"x{c}" for c in range(columns)]
    if file.suffix == ".npy":
        x = np.lib.format.open_memmap(file, "w+", np.float64, (rows, columns))
        for i, block in enumerate(blocks):
            x[i * _BLOCK : i * _BLOCK + len(block)] = block
        x.flush()
    elif file.suffix == ".parquet":
        pa: Any = importlib.import_module("pyarrow")
        pq: Any = importlib.import_module("pyarrow.parquet")
        with pq.ParquetWriter(file, pa.schema([(name, pa.float64()) for name in names])) as out:
            for block in blocks:
                out.write_table(pa.table(list(block.T), names=names))
    else:
        with file.open("w") as out:
            out.write(",".join(names) + "\n")
            for block in blocks:
                np.savetxt(out, block, fmt="%.5g", delimiter=",")


def _block(generator: np.random.Generator, rows: int, mix: Table) -> Table:
    signal: Table = generator.standard_normal((rows, len(mix))) @ mix
    signal += 0.5 * generator.standard_normal(signal.shape)
    return signal


if __name__ == "__main__":
    sys.exit(main())
