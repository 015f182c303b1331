"""
L_K of binary images (Burda et al. 2016, eq. 8), for many draws: the mean over K of the weights, exactly, in the log.

What the exported scorer computes, in a third of its time; a Bernoulli decoder and N(0, I) only. K draws, L latents,
C pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.active import are_active
from training.batches import normals, standardised
from training.models.mlp import VAE
from training.objective import kl_per_latent, latent_log_ratio, reparameterize

Array = NDArray[np.generic]

AT_ONCE: Final = 1000
"""Draws at a time: fewer cost more calls, more do not fit into a cache."""

_STREAM = 14  # of the seed
_FACTORS = 100  # of at most 2 each: their product is below 2^127


class Bounds(NamedTuple):
    """
    Of each image: *log_px* L_K, *elbo* the mean over the draws of log p(x|z), less KL in closed form. (n,) each.

    *active_units*: latents with Var_x(mu_j) > 0.01 (Burda et al. 2016, section 5.2).
    """

    log_px: NDArray[np.float64]
    elbo: NDArray[np.float64]
    active_units: int


def bounds(
    vae: VAE, x: Array, draws: int, seed: int, threads: int, told: Callable[[int], None] = lambda row: None
) -> Bounds:
    """
    The bounds of *x*, (n, *shape) of zeros and ones, on the model's device.

    Every image has draws of its own, by *seed*, its row and their place: no figure depends on *threads*, or on how many
    images there are. A log weight is float32 with a float64 sum over them; the memory does not grow with K.
    """
    torch.set_num_threads(1)  # one image a thread is faster than one image by several
    v = standardised(vae, x)
    with torch.no_grad():
        mu, logvar = (torch.cat(part) for part in zip(*map(vae.encode, torch.split(v, 1000)), strict=True))
        active = int(are_active(mu.double().var(dim=0, correction=0).numpy()).sum())
        kl = kl_per_latent(mu, logvar).double().sum(dim=1).cpu().numpy()

    def measured(row: int) -> tuple[float, float]:
        told(row)
        one = slice(row, row + 1)
        return _of_image(vae, v[row], mu[one], logvar[one], draws, (seed, row))

    with ThreadPoolExecutor(threads) as pool:
        found = np.array(list(pool.map(measured, range(len(x)))))
    return Bounds(found[:, 0], found[:, 1] - kl, active)


def _of_image(
    vae: VAE, v: Tensor, mu: Tensor, logvar: Tensor, draws: int, place: tuple[int, int]
) -> tuple[float, float]:
    """L_K, and the mean over the draws of log p(x|z): of v (C,), mu and logvar (1, L)."""
    total, weights = 0.0, LogMean()
    for start in range(0, draws, AT_ONCE):
        shape = min(AT_ONCE, draws - start), vae.config.latent_dim
        eps = normals(shape, [place[0], _STREAM, place[1], start]).to(v.device)
        with torch.no_grad():
            z = reparameterize(mu, logvar, eps)  # (1, K, L)
            log_px_z = log_bernoulli(vae.decode(z.squeeze(0)), v).double()
            total += float(log_px_z.sum())
            weights.add(log_px_z + latent_log_ratio(z, eps, logvar).squeeze(0).double())
    return weights.value(), total / draws


class LogMean:
    """The log of the mean of exp(w) of all w so far, by their greatest and a sum below it: any number, any size."""

    def __init__(self) -> None:
        self._most, self._sum, self._count = -math.inf, 0.0, 0

    def add(self, w: Tensor) -> None:
        """More of them: (n,) float64, finite."""
        higher = max(self._most, float(w.max()))
        self._sum = self._sum * math.exp(self._most - higher) + float((w - higher).exp().sum())
        self._most, self._count = higher, self._count + len(w)

    def value(self) -> float:
        """Of one w at least."""
        return self._most + math.log(self._sum / self._count)


def log_bernoulli(theta: Tensor, v: Tensor) -> Tensor:
    """
    Log p(x|z) = sum_c x_c theta_c - softplus(theta_c), of logits (K, C), which are lost, and v (C,): -> (K,).

    softplus(t) = (t + |t|) / 2 + log(1 + exp(-|t|)), and the logs are taken of products of many factors between 1 and
    2: half the time of softplus, and off by no more than the roundings of that.
    """
    linear = theta @ (v - 0.5)
    size = theta.abs_()
    linear -= 0.5 * size.sum(dim=1)
    factors = size.neg_().exp_().add_(1)
    for piece in torch.split(factors, _FACTORS, dim=1):
        linear -= piece.prod(dim=1).log_()
    return linear
