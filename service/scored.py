"""
Scored rows: what a request for scores is answered with, before it is a reply.

Knows which parts there are and what their arrays mean; `anomaly` makes them. Knows no bundle. B rows, K draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from service import scores
from service.calls import Rows
from service.discoveries import Discoveries
from service.explanations import FeaturePart, Maps, SensorPart

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Components:
    """The parts of B scores, in nats: (B,) each. *latent*: the score less the parts of all features."""

    reconstruction: Floats
    kl: Floats
    latent: Floats
    effective_samples: Floats

    @classmethod
    def of(cls, kind: str, values: Floats, outputs: Rows) -> Self:
        """The parts of the scores *values*, (B,). A kind without parts by feature is latent as a whole."""
        kl = scores.score("kl", outputs)
        log_w = np.asarray(outputs["log_w"], np.float64)
        weights = np.exp(log_w - log_w.max(axis=1, keepdims=True))
        latent = {
            "nll": np.asarray(outputs["latent_term"], np.float64),
            "neg_elbo": kl,
            "reconstruction": np.zeros_like(kl),
        }
        effective = np.square(weights.sum(axis=1)) / np.square(weights).sum(axis=1)
        return cls(scores.score("reconstruction", outputs), kl, latent.get(kind, values), effective)


@dataclass(frozen=True)
class Masked:
    """
    The m rows of a request that miss values: (m,) each, *rate* (m, 2). NaN where their bin has no threshold.

    *row*: which rows they are. *share*: of missing values, among the columns that may be missing. *threshold*: that of
    the bin, less what the missing features add to the score of a normal row, where the score has not that in it.
    """

    row: NDArray[np.int64]
    share: Floats
    threshold: Floats
    rate: Floats


@dataclass(frozen=True)
class Grouped:
    """
    By which calibration rows each of B rows was judged: (B,) each, *rate* (B, 2). NaN where there is no threshold.

    *group*: its own, or "all"; *reason*: then why, else nothing. *threshold*: what its score must exceed.
    """

    group: list[str]
    threshold: Floats
    rate: Floats
    reason: list[str]


@dataclass(frozen=True)
class Scored:
    """
    B scored rows. *rate*: of complete rows, None where the plan has no threshold for them.

    *is_anomaly* is masked for rows whose bin has no threshold, and None where no bin has one. *masked* is None where no
    row misses a value, *grouped* where the bundle has no groups, and *reason* where it has both. *reason*: why a
    threshold is not there that a row needs. *discoveries*: None where the plan has no false-discovery rate.
    """

    scores: Floats
    p_values: Floats
    rate: tuple[float, float] | None
    is_anomaly: NDArray[np.bool_] | None
    components: Components | None
    explanations: list[list[FeaturePart]] | None
    masked: Masked | None = None
    grouped: Grouped | None = None
    reason: str | None = None
    discoveries: Discoveries | None = None
    maps: Maps | None = None
    sensors: list[list[SensorPart]] | None = None
