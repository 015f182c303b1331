"""Every part's section and picture, from results as they are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.part import Part
from benchmarks.serving import latency, machine, plot, verdicts
from benchmarks.serving.contenders import FLOOR, OURS
from benchmarks.serving.failures import Failure
from benchmarks.serving.parts import PARTS

POINT = {"requests_per_s": 2000.0, "rows_per_s": 2000.0, "p50_ms": 0.5, "p99_ms": 2.0, "cpu_ms": 0.125, "rss_mb": 100.0}
OPEN = {"p50_ms": 0.5, "p95_ms": 1.5, "p99_ms": 2.5, "achieved_per_s": 990.0, "late_ms": 0.1, "offered_per_s": 1000.0}
SERVER = {f"{kind}": [POINT, POINT] for kind in ("json 1 1", "json 1 64", "json 64 8", "binary 64 1", "binary 64 8")}
LOADS = {"8 connections": {"0": POINT, "2": POINT}, "30 % offered": {"0": {**POINT, **OPEN}, "2": {**POINT, **OPEN}}}
GROWN = {"1": {"in process": [{"p50_ms": 0.25}], "JSON": [POINT], "binary": [POINT]}}

RESULTS: dict[str, Mapping[str, Any]] = {
    "start": {"seconds": [0.4, 0.6], "bundle": "digits"},
    "throughput": {
        "rounds": {OURS: SERVER, FLOOR: SERVER},
        "missing": {"mosec": "not installed"},
        "in_process_rows_per_s": [4000.0, 4000.0],
    },
    "scoring": {
        "points": {"1": [POINT], "8": [POINT]},
        "in_process_rows_per_s": {"16": [2500.0], "64": [2000.0]},
    },
    "bulk": {
        "points": {name: [{**OPEN, "bulk_rows_per_s": 9.0}] for name in ("no bulk caller", "binary bulk", "JSON bulk")},
        "batch_ms": [1.0],
        "json_parse_ms": [2.0],
    },
    "latency": {
        "servers": {OURS: {"capacity_per_s": 3000.0, "points": {"30": [OPEN, OPEN]}}},
        "missing": {"mosec": "not installed"},
        "generator_per_s": 30000.0,
        "window_s": 2,
    },
    "growth": {"rows": GROWN, "columns": GROWN, "draws": {"16": {"in process": [{"p50_ms": 0.25}], "binary": [POINT]}}},
    "delay": {"models": {"small": {"alone_us": 30.0, "batched_us": 5.0, "points": LOADS}}},
}
SAID = {
    "start": "2 starts with the bundle `digits`: 0.50 (0.40 to 0.60) s.",
    "throughput": "Not measured: mosec (not installed).",
    "scoring": "| vae-serve, 8 connections | 2,000 | 0.50 | 2.0 | 0.12 | 0.80 |",
    "bulk": "| binary bulk | 0.50 | 1.50 | 2.50 | 2.5 | 9 | 0.10 |",
    "latency": "| vae-serve | 30 % | 1,000 | 990 | 0.50 | 1.50 | 2.50 | 0.10 |",
    "growth": "| 16 | 0.25 | 0.50 | 0.12 | 2.0 |",
    "delay": "| 8 connections | 2,000; 0.50, 2.0; 0.125 | 2,000; 0.50, 2.0; 0.125 |",
}


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_a_part_says_what_it_measured(part: Any) -> None:
    """In Markdown whose tables have as many cells in every line as in their head."""
    text = part.render(RESULTS[part.name])
    assert SAID[part.name] in text
    for block in text.split("\n\n"):
        assert len({line.count(" | ") for line in block.splitlines() if line.startswith("|")}) <= 1


def test_the_bars_are_read_from_the_results() -> None:
    """Those of peers that were not there are not measured."""
    table = verdicts.render(RESULTS)
    assert table.count("not measured") == 3  # Triton twice, mosec once
    assert "in process | 0.80 times | >= 0.8 times | >= 0.9 | met; aim missed by 11% |" in table


def test_the_picture_is_the_same_for_the_same_figures(tmp_path: Path) -> None:
    """So that a page that is rendered again does not change."""
    for name in ("a.svg", "b.svg"):
        plot.draw(latency.curves(RESULTS["latency"]), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert OURS in (tmp_path / "a.svg").read_text()


def test_a_page_says_when_the_machine_was_not_quiet_and_when_the_run_was_quick() -> None:
    """Such figures are not to be quoted."""
    here = machine.describe()
    loud, quiet = {**here, "load": 3.0}, {**here, "load": 0.1}
    assert "not quiet" in machine.sentence(loud, quick=False)
    assert "not quiet" in machine.caption(loud, quick=False)
    assert "quick" in machine.caption(quiet, quick=True)
    assert "**" not in machine.sentence(quiet, quick=False) + machine.caption(quiet, quick=False)


def test_a_machine_is_told_with_its_cores_python_and_versions() -> None:
    """Of the packages that the figures depend on, and no others."""
    here = machine.describe()
    told = f"{here['cores']} cores ({here['cpu']}), {here['python']}, numpy {here['packages']['numpy']}"
    assert machine.words("numpy") == told


def part_of(measure: Callable[[int], dict[str, Any]]) -> Part[int]:
    """One that measures so."""
    return Part("squares", "squares of a number", measure, str)


def test_what_a_part_measured_is_kept_with_what_it_depends_on(tmp_path: Path) -> None:
    """So that a page can be rendered later, and say of which machine its figures are."""
    part, here = part_of(lambda number: {"square": number**2}), {"cpu": "slow", "commit": "abc"}
    assert part.kept(tmp_path / "results") is None
    kept = part.keep(7, tmp_path / "results", here, quick=True)
    assert (kept["part"], kept["quick"], kept["machine"], kept["result"]) == ("squares", True, here, {"square": 49})
    assert part.kept(tmp_path / "results") == kept


def test_a_measurement_that_fails_leaves_the_result_before_it(tmp_path: Path) -> None:
    """Hours of measuring are not lost to one server that does not start."""

    def fail(number: int) -> dict[str, Any]:
        raise Failure(f"{number} is too many")

    kept = part_of(lambda number: {"square": number**2}).keep(7, tmp_path, {}, quick=False)
    with pytest.raises(Failure, match="8 is too many"):
        part_of(fail).keep(8, tmp_path, {}, quick=False)
    assert part_of(fail).kept(tmp_path) == kept
