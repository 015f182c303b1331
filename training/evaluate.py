"""
Evaluation of a bundle on held-out rows: bounds of log p(x), what the latents do, false alarms, ranking of anomalies.

Runs the exported graphs, so that what is measured is what is served. Knows arrays; no torch, no files.
B rows, K draws, L latents.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from service import calibration
from service.bundle import Bundle
from service.calibrated import ALL, ALPHAS
from service.engine import Engine
from service.ensemble import p_values, together
from service.groups import NONE, Grouping
from service.inputs import Inputs
from training import masks
from training.active import are_active
from training.calibrate import TIED
from training.contest import contest
from training.labelled import choices
from training.ranking import auroc
from training.scorer import chunks, draws_of, entries_of, p_values_of, ranked_of, run_scorer, width

Array = NDArray[np.generic]
Floats = NDArray[np.float64]

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
    report |= latents(bundle, engine, x, seed)
    if bundle.manifest.members > 1:
        by_folds = any(entry.folds for entry in bundle.manifest.calibrated)
        report["ensemble"] = {"models": bundle.manifest.members, "by_folds": by_folds}
    if bundle.manifest.calibrated:
        kind, ranked = bundle.manifest.scoring.kind, ranked_of(bundle, engine, x)
        report["false_alarms"] = list(false_alarms(bundle, engine, x, ranked[kind], seed))
        if anomalies is not None:
            report["anomalies"] = len(anomalies)
            found = ranked_of(bundle, engine, anomalies)
            report["auroc"] = {
                kind: auroc(together(kind, ranked[kind]), together(kind, found[kind])) for kind in ranked
            }
            p, q = p_values_of(bundle, x, ranked[kind], kind), p_values_of(bundle, anomalies, found[kind], kind)
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
            log_w = got["log_w"].astype(np.float64)  # (B, K), of an ensemble (B, M K)
            total += len(eps) * got["log_px_z"].astype(np.float64).mean(axis=1)
            divergence += len(eps) * got["kl"].astype(np.float64).sum(axis=1)  # of a learned prior: of these draws
            higher = np.maximum(most, log_w.max(axis=1))
            log_sum = log_sum * np.exp(most - higher) + np.exp(log_w - higher[:, None]).sum(axis=1)
            most = higher
        log_px_z.append(total / draws)
        kl.append(divergence / draws)
        log_px.append(most + np.log(log_sum) - math.log(draws * log_w.shape[1] / len(eps)))
    reconstruction, latent = np.concatenate(log_px_z), np.concatenate(kl)
    return {
        "draws": draws,
        "elbo": mean_of(reconstruction - latent),
        "reconstruction": mean_of(reconstruction),
        "kl": mean_of(latent),
        "log_px": mean_of(np.concatenate(log_px)),
    }


def latents(bundle: Bundle, engine: Engine, x: Array, seed: int = 0) -> dict[str, JsonValue]:
    """
    The mean KL of each latent, and how many are active, see `are_active`.

    With a learned prior KL is the average over the draws of the default score. Of an ensemble those of the first
    member, whose latents the operations show.
    """
    inputs = bundle.manifest.inputs
    mu = np.concatenate([engine.run("encoder", rows, ("mu",))["mu"] for rows in chunks(x, inputs, 1024)])
    kl = run_scorer(engine, inputs, x, draws_of(bundle, seed), ("kl",))["kl"].astype(np.float64).mean(axis=0)
    active = int(are_active(mu.astype(np.float64).var(axis=0)).sum())
    own = bundle.manifest.members * kl[: bundle.manifest.latent.dim]
    return {"active_units": active, "kl_per_latent": [round(v, 4) for v in own.tolist()]}


def false_alarms(bundle: Bundle, engine: Engine, x: Array, ranked: Floats, seed: int = 0) -> Iterator[JsonValue]:
    """
    For each calibrated alpha of the default score: how many normal rows it flags, and may flag.

    *x*: (n, *shape), and what `ranked_of` has of these for the default score, (M, n). Where values may be missing, for
    each bin of their share by itself, with more of them hidden as in calibration; where rows are calibrated in groups,
    for each of them besides, *by* what the service judges them by. The count on m rows, given n calibration rows, is
    beta-binomial (with folds near that); its central 90 % interval stands beside it, but for groups that are judged by
    all: nothing is promised of these.
    """
    manifest, grouping = bundle.manifest, Grouping(bundle.manifest)
    kind, inputs = manifest.scoring.kind, manifest.inputs
    entries = {entry.mask_bin: entry for entry in entries_of(manifest, kind)}
    parts: Iterable[tuple[int, Array, Floats]] = [(0, x, ranked)]
    if inputs.masked:
        by_bin = masks.by_bin(x, inputs, manifest.mask_bins, (seed, _STREAM))
        parts = ((bin_, rows, ranked_of(bundle, engine, rows, seed)[kind]) for bin_, rows in by_bin)
    ends = (0.0, 0.0, *manifest.mask_bins)
    for bin_, rows, found in parts:
        if bin_ not in entries or _tied(bundle.calibration[entries[bin_].key]):  # where all are equal none is rare
            continue
        of = grouping.of(rows)
        shares: list[JsonValue] = list(ends[bin_ : bin_ + 2])
        for group in (NONE, *sorted(group for group in set(of.tolist()) if group >= 0)):
            for alpha in (alpha for alpha in ALPHAS if calibration.rows_needed(alpha) <= entries[bin_].rows):
                entry, _ = grouping.judge(entries[bin_], group, alpha)
                some, name = (found, ALL) if group == NONE else (found[:, of == group], grouping.names[group])
                told = _alarms(entry.rows, p_values(bundle.calibration, entry, some), alpha)
                if name != entry.group:
                    told |= {"interval": None, "inside": None}
                yield {**told, "mask_bin": bin_, "missing": shares, "group": name, "by": entry.group}


def _tied(scores: Array) -> bool:
    """Whether ascending calibration scores are all one: of rows of which nothing is left that could tell them apart."""
    low, high = float(scores[0].item()), float(scores[-1].item())
    return 0 <= high - low <= 4 * TIED * max(1.0, abs(high))


def _alarms(calibrated: int, p: Floats, alpha: float) -> dict[str, JsonValue]:
    """Of rows with these p-values among so many *calibrated* ones."""
    k = calibration.rank(calibrated, alpha)
    low, high = beta_binomial_interval(len(p), calibrated + 1 - k, k)
    flagged = int((p <= alpha).sum())
    return {
        "alpha": alpha,
        "rows": len(p),
        "flagged": flagged,
        "rate": flagged / len(p),
        "interval": [low / len(p), high / len(p)],
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


def mean_of(values: Floats) -> dict[str, JsonValue]:
    """The mean of *values*, (n,), and its standard error, None of one value."""
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return {"mean": float(values.mean()), "standard_error": error}
