"""The table of latent draws, eps.npy: fixed at export, so that one row has one score, on any replica, at any time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

DRAWS = 64


def noise_table(latent_dim: int, seed: int, draws: int = DRAWS) -> NDArray[np.float32]:
    """
    (draws, L) float32: scrambled Sobol points through the normal quantile.

    They cover the posterior more evenly than random draws, and so do their first 2^m (Buchholz et al. 2018).
    """
    sobol: Any = torch.quasirandom.SobolEngine  # not annotated in PyTorch
    points = sobol(latent_dim, scramble=True, seed=seed).draw(draws, dtype=torch.float64)
    inside = points.clamp(2.0**-32, 1 - 2.0**-32)  # the quantiles of 0 and 1 are infinite
    eps: NDArray[np.float32] = torch.special.ndtri(inside).float().numpy()
    return eps
