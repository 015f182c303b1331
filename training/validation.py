"""
The validation ELBO: what early stopping goes by. Held-out rows as they are, beta = 1, the same draws every time.

B rows, K draws, C features, L latents.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from training.batches import normals, standardised
from training.models.mlp import VAE
from training.objective import kl_per_latent, log_likelihood, reparameterize

Record = dict[str, Any]
"""Figures of one epoch by name, as JSON has them."""

ACTIVE = 0.01  # Burda et al. 2016, section 5.2: a unit is active when Var_x(mu_j) is above this

_ROWS = 1000  # at a time


class Validation:
    """
    Measures a model on *rows*, (n, *shape): eight draws a row, one where there are many rows.

    With a *fabric* of several processes each measures its share, and all get the same figures.
    """

    def __init__(self, vae: VAE, rows: NDArray[np.generic], seed: int, fabric: Fabric | None = None) -> None:
        rank, processes = (fabric.global_rank, fabric.world_size) if fabric is not None else (0, 1)
        self._vae, self._fabric, self._n = vae, fabric, len(rows)
        mine = slice(len(rows) * rank // processes, len(rows) * (rank + 1) // processes)
        draws = 8 if len(rows) < 2000 else 1
        self._v = standardised(vae, rows[mine])
        self._eps = normals((len(rows), draws, vae.config.latent_dim), [seed, 6])[mine].to(self._v.device)

    def __call__(self) -> Record:
        """The mean ELBO, its two parts, and the number of active units."""
        latent = self._vae.config.latent_dim
        sums = torch.zeros(2 + 2 * latent, dtype=torch.float64, device=self._v.device)
        with torch.no_grad():
            for v, eps in zip(torch.split(self._v, _ROWS), torch.split(self._eps, _ROWS), strict=True):
                sums += self._sums(v, eps)
        if self._fabric is not None:
            sums = torch.as_tensor(self._fabric.all_reduce(sums, reduce_op="sum"))
        log_px_z, kl, *moments = (sums / self._n).tolist()
        means, squares = np.array(moments[:latent]), np.array(moments[latent:])
        return {
            "validation_elbo": log_px_z - kl,
            "reconstruction": log_px_z,
            "kl": kl,
            "active_units": int((squares - means**2 > ACTIVE).sum()),
        }

    def _sums(self, v: Tensor, eps: Tensor) -> Tensor:
        """Over the rows: mean_k log p(x|z_k), KL, mu, mu^2: (B, C), (B, K, L) -> (2 + 2 L,) float64."""
        v, mask = self._vae.features.observed(v)
        mu, logvar = self._vae.encode(v, mask)
        z = reparameterize(mu, logvar, eps)  # (B, K, L)
        theta = self._vae.decode(z.flatten(0, 1)).reshape(*z.shape[:2], -1)  # (B, K, P)
        likelihood = self._vae.likelihood
        energy = likelihood.energy(theta, v.unsqueeze(1))  # (B, K, C)
        log_p = log_likelihood(likelihood.peak(), energy, None if mask is None else mask.unsqueeze(1)).mean(
            dim=1
        )  # (B,)
        parts = log_p.double().sum(), kl_per_latent(mu, logvar).double().sum()
        return torch.cat([torch.stack(parts), mu.double().sum(dim=0), mu.double().square().sum(dim=0)])
