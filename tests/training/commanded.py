"""`vae-train` on a small CSV, for several tests."""

from __future__ import annotations

import contextlib
import io
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.training.small import table
from training.__main__ import main

NAMES = "time,current,count,constant,product"
PLAIN = ("--likelihood", "gaussian", "--prior", "standard-normal", "--folds", "1")  # the quickest to export
QUICK = (*PLAIN, "--epochs", "3", "--hidden", "8", "--latent-dim", "2", "--draws", "8", "--threads", "1")


@dataclass(frozen=True)
class ByCommand:
    """rows.csv and the model directory pumps, and what the fit has said on standard output and on standard error."""

    folder: Path
    out: str
    err: str

    @property
    def data(self) -> Path:
        """300 rows."""
        return self.folder / "rows.csv"

    @property
    def model(self) -> Path:
        """The model directory."""
        return self.folder / "pumps"

    def copied(self, folder: Path) -> Path:
        """A copy of the model directory in *folder*, for other versions."""
        return Path(shutil.copytree(self.model, folder / "pumps"))


def write_csv(path: Path, rows: int, seed: int) -> Path:
    """`table` as a CSV file."""
    np.savetxt(path, table(rows, seed), delimiter=",", header=NAMES, comments="")
    return path


def fit_by_command(folder: Path) -> ByCommand:
    """For a moment."""
    data, out, err = write_csv(folder / "rows.csv", 300, 0), io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert main(["fit", "--data", str(data), "--output", str(folder / "pumps"), *QUICK]) == 0
    return ByCommand(folder, out.getvalue(), err.getvalue())
