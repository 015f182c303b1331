"""What the report says is so: of the bound that was ascended, of ensembles, of priors, and in two places the same."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from service.engine import Engine
from tests.bundles import IMAGE, TABLE, image_rows, table_rows, untrained
from tests.training.report_page import Page, epochs, material, opened
from tests.training.small import Fitted, gappy_inputs, table
from tests.training.unexported import unexported
from training.data import from_arrays
from training.fit import FitOptions, fit
from training.models.mlp import alone, ensemble
from training.report.drawing import Inline, drawing, plot, within
from training.report.learning import learning
from training.report.make import make
from training.report.marginals import distance_by_chance, kolmogorov_smirnov
from training.report.material import Material
from training.report.page import Section
from training.report.peers import peers
from training.report.scores import false_alarm_verdict, scores
from training.report.summary import summary
from training.report.tables import Tables

SEEDS = range(8)


def taught(found: Material, **training: Any) -> Material:
    """*found*, whose manifest says this of the training."""
    manifest = found.manifest.model_copy(update={"training": {**found.manifest.training, **training}})
    return replace(found, bundle=replace(found.bundle, manifest=manifest))


def curves(section: Section) -> list[str]:
    """The colours of the lines in the first figure of *section*, but for the axes' own."""
    return re.findall(r'<path d="M[^"]*L[^"]*"[^>]*fill: none; stroke: var\(--(data|model)\)', section.panels[0].html)


def verdict(section: Section) -> str:
    """The first."""
    return section.verdicts[0].text


def of_bound(draws: int) -> tuple[dict[str, Any], ...]:
    """What a fit of four epochs logs, of the ELBO or of the bound of so many draws."""
    records: list[dict[str, Any]] = []
    x = table_rows(80)
    vae = untrained(TABLE, "gaussian", x, latent_dim=2)
    fit(vae, x[:60], x[60:], FitOptions(epochs=4, importance_samples=draws), log=records.append)
    return tuple(records)


def test_a_column_that_few_rows_have_is_drawn() -> None:
    """All its dots, whichever rows are drawn of the other columns: 300 of each, less a few outside of the frame."""
    dense, x = table(200), table(1500, 1)
    x[5:, 0] = np.nan
    bundle, engine = unexported(untrained(gappy_inputs(5), "gaussian", dense, latent_dim=2))
    with drawing():
        for seed in SEEDS:
            found = Material(bundle, engine, x, None, None, "some rows", seed=seed)
            panels = Tables(found, Inline()).reconstructions(Section("reconstructions", "Reconstructions")).panels
            dots = {}
            for panel in panels:
                name = re.search(r'aria-label="(x\d): observed against expected', panel.html)
                path = re.search(r'<path d="([^"]*)"[^>]*stroke-linecap: round', panel.html)
                assert name is not None
                assert path is not None
                dots[name[1]] = path[1].count("M")
            assert sorted(dots) == ["x0", "x1", "x2", "x4"]
            assert dots.pop("x0") == 5
            assert all(290 <= count <= 300 for count in dots.values()), dots


def test_a_box_has_the_room_that_it_is_given() -> None:
    """None where none is asked for; a single value has a little, so that there is a box."""
    _, axes = plot()
    within(axes, (2.0, 5.0), (-1.0, 1.0), 0)
    assert (axes.get_xlim(), axes.get_ylim()) == ((2.0, 5.0), (-1.0, 1.0))
    within(axes, (2.0, 4.0), (0.0, 8.0), 0.25)
    assert (axes.get_xlim(), axes.get_ylim()) == ((1.5, 4.5), (-2.0, 10.0))
    within(axes, (20.0, 20.0), (0.0, 0.0), 0)
    assert axes.get_xlim() == (19.0, 21.0)
    low, high = axes.get_ylim()
    assert low < 0 < high


@pytest.mark.parametrize(
    ("draws", "title", "name"),
    [(1, "ELBO", "ELBO"), (5, "Importance-weighted bound (K = 5)", "bound")],
)
def test_the_learning_curves_are_of_the_bound_that_was_ascended(
    table_bundle: Path, draws: int, title: str, name: str
) -> None:
    """Of training and of validation rows, under its name; what it is is told."""
    found = material(*opened(table_bundle), table_rows(0), records=of_bound(draws))
    with drawing():
        section = learning(taught(found, options={"importance_samples": draws}), Inline())
        unknown = learning(taught(found, options=None), Inline())
    assert curves(section) == ["data", "model"]
    assert f'aria-label="{title} by epoch' in section.panels[0].html
    assert re.match(f"At the kept epoch the training {name} is .* the validation {name}", verdict(section))
    assert f"The validation {name} should rise" in section.look
    assert ("the importance-weighted bound of 5 draws" in section.look) == (draws == 5)
    assert ("the importance-weighted bound of several draws" in unknown.look) == (draws == 5)


def test_the_kept_epoch_is_the_best_by_the_bound_that_was_ascended(table_bundle: Path) -> None:
    """Where the manifest does not say: the bound rises as long as the ELBO falls."""
    rows = table_rows(0)
    falling = [{**record, "validation_elbo": -10.0 * record["epoch"]} for record in epochs(6)]
    several = [{**record, "train_bound": -5.0, "validation_bound": -9.0 / record["epoch"]} for record in falling]
    for records, kept in ((falling, 1), (several, 6)):
        found = material(*opened(table_bundle), rows, records=tuple(records))
        with drawing():
            section = learning(taught(found, result=None), Inline())
        assert f"the kept epoch, {kept}" in [key.text for key in section.keys]


def test_what_is_said_of_an_ensemble_is_so() -> None:
    """Rows are rebuilt by all of its models, whatever is decoded from a latent by the first."""
    x = table_rows(40)
    whole = ensemble([untrained(TABLE, "gaussian", x, seed, latent_dim=2) for seed in (1, 2)])
    found, one = (material(*unexported(vae), x[:20]) for vae in (whole, alone(whole)))
    z = np.random.default_rng(0).standard_normal((9, 2))
    assert np.abs(found.expected(x)[0] - one.expected(x)[0]).max() > 1e-3 * x.std()
    for ours, firsts in ((found.decode(z), one.decode(z)), (found.draw(z, 1), one.draw(z, 1))):
        np.testing.assert_array_equal(ours, firsts)
    np.testing.assert_array_equal(found.posterior, one.posterior)
    said = [part for part in summary(found).verdicts if "models together" in part.text]
    assert [part.text for part in said] == [
        "Scores, bounds, false alarms and reconstructions are those of all 2 models together; learning curves, "
        "latents, draws and ways through the latent space are those of the first."
    ]
    assert not any("models together" in part.text for part in summary(one).verdicts)


@pytest.mark.parametrize(("components", "told"), [(0, "the prior N(0, I) and"), (3, "the prior that the model has")])
def test_samples_of_images_are_said_to_be_of_the_prior_that_they_are_of(components: int, told: str) -> None:
    """N(0, I), or the one that was learned."""
    x = image_rows(80)
    bundle, engine = unexported(untrained(IMAGE, "bernoulli", x, latent_dim=2, components=components))
    page = Page(make(material(bundle, engine, x[:30])))
    assert f"Rows of the latent space drawn from {told}" in page.text


def test_as_many_methods_are_said_to_be_fitted_as_were() -> None:
    """Two fewer where every column is constant; a single one would be one."""
    for name, x, count in (("varied", table_rows(60), "6 methods"), ("constant", np.full((60, 3), 7.0), "4 methods")):
        bundle, engine = unexported(untrained(from_arrays(name, {"X": x}).inputs, "gaussian", x, latent_dim=1))
        found = material(bundle, engine, x[:20], learned=(x[20:50], x[50:]))
        assert peers(found).look.startswith(f"For comparison, {count} without a neural network, fitted to 30 of the")
    contest = found.evaluation["baselines"]
    few = {**contest, "described": {"norm": contest["described"]["norm"]}}
    look = peers(replace(found, evaluation={**found.evaluation, "baselines": few})).look
    assert look.startswith("For comparison, 1 method without a neural network, fitted to 30 of the")


def test_the_tile_and_the_sentence_tell_of_the_same_false_alarms(gappy: Fitted) -> None:
    """Those of rows as they are, at the default alpha, wherever in the evaluation they stand."""
    evaluation = gappy.bundle.manifest.evaluation
    alarms: Any = evaluation["false_alarms"]
    default = next(row for row in alarms if row["alpha"] == 0.01 and not row["mask_bin"])
    other = {**default, "mask_bin": 2, "missing": [0.2, 0.5], "rate": 0.5, "interval": [0.4, 0.6], "flagged": 75}
    engine = Engine(gappy.bundle.graphs, threads=1)
    found = Material(gappy.bundle, engine, gappy.test, None, None, "some rows", evaluation=evaluation)
    for order in ([*alarms], [other, *alarms[::-1]]):
        page = replace(found, evaluation={**evaluation, "false_alarms": order})
        tile = next(tile for tile in summary(page).tiles if tile.label.startswith("False alarms"))
        (said,) = false_alarm_verdict(page)
        assert tile.label == "False alarms at 0.01"
        assert tile.value == f"{100 * default['rate']:.1f}\u00a0%"
        assert said.text.startswith(f"At alpha 0.01, {100 * default['rate']:.2f}\u00a0% of the held-out")
        assert tile.detail.split()[0] in said.text
    assert not summary(replace(found, evaluation={**evaluation, "false_alarms": []})).tiles[-1].label.startswith("Fal")


def test_two_samples_are_further_apart_than_chance_puts_them_5_times_in_100(table_bundle: Path) -> None:
    """By the limit of Kolmogorov and Smirnov's distance; the band of the p-values is the same."""
    factor = distance_by_chance(70, 300) / np.sqrt(1 / 70 + 1 / 300)
    assert factor == pytest.approx(stats.kstwobign.ppf(0.95), abs=5e-4)
    pairs = np.random.default_rng(0).standard_normal((400, 370))
    beyond = [kolmogorov_smirnov(pair[:70], pair[70:]) > distance_by_chance(70, 300) for pair in pairs]
    assert 0.02 < np.mean(beyond) < 0.07
    found = material(*opened(table_bundle), table_rows(60))
    with drawing():
        panel = scores(found, Inline()).panels[1]
    assert f"it stays within {distance_by_chance(200, 60):.3f} (the band)" in panel.caption


def test_the_page_tells_of_one_number_of_active_latents(table_bundle: Path) -> None:
    """That of all rows, of which a single one, which no figure shows, is unlike the others."""
    x = np.repeat(table_rows(1), 2500, axis=0)
    bundle, engine = opened(table_bundle)
    hidden = np.setdiff1d(np.arange(len(x)), Material(bundle, engine, np.arange(2500), None, None, "").rows)
    x[hidden[0]] = [9e4, 300, 9]
    found = material(bundle, engine, x)
    assert (found.rows == x[0]).all()
    head = summary(found)
    tile = next(tile for tile in head.tiles if tile.label == "Active latents")
    assert (tile.value, tile.detail[:3]) == (str(len(found.active)), "KL ")
    assert found.evaluation["active_units"] == len(found.active) > 0
    assert not any("None of the" in said.text for said in head.verdicts)
