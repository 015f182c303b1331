"""`vae-train fit --start`: the weights of another fit are the first ones, and it says where they cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.commanded import QUICK, write_csv
from tests.training.unexported import fit_alone
from training import checkpoint
from training.__main__ import main


@pytest.fixture(scope="module")
def pumps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """rows.csv, and the model directory pumps with a fit to it; a start needs no bundle."""
    folder = tmp_path_factory.mktemp("start")
    data = write_csv(folder / "rows.csv", 300, 0)
    fit_alone("--data", str(data), "--output", str(folder / "pumps"), *QUICK)
    return folder


def again_words(pumps: Path, output: Path, *options: str) -> tuple[str, ...]:
    """What asks for a fit to the same rows, from the weights of pumps."""
    rows, start = pumps / "rows.csv", pumps / "pumps" / "checkpoint-1.npz"
    return ("--data", str(rows), "--output", str(output), "--start", str(start), *QUICK, *options)


def test_a_fit_starts_at_the_weights_of_another(pumps: Path, tmp_path: Path) -> None:
    """With next to no learning rate it ends there, with other data of the same kind and another objective too."""
    there = checkpoint.load(pumps / "pumps" / "checkpoint-1.npz")
    other = write_csv(tmp_path / "other.csv", 200, 5)
    words = ("--learning-rate", "1e-12", "--importance-samples", "3", "--data", str(other), "--seed", "8")
    fitted = fit_alone(*again_words(pumps, tmp_path / "m", *words))
    said = fitted.out
    assert "checkpoint-1.npz is of other data: rows that it was trained on may be among the calibration" in fitted.err
    assert f"starting at the weights of {pumps / 'pumps' / 'checkpoint-1.npz'}" in said
    found = checkpoint.load(tmp_path / "m" / "checkpoint-1.npz")
    assert found.training["start"] != {"start": None}
    for name, value in there.weights.items():
        torch.testing.assert_close(found.weights[name], value, rtol=1e-6, atol=1e-8)
    log = [json.loads(line) for line in (tmp_path / "m" / "fit-1.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in log] == [1, 2, 3]


@pytest.fixture(scope="module")
def again(pumps: Path) -> Path:
    """A model directory whose fit went on from there."""
    fit_alone(*again_words(pumps, pumps / "again"))
    return pumps / "again"


def test_a_start_is_left_behind(pumps: Path, again: Path) -> None:
    """The fit goes on from there: better than where it started, and than the same steps from nothing."""
    bounds = [
        np.max([json.loads(line)["validation_elbo"] for line in file.read_text().splitlines()])
        for file in (pumps / "pumps" / "fit-1.jsonl", again / "fit-1.jsonl")
    ]
    assert bounds[1] > bounds[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--latent-dim", "3"), "its latent_dim is 2, and that of this fit 3"),
        (("--hidden", "9,7"), "its hidden is 8, and that of this fit 9,7"),
        (("--data", "names.csv"), "its rows are not described as those of this fit"),
        (("--start", "nothing.npz"), "--start nothing.npz: cannot be read"),
        (("--start", "rows.csv"), "not a checkpoint"),
        (
            ("--seed", "8"),
            "is of the same data, dealt out otherwise, so that rows that it was trained on would",
        ),
        (("--test", "0.2"), "give the same --seed, --validation, --calibration, --test and --folds"),
        (("--start", "c.npz", "--checkpoint", "c.npz"), "c.npz: is the file of --checkpoint too"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(
    pumps: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    said: str,
) -> None:
    """By the name of what differs, before anything is fitted."""
    rows = write_csv(tmp_path / "rows.csv", 100, 0).read_text().splitlines()
    (tmp_path / "names.csv").write_text("\n".join([rows[0].replace("current", "voltage"), *rows[1:]]))
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--quiet", *again_words(pumps, tmp_path / "m", *options)]) == 2
    assert said in capsys.readouterr().err
    assert not list((tmp_path / "m").glob("*.npz"))


def test_a_fit_goes_on_as_what_it_was_only_with_the_same_start(
    pumps: Path, again: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The start is one of the options that change the result: without it, or with another one, --resume refuses."""
    file = again / "checkpoint-1.npz"
    words = ["fit", "--data", str(pumps / "rows.csv"), "--output", str(again), "--quiet", *QUICK]
    assert main([*words, "--checkpoint", str(file), "--resume"]) == 2
    assert "--resume: --start is None, but" in capsys.readouterr().err
    training: Any = checkpoint.load(file).training
    assert len(training["start"]["start"]) == 64
    before = file.read_bytes()
    said = fit_alone(*again_words(pumps, again, "--checkpoint", str(file), "--resume")).out
    assert f"{file} is a finished fit: going on with the bundle" in said
    assert file.read_bytes() == before
