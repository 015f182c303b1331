"""The report as files: what fit leaves, what report makes again, and that a page never costs a fitted model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from service.bundle import open_bundle
from service.errors import BundleError
from tests.bundles import table_rows
from tests.training.commanded import ByCommand, write_csv
from tests.training.report_page import Page, epochs, material, opened
from training.__main__ import main
from training.output import write
from training.parts import Unseen
from training.report.make import with_report
from training.steps.report import reported


def test_a_report_that_fails_costs_no_model(table_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bundle comes back without a page, and a warning names what happened."""
    bundle = open_bundle(table_bundle)
    wrong = Unseen(np.zeros((5, 99)), None, None, "rows of another width")
    assert reported(bundle, wrong, epochs(2)).report == {}
    said = capsys.readouterr().err
    assert "warning: the bundle has no report, because making it failed: " in said


def test_fit_leaves_the_page_in_the_bundle_and_report_makes_it_again(
    by_command: ByCommand, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same bytes; beside them the log; a recalibrated bundle keeps the log alone, and says so."""
    data, model = by_command.data, by_command.copied(tmp_path)
    report = open_bundle(model).report
    assert sorted(report) == ["fit.jsonl", "report.html"]
    assert [json.loads(line)["epoch"] for line in report["fit.jsonl"].splitlines()] == [1, 2, 3]
    again = ["report", "--bundle", str(model), "--data", str(data), "--draws", "8", "--threads", "1"]
    assert main(again) == 0
    assert (model / "report-1.html").read_bytes() == report["report.html"]
    assert main([*again, "--quiet"]) == 0, "a report may be written over"
    (tmp_path / "mine.html").write_text("<p>mine</p>")
    capsys.readouterr()
    assert main([*again, "--output", str(tmp_path / "mine.html")]) == 2
    assert "mine.html: is there and is not a report; name another file" in capsys.readouterr().err
    assert main([*again, "--log", str(tmp_path / "mine.html")]) == 2
    assert "mine.html: line 1 is not a record of an epoch" in capsys.readouterr().err

    normals = write_csv(tmp_path / "normals.csv", 60, 5)
    assert main(["calibrate", "--bundle", str(model), "--data", str(normals), "--threads", "1"]) == 0
    assert "without report.html, which shows the old thresholds" in capsys.readouterr().out
    assert sorted(open_bundle(model).report) == ["fit.jsonl"]
    assert main(again) == 0
    assert b"recalibrated" in (model / "report-2.html").read_bytes()


def test_other_data_are_called_other_data(table_bundle: Path, tmp_path: Path) -> None:
    """All rows are looked at, and there are no baselines."""
    data, out = tmp_path / "other.csv", tmp_path / "new" / "page.html"
    np.savetxt(data, table_rows(30), delimiter=",", header="speed,pressure,flow", comments="")
    command = ["report", "--bundle", str(table_bundle), "--data", str(data), "--output", str(out), "--draws", "2"]
    assert main([*command, "--quiet"]) == 0
    text = Page(out.read_bytes()).text
    assert "all rows: this is not the data that the bundle was fitted to" in text
    assert "the rows that the bundle was fitted to are not at hand" in text


def test_a_report_needs_no_torch() -> None:
    """It can be made where the service runs."""
    code = "import sys, training.steps.report; print('torch' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout == "False False\n"


def test_a_bundle_with_a_page_is_written_and_read(table_bundle: Path, tmp_path: Path) -> None:
    """The page is a file like any other: hashed, and refused when changed."""
    made = with_report(open_bundle(table_bundle), material(*opened(table_bundle), table_rows(20), records=epochs(2)))
    path = write(tmp_path / "pumps", made)
    assert open_bundle(path).report == made.report
    (path / "report" / "report.html").write_bytes(b"something else")
    with pytest.raises(BundleError, match=r"report/report.html: its SHA-256"):
        open_bundle(path)
