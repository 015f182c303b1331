"""One model fitted to one set of images, and what it makes of these and of others."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.likelihoods.kinds import Kind
from service.bundle import Bundle
from service.calibrated import Scoring
from service.engine import Engine
from service.manifest import Data
from training import checkpoint
from training.assemble import HeldOut, build_bundle
from training.checkpoint import Checkpoint
from training.data import Dataset
from training.evaluate import bounds, latents
from training.fit import FitOptions, fit
from training.likelihoods.choose import Family, as_they_are
from training.models.mlp import VAE, VAEConfig
from training.parts import Dealing, Parts, as_inputs, deal
from training.ranking import auroc
from training.scorer import scores_of
from training.split import Fractions
from training.thinning import thinned

Array = NDArray[np.generic]
Figures = dict[str, Any]

FRACTIONS: Final = Fractions(validation=0.03, calibration=0.03, test=0.0)
HIDDEN: Final = (256, 256)
LEVELS: Final = 256


def family(
    kind: Kind, own: Dataset, other: Dataset, file: Path, *, epochs: int, draws: int = 500, images: int = 500
) -> Figures:
    """
    A model of *own*: bounds with *draws* of some of its test images, and how the test images of *other* rank among all.

    *file*: the checkpoint. *code*: `as_code`, as a bound of log p(x).
    """
    bundle, engine, parts = fitted(kind, own, file, epochs)
    inputs, test = bundle.manifest.inputs, thinned(parts.test, images, 0)
    figures: Figures = bounds(engine, inputs, test, draws)
    figures |= latents(bundle, engine, parts.test)
    figures["described"] = [said.model_dump(mode="json") for said in bundle.manifest.likelihood]
    if kind.likelihood == "discretised-logistic":
        figures["code"] = figures["log_px"]
    elif kind.likelihood != "bernoulli":
        spread, shift = as_code(kind.likelihood, test)
        code: Any = bounds(engine, inputs, spread, draws)["log_px"]
        figures["code"] = {**code, "mean": code["mean"] + shift}
    assert other.test is not None, "These are sets with a test split of their own."
    inside = scores_of(bundle, engine, parts.test)
    outside = scores_of(bundle, engine, _inputs(kind, other, other.test))
    figures["auroc"] = {score: auroc(inside[score], outside[score]) for score in inside}
    return figures | {"fit": bundle.manifest.training["result"]}


def left_out(kind: Kind, mnist: Dataset, digit: int, file: Path, *, epochs: int) -> Figures:
    """
    A model of nine digits: how the training images of the tenth rank among the test images of the nine.

    The split is that of Tonnaer's thesis (section 3.4.1).
    """
    assert mnist.labels is not None, "This is a set with labels."
    assert mnist.test_labels is not None, "This is a set with labels."
    nine = mnist.labels != digit
    known = replace(mnist, x=mnist.x[nine], labels=mnist.labels[nine])
    bundle, engine, parts = fitted(kind, known, file, epochs)
    inside = scores_of(bundle, engine, parts.test[mnist.test_labels != digit])
    outside = scores_of(bundle, engine, _inputs(kind, mnist, mnist.x[~nine]))
    return {
        "auroc": {score: auroc(inside[score], outside[score]) for score in inside},
        "fit": bundle.manifest.training["result"],
    }


def fitted(kind: Kind, dataset: Dataset, file: Path, epochs: int) -> tuple[Bundle, Engine, Parts]:
    """The bundle of a fit to *dataset*, whose checkpoint is, or will be, *file*; its engine, and the rows dealt out."""
    parts = deal(dataset, Dealing(FRACTIONS, kind.binarize))
    if not file.exists():
        config = VAEConfig(
            kind.latent_dim,
            HIDDEN,
            kind.likelihood,
            sigma=kind.sigma,
            sigma_value=kind.sigma_value,
            standardise=not as_they_are(parts.inputs, kind.likelihood),
        )
        vae = VAE(parts.inputs, config)
        how = FitOptions(epochs=epochs, warmup_epochs=epochs / 3, patience=epochs, threads=1)
        result = fit(vae, parts.train, parts.validation, how, parts.draw, warn=_warn)
        made_of = Data(hash=dataset.hash, rows=parts.sizes)
        checkpoint.save(file, Checkpoint(parts.inputs, config, vae.state_dict(), made_of, {"result": asdict(result)}))
    kept = checkpoint.load(file)
    held_out = HeldOut(parts.calibration, parts.test[:0], reference=parts.validation)
    samples = (Scoring().samples,)
    bundle = build_bundle(kept.vae, "images", 1, kept.data, kept.training, held_out, threads=1, samples=samples)
    return bundle, Engine(bundle.graphs, threads=1), parts


def as_code(likelihood: Family, x: Array) -> tuple[Array, float]:
    """
    Each level spread evenly over the values that are nearest to it; and what that adds to log p(x).

    The mean of log p over these is at most the log of the probability of the level (Theis et al. 2016, section 3.1): so
    a density becomes a number that can be compared with probabilities. Where values end at 0 and 255, the 256 levels
    share that range.
    """
    spread = x.astype(np.float64) + np.random.default_rng(0).random(x.shape)
    if likelihood == "continuous-bernoulli":
        unit = (LEVELS - 1) / LEVELS
        return (spread * unit).astype(np.float32), math.prod(x.shape[1:]) * math.log(unit)
    return (spread - 0.5).astype(np.float32), 0.0


def _inputs(kind: Kind, dataset: Dataset, x: Array) -> Array:
    """Images as the model takes them."""
    return as_inputs(x, dataset.inputs, Dealing(FRACTIONS, kind.binarize), 3)


def _warn(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
