"""
What normal rows are like: statistics of reference rows, that scores are completed by and three kinds are measured by.

Reference rows are neither trained on nor calibration rows, so that to these statistics calibration rows and a caller's
rows are alike, and false-alarm rates hold. Which they are, and how statistics come of them, is `training`'s business.
Pure functions on arrays. B rows, K draws, L latents, C features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from service import calibration
from service.calibrated import ALL, Calibrated, ScoreKind
from service.latent import normal_quantile
from service.manifest import Manifest
from service.scores import PLAIN, SCORE_OUTPUTS, score

Array = NDArray[np.generic]
Floats = NDArray[np.float64]

MEAN, COVARIANCE = "reference/latent/mean", "reference/latent/covariance"
"""The names of the latent statistics in calibration.npz, (L,) and (L, L)."""

REFERENCE: Final = ("absent/", "reference/")
"""How the names of all such statistics begin."""

PARTS: Final = {"typicality": ("nll",), "fused": ("reconstruction", "kl", "latent")}
"""The kinds that are made of other scores, and of which."""

LEVELS: Final = np.arange(1, 100) / 100
"""The quantiles of the reference rows that a score is held against: (M,). Beyond them it is a straight line."""

_KINDS: Final[tuple[ScoreKind, ...]] = get_args(ScoreKind)
_NORMAL: Final = normal_quantile(LEVELS)
_LOW, _HIGH = 24, 74  # the quartiles among LEVELS


@dataclass(frozen=True)
class Encodings:
    """Where q(z|x) of reference rows has its means: their *mean* (L,) and *covariance* (L, L)."""

    mean: Floats
    covariance: Floats

    @cached_property
    def _whitening(self) -> Floats:
        return np.asarray(np.linalg.inv(np.linalg.cholesky(self.covariance)).T)

    def distance(self, mu: Array) -> Floats:
        """
        Half the squared Mahalanobis distance, 1/2 (mu - m)^T S^-1 (mu - m): (B, L) -> (B,), in nats.

        The negative log density of N(m, S), less its constant L/2 log 2 pi + 1/2 log det S.
        """
        white = (np.asarray(mu, np.float64) - self.mean) @ self._whitening
        distance: Floats = 0.5 * np.square(white).sum(axis=1)
        return distance


@dataclass(frozen=True)
class Fusion:
    """
    A density of several scores at once. *knots*: (M, P), the quantiles LEVELS of each of P scores, strictly ascending.

    *covariance*: (P, P), of these scores as normal ranks.
    """

    knots: Floats
    covariance: Floats

    @cached_property
    def _shape(self) -> Encodings:
        return Encodings(np.zeros(len(self.covariance)), self.covariance)

    def ranked(self, parts: Floats) -> Floats:
        """
        Scores as normal ranks, Phi^-1 of the share of reference rows below: (B, P) -> (B, P).

        Below the first and above the last of the quantiles it goes on as a straight line, a standard deviation for
        every (q75 - q25) / 1.349 nats: ranks end there, and anomalies that all lie above every reference row would
        else be one as anomalous as the other.
        """
        t = np.empty(parts.shape)
        for p, knots in enumerate(self.knots.T):
            spread = (knots[_HIGH] - knots[_LOW]) / (_NORMAL[_HIGH] - _NORMAL[_LOW])
            beyond = parts[:, p] - np.clip(parts[:, p], knots[0], knots[-1])
            t[:, p] = np.interp(parts[:, p], knots, _NORMAL) + beyond / spread
        return t

    def distance(self, parts: Floats) -> Floats:
        """1/2 t^T S^-1 t of the normal ranks t: (B, P) -> (B,), in nats."""
        return self._shape.distance(self.ranked(parts))


@dataclass(frozen=True)
class Reference:
    """
    What there is to know of reference rows with K draws and one bin of missing values.

    *absent*: by kind, what each feature adds to the score of a normal row, (C,); none for complete rows. *typical*: the
    mean nll. None of the others where a bundle has not the kinds that need them.
    """

    absent: Mapping[str, Floats]
    encodings: Encodings | None = None
    typical: float | None = None
    fusion: Fusion | None = None

    @classmethod
    def of(cls, arrays: Mapping[str, Array], samples: int, mask_bin: int) -> Reference:
        """Those of *arrays*, of calibration.npz, that are of *samples* draws and of *mask_bin*."""
        entry = {kind: Calibrated(kind=kind, samples=samples, mask_bin=mask_bin, rows=1) for kind in _KINDS}
        absent = {kind: one.absent_key for kind, one in entry.items() if one.absent_key in arrays}
        typical, knots, covariance = entry["typicality"].reference_key, *fusion_keys(entry["fused"])
        return cls(
            {kind: _floats(arrays[key]) for kind, key in absent.items()},
            Encodings(_floats(arrays[MEAN]), _floats(arrays[COVARIANCE])) if MEAN in arrays else None,
            float(_floats(arrays[typical])) if typical in arrays else None,
            Fusion(_floats(arrays[knots]), _floats(arrays[covariance])) if knots in arrays else None,
        )

    def score(self, kind: str, outputs: Mapping[str, Array], mask: NDArray[np.bool_] | None) -> tuple[Floats, Floats]:
        """
        The score *kind* of each row, and what it is ranked by among calibration rows: (B,) each, in nats.

        latent      `Encodings.distance` of mu
        typicality  abs(nll - H), H the mean usual nll of reference rows: how far from being as likely as they are
        fused       `Fusion.distance` of reconstruction, kl and latent

        *mask*: (B, C), true where observed; None: all. What is ranked is the score and what missing features add to it,
        see `calibration.completed`. The last two are made of such completed scores, and are what they are ranked by.
        Raises ValueError for a kind that there are no statistics for.
        """
        parts = [self.score(part, outputs, mask)[1] for part in PARTS.get(kind, ())]
        if kind in PLAIN:
            told = score(kind, outputs)
        elif kind == "latent" and self.encodings is not None:
            told = self.encodings.distance(outputs["mu"])
        elif kind == "typicality" and self.typical is not None:
            told = np.abs(parts[0] - self.typical)
        elif kind == "fused" and self.fusion is not None:
            told = self.fusion.distance(np.stack(parts, axis=1))
        else:
            raise ValueError(f"there are no reference rows for the score {kind!r}")
        if mask is None or (absent := self.absent.get(kind)) is None:
            return told, told
        return told, calibration.completed(told, mask, absent)


def fusion_keys(entry: Calibrated) -> tuple[str, str]:
    """The names of the knots and the covariance of `Fusion` in calibration.npz."""
    return f"{entry.reference_key}/knots", f"{entry.reference_key}/covariance"


def refusal(manifest: Manifest, arrays: Mapping[str, Array]) -> str | None:
    """Why a score that *manifest* lists cannot be made with these *arrays* of calibration.npz; None where all can."""
    scorer = manifest.graphs.get("scorer")
    shapes = {} if scorer is None else {tensor.name: tensor.shape for tensor in scorer.outputs}
    for entry in (entry for entry in manifest.calibrated if entry.group == ALL):
        if lacking := [name for name in SCORE_OUTPUTS[entry.kind] if name not in shapes]:
            return f"the score {entry.kind} is made of {lacking[0]}, which is no output of the graph scorer"
        for name, shape in _needed(entry, shapes, manifest.members).items():
            if name not in arrays:
                return f"no array {name}"
            array = arrays[name]
            if array.shape != shape or array.dtype != np.float64 or not np.isfinite(array).all():
                return f"{name}: {array.shape} {array.dtype}, not {shape} float64 and finite"
            if "/covariance" in name and not _is_covariance(_floats(array)):
                return f"{name}: not symmetric and positive definite"
            if "/knots" in name and (np.diff(_floats(array), axis=0) <= 0).any():
                return f"{name}: not strictly ascending columns"
    return None


def named(key: str, members: int, m: int) -> str:
    """The name in calibration.npz of what is called *key* where there is one VAE, of member *m* of several."""
    return key if members == 1 else f"{key}/member/{m}"


def of_member(arrays: Mapping[str, Array], members: int, m: int) -> Mapping[str, Array]:
    """The statistics of member *m*, by the names that those of one VAE have."""
    if members == 1:
        return arrays
    ending = named("", members, m)
    return {key.removesuffix(ending): array for key, array in arrays.items() if key.endswith(ending)}


def _needed(
    entry: Calibrated, outputs: Mapping[str, tuple[int | str, ...]], members: int
) -> dict[str, tuple[int, ...]]:
    """The arrays without which *entry* cannot be scored, and their shapes."""
    needed: dict[str, tuple[int, ...]] = {}
    if "mu" in SCORE_OUTPUTS[entry.kind]:
        latents = int(outputs["mu"][-1]) // members
        needed |= {MEAN: (latents,), COVARIANCE: (latents, latents)}
    if entry.kind == "typicality":
        needed[entry.reference_key] = ()
    if entry.kind == "fused":
        parts = len(PARTS["fused"])
        needed |= dict(zip(fusion_keys(entry), ((len(LEVELS), parts), (parts, parts)), strict=True))
    return {named(key, members, m): shape for m in range(members) for key, shape in needed.items()}


def _is_covariance(matrix: Floats) -> bool:
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return bool(np.allclose(matrix, matrix.T, rtol=1e-9, atol=0))


def _floats(array: Array) -> Floats:
    return np.asarray(array, np.float64)
