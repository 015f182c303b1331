"""
The score kinds: anomaly scores in nats, "higher = more anomalous", and those that are of the scorer's outputs alone.

Pure functions on arrays, used on calibration rows (training) and on a caller's rows (service), so that both are
the same numbers. The densities themselves are in scorer.onnx; kinds that compare a row with reference rows are in
reference.py. B rows, K draws, L latents, C features.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SCORE_OUTPUTS: dict[str, tuple[str, ...]] = {
    "nll": ("log_w",),
    "neg_elbo": ("log_px_z", "kl"),
    "reconstruction": ("log_px_z",),
    "kl": ("kl",),
    "latent": ("mu",),
    "typicality": ("log_w",),
    "fused": ("log_px_z", "kl", "mu"),
}
"""The scorer's outputs that a kind is computed from."""

PLAIN = ("nll", "neg_elbo", "reconstruction", "kl")
"""The kinds that need nothing but the scorer's outputs."""

FEATURE_OUTPUTS: dict[str, str] = {
    "nll": "feature_nll_iw",
    "neg_elbo": "feature_nll_mean",
    "reconstruction": "feature_nll_mean",
}
"""The scorer's output (B, C) that explains a kind by feature; kinds without one cannot be explained."""


def score(kind: str, outputs: Mapping[str, NDArray[np.generic]]) -> Floats:
    """
    The score *kind*, one of PLAIN, of each row: (B,), in nats.

    nll             -(logsumexp_k log_w - log K), the negative importance-weighted bound (Burda et al. 2016, eq. 8)
    neg_elbo        sum_j KL_j - mean_k log p(x|z_k), the negative evidence lower bound
    reconstruction  -mean_k log p(x|z_k), the reconstruction probability of An & Cho (2015), negated
    kl              sum_j KL_j
    """
    if kind == "nll":
        log_w = np.asarray(outputs["log_w"], np.float64)  # (B, K)
        most: Floats = log_w.max(axis=1)
        bound: Floats = most + np.log(np.exp(log_w - most[:, None]).mean(axis=1))
        return -bound
    if kind == "neg_elbo":
        return score("reconstruction", outputs) + score("kl", outputs)
    if kind == "reconstruction":
        mean: Floats = np.asarray(outputs["log_px_z"], np.float64).mean(axis=1)
        return -mean
    if kind == "kl":
        total: Floats = np.asarray(outputs["kl"], np.float64).sum(axis=1)
        return total
    raise ValueError(f"{kind!r} is not a score of the scorer's outputs alone")
