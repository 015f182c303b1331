"""
The validation ELBO: what early stopping goes by. Held-out rows as they are, beta = 1, the same draws every time.

B rows, K draws, C features, L latents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from training.active import are_active
from training.batches import normals, standardised
from training.models.mlp import VAE
from training.objective import log_likelihood, reparameterize

Record = dict[str, Any]
"""Figures of one epoch by name, as JSON has them."""

_ROWS = 1000  # at a time, fewer where draws or outputs are many
_VALUES = 2**24  # of the largest tensor: 64 MiB


def criterion(record: Mapping[str, Any]) -> float:
    """What early stopping goes by: the bound that was ascended."""
    found: float = record.get("validation_bound", record["validation_elbo"])
    return found


class Validation:
    """
    Measures a model on *rows*, (n, *shape): eight draws a row, one where there are many rows, but at least *draws*.

    With several *draws* the importance-weighted bound is measured too, of the first *draws* of them.

    With a *fabric* of several processes each measures its share, and all get the same figures.
    """

    def __init__(
        self, vae: VAE, rows: NDArray[np.generic], seed: int, fabric: Fabric | None = None, draws: int = 1
    ) -> None:
        rank, processes = (fabric.global_rank, fabric.world_size) if fabric is not None else (0, 1)
        self._vae, self._fabric, self._n = vae, fabric, len(rows)
        mine = slice(len(rows) * rank // processes, len(rows) * (rank + 1) // processes)
        self._ascended, draws = draws, max(draws, 8 if len(rows) < 2000 else 1)
        width = max(256, vae.theta.out_features)  # of one row and draw: parameters of p(x|z), or a hidden layer
        self._at_once = max(1, min(_ROWS, _VALUES // (draws * width)))
        self._v = standardised(vae, rows[mine])
        self._eps = normals((len(rows), draws, vae.config.latent_dim), [seed, 6])[mine].to(self._v.device)

    def __call__(self) -> Record:
        """
        The mean ELBO, its two parts, and the number of active units; with several draws the mean bound.

        `criterion` is what early stopping goes by.
        """
        latent = self._vae.config.latent_dim
        sums = torch.zeros(3 + 2 * latent, dtype=torch.float64, device=self._v.device)
        with torch.no_grad():
            pieces = (torch.split(rows, self._at_once) for rows in (self._v, self._eps))
            for v, eps in zip(*pieces, strict=True):
                sums += self._sums(v, eps)
        if self._fabric is not None:
            sums = torch.as_tensor(self._fabric.all_reduce(sums, reduce_op="sum"))
        log_px_z, kl, bound, *moments = (sums / self._n).tolist()
        means, squares = np.array(moments[:latent]), np.array(moments[latent:])
        return {
            "validation_elbo": log_px_z - kl,
            "reconstruction": log_px_z,
            "kl": kl,
            "active_units": int(are_active(squares - means**2).sum()),
            **({"validation_bound": bound} if self._ascended > 1 else {}),
        }

    def _sums(self, v: Tensor, eps: Tensor) -> Tensor:
        """Over the rows: mean_k log p(x|z_k), KL, L_K, mu, mu^2: (B, C), (B, K, L) -> (3 + 2 L,) float64."""
        v, mask = self._vae.features.observed(v)
        mu, logvar = self._vae.encode(v, mask)
        z = reparameterize(mu, logvar, eps)  # (B, K, L)
        theta = self._vae.decode(z.flatten(0, 1)).reshape(*z.shape[:2], -1)  # (B, K, P)
        likelihood = self._vae.likelihood
        energy = likelihood.energy(theta, v.unsqueeze(1))  # (B, K, C)
        seen = None if mask is None else mask.unsqueeze(1)
        log_p = log_likelihood(likelihood.peak(), energy, seen).double()  # (B, K)
        log_w = log_p + self._vae.prior.log_ratio(z, eps, logvar)
        bound = log_w[:, : self._ascended].logsumexp(dim=1).sum() - len(v) * math.log(self._ascended)
        parts = log_p.mean(dim=1).sum(), self._vae.prior.kl(mu, logvar, z, eps).double().sum(), bound
        return torch.cat([torch.stack(parts), mu.double().sum(dim=0), mu.double().square().sum(dim=0)])
