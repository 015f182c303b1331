"""The tables, from figures as they are kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from benchmarks.likelihoods.kinds import Kind
from benchmarks.serving.tables import table

SETS: Final = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}

Figures = Mapping[str, Any]


class Fitted(NamedTuple):
    """The figures of a kind fitted to a set; *pixels* of an image."""

    kind: Kind
    images: str
    strangers: str
    pixels: int
    figures: Figures


PUBLISHED_STRANGERS: Final = (
    ("-ELBO, convolutional VAE, 100 latents (likelihood path, table 1)", "0.87", "1.00"),
    ("-log p, Gaussian decoder with a learned sigma (a reproduction of Serra 2020)", "1.00", ""),
    ("likelihood regret (Xiao 2020), a fit for each image", "0.99", ""),
    ("ratio of hierarchical VAEs (Havtorn 2021)", "0.98", "1.00"),
)

PUBLISHED_DIGITS: Final = (
    ("2", (0.96, 0.73, 0.97, 0.94, 0.73, 0.92, 0.95, 0.77, 0.92, 0.66)),
    ("32", (0.81, 0.09, 0.92, 0.87, 0.78, 0.86, 0.87, 0.51, 0.89, 0.58)),
)
"""Latents, and AUROC by the digit that is the anomaly."""


def bounds(found: Sequence[Fitted], draws: int) -> str:
    """Bounds of log p(x) of test images."""
    return table(
        ["likelihood", "images", "log p(x) of", "ELBO", f"L_{draws}", "bits a pixel", "active latents"],
        [
            [
                one.kind.name,
                one.images,
                one.kind.measure,
                _figure(one.figures["elbo"]),
                _figure(one.figures["log_px"]),
                _bits(one.figures, one.pixels),
                f"{one.figures['active_units']} of {one.kind.latent_dim}",
            ]
            for one in found
        ],
    )


def strangers(found: Sequence[Fitted]) -> str:
    """The AUROC of the other set's test images against those of the set that was fitted to."""
    scores = list(dict.fromkeys(score for one in found for score in one.figures["auroc"]))
    return table(
        ["likelihood", "fitted to", "strangers", *scores],
        [
            [one.kind.name, one.images, one.strangers, *(f"{one.figures['auroc'][score]:.3f}" for score in scores)]
            for one in found
        ],
    )


def published_strangers() -> str:
    """What others report."""
    return table(["published", "MNIST to Fashion-MNIST's model", "the other way round"], PUBLISHED_STRANGERS)


def digits(found: Mapping[Kind, Mapping[int, Figures]]) -> str:
    """The AUROC of each digit against the others by models that never saw it, beside what others report."""
    rows = []
    for kind, figures in found.items():
        for score in next(iter(figures.values()))["auroc"]:
            values = [figures[digit]["auroc"][score] if digit in figures else math.nan for digit in range(10)]
            rows.append([kind.name, str(kind.latent_dim), score, *_ranked(values)])
    rows += [
        ["published (Tonnaer, table 3.3)", latents, "neg_elbo", *_ranked(values)]
        for latents, values in PUBLISHED_DIGITS
    ]
    return table(["likelihood", "latents", "score", *map(str, range(10)), "mean"], rows)


def _bits(figures: Figures, pixels: int) -> str:
    return f"{-figures['code']['mean'] / math.log(2) / pixels:.3f}" if "code" in figures else ""


def _figure(figure: Figures) -> str:
    return f"{figure['mean']:.1f} +- {figure['standard_error']:.1f}"


def _ranked(values: Sequence[float]) -> list[str]:
    return [*(f"{value:.2f}" for value in values), f"{np.mean(values):.3f}"]
