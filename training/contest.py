"""
The contest: the VAE beside the baselines on the same held-out rows, and in words who wins.

Where no anomalies are labelled, a stand-in takes their place and is called so. Knows scores; nothing of how they
come about.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue
from sklearn.metrics import average_precision_score

from service.bundle import Bundle
from service.engine import Engine
from service.errors import counted
from training.baselines import IN_WORDS, fit_baselines, norm
from training.moments import SIGMA_MIN
from training.ranking import auroc, auroc_difference, rank_correlation
from training.scorer import scores_of
from training.thinning import thinned

Array = NDArray[np.generic]
Floats = NDArray[np.float64]

MOST_ROWS: Final = 5000
"""Normal rows, and anomalies, that are ranked: more are thinned to that."""

NORM_ALARM: Final = 0.99
"""Above this rank correlation with the norm, a score is one."""

ENOUGH: Final = 10
"""Of so many rows a side the error of a difference of AUROCs can be told; of fewer it comes out too small."""

LABELLED, STAND_IN = "labelled anomalies", "stand-in"


def contest(
    bundle: Bundle, engine: Engine, x: Array, anomalies: Array | None, train: Array, validation: Array, seed: int = 0
) -> dict[str, JsonValue]:
    """
    AUROC and average precision of every score kind and every baseline, and the baselines' mean log p(x) in nats.

    *x*, *anomalies*: held-out rows; *train*, *validation*: what the baselines learn from; all (n, *shape). Without
    anomalies: the rows of *x* with each feature shuffled by itself, which breaks dependence and keeps marginals. What
    the baselines are given in the place of what is no number is told in sentences, "given".
    """
    inputs, seen = bundle.manifest.inputs, bundle.manifest.latent.dim
    baselines = fit_baselines(train, validation, inputs, seen, seed, _sigma_floor(bundle))
    found: dict[str, JsonValue] = {"against": STAND_IN if anomalies is None else LABELLED, "train_rows": baselines.rows}
    normal = thinned(x, MOST_ROWS, seed)
    strange = shuffled(normal, seed) if anomalies is None else thinned(anomalies, MOST_ROWS, seed)
    found |= {"normal_rows": len(normal), "anomalous_rows": len(strange)}
    inside = {**scores_of(bundle, engine, normal, seed), **baselines.scores(normal)}
    outside = {**scores_of(bundle, engine, strange, seed), **baselines.scores(strange)}
    kind = bundle.manifest.scoring.kind
    best = max(baselines.detectors, key=lambda name: auroc(inside[name], outside[name]))
    lead, error = auroc_difference((inside[best], outside[best]), (inside[kind], outside[kind]))
    likeness = rank_correlation(inside[kind], norm(baselines.standard(normal)))
    found |= {
        "ranking": {name: _ranking(inside[name], outside[name]) for name in inside},
        "described": {name: baselines.described[name] for name in baselines.detectors},
        "left_out": dict(baselines.left_out),
        "given": list(baselines.standard.numbers.told()),
        "kind": kind,
        "best": best,
        "lead": round(lead, 4),
        "lead_error": round(error, 4),
        "norm_rank_correlation": None if math.isnan(likeness) else round(likeness, 4),
    }
    families = {likelihood.family for likelihood in bundle.manifest.likelihood}
    if families <= {"gaussian", "student-t"} and not inputs.masked:  # densities of the same values
        found["log_px"] = {name: _mean(values) for name, values in baselines.log_px(x).items()}
    return found


def _sigma_floor(bundle: Bundle) -> float:
    """The least sigma that the fit of *bundle* was given."""
    model = bundle.manifest.training.get("model")
    given = model.get("sigma_floor") if isinstance(model, dict) else None
    return float(given) if isinstance(given, int | float) else SIGMA_MIN


def shuffled(x: Array, seed: int) -> Array:
    """Each feature's values dealt to the rows anew, by itself: (n, *shape) -> the same shape."""
    mixed = np.random.default_rng([seed, 8]).permuted(x.reshape(len(x), -1), axis=0)
    return mixed.reshape(x.shape)


def verdict(found: Mapping[str, Any]) -> str:
    """In a sentence: who ranks the anomalies better. Within two standard errors nobody does."""
    values = {name: row["auroc"] for name, row in found["ranking"].items()}
    vae, other, name = values[found["kind"]], values[found["best"]], IN_WORDS[found["best"]]
    these = (
        "these anomalies" if found["against"] == LABELLED else "shuffled rows (a stand-in for anomalies, none labelled)"
    )
    if (fewest := min(found["normal_rows"], found["anomalous_rows"])) < ENOUGH:
        return (
            f"AUROC {vae:.3f}, and {other:.3f} of {name}, the best baseline; {counted(fewest, 'row')} on one side: too "
            f"few to say who ranks {these} better"
        )
    if abs(found["lead"]) <= 2 * found["lead_error"] or found["lead"] == 0:
        return (
            f"This VAE ranks {these} about as well as {name}, the best baseline: AUROC {vae:.3f} and {other:.3f}, "
            f"a difference within chance (standard error {found['lead_error']:.3f})"
        )
    if found["lead"] > 0:
        return f"{_first_up(name)} ranks {these} better than this VAE: AUROC {other:.3f} against {vae:.3f}"
    return f"This VAE ranks {these} better than every baseline: AUROC {vae:.3f} against {other:.3f} of {name}"


def norm_alarm(found: Mapping[str, Any]) -> str | None:
    """A sentence where the score orders rows as their norm does; None where it does not."""
    likeness = found["norm_rank_correlation"]
    if likeness is None or likeness <= NORM_ALARM:
        return None
    return (
        f"This VAE is a norm: its score orders normal rows as their distance from the mean does (rank correlation "
        f"{likeness:.3f}), so it has learned no more than scale"
    )


def _ranking(inside: Floats, outside: Floats) -> dict[str, JsonValue]:
    truth = np.repeat([0, 1], [len(inside), len(outside)])
    precision = float(average_precision_score(truth, np.concatenate([inside, outside])))
    return {"auroc": round(auroc(inside, outside), 4), "average_precision": round(precision, 4)}


def _mean(values: Floats) -> dict[str, JsonValue]:
    error = round(float(values.std(ddof=1) / math.sqrt(len(values))), 4) if len(values) > 1 else None
    return {"mean": round(float(values.mean()), 4), "standard_error": error}


def _first_up(name: str) -> str:
    return name if name == "kNN" else name[0].upper() + name[1:]
