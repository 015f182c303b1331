"""
Evaluation of a bundle on held-out rows: bounds of log p(x), what the latents do, false alarms, ranking of anomalies.

Runs the exported graphs, so that what is measured is what is served. Knows arrays; no torch, no files.
B rows, K draws, L latents.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from service import calibration
from service.bundle import Bundle
from service.engine import Engine
from service.inputs import Inputs
from service.manifest import Calibrated, Threshold
from training import masks
from training.contest import contest
from training.labelled import choices
from training.ranking import auroc
from training.scorer import chunks, draws_of, p_values_of, run_scorer, scores_of, width

Array = NDArray[np.generic]
Floats = NDArray[np.float64]

ACTIVE: Final = 0.01
_CHUNK_VALUES = 2**21
_STREAM = 13  # of the seed: the values that are hidden


def evaluate(
    bundle: Bundle,
    engine: Engine,
    x: Array,
    anomalies: Array | None = None,
    draws: int = 64,
    seed: int = 0,
    learned: tuple[Array, Array] | None = None,
    *,
    anomaly_share: float | None = None,
    miss_cost: float | None = None,
) -> dict[str, JsonValue]:
    """
    Everything there is to say of *bundle* on normal rows *x* and, where there are any, labelled *anomalies*.

    *draws*: K of the importance-weighted bound. *learned*: the training and validation rows, for the baselines.
    *anomaly_share*, *miss_cost*: see `labelled.choices`.
    """
    report: dict[str, JsonValue] = {"rows": len(x), **bounds(engine, bundle.manifest.inputs, x, draws, seed)}
    report |= latents(bundle, engine, x)
    if bundle.manifest.calibrated:
        scores = scores_of(bundle, engine, x)
        report["false_alarms"] = list(false_alarms(bundle, engine, x, scores[bundle.manifest.scoring.kind], seed))
        if anomalies is not None:
            report["anomalies"] = len(anomalies)
            found = scores_of(bundle, engine, anomalies)
            report["auroc"] = {kind: auroc(scores[kind], found[kind]) for kind in scores}
            kind = bundle.manifest.scoring.kind
            p, q = p_values_of(bundle, x, scores[kind], kind), p_values_of(bundle, anomalies, found[kind], kind)
            report["alphas"] = choices(p, q, anomaly_share, miss_cost, seed)
    if learned is None:
        report["baselines"] = {"missing": "the rows that the bundle was fitted to are not at hand"}
    else:
        report["baselines"] = contest(bundle, engine, x, anomalies, *learned, seed)
    return report


def bounds(
    engine: Engine, inputs: Inputs, x: Array, draws: int, seed: int = 0, at_once: int = 128
) -> dict[str, JsonValue]:
    """
    The mean over rows of the ELBO, its two parts, and the bound L_K with *draws* fresh normal draws, in nats.

    Each with the standard error of that mean over the rows. L_K is a running logsumexp over *at_once* draws at a time,
    so that any K fits in memory (Burda et al. 2016, eq. 8).
    """
    generator = np.random.default_rng([seed, 4])
    latent_dim = engine.run("encoder", next(chunks(x, inputs, 1)))["mu"].shape[1]
    at_once = min(draws, at_once)
    log_px_z, kl, log_px = [], [], []
    # rows of a chunk share their draws: were all rows in one, the error of the draws would not average out
    for rows in chunks(x, inputs, max(1, min(8, _CHUNK_VALUES // (at_once * width(inputs))))):
        n = len(rows["x"])
        total, divergence, most, log_sum = np.zeros(n), np.zeros(n), np.full(n, -np.inf), np.zeros(n)
        for start in range(0, draws, at_once):
            eps = generator.standard_normal((min(at_once, draws - start), latent_dim), np.float32)
            got = engine.run("scorer", {**rows, "eps": eps}, ("log_w", "log_px_z", "kl"))
            log_w = got["log_w"].astype(np.float64)  # (B, K)
            total += got["log_px_z"].astype(np.float64).sum(axis=1)
            divergence += len(eps) * got["kl"].astype(np.float64).sum(axis=1)  # of a learned prior: of these draws
            higher = np.maximum(most, log_w.max(axis=1))
            log_sum = log_sum * np.exp(most - higher) + np.exp(log_w - higher[:, None]).sum(axis=1)
            most = higher
        log_px_z.append(total / draws)
        kl.append(divergence / draws)
        log_px.append(most + np.log(log_sum) - math.log(draws))
    reconstruction, latent = np.concatenate(log_px_z), np.concatenate(kl)
    return {
        "draws": draws,
        "elbo": _mean(reconstruction - latent),
        "reconstruction": _mean(reconstruction),
        "kl": _mean(latent),
        "log_px": _mean(np.concatenate(log_px)),
    }


def latents(bundle: Bundle, engine: Engine, x: Array, seed: int = 0) -> dict[str, JsonValue]:
    """
    The mean KL of each latent, and how many are active: Var_x(mu_j) > 0.01.

    Burda et al. 2016, section 5.2. With a learned prior KL is the average over the draws of the default score.
    """
    inputs = bundle.manifest.inputs
    mu = np.concatenate([engine.run("encoder", rows, ("mu",))["mu"] for rows in chunks(x, inputs, 1024)])
    kl = run_scorer(engine, inputs, x, draws_of(bundle, seed), ("kl",))["kl"].astype(np.float64).mean(axis=0)
    active = int((mu.astype(np.float64).var(axis=0) > ACTIVE).sum())
    return {"active_units": active, "kl_per_latent": [round(v, 4) for v in kl.tolist()]}


def false_alarms(bundle: Bundle, engine: Engine, x: Array, scores: Floats, seed: int = 0) -> Iterator[JsonValue]:
    """
    For each calibrated alpha of the default score: how many normal rows it flags, and may flag.

    *x*: (n, *shape), and the default *scores* of these, (n,). Where values may be missing, for each bin of their share
    by itself, with more of them hidden as in calibration. The count on m rows, given n calibration rows, is
    beta-binomial; its central 90 % interval stands beside it.
    """
    manifest = bundle.manifest
    scoring, inputs = manifest.scoring, manifest.inputs
    entries = {e.mask_bin: e for e in manifest.calibrated if (e.kind, e.samples) == (scoring.kind, scoring.samples)}
    parts: Iterable[tuple[int, Floats]] = [(0, scores)]
    if inputs.masked:
        by_bin = masks.by_bin(x, inputs, manifest.mask_bins, (seed, _STREAM))
        parts = ((bin_, scores_of(bundle, engine, rows, seed)[scoring.kind]) for bin_, rows in by_bin)
    ends = (0.0, 0.0, *manifest.mask_bins)
    for bin_, found in parts:
        if bin_ in entries:
            shares: list[JsonValue] = list(ends[bin_ : bin_ + 2])
            for threshold in entries[bin_].thresholds:
                yield {**_alarms(entries[bin_], found, threshold), "mask_bin": bin_, "missing": shares}


def _alarms(entry: Calibrated, scores: Floats, threshold: Threshold) -> dict[str, JsonValue]:
    k = calibration.rank(entry.rows, threshold.alpha)
    low, high = beta_binomial_interval(len(scores), entry.rows + 1 - k, k)
    flagged = int((scores > threshold.threshold).sum())
    return {
        "alpha": threshold.alpha,
        "rows": len(scores),
        "flagged": flagged,
        "rate": flagged / len(scores),
        "interval": [low / len(scores), high / len(scores)],
        "inside": low <= flagged <= high,
    }


def beta_binomial_interval(m: int, a: int, b: int, level: float = 0.9) -> tuple[int, int]:
    """The central *level* interval of the number of successes in *m* trials whose rate is Beta(a, b)."""
    log_gamma = math.lgamma
    norm = log_gamma(m + 1) - log_gamma(m + a + b) - log_gamma(a) - log_gamma(b) + log_gamma(a + b)
    log_mass = [
        norm - log_gamma(j + 1) - log_gamma(m - j + 1) + log_gamma(j + a) + log_gamma(m - j + b) for j in range(m + 1)
    ]
    below = np.cumsum(np.exp(log_mass))
    tail = (1 - level) / 2
    return int(np.searchsorted(below, tail)), min(m, int(np.searchsorted(below, 1 - tail)))


def _mean(values: Floats) -> dict[str, JsonValue]:
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return {"mean": float(values.mean()), "standard_error": error}
