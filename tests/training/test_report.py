"""The report: one page that needs nothing else, says what was measured, and never costs a fitted model."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.bundles import image_rows, table_rows, untrained
from tests.training.report_page import SECTIONS, Page, epochs, material, opened
from tests.training.unexported import unexported
from training.data import from_arrays, image_inputs, table_inputs
from training.evaluate import evaluate
from training.report.drawing import plain
from training.report.make import make
from training.report.marginals import kolmogorov_smirnov
from training.report.sheets import MOST_PIXELS, Pixels, sheet
from training.report.wording import number, percent, signed

Array = NDArray[np.generic]


def labelled(x: Array, kinds: int = 3) -> Array:
    """A class for each row."""
    return np.arange(len(x)) % kinds


def everything(bundle: Path) -> bytes:
    """Everything that a table can have."""
    x = table_rows(120, 2)
    learned = (table_rows(200), table_rows(60, 1))
    return make(material(*opened(bundle), x, x[:40] * [1, 1, -1], labelled(x), epochs(6), learned))


@pytest.fixture(scope="module")
def table_page(table_bundle: Path) -> bytes:
    """A page with everything."""
    return everything(table_bundle)


def test_a_table_with_everything_has_every_section(table_page: bytes) -> None:
    """All but the plane, which is for two latents; and that is said."""
    page = Page(table_page)
    assert tuple(page.sections) == SECTIONS
    assert re.findall(r"Not here: [^.]*?(?= What it)", page.text) == [
        "Not here: it is for models of two latents, with the prior N(0, I)"
    ]
    for words in ("pumps, version 1", "gaussian likelihood, 4 latents", "threshold at alpha 0.01", "Isolation forest"):
        assert words in page.text
    assert "never fitted" in page.text


def test_the_page_needs_nothing_else(table_page: bytes) -> None:
    """No script, no address, no asset but what it holds; every reference within it leads somewhere, once."""
    page = Page(table_page)
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "form", "base"}
    for link in page.links:
        assert link.startswith(("#", "data:image/png;base64,")), link[:50]
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    text = table_page.decode()
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(page.ids)
    assert not re.search(r"https?:|@import|url\((?!#)", text)
    assert page.unnamed == []


def test_what_a_user_has_named_is_escaped(table_bundle: Path) -> None:
    """Columns called as markup, as mathematics, with control characters or in another script are words."""
    names = ["<script>alert(1)</script>", "$\\frac{$ & \"'\x01\u202e", "\u6e29\u5ea6"]
    x = table_rows(40, 1)
    labels = np.array(["</svg><b onload=x>", "b"])[labelled(x, 2).astype(int)]
    found = material(*opened(table_bundle), x, labels=labels)
    manifest = found.manifest.model_copy(update={"inputs": table_inputs(names)})
    page = make(replace(found, bundle=replace(found.bundle, manifest=manifest)))
    assert "script" not in Page(page).tags
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.decode()
    assert "\u6e29\u5ea6" in page.decode()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", page.decode())


def test_the_same_material_gives_the_same_bytes(table_bundle: Path, table_page: bytes, image_bundle: Path) -> None:
    """No clock, no chance, no identifier that differs."""
    assert everything(table_bundle) == table_page
    x = image_rows(50)
    assert len({make(material(*opened(image_bundle), x, labels=labelled(x), records=epochs(3))) for _ in range(2)}) == 1


def test_an_image_model_is_shown_in_pictures(image_bundle: Path) -> None:
    """Binary images with classes; the page is small."""
    x = image_rows(80, 3)
    page = make(material(*opened(image_bundle), x, labels=labelled(x, 12), learned=(image_rows(90), image_rows(40))))
    found = Page(page)
    assert tuple(found.sections) == SECTIONS
    assert sum(link.startswith("data:") for link in found.links) >= 3 + 2 + 4 + 3
    assert "2 smaller classes" in found.text
    assert len(page) < 150_000


@pytest.mark.parametrize("rows", [0, 1, 2])
@pytest.mark.parametrize("kind", ["table", "image"])
def test_few_rows_leave_a_page_that_says_so(table_bundle: Path, image_bundle: Path, rows: int, kind: str) -> None:
    """None, one, two: what needs more says what it needs."""
    bundle, x = (table_bundle, table_rows(rows)) if kind == "table" else (image_bundle, image_rows(rows))
    found = Page(make(material(*opened(bundle), x)))
    assert tuple(found.sections) == SECTIONS
    assert ("There are no held-out rows" in found.text) == (rows == 0)
    assert "fewer than three held-out rows" in found.text
    assert "no log of the epochs was given" in found.text


def mixed(rows: int) -> Array:
    """Columns that never change, huge ones, tiny ones, whole numbers, and an ordinary one."""
    a, b = np.random.default_rng(0).standard_normal((2, rows))
    return np.stack([np.full(rows, 3.0), np.zeros(rows), 1e30 * a, 1e-30 * (a + b), np.round(b), a - b], axis=1)


RANDOM = np.random.default_rng(0)
SHAPES: list[tuple[str, Array, int]] = [
    ("one column, one latent", RANDOM.standard_normal((40, 1)), 1),
    ("columns of all sizes", mixed(60), 2),
    ("1,500 columns", RANDOM.standard_normal((30, 1500)), 3),
    ("colour images", RANDOM.integers(0, 256, (30, 3, 60, 7)), 2),
]


@pytest.mark.parametrize(("name", "x", "latents"), SHAPES, ids=[name for name, _, _ in SHAPES])
def test_every_kind_of_data_has_a_page(name: str, x: Array, latents: int) -> None:
    """With the baselines, 600 classes and anomalies; wide tables are cut, and the page says to what."""
    inputs = from_arrays(name, {"X": x}).inputs
    test, rest = x[: len(x) // 2], x[len(x) // 2 :]
    bundle, engine = unexported(untrained(inputs, "gaussian", x, latent_dim=latents), rest, test)
    classes = np.arange(len(test)) * 37 % 600
    found = Page(make(material(bundle, engine, test, rest[:5], classes, epochs(1), (rest, test))))
    assert tuple(found.sections) == SECTIONS
    assert ("for models of two latents" in found.text) == (latents != 2)
    if name == "1,500 columns":
        assert "9 of 1,500 columns are drawn" in found.text


def test_a_bundle_without_calibration_has_scores_without_a_threshold(table_bundle: Path) -> None:
    """It says that the service offers no anomaly-score."""
    found = material(*opened(table_bundle), table_rows(40))
    plain = replace(
        found.bundle, manifest=found.manifest.model_copy(update={"calibrated": ()}), eps=found.bundle.eps[:0]
    )
    page = Page(make(replace(found, bundle=plain, evaluation=evaluate(plain, found.engine, found.x, draws=2))))
    assert "Without calibration rows there is no threshold" in page.text
    assert "false alarms" not in page.text


def test_a_log_with_gaps_is_drawn(table_bundle: Path) -> None:
    """A resumed fit repeats epochs, and a skipped one has no loss."""
    odd = [*epochs(4), {"epoch": 4, "validation_elbo": None, "train_elbo": float("nan")}, {"epoch": 9, "kl": "high"}]
    assert "learning" in Page(make(material(*opened(table_bundle), table_rows(9), records=tuple(odd)))).sections


def test_the_distance_of_two_samples_is_that_of_scipy() -> None:
    """With ties."""
    from scipy import stats

    generator = np.random.default_rng(0)
    a, b = generator.integers(0, 9, 70).astype(float), generator.integers(2, 12, 50).astype(float)
    assert kolmogorov_smirnov(a, b) == pytest.approx(stats.ks_2samp(a, b).statistic)


def test_long_names_are_cut_in_their_middle() -> None:
    """They often differ in their ends; what cannot be printed is a space."""
    assert plain("temperature of bearing 7", 12) == "temper\u2026ing 7"
    assert plain("a\x00b", 12) == "a b"


def test_numbers_are_written_for_people() -> None:
    """A real minus, no sign on a zero, powers of ten where there must be."""
    values = (-1.25, -0.01, 12345.6, 1e30, float("nan"))
    assert [number(v, 1) for v in values] == ["\u22121.2", "0.0", "12,345.6", "1.00e+30", "nan"]
    assert [signed(v) for v in (0.04, 2.0, -2.0)] == ["0.0", "+2.0", "\u22122.0"]
    assert percent(0.1234, 1) == "12.3\u00a0%"


@pytest.mark.parametrize("shape", [(300, 20), (20, 300), (97, 97), (1, 500)])
def test_large_images_are_averaged_down(shape: tuple[int, int]) -> None:
    """To at most 48 pixels a side, of any proportion; a flat grey stays what it is."""
    x = np.full((2, *shape), 127.5, np.float32)
    pixels = Pixels(image_inputs("x", x.astype(np.uint8)), x)
    images = pixels(x)
    assert max(images[0].shape[:2]) <= MOST_PIXELS
    np.testing.assert_allclose(images[0], 0.5)
    assert str(sheet([images], "<a>")).startswith('<img alt="&lt;a&gt;"')


@pytest.mark.parametrize("shape", [(4, 5, 3), (3, 4, 5), (4, 5, 4), (4, 5, 1)])
def test_colours_are_shown_whichever_axis_they_are_on(shape: tuple[int, ...]) -> None:
    """Height, width, colour or colour, height, width; a fourth channel is left off, a single one is grey."""
    x = np.random.default_rng(0).random((2, *shape))
    images = Pixels(image_inputs("x", x), x)(x)
    want = np.moveaxis(x, 1, -1) if shape[0] == 3 else x[..., :3]
    np.testing.assert_allclose(images, want)
