"""
Densities to hold a VAE against: probabilistic PCA and a Gaussian mixture, in nats of the original units.

They share with the VAE what decides a density's height: the standardisation (and its Jacobian), the clamp, and the
floor under every sigma. A constant column has no density of its own; it gets a normal of the floor's width, the
best that the VAE can do there too. Fitting is scikit-learn's. n rows, C features, E numbers that they become, D of
these not constant.
"""

from __future__ import annotations

import math
import warnings
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from service.inputs import Inputs
from training.data import CLAMP
from training.moments import SIGMA_MIN, constant
from training.numbers import Numbers

Array = NDArray[np.generic]
Floats = NDArray[np.float64]

MIXTURE_ROWS: Final = 5000
FULL_COVARIANCE: Final = 100
"""Features up to which a mixture's covariances are full matrices."""

_MIXTURES: Final = (("diag", 1), ("full", 1), ("full", 2), ("full", 4), ("full", 8), ("diag", 4), ("diag", 16))


class Standard:
    """
    Rows as the detectors take them: u = clamp((x - center) / scale), (n, *shape) -> (n, E) float64.

    Of numbers E is C, and x is the row; what is not a number, or is missing, see `Numbers`. *varies*: (E,), false for a
    table's numbers in which all training rows agree. *floor*: (E,), the least sigma, standardised.
    """

    def __init__(self, train: Array, inputs: Inputs, sigma_floor: float = SIGMA_MIN) -> None:
        self.numbers = Numbers(train, inputs, sigma_floor)
        self.center, self.scale, self.floor = self.numbers.center, self.numbers.scale, self.numbers.floor
        self.clamp = max(inputs.clamp, CLAMP)
        self.varies = np.ones(len(self.scale), bool)
        if inputs.kind == "table":
            self.varies = ~constant(self(train))

    def __call__(self, x: Array) -> Floats:
        """Standardise."""
        u: Floats = self.numbers(x).clip(-self.clamp, self.clamp)
        return u

    def constant_log_px(self, u: Floats) -> Floats:
        """The log density of the constant numbers, and the Jacobian of all: (n, E) -> (n,), original units."""
        r = u[:, ~self.varies] / self.floor[~self.varies]
        peak = -0.5 * math.log(2 * math.pi) - np.log(self.floor[~self.varies])
        total: Floats = (peak - 0.5 * np.square(r)).sum(axis=1) - np.log(self.scale).sum()
        return total


class ProbabilisticPCA:
    """
    N(mean, W W' + Psi), the optimum of a linear VAE (Tipping & Bishop 1999, eq. 7 and 8; Lucas et al. 2019).

    Psi is the mean of the eigenvalues left out, but no feature's is below its floor squared.
    *u*: (n, D). *components*: at most D - 1 and n - 1 are used.
    """

    def __init__(self, u: Floats, floor: Floats, components: int, seed: int) -> None:
        rows, features = u.shape
        self.components = max(0, min(components, features - 1, rows - 1))
        self.mean = u.mean(axis=0)
        spread = float(u.var(axis=0).sum())
        w = np.zeros((features, 0))
        noise = spread / features
        if self.components:
            small = features <= 500
            solver = "covariance_eigh" if small else "randomized"
            pca = PCA(self.components, svd_solver=solver, random_state=seed).fit(u)
            values = pca.explained_variance_ * (rows - 1) / rows
            noise = max(0.0, spread - float(values.sum())) / (features - self.components)
            w = pca.components_.T * np.sqrt(np.maximum(values - noise, 0))
        self.w, self.psi = w, np.maximum(noise, np.square(floor))

    def log_px(self, u: Floats) -> Floats:
        """Log density, standardised units: (n, D) -> (n,), by Woodbury's identity."""
        scaled = self.w / self.psi[:, None]  # (D, q)
        inner = np.eye(self.components) + self.w.T @ scaled
        log_det = np.log(self.psi).sum() + np.linalg.slogdet(inner)[1]
        r = u - self.mean
        b = r @ scaled  # (n, q)
        distance = (np.square(r) / self.psi).sum(axis=1) - (b * np.linalg.solve(inner, b.T).T).sum(axis=1)
        log_px: Floats = -0.5 * (distance + log_det + u.shape[1] * math.log(2 * math.pi))
        return log_px


class Mixture:
    """
    A Gaussian mixture: of several sizes and kinds of covariance, the one with the best density on validation rows.

    The floor squared is added to every variance. *u*, *validation*: (n, D).
    """

    def __init__(self, u: Floats, validation: Floats, floor: Floats, seed: int) -> None:
        rows, features = u.shape
        best = -math.inf
        for kind, size in _MIXTURES:
            needed = size * (10 * features if kind == "full" else 20) if size > 1 else 1
            if rows < needed or (kind == "full" and features > FULL_COVARIANCE):
                continue
            model = GaussianMixture(size, covariance_type=kind, reg_covar=1e-6, max_iter=50, random_state=seed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # 50 iterations are near enough
                model.fit(u)
            found = _Components(model, np.square(floor))
            density = float(found.log_px(validation).mean())
            if density > best:
                best, self._found, self.components, self.covariance = density, found, size, kind

    def log_px(self, u: Floats) -> Floats:
        """Log density, standardised units: (n, D) -> (n,)."""
        return self._found.log_px(u)


class _Components:
    """The normals of a fitted mixture, *extra* added to their variances."""

    def __init__(self, model: GaussianMixture, extra: Floats) -> None:
        self.log_weights = np.log(np.maximum(model.weights_, 1e-300))
        self.means = model.means_
        self.full = model.covariance_type == "full"
        covariances = model.covariances_ + (np.diag(extra) if self.full else extra)
        self.factors = np.linalg.cholesky(covariances) if self.full else np.sqrt(covariances)

    def log_px(self, u: Floats) -> Floats:
        parts = np.empty((len(u), len(self.means)))
        for k, (mean, factor) in enumerate(zip(self.means, self.factors, strict=True)):
            r = np.linalg.solve(factor, (u - mean).T).T if self.full else (u - mean) / factor
            log_det = 2 * np.log(np.diag(factor) if self.full else factor).sum()
            parts[:, k] = self.log_weights[k] - 0.5 * (np.square(r).sum(axis=1) + log_det)
        most = parts.max(axis=1, keepdims=True)
        log_px: Floats = (
            most[:, 0] + np.log(np.exp(parts - most).sum(axis=1)) - 0.5 * u.shape[1] * math.log(2 * math.pi)
        )
        return log_px
