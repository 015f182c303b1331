"""docs/telemetry.md from its data to its last program: what is fitted as it says is served, and finds what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.bundle import open_bundle
from tests.guide import ROOT, Program, agrees, programs, run
from tests.server import Server

GUIDE = (ROOT / "docs/telemetry.md").read_text("utf-8")
MADE, FIT, *ASKED = programs(GUIDE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the guide's readings and their model are."""
    place = tmp_path_factory.mktemp("line")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in ([sys.executable, "-c", MADE.code], ["sh", "-euc", FIT.code]):
        ran = subprocess.run(
            command, cwd=place, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        assert "calibration rows are too few" not in ran.stderr
    return place


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """The service on that model."""
    with Server(folder / "models/line") as running:
        yield running


@pytest.mark.parametrize("program", ASKED, ids=["stopped", "live"])
def test_every_program_prints_what_is_shown_under_it(server: Server, folder: Path, program: Program) -> None:
    """As a reader would run it."""
    assert program.shown is not None
    printed = run(program, server, folder)
    assert agrees(program.shown, printed), printed


def test_the_guide_has_enough_readings_for_its_alpha(folder: Path) -> None:
    """Of the default, 0.01: 99 windows that do not overlap."""
    manifest = open_bundle(folder / "models/line").manifest
    assert manifest.calibrated[0].rows >= 99
    assert manifest.inputs.windows is not None
    assert [sensor.name for sensor in manifest.inputs.windows.sensors] == ["speed", "flow", "pressure", "temperature"]


def test_every_block_of_the_guide_is_run() -> None:
    """But for the command that never ends."""
    fences = re.findall(r"^```(\w*)$", GUIDE, re.M)
    assert fences == ["python", "", "sh", "", "", "", *["python", "", "text", ""] * 2]
    assert (MADE.language, FIT.language) == ("python", "sh")
    assert FIT.code.startswith("vae-train fit ")
