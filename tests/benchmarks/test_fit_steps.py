"""What a fit is seen to take, step by step."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.fit_steps import FIRST, STEPS, measured
from benchmarks.mixed_table import ALL_KINDS, write_mixed, write_schema
from training.schema import read


def test_every_step_of_a_fit_is_seen_once_and_in_order(tmp_path: Path) -> None:
    """The lines that a fit prints are what the steps are told by: were they worded anew, it would fail. Two folds."""
    data, model = tmp_path / "rows.csv", tmp_path / "model"
    write_mixed(data, 100, 2, missing=0, kinds=["number"])  # an export takes longer with every kind of column
    tiny = "--epochs 1 --hidden 8 --latent-dim 2 --draws 2 --threads 1 --folds 2"
    small = f"--likelihood gaussian --prior standard-normal {tiny}".split()
    fit = measured(["--data", str(data), "--output", str(model), *small])
    assert [step.name for step in fit.steps] == [FIRST, *list(STEPS.values())[:-1]]
    assert (model / "1" / "manifest.json").exists()
    assert all(step.cpu_s >= 0 for step in fit.steps)
    assert all(step.peak > 2**26 for step in fit.steps)  # Python with numpy and PyTorch
    assert fit.peak == max(step.peak for step in fit.steps)
    assert "too few for alpha" in fit.said


def test_a_fit_that_fails_is_no_measurement(tmp_path: Path) -> None:
    """Its words are in the error."""
    with pytest.raises(RuntimeError, match=r"ended with 2: .*no such file"):
        measured(["--data", str(tmp_path / "none.csv"), "--output", str(tmp_path / "model")])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_schema_says_what_no_guess_finds(tmp_path: Path, suffix: str) -> None:
    """Categories that have an order; all else as the file suggests."""
    data, schema = tmp_path / f"rows.{suffix}", tmp_path / "schema.toml"
    write_mixed(data, 200, 10, 0.1, ALL_KINDS)
    write_schema(schema, data)
    kinds = ["numeric", "count", "categorical", "ordinal", "binary"]
    assert [column.kind for column in read(schema).columns] == 2 * kinds
    assert [column.missing for column in read(schema).columns] == [False, *[True] * 9]
