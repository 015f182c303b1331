"""
The baselines: what a VAE must beat to be worth its while, fitted to the same rows and scored on the same rows.

Norm, probabilistic PCA, Mahalanobis distance, Gaussian mixture, nearest neighbour and isolation forest, by
scikit-learn, on standardised rows of numbers (see numbers.py), one setting each. Higher scores are more anomalous.
Knows arrays; no VAE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from service.inputs import Inputs
from training.densities import MIXTURE_ROWS, Mixture, ProbabilisticPCA, Standard
from training.moments import SIGMA_MIN
from training.numbers import width
from training.thinning import most_rows, thinned

Array = NDArray[np.generic]
Floats = NDArray[np.float64]
Detector = Callable[[Floats], Floats]

NAMES: Final = {
    "norm": "norm",
    "ppca": "probabilistic PCA",
    "mahalanobis": "Mahalanobis distance",
    "gmm": "Gaussian mixture",
    "knn": "kNN",
    "iforest": "isolation forest",
}
"""What each is called, by the key under which it stands in an evaluation."""

IN_WORDS: Final = {name: text if name in ("ppca", "knn") else f"the {text}" for name, text in NAMES.items()}
"""The same in the middle of a sentence."""

MOST_FEATURES: Final = 4096
"""Above this no covariance matrix is made."""

_CHUNK_VALUES = 2**22
_MIXTURE_VALUES = 2_000_000


@dataclass(frozen=True)
class Baselines:
    """
    The fitted detectors by key, and the two densities among them.

    *left_out*: those that were not fitted, and why. *rows*: how many rows they learned from.
    """

    detectors: dict[str, Detector]
    densities: dict[str, Detector]
    described: dict[str, str]
    left_out: dict[str, str]
    standard: Standard
    rows: int

    def scores(self, x: Array) -> dict[str, Floats]:
        """The score of each row, by detector: (n, *shape) -> (n,) each."""
        return self._by_chunk(self.detectors, x)

    def log_px(self, x: Array) -> dict[str, Floats]:
        """The log p(x) of each row in nats of the original units, by density: (n, *shape) -> (n,) each."""
        return self._by_chunk(self.densities, x)

    def _by_chunk(self, functions: dict[str, Detector], x: Array) -> dict[str, Floats]:
        with threadpool_limits(1):
            parts = [
                {name: function(u) for name, function in functions.items()}
                for u in map(self.standard, _chunks(x, max(1, _CHUNK_VALUES // len(self.standard.scale))))
            ]
        return {name: np.concatenate([part[name] for part in parts]) for name in functions}


def fit_baselines(
    train: Array, validation: Array, inputs: Inputs, components: int, seed: int = 0, sigma_floor: float = SIGMA_MIN
) -> Baselines:
    """
    Fit all to *train*, (n, *shape); the mixture is chosen on *validation*. *components*: of probabilistic PCA.

    *sigma_floor*: of the VAE that they stand beside, so that no density is sharper than its own may be.

    More than `most_rows` rows are thinned to that many. One thread, so that the same rows give the same figures.
    """
    features, seed = width(inputs), seed % 2**32  # scikit-learn takes no larger one
    train = thinned(train, most_rows(features), seed)
    validation = thinned(validation, 2000, seed)
    standard = Standard(train, inputs, sigma_floor)
    left_out: dict[str, str] = {}
    with threadpool_limits(1):
        u = standard(train)
        varies, floor = standard.varies, standard.floor[standard.varies]
        detectors: dict[str, Detector] = {"norm": norm}
        densities: dict[str, Detector] = {}
        described = {"norm": "Euclidean length of the standardised row", "knn": "distance to the nearest training row"}
        if varies.any():
            pca = ProbabilisticPCA(u[:, varies], floor, components, seed)
            few: Floats = thinned(u[:, varies], max(100, min(MIXTURE_ROWS, _MIXTURE_VALUES // features)), seed)
            mixture = Mixture(few, standard(validation)[:, varies], floor, seed)
            described["ppca"] = f"-log p(x), {pca.components} components"
            described["gmm"] = f"-log p(x), {mixture.components} components, {mixture.covariance} covariance"
            densities = {"ppca": _density(pca.log_px, standard), "gmm": _density(mixture.log_px, standard)}
            detectors |= {"ppca": lambda u: -densities["ppca"](u), "gmm": lambda u: -densities["gmm"](u)}
        else:
            left_out |= dict.fromkeys(("ppca", "gmm"), "every column is constant")
        if features <= MOST_FEATURES:
            detectors["mahalanobis"] = _mahalanobis(u)
            described["mahalanobis"] = "with Ledoit and Wolf's covariance"
        else:
            left_out["mahalanobis"] = f"more than {MOST_FEATURES:,} features"
        neighbours = NearestNeighbors(n_neighbors=1, algorithm="brute" if features > 15 else "auto").fit(u)
        detectors["knn"] = lambda u: neighbours.kneighbors(u)[0][:, -1]
        forest = IsolationForest(random_state=seed).fit(u)
        detectors["iforest"] = lambda u: -forest.score_samples(u)
        described["iforest"] = "100 trees"
    ordered = {name: detectors[name] for name in NAMES if name in detectors}
    return Baselines(ordered, densities, described, left_out, standard, len(train))


def norm(u: Floats) -> Floats:
    """The Euclidean length of standardised rows: (n, C) -> (n,)."""
    length: Floats = np.sqrt(np.square(u).sum(axis=1))
    return length


def _density(log_px: Detector, standard: Standard) -> Detector:
    """A density of the features that vary as one of all of them, in original units."""
    return lambda u: log_px(u[:, standard.varies]) + standard.constant_log_px(u)


def _mahalanobis(u: Floats) -> Detector:
    """The Mahalanobis distance from the mean; the shrinkage keeps the covariance invertible (Ledoit & Wolf 2004)."""
    model = LedoitWolf(store_precision=False).fit(u)
    factor = np.linalg.cholesky(model.covariance_ + 1e-9 * np.eye(u.shape[1]))
    return lambda rows: norm(np.linalg.solve(factor, (rows - model.location_).T).T)


def _chunks(x: Array, most: int) -> Iterator[Array]:
    return (x[start : start + most] for start in range(0, len(x), most))
