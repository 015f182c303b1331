"""`vae-train` on small files, the whole way, and what it says when it cannot."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from service.bundle import Bundle, open_bundle
from service.engine import Engine
from tests.bundles import table_rows
from tests.training.commanded import NAMES, QUICK, ByCommand, write_csv
from tests.training.unexported import fit_alone
from training import checkpoint
from training.__main__ import main
from training.errors import TrainingError


def test_the_whole_way_from_a_csv(by_command: ByCommand, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    fit, evaluate, calibrate: each leaves what it says, and the service's engine takes every bundle.

    What export leaves is in test_groups, with rows, and in test_resume, of a fit that is not over.
    """
    steps = ["fitting on", "making the ONNX graphs", "checking that", "calibrating on 45 rows"]
    steps += ["evaluating on 45 rows", "making the report", f"wrote {by_command.model / '1'}"]
    assert [step for line in by_command.out.splitlines() for step in steps if line.startswith(step)] == steps
    assert "warning: 45 calibration rows are too few for alpha 0.01, the default, which needs 99" in by_command.err
    data, model = by_command.data, by_command.copied(tmp_path)
    first = open_bundle(model)
    assert first.manifest.name == "pumps"
    assert first.manifest.inputs.names == tuple(NAMES.split(","))
    assert first.manifest.data.rows == {"train": 180, "validation": 30, "calibration": 45, "test": 45}
    log = [json.loads(line) for line in (model / "fit-1.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in log] == [1, 2, 3]
    assert first.manifest.training == checkpoint.load(model / "checkpoint-1.npz").training

    figures = tmp_path / "figures.json"
    evaluate = ["evaluate", "--bundle", str(model), "--data", str(data), "--json", str(figures), "--draws", "8"]
    assert main(evaluate) == 0
    out = capsys.readouterr().out
    assert "the test rows of the split that the bundle was fitted with" in out
    sigma = re.search(r"sigma of 5 columns, gaussian +(\S+) to (\S+) in original units", out)
    assert sigma is not None
    assert [float(end) for end in sigma.groups()] == [pytest.approx(end, rel=1e-3) for end in sigmas_of(first)]
    assert json.loads(figures.read_text()) == first.manifest.evaluation

    normals = write_csv(tmp_path / "normals.csv", 120, 1)
    assert main(["calibrate", "--bundle", str(model), "--data", str(normals), "--threads", "1"]) == 0
    second = open_bundle(model)
    assert (second.manifest.version, second.manifest.calibrated[0].rows) == (2, 120)
    told = "calibrating on 120 rows: all rows: this is not the data that the bundle was fitted to\n"
    assert told in capsys.readouterr().out
    for step in ("evaluate", "calibrate"):
        assert main([step, "--bundle", str(model), "--data", str(normals), "--threads", "1"]) == 2
        assert "calibrated on these rows already; give rows that it has not seen" in capsys.readouterr().err

    for bundle in (first, second):
        Engine.open(bundle, threads=1)


def sigmas_of(bundle: Bundle) -> tuple[float, float]:
    """The least and the largest in original units, as the manifest has them."""
    parameters: dict[str, Any] = bundle.manifest.likelihood[0].parameters
    return parameters["smallest_sigma"], parameters["largest_sigma"]


def test_bernoulli_on_grey_data_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The column or the range is named, and what to choose instead; nothing is written."""
    data, model = write_csv(tmp_path / "rows.csv", 50, 0), tmp_path / "pumps"
    assert main(["fit", "--data", str(data), "--output", str(model), "--likelihood", "bernoulli"]) == 2
    assert "column 'time' has 1700000" in capsys.readouterr().err
    assert main(["fit", "--data", "sklearn:digits", "--output", str(model), "--likelihood", "bernoulli"]) == 2
    assert (
        "these are 0 to 16: choose --binarize dynamic or threshold, or --likelihood continuous-bernoulli"
        in capsys.readouterr().err
    )
    assert not model.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "--data", "nowhere.csv", "--output", "m"], "nowhere.csv: no such file"),
        (["fit", "--data", "sklearn:digits", "--output", "bad name"], "'bad name' cannot name a model"),
        (["fit", "--data", "sklearn:digits", "--output", "m", "--test", "0.9"], "leave nothing to train on"),
        (["evaluate", "--bundle", "nowhere", "--data", "sklearn:digits"], "no bundle here"),
        (["export", "--checkpoint", "nowhere.npz", "--output", "m"], "nowhere.npz: cannot be read"),
    ],
)
def test_what_the_user_must_change_is_one_line_and_status_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No traceback, nothing on stdout."""
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert said.err.count("\n") == 1


def test_data_of_another_kind_is_refused_by_name(
    table_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Columns are matched by name, in any order; a missing one is named."""
    other, x, names = tmp_path / "other.csv", table_rows(60, 3), ["speed", "pressure", "flow"]
    np.savetxt(other, x[:, ::-1], delimiter=",", header=",".join(names[::-1]), comments="")
    assert main(["evaluate", "--bundle", str(table_bundle), "--data", str(other)]) == 0
    reversed_columns = capsys.readouterr().out
    np.savetxt(other, x, delimiter=",", header=",".join(names), comments="")
    assert main(["evaluate", "--bundle", str(table_bundle), "--data", str(other)]) == 0
    assert capsys.readouterr().out == reversed_columns
    other.write_text(other.read_text().replace("pressure", "voltage"))
    assert main(["evaluate", "--bundle", str(table_bundle), "--data", str(other)]) == 2
    assert "no column 'pressure', which the bundle takes" in capsys.readouterr().err


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    """Weights, scaling, configuration and data, without pickle; a damaged file is refused by name."""
    data, model = write_csv(tmp_path / "rows.csv", 60, 0), tmp_path / "pumps"
    fit_alone("--data", str(data), "--output", str(model), *QUICK)
    file = model / "checkpoint-1.npz"
    found = checkpoint.load(file)
    checkpoint.save(tmp_path / "again.npz", found)
    again = checkpoint.load(tmp_path / "again.npz")
    assert (again.vae.config, again.vae.inputs) == (found.vae.config, found.vae.inputs)
    assert (again.data, again.training) == (found.data, found.training)
    for name, value in found.vae.state_dict().items():
        assert torch.equal(again.vae.state_dict()[name], value), name
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(TrainingError, match=r"checkpoint-1.npz: not a checkpoint"):
        checkpoint.load(file)
