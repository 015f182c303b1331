"""
The material of a report: a bundle, its engine, rows that it has not seen, and what the graphs make of them.

Everything runs through the exported graphs; all that is drawn comes from the seed. Knows nothing of figures.
n rows, L latents, C features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.bundle import Bundle
from service.engine import Engine
from service.manifest import Calibrated, Manifest
from training.baselines import thinned
from training.scorer import chunks, draws_of, run_scorer, scores_of

Array = NDArray[np.generic]
Floats = NDArray[np.float64]
Record = Mapping[str, Any]

MOST_SHOWN: Final = 2000
"""Rows that figures are made of; evaluations are of all rows."""

ACTIVE: Final = 0.01
_NORMAL_95: Final = 1.959963984540054


@dataclass(frozen=True)
class Material:
    """
    What a page is made from.

    *x*, *anomalies*: held-out rows, (n, *shape); *labels*: the classes of *x*. *which*: a word on which rows these
    are. *records*: one an epoch, as `fit` logs them. *evaluation*: what `evaluate` found; empty without rows.
    """

    bundle: Bundle
    engine: Engine
    x: Array
    labels: Array | None
    anomalies: Array | None
    which: str
    records: Sequence[Record] = ()
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    @property
    def manifest(self) -> Manifest:
        """Of the bundle."""
        return self.bundle.manifest

    @cached_property
    def _shown(self) -> NDArray[np.int64]:
        return thinned(np.arange(len(self.x)), MOST_SHOWN, self.seed)

    @cached_property
    def rows(self) -> Array:
        """The held-out rows that are shown: (n, *shape), at most MOST_SHOWN."""
        return self.x[self._shown]

    @cached_property
    def classes(self) -> Array | None:
        """The classes of `rows`, where there are any."""
        return None if self.labels is None else self.labels[self._shown]

    @cached_property
    def strange(self) -> Array:
        """The labelled anomalies that are shown; none where none are labelled."""
        return self.x[:0] if self.anomalies is None else thinned(self.anomalies, MOST_SHOWN, self.seed)

    @cached_property
    def posterior(self) -> tuple[Floats, Floats]:
        """The mu and logvar of `rows`: (n, L) each."""
        return self.encode(self.rows)

    @cached_property
    def kl(self) -> Floats:
        """The mean KL of each latent over `rows`, nats: (L,); zeros where there are no rows."""
        mu, logvar = self.posterior
        if not len(mu):
            return np.zeros(self.manifest.latent.dim)
        kl: Floats = 0.5 * (np.square(mu) + np.exp(logvar) - logvar - 1).mean(axis=0)
        return kl

    @cached_property
    def order(self) -> list[int]:
        """The latents, the most informative first."""
        return [int(j) for j in np.argsort(-self.kl, kind="stable")]

    @cached_property
    def active(self) -> list[int]:
        """Those of `order` whose mean varies with x: Var(mu_j) > 0.01 (Burda et al. 2016, section 5.2)."""
        mu, _ = self.posterior
        return [j for j in self.order if not len(mu) or mu[:, j].var() > ACTIVE]

    @cached_property
    def scores(self) -> tuple[Floats, Floats]:
        """The default score of `rows` and of `strange`, nats."""
        kind = self.manifest.scoring.kind
        parts = [self.rows, self.strange]
        found = [scores_of(self.bundle, self.engine, x, self.seed)[kind] if len(x) else np.zeros(0) for x in parts]
        return found[0], found[1]

    @cached_property
    def entry(self) -> Calibrated | None:
        """The calibration of the default score; None where the bundle has none."""
        scoring = self.manifest.scoring
        fitting = (e for e in self.manifest.calibrated if (e.kind, e.samples) == (scoring.kind, scoring.samples))
        return next(fitting, None)

    def encode(self, x: Array) -> tuple[Floats, Floats]:
        """Encode rows: (n, *shape) -> mu, logvar, (n, L) each."""
        parts = [self.engine.run("encoder", part) for part in chunks(x, self.manifest.inputs, 1024)]
        empty = np.zeros((0, self.manifest.latent.dim))
        mu, logvar = (np.concatenate([empty, *(part[name] for part in parts)]) for name in ("mu", "logvar"))
        return mu.astype(np.float64), logvar.astype(np.float64)

    def decode(self, z: Floats) -> Floats:
        """The mean of p(x|z) in original units: (n, L) -> (n, C)."""
        return self._decoded(z, ("mean",))[0]

    def draw(self, z: Floats, seed: int) -> Floats:
        """One draw of p(x|z) for each z, from its mean and its 95 % interval: (n, L) -> (n, C)."""
        mean, lower, upper = self._decoded(z, ("mean", "lower", "upper"))
        generator = np.random.default_rng([self.seed, seed])
        if self.manifest.likelihood[0].family == "bernoulli":
            return (generator.random(mean.shape) < mean).astype(np.float64)
        drawn: Floats = mean + (upper - lower) / (2 * _NORMAL_95) * generator.standard_normal(mean.shape)
        return drawn

    def expected(self, x: Array) -> tuple[Floats, Floats, Floats]:
        """What the model expects of rows that it sees, and the 95 % interval: (n, *shape) -> (n, C) three times."""
        draws = draws_of(self.bundle, self.seed)
        got = run_scorer(self.engine, self.manifest.inputs, x, draws, ("expected", "lower", "upper"))
        expected, lower, upper = (got[name].astype(np.float64) for name in ("expected", "lower", "upper"))
        return expected, lower, upper

    def standardised(self, x: Array) -> Floats:
        """Tables in units of each column's standard deviation, as the model has them: (n, C) -> (n, C), clamped."""
        columns = self.manifest.inputs.columns
        if columns is None:
            return x.astype(np.float64)
        center = np.array([0.0 if column.center is None else column.center for column in columns])
        scale = np.array([1.0 if column.scale is None else column.scale for column in columns])
        with np.errstate(over="ignore"):
            u: Floats = (x.astype(np.float64) - center) / scale
        return u.clip(-self.manifest.inputs.clamp, self.manifest.inputs.clamp)

    def _decoded(self, z: Floats, names: tuple[str, ...]) -> list[Floats]:
        step = max(1, 2**22 // self.manifest.inputs.features)
        parts = [
            self.engine.run("decoder", {"z": z[start : start + step].astype(np.float32)}, names)
            for start in range(0, len(z), step)
        ]
        return [np.concatenate([part[n].reshape(len(part[n]), -1) for part in parts]).astype(np.float64) for n in names]
