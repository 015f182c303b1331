"""What is written is true: every setting, metric, error, route and file is in the guides, and the reverse."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.api import ROUTES
from service.calibrated import Scoring
from service.codec import form, jpeg, npy, png, sheets, tensors
from service.codec.bound import SPARE
from service.codec.fields import MAX_QUERY
from service.errors import ServiceError
from service.http import headers, outlet, protocol
from service.messages import AnomalyScoreOptions
from service.metrics import Metrics
from service.settings import Settings
from service.web import COLD_ROUTES
from tests.guide import ROOT, Program, agrees, programs, run
from tests.server import Server

README = (ROOT / "README.md").read_text()
GUIDES = {name: (ROOT / "docs" / f"{name}.md").read_text() for name in ("api", "training", "running", "files")}
TOGETHER = "\n".join((README, *GUIDES.values()))
EXAMPLE = ROOT / "deploy/models/digits"
FENCED = re.compile(r"^```.*?^```$", re.M | re.S)
FIXED = {
    "bytes of headers, of a POST to an operation": headers.MAX_HEADER_BYTES,
    "headers of a POST to an operation": headers.MAX_HEADERS,
    "requests that wait behind one on the same connection": protocol.MAX_PIPELINED,
    "bytes that still come of a request that is answered": outlet.MAX_DROPPED,
    "query parameters": MAX_QUERY,
    "headers of one part of a form": form.MAX_HEADERS,
    "bytes of each, and of a form's Content-Type": form.MAX_HEADER,
    "bytes of a `.npy` file's header": npy.MAX_HEADER,
    "chunks of a PNG": png.MAX_CHUNKS,
    "segments of a JPEG": jpeg.MAX_SEGMENTS,
    "scans of a JPEG": jpeg.MAX_SCANS,
    "pixels of a sheet": sheets.MAX_PIXELS,
    "characters of a tensor's name (`/v2`)": tensors.MAX_NAME,
}
"""The limits that no setting moves, by what docs/api.md calls them."""


def table(guide: str, title: str) -> dict[str, list[str]]:
    """The rows of the first table under a heading, by their first cell."""
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", GUIDES[guide], re.M | re.S)
    assert found is not None, f"docs/{guide}.md has no section {title}"
    rows = [line.strip("|").split("|") for line in found[1].splitlines() if line.startswith("|")]
    return {row[0].strip().strip("`"): [cell.strip() for cell in row[1:]] for row in rows[2:]}


def test_every_setting_is_told_with_its_default_and_its_meaning() -> None:
    """And nothing is there that is not a setting."""
    rows = table("running", "Settings")
    assert set(rows) == {f"VAE_{name.upper()}" for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        default, meaning = rows[f"VAE_{name.upper()}"]
        assert (default.strip("`"), meaning) == (str(field.default), field.description)


def test_every_metric_is_told_with_its_labels_and_its_meaning() -> None:
    """As Prometheus sees them."""
    metrics = Metrics()
    metrics.watch_queue(dict)
    rows = table("running", "Metrics")
    found = {}
    for family in metrics.registry.collect():
        if family.name.startswith("vae_"):
            name = family.name + ("_total" if family.type == "counter" else "")
            # the queue's, which is no instrument but asked at each scrape, has samples from the start
            known: Any = metrics.registry._names_to_collectors.get(name)
            labels = family.samples[0].labels if known is None else known._labelnames
            found[name] = [family.type, ", ".join(labels), family.documentation]
    assert rows == found


def test_every_error_is_told_with_its_status() -> None:
    """By the type that the problem document names; the framework's own two among them."""
    rows = table("api", "Errors")
    known = {error.type: error.status for error in ServiceError.__subclasses__()}
    assert {name: int(cells[0]) for name, cells in rows.items()} == {**known, "http-404": 404, "http-405": 405}


def test_every_limit_that_is_told_is_the_one_that_is_kept() -> None:
    """Of a setting: its default."""
    rows = {what: cells[0] for what, cells in table("api", "Limits").items()}
    defaults = {f"VAE_{name.upper()}": field.default for name, field in Settings.model_fields.items()}
    for what, (limit, by, _) in table("api", "Limits").items():
        if re.fullmatch("[0-9,]+", limit) and by != "fixed, by uvicorn's parser":
            setting = re.match("`(VAE_[A-Z_]+)`", by)
            kept = defaults[setting[1]] if setting else FIXED[what]
            assert limit == f"{kept:,.0f}", what
            assert setting or by == "fixed", what
    assert set(FIXED) <= set(rows)
    assert rows["JSON elements (values, lists, objects)"].endswith(f"and {SPARE:,}")
    assert rows["parts of a form"].endswith(f"and {MAX_QUERY}")


def test_where_the_default_of_alpha_comes_from_is_told_with_its_value() -> None:
    """In the guide and in the OpenAPI document."""
    told, alpha = " ".join(GUIDES["api"].split()), Scoring.model_fields["alpha"].default
    assert f"`manifest.scoring.alpha` of `/v1/model`: {alpha:g} in what `vae-train` writes, the example too" in told
    assert json.loads((EXAMPLE / "1/manifest.json").read_text())["scoring"]["alpha"] == alpha
    about = AnomalyScoreOptions.model_fields["alpha"].description or ""
    assert f"null: the bundle's own, manifest.scoring.alpha of GET /v1/model, which is {alpha:g} in what" in about


def test_what_the_commands_of_the_documentation_write_is_no_change_of_the_clone() -> None:
    """Ignored by git, from the root alone: files of the same names below it are tracked."""
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    texts = (TOGETHER, (ROOT / "docs/clients.md").read_text())
    code = "".join(program.code for text in texts for program in programs(text) if program.language == "sh")
    written = re.findall(r" (?:-o|>|--output-path) ([\w.-]+)(?=\s)", code)
    assert {"samples.png", "encoded.npz", "problem.json", "settings.yml", "digits_client"} <= set(written)
    for name in written:
        assert {f"/{name}", f"/{name}/"} & set(ignored), name


def test_every_route_is_told() -> None:
    """The operations and the others."""
    for path in [route.path for route in ROUTES] + list(COLD_ROUTES):
        assert re.search(rf"{re.escape(path)}[`\s]", TOGETHER), path


def test_every_link_leads_to_a_page_and_to_a_heading_that_are_there() -> None:
    """Of every page of the clone; addresses elsewhere are not looked at."""
    pages = [page for top in (".", "docs", "docs/decisions", "benchmarks") for page in (ROOT / top).glob("*.md")]
    assert len(pages) > 30
    for page in pages:
        for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", FENCED.sub("", page.read_text())):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), (page, link)
            assert not anchor or anchor in anchors(target), (page, link)


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_source_file_is_in_the_file_tree_with_a_phrase() -> None:
    """And every file of the tree exists."""
    tree = GUIDES["files"].split("```")[1]
    listed: dict[str, str] = {}
    folder = ""
    for line in tree.splitlines():
        found = re.fullmatch(r"( *)(\S+)(?: +(\S.*))?", line)
        if found is None:
            continue
        if not found[1]:
            folder = found[2] if found[2].endswith("/") else ""
        path = found[2] if not found[1] else folder + found[2]
        listed[path] = found[3] or ""
    sources = {
        str(p.relative_to(ROOT))
        for top in ("service", "training")
        for p in (ROOT / top).rglob("*.py")
        if p.name != "__init__.py"
    }
    assert sources <= set(listed), sources - set(listed)
    for path, phrase in listed.items():
        assert (ROOT / path).exists(), path
        assert phrase, path


def test_the_readme_names_the_python_that_the_project_requires() -> None:
    """One version, in both places."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11"
    assert "Python 3.11" in README


def test_the_constraints_hold_every_direct_dependency_without_hosts_or_hashes() -> None:
    """And each pinned version is within its range."""
    from packaging.requirements import Requirement

    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.lower().replace("_", "-").split("==") for line in lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [text for texts in project["optional-dependencies"].values() for text in texts]
    for text in project["dependencies"] + extras:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[requirement.name]), text


@pytest.fixture(scope="module")
def server() -> Any:
    """The service on the shipped example, as `make serve` starts it."""
    with Server(EXAMPLE) as running:
        yield running


CURLS = [program for program in programs(TOGETHER) if program.code.startswith("curl ") and program.shown]
PYTHON = [program for program in programs(TOGETHER) if program.language == "python"]


def test_there_is_a_curl_for_every_operation() -> None:
    """With its answer under it."""
    for route in ROUTES:
        assert [program for program in CURLS if route.path in program.code], route.path


@pytest.mark.parametrize("program", CURLS)
def test_every_curl_gives_the_answer_that_is_printed_under_it(server: Server, program: Program, tmp_path: Path) -> None:
    """Run as a shell runs it, against the shipped bundle; numbers are shown rounded."""
    printed = run(program, server, tmp_path)
    assert agrees(str(program.shown), printed), printed


PICTURES = {
    name: program
    for program in programs(TOGETHER)
    for name in re.findall(r"^curl .*?-o (\S+\.png) ", program.code, re.M)
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_is_drawn_by_its_curl(server: Server, name: str, tmp_path: Path) -> None:
    """The picture that is shown is the one that is drawn."""
    assert not run(PICTURES[name], server, tmp_path)
    with Image.open(tmp_path / name, formats=("PNG",)) as drawn:
        assert drawn.info["model.bundle_id"] == hashlib.sha256((EXAMPLE / "1/SHA256SUMS").read_bytes()).hexdigest()
        pixels = np.asarray(drawn)
    if (ROOT / "docs" / name).exists():
        with Image.open(ROOT / "docs" / name) as shown:
            np.testing.assert_allclose(np.asarray(shown, int), pixels, atol=1)  # a rounding of a rounding


def test_pictures_are_shown_with_how_they_were_drawn() -> None:
    """One at least."""
    assert [name for name in PICTURES if f"]({name})" in GUIDES["api"]] == ["samples.png", "anomalies.png"]


@pytest.mark.parametrize("program", PYTHON)
def test_every_python_runs_and_prints(server: Server, program: Program, tmp_path: Path) -> None:
    """By itself, as a reader would run it."""
    assert run(program, server, tmp_path)


def test_the_help_of_both_commands_names_every_option_that_is_told() -> None:
    """No flag is documented that does not exist."""
    for command, module in (("vae-serve", "service"), ("vae-train", "training")):
        texts = []
        for words in (
            ([], ["schema"], ["fit"], ["evaluate"], ["calibrate"], ["report"], ["export"])
            if module == "training"
            else ([],)
        ):
            ran = subprocess.run(
                [sys.executable, "-m", module, *words, "--help"], capture_output=True, text=True, check=True
            )
            texts.append(ran.stdout)
        for line in re.findall(rf"^(?:\.venv/bin/)?{command} .*?(?<!\\)$", TOGETHER, re.M | re.S):
            for flag in re.findall(r"--[a-z-]+", line):
                assert any(flag in text for text in texts), flag
