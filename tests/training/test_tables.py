"""`vae-train` on tables as people have them: schema, fit, and the same columns again for every later step."""

from __future__ import annotations

import importlib
import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundle import open_bundle
from tests.training.commanded import QUICK, ByCommand
from tests.training.unexported import fit_alone
from training import checkpoint
from training.__main__ import main
from training.data import load
from training.schema import Schema, read
from training.steps.reading import as_known, to_fit

HEADER = "id,site,grade,speed,faults,seen,running,broken"
READING = ("schema", "delimiter", "decimal", "missing", "max_levels", "min_level_rows")
WINDOWS = ("window", "stride", "differences", "group", "time")


def rows(count: int, seed: int = 0) -> list[list[str]]:
    """A table with a bit of everything: an identifier, categories, counts, dates, truth values, gaps, a label."""
    generator = np.random.default_rng(seed)
    load = generator.standard_normal(count)
    seen = np.datetime64("2026-01-01T00:00:00") + np.arange(count) * np.timedelta64(613, "s")
    columns = [
        [f"pump-{i:05}" for i in range(count)],
        np.array(["north", "south", "west"])[np.clip(np.rint(load + 1), 0, 2).astype(int)].tolist(),
        np.array(["low", "mid", "high"])[np.clip(np.rint(load + 1), 0, 2).astype(int)].tolist(),
        [f"{1500 + 200 * value:.2f}" for value in load],
        generator.poisson(np.exp(0.5 * load)).astype(str).tolist(),
        [f"{when}Z" for when in seen],
        np.where(load > -1, "true", "false").tolist(),
        ["0"] * count,
    ]
    for c in (1, 3, 4):
        for i in np.flatnonzero(generator.random(count) < 0.05):
            columns[c][int(i)] = "NA" if c == 3 else ""
    return [list(row) for row in zip(*columns, strict=True)]


def write(path: Path, table: list[list[str]], header: str = HEADER, delimiter: str = ",") -> Path:
    """*table* as CSV."""
    lines = [header.split(","), *table]
    path.write_text("".join(delimiter.join(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def pumps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """rows.csv, schema.toml, as edited, and the model directory pumps, with a fit by it. Not to be changed."""
    folder = tmp_path_factory.mktemp("tables")
    data, schema = write(folder / "rows.csv", rows(300)), folder / "schema.toml"
    assert main(["schema", str(data), "--output", str(schema), "--label", "broken", "--quiet"]) == 0
    text = schema.read_text()
    edited = text.replace(
        'kind = "categorical"\nvocabulary = ["high", "low", "mid"]\nunknown = "reject"',
        'kind = "ordinal"\nvocabulary = ["low", "mid", "high"]',
    ).replace('name = "speed"', 'name = "speed"\nunit = "rpm"')
    assert edited != text
    schema.write_text(edited)
    fit_alone("--data", str(data), "--schema", str(schema), "--output", str(folder / "pumps"), *QUICK)
    return folder


@pytest.fixture(scope="module")
def sites(pumps: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the columns of rows.csv that are quick to export: site, speed and seen. Not to be changed."""
    folder = tmp_path_factory.mktemp("sites")
    text = (pumps / "schema.toml").read_text()
    for name in ("grade", "faults", "running"):
        assert f'name = "{name}"\n' in text
        text = text.replace(f'name = "{name}"\n', f'name = "{name}"\nuse = false\n')
    (folder / "schema.toml").write_text(text)
    fit = ["fit", "--data", str(pumps / "rows.csv"), "--schema", str(folder / "schema.toml")]
    assert main([*fit, "--output", str(folder / "pumps"), "--quiet", *QUICK]) == 0
    return folder / "pumps" / "1"


def test_a_schema_is_written_for_people_and_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line a column; what is left out says why."""
    data, schema = write(tmp_path / "rows.csv", rows(300)), tmp_path / "schema.toml"
    assert main(["schema", str(data), "--output", str(schema), "--label", "broken"]) == 0
    said = capsys.readouterr()
    assert "id: left out: 300 different texts in 300 rows" in said.out
    assert "site: categorical: 3 categories: 'north' " in said.out
    assert "faults: count: counts up to " in said.out
    assert "seen: numeric: dates, 2026-01-01T00:00:00Z to " in said.out
    assert "running: binary: true and false" in said.out
    assert f"wrote {schema}" in said.out
    assert main(["schema", str(data), "--output", str(schema)]) == 2
    assert f"--output {schema}: is there; name another file" in capsys.readouterr().err


def test_the_model_has_the_columns_of_the_schema(pumps: Path) -> None:
    """As they were edited; with what was left out, the label and the words for a missing value."""
    fitted = checkpoint.load(pumps / "pumps" / "checkpoint-1.npz")
    columns = {column.name: column for column in fitted.inputs.columns or ()}
    assert list(columns) == ["site", "grade", "speed", "faults", "seen", "running"]
    assert (columns["grade"].kind, columns["grade"].vocabulary) == ("ordinal", ("low", "mid", "high"))
    assert (columns["speed"].unit, columns["speed"].missing) == ("rpm", True)
    assert (columns["seen"].time, columns["faults"].kind) == ("iso8601", "count")
    found = read(pumps / "schema.toml")
    assert [(c.name, c.kind) for c in found.columns] == [(c.name, c.kind) for c in columns.values()]
    table = {"ignored": ["id"], "label": "broken", "missing": list(found.missing)}
    assert fitted.training["table"] == table
    assert {entry.family: entry.columns for entry in fitted.vae.likelihood.described(fitted.inputs.names)} == {
        "categorical": ("site",),
        "ordinal": ("grade",),
        "gaussian": ("speed", "seen"),
        "negative-binomial": ("faults",),
        "bernoulli": ("running",),
    }


def test_a_bundle_has_the_columns_of_its_model(sites: Path) -> None:
    """With what was left out, the label and the words for a missing value."""
    manifest = open_bundle(sites).manifest
    fitted = checkpoint.load(sites.parent / "checkpoint-1.npz")
    assert manifest.inputs.names == fitted.inputs.names == ("site", "speed", "seen")
    table: Any = manifest.training["table"]
    assert table == fitted.training["table"]
    assert set(table["ignored"]) == {"id", "grade", "faults", "running"}
    assert table["label"] == "broken"
    assert table["missing"] == list(read(sites.parents[1] / "schema.toml").missing)
    described = {entry.family: entry.columns for entry in manifest.likelihood}
    assert described == {"categorical": ("site",), "gaussian": ("speed", "seen")}


def test_later_steps_read_by_the_columns_of_the_bundle(
    pumps: Path, sites: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In any order, without what was left out, with another delimiter: it is the same data."""
    bundle, figures = open_bundle(sites), tmp_path / "figures.json"
    evaluate = ["evaluate", "--bundle", str(sites), "--draws", "8", "--threads", "1"]
    assert main([*evaluate, "--data", str(pumps / "rows.csv"), "--json", str(figures)]) == 0
    assert "the test rows of the split that the bundle was fitted with" in capsys.readouterr().out
    assert json.loads(figures.read_text()) == bundle.manifest.evaluation
    kept, header = (5, 3, 1), HEADER.split(",")
    table = [[row[c] for c in kept] for row in rows(300)]
    other = write(tmp_path / "other.csv", table, ",".join(header[c] for c in kept), ";")
    options = Namespace(data=str(other), label=None, **dict.fromkeys(READING))
    assert as_known(options, Schema.of(bundle.manifest)).hash == bundle.manifest.data.hash


def test_what_a_bundle_does_not_take_is_refused_by_name(
    sites: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A category that it does not know, a column that is missing, one too many, and numbers without categories."""
    evaluate = ["evaluate", "--bundle", str(sites), "--draws", "8", "--threads", "1", "--data"]
    strange = rows(40, 1)
    strange[7][1] = "east"
    assert main([*evaluate, str(write(tmp_path / "a.csv", strange))]) == 2
    assert "a.csv: line 9, column 'site': 'east' is not in the vocabulary: 'north', 'south', 'west'" in (
        capsys.readouterr().err
    )
    assert main([*evaluate, str(write(tmp_path / "b.csv", [row[:5] for row in rows(40)], HEADER[:-20]))]) == 2
    assert "b.csv: no column 'seen', which the bundle takes" in capsys.readouterr().err
    assert main([*evaluate, str(write(tmp_path / "c.csv", [[*row, "1"] for row in rows(40)], f"{HEADER},more"))]) == 2
    assert "c.csv: the bundle has no column 'more'" in capsys.readouterr().err
    np.savez(tmp_path / "d.npz", X=np.zeros((30, 3)), columns=["site", "speed", "seen"])
    assert main([*evaluate, str(tmp_path / "d.npz")]) == 2
    assert (
        "d.npz: column 'site' is an array's, plain numbers; the bundle's is categorical: give it .csv or .parquet"
        in capsys.readouterr().err
    )


def test_without_a_schema_the_guess_is_told_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a column; what is left out is a warning."""
    data = write(tmp_path / "rows.csv", rows(120))
    options = Namespace(data=str(data), label="broken", quiet=False, **dict.fromkeys((*READING, *WINDOWS)))
    dataset = to_fit(options)
    said = capsys.readouterr()
    assert "grade: categorical: 3 categories: 'high' " in said.out
    assert (
        "warning: column 'id' is left out: 120 different texts in 120 rows, most of them in fewer than 5: an "
        "identifier, or free text; a schema can say otherwise (vae-train schema)" in said.err
    )
    assert dataset.inputs.names == ("site", "grade", "speed", "faults", "seen", "running")
    assert dataset.schema is not None
    assert (dataset.schema.ignored, dataset.schema.label) == (("id",), "broken")


@pytest.mark.parametrize("by_schema", [False, True])
def test_a_label_that_was_forgotten_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], by_schema: bool
) -> None:
    """It would be a feature that no request has; named by --label it is none, and nothing is told."""
    data, schema = tmp_path / "rows.csv", tmp_path / "schema.toml"
    data.write_text("speed,anomaly\n" + "".join(f"{i}.5,{i % 2}\n" for i in range(30)))
    options = Namespace(data=str(data), label=None, quiet=True, **dict.fromkeys((*READING, *WINDOWS)))
    if by_schema:
        assert main(["schema", str(data), "--output", str(schema), "--quiet"]) == 0
        options.schema = schema
    assert to_fit(options).inputs.names == ("speed", "anomaly")
    told = (
        "warning: column 'anomaly' is learned from, and every request needs it; if it says which rows are anomalies: "
    )
    assert told + "--label anomaly" in capsys.readouterr().err
    options = Namespace(**{**vars(options), "label": "anomaly", "schema": None})
    assert to_fit(options).inputs.names == ("speed",)
    assert capsys.readouterr().err == ""


def test_the_same_table_as_parquet_is_the_same_data(tmp_path: Path) -> None:
    """Types are stored there; the numbers that the model takes are the same to the bit."""
    pa: Any = importlib.import_module("pyarrow")
    csv: Any = importlib.import_module("pyarrow.csv")
    pq: Any = importlib.import_module("pyarrow.parquet")
    data = write(tmp_path / "rows.csv", rows(120))
    nulls = csv.ConvertOptions(null_values=["", "NA"], strings_can_be_null=True)
    table = csv.read_csv(data, convert_options=nulls)
    assert pa.types.is_timestamp(table.schema.field("seen").type)
    pq.write_table(table, tmp_path / "rows.parquet")
    one, other = load(str(data)), load(str(tmp_path / "rows.parquet"))
    assert one.inputs == other.inputs
    assert one.hash == other.hash


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["schema", "nowhere.csv"], "nowhere.csv: no such file or directory"),
        (["schema", "rows.npy"], "rows.npy: schemas are of tables: .csv, .tsv, .parquet"),
        (
            ["fit", "--data", "rows.npy", "--output", "m", "--label", "y"],
            "--label is for tables, .csv, .tsv, .parquet; rows.npy is none",
        ),
        (["fit", "--data", "rows.csv", "--output", "m", "--schema", "nowhere.toml"], "nowhere.toml: cannot be read"),
        (
            ["fit", "--data", "rows.csv", "--output", "m", "--schema", "s.toml", "--max-levels", "3"],
            "--max-levels and --min-level-rows are for columns that no --schema describes",
        ),
        (
            ["fit", "--data", "rows.csv", "--output", "m", "--schema", "s.toml"],
            "rows.csv: no column 'x', which s.toml has",
        ),
        (
            ["fit", "--data", "rows.csv", "--output", "m", "--label", "z"],
            "rows.csv: no column 'z', which is to be the label",
        ),
        (
            ["fit", "--data", "rows.csv", "--output", "m", "--delimiter", "tab"],
            "rows.csv: line 2: 2 values; the header has 1 column",
        ),
    ],
)
def test_what_must_be_changed_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    """No traceback, nothing written."""
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", np.zeros((30, 2)))
    (tmp_path / "rows.csv").write_text("a,b\n" + "1.5\t,2.5\n" * 30)
    (tmp_path / "s.toml").write_text('[[column]]\nname = "x"\n')
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_a_schema_says_of_an_unclear_column_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is left out there, and a fit without a schema stops."""
    data = tmp_path / "rows.csv"
    data.write_text("a,b\n" + "1.5,2\n" * 30 + "x,3\n")
    assert main(["schema", str(data)]) == 0
    said = capsys.readouterr()
    assert "# 'x' is not a number, and 30 of 31 values are: mend it" in said.out
    assert "warning: rows.csv: line 32, column 'a': 'x' is not a number" in said.err
    assert main(["fit", "--data", str(data), "--output", str(tmp_path / "m")]) == 2
    assert "rows.csv: line 32, column 'a': 'x' is not a number" in capsys.readouterr().err
    (tmp_path / "s.toml").write_text(said.out)
    assert [c.name for c in read(tmp_path / "s.toml").columns] == ["b"]


def test_a_small_table_says_which_alpha_is_possible(by_command: ByCommand) -> None:
    """Of 300 rows 45 calibrate: 1 in 46 is the least false-alarm rate that they can show."""
    assert (
        "45 calibration rows are too few for alpha 0.01, the default, which needs 99: requests must name an alpha of "
        "0.0218 or more, or is_anomaly is null" in by_command.err
    )
    bundle = open_bundle(by_command.model)
    assert [threshold.alpha for threshold in bundle.manifest.calibrated[0].thresholds] == [0.1, 0.05]


def test_a_fit_is_not_resumed_under_another_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same numbers may be something else by then."""
    data, saved, schema = tmp_path / "rows.csv", tmp_path / "c.npz", tmp_path / "s.toml"
    np.savetxt(data, np.random.default_rng(0).random((60, 2)), delimiter=",", header="a,b", comments="")
    assert main(["schema", str(data), "--output", str(schema)]) == 0
    fit = ["fit", "--data", str(data), "--schema", str(schema), "--output", str(tmp_path / "m"), *QUICK]
    fit_alone(*fit[1:], "--checkpoint", str(saved))
    schema.write_text(schema.read_text().replace('name = "b"', 'name = "b"\nunit = "bar"'))
    assert main([*fit, "--checkpoint", str(saved), "--resume"]) == 2
    assert f"--resume: column 'b' is not described as when {saved} was begun" in capsys.readouterr().err
