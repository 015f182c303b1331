"""
The scores of an ensemble: what its members say together, and what each of them says by itself.

The scorer of an ensemble is the mixture p(x) = 1/M sum_m p_m(x), a VAE whose latent is the member and its z: log_w and
log_px_z have the K draws of one member after the other, kl and mu the L latents, kl divided by M, so that the scores of
the whole are made of them as those of one VAE. One VAE is an ensemble of one. Pure functions of arrays.
M members, B rows, K draws, L latents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service import calibration
from service.calibrated import Calibrated
from service.reference import Reference, of_member

Array = NDArray[np.generic]
Floats = NDArray[np.float64]

_BY_MEMBER = ("log_w", "log_px_z", "kl", "mu")


@dataclass(frozen=True)
class Ensemble:
    """What there is to know of the reference rows of each member, with K draws and one bin of missing values."""

    references: tuple[Reference, ...]

    @classmethod
    def of(cls, arrays: Mapping[str, Array], members: int, samples: int, mask_bin: int) -> Ensemble:
        """Those of *arrays*, of calibration.npz."""
        return cls(tuple(Reference.of(of_member(arrays, members, m), samples, mask_bin) for m in range(members)))

    def score(self, kind: str, outputs: Mapping[str, Array], mask: NDArray[np.bool_] | None) -> tuple[Floats, Floats]:
        """
        The score *kind* of each row, (B,), and what each member ranks it by, (M, B), in nats: see `Reference.score`.

        Raises ValueError for a kind that there are no statistics for.
        """
        parts = members_of(outputs, len(self.references))
        found = [known.score(kind, part, mask) for known, part in zip(self.references, parts, strict=True)]
        return together(kind, np.stack([told for told, _ in found])), np.stack([ranked for _, ranked in found])


def together(kind: str, scores: Floats) -> Floats:
    """
    The score of the ensemble of those of its members: (M, B) -> (B,).

    nll is that of the mixture, -log 1/M sum_m exp(-s_m); of others it is the mean, for neg_elbo, reconstruction and kl
    that is their definition with the member as one more latent.
    """
    if len(scores) == 1:
        return np.asarray(scores[0])
    if kind != "nll":
        return np.asarray(scores.mean(axis=0))
    least = scores.min(axis=0)
    return np.asarray(least - np.log(np.exp(least - scores).mean(axis=0)))


def members_of(outputs: Mapping[str, Array], members: int) -> Iterator[dict[str, Array]]:
    """The scorer's outputs of each member by itself, as its own scorer has them."""
    if members == 1:
        yield dict(outputs)
        return
    for m in range(members):
        part = {name: array for name, array in outputs.items() if name not in _BY_MEMBER}
        for name in _BY_MEMBER:
            if (array := outputs.get(name)) is not None:
                size = array.shape[1] // members
                own = array[:, m * size : (m + 1) * size]
                part[name] = members * own if name == "kl" else own
        yield part


def p_values(arrays: Mapping[str, Array], entry: Calibrated, ranked: Floats) -> Floats:
    """
    The p-values among the calibration rows of *entry* of rows that the members rank by *ranked*: (M, B) -> (B,).

    Each member ranks its own fold, where the rows were dealt out so; else they rank all of them together.
    """
    folds = folds_of(arrays, entry)
    if entry.folds:
        return calibration.cross_p_values(folds, ranked)
    return calibration.p_values(folds[0], together(entry.kind, ranked))


def folds_of(arrays: Mapping[str, Array], entry: Calibrated) -> list[Floats]:
    """The calibration scores of *entry*, ascending: by member where each has its own fold, else all in one."""
    scores = np.asarray(arrays[entry.key], np.float64)
    return np.split(scores, np.cumsum(entry.folds)[:-1]) if entry.folds else [scores]
