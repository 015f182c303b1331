"""
What a table of 1,000,000 rows of 100 columns needs: memory and CPU time, to be read, and for each step of a fit.

    python -m benchmarks.fit_memory
    python -m benchmarks.fit_memory --table mixed --formats csv,parquet

Makes the table under build/: *numbers*, correlated Gaussians, as .npy, .parquet and, in a smaller number of digits,
.csv; or *mixed*, see mixed_table.py. Reads each, and fits one epoch to each on one core, in processes of their own;
prints Markdown: the largest resident set, by the kernel's count, and CPU seconds. What Python needs before it reads
anything is in them.
"""

from __future__ import annotations

import argparse
import importlib
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.fit_steps import Fit, measured
from benchmarks.mixed_table import write_mixed
from training.data import load

Table = NDArray[np.float64]

_BLOCK = 50_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the files, read them, fit, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fit_memory", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=Path("build/fit-memory"))
    parser.add_argument("--table", choices=("numbers", "mixed"), default="numbers")
    parser.add_argument("--formats", default="npy,parquet,csv")
    parser.add_argument(
        "--read", metavar="FILE", help="read FILE in this process; print the peak, bytes, and CPU seconds"
    )
    options = parser.parse_args(arguments)
    if options.read:
        load(options.read)
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(used.ru_maxrss * 1024, used.ru_utime + used.ru_stime)
        return 0
    options.folder.mkdir(parents=True, exist_ok=True)
    print(
        f"{options.rows:,} rows of {options.columns} columns: {8e-9 * options.rows * options.columns:.2f} GB as float64"
    )
    for i, suffix in enumerate(options.formats.split(",")):
        file = options.folder / f"rows.{suffix}"
        if options.table == "mixed":
            write_mixed(file, options.rows, options.columns)
        else:
            _make(file, options.rows, options.columns)
        again = [sys.executable, "-m", "benchmarks.fit_memory", "--read", str(file)]
        peak, cpu_s = subprocess.run(again, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
        read = f"{int(peak) / 1e9:.2f} GB, {float(cpu_s):.0f} s"
        model = ["--output", str(options.folder / f"model-{suffix}"), "--draws", "16"]
        options_of_fit = ["--data", str(file), "--epochs", "1", "--batch-size", "512", "--threads", "1", *model]
        fit = measured(options_of_fit, {"OMP_NUM_THREADS": "1"})
        if not i:
            heads = ("file", "size, GB", "read alone", *(step.name for step in fit.steps), "the whole fit", "wall, s")
            print(f"\n| {' | '.join(heads)} |\n" + "|---" * len(heads) + "|")
        print(f"| .{suffix} | {file.stat().st_size / 1e9:.2f} | {read} | {_row(fit)} |", flush=True)
        file.unlink()
    return 0


def _row(fit: Fit) -> str:
    cells = [(step.peak, step.cpu_s) for step in fit.steps] + [(fit.peak, fit.cpu_s)]
    return " | ".join([*(f"{peak / 1e9:.2f} GB, {cpu_s:.0f} s" for peak, cpu_s in cells), f"{fit.wall_s:.0f}"])


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
