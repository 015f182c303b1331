"""
The material of a report: a bundle, its engine, rows that it has not seen, and what the graphs make of them.

Everything runs through the exported graphs; all that is drawn comes from the seed. Knows nothing of figures.
n rows, L latents, C features.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.bundle import Bundle
from service.calibrated import Calibrated
from service.engine import Engine
from service.ensemble import together
from service.manifest import Manifest
from training.active import are_active
from training.scorer import chunks, draws_of, entries_of, p_values_of, ranked_of, run_scorer
from training.thinning import thinned

Array = NDArray[np.generic]
Floats = NDArray[np.float64]
Record = Mapping[str, Any]

MOST_SHOWN: Final = 2000
"""Rows that figures are made of; evaluations are of all rows."""

_CHUNK_VALUES = 2**22


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
        """The mean KL of each latent over `rows`, of an ensemble's first member: (L,) nats; zeros without rows."""
        if not len(self.rows):
            return np.zeros(self.manifest.latent.dim)
        found = run_scorer(self.engine, self.manifest.inputs, self.rows, draws_of(self.bundle, self.seed), ("kl",))
        kl: Floats = found["kl"].astype(np.float64).mean(axis=0)
        return self.manifest.members * kl[: self.manifest.latent.dim]

    @cached_property
    def order(self) -> list[int]:
        """The latents, the most informative first."""
        return [int(j) for j in np.argsort(-self.kl, kind="stable")]

    @cached_property
    def active(self) -> list[int]:
        """
        Those of `order` whose mean varies with x: see `are_active`.

        As many as the evaluation found in all rows, so that the page tells of one number: those that vary most in
        `rows`. Without an evaluation those above the bound in `rows`.
        """
        mu, _ = self.posterior
        if not len(mu):
            return self.order
        variance = mu.var(axis=0)
        count = int(self.evaluation.get("active_units", are_active(variance).sum()))
        chosen = np.argsort(-variance, kind="stable")[:count].tolist()
        return [j for j in self.order if j in chosen]

    @cached_property
    def scores(self) -> tuple[Floats, Floats]:
        """The default score of `rows` and of `strange`, nats."""
        kind = self.manifest.scoring.kind
        normal, strange = (together(kind, ranked) for ranked in self._ranked)
        return normal, strange

    @cached_property
    def p_values(self) -> tuple[Floats, Floats]:
        """Those of `rows` and of `strange`, as the service has them; NaN where a row lacks more than is calibrated."""
        kind = self.manifest.scoring.kind
        parts = zip((self.rows, self.strange), self._ranked, strict=True)
        normal, strange = (p_values_of(self.bundle, x, ranked, kind) for x, ranked in parts)
        return normal, strange

    @cached_property
    def _ranked(self) -> tuple[Floats, Floats]:
        """What each member of an ensemble ranks `rows` and `strange` by: (M, n) each."""
        kind, nothing = self.manifest.scoring.kind, np.zeros((self.manifest.members, 0))
        normal, strange = (
            ranked_of(self.bundle, self.engine, x, self.seed)[kind] if len(x) else nothing
            for x in (self.rows, self.strange)
        )
        return normal, strange

    @cached_property
    def entry(self) -> Calibrated | None:
        """The calibration of the default score; None where the bundle has none."""
        return next(iter(entries_of(self.manifest, self.manifest.scoring.kind)), None)

    def encode(self, x: Array) -> tuple[Floats, Floats]:
        """Encode rows: (n, *shape) -> mu, logvar, (n, L) each."""
        parts = [self.engine.run("encoder", part) for part in chunks(x, self.manifest.inputs, 1024)]
        empty = np.zeros((0, self.manifest.latent.dim))
        mu, logvar = (np.concatenate([empty, *(part[name] for part in parts)]) for name in ("mu", "logvar"))
        return mu.astype(np.float64), logvar.astype(np.float64)

    def decode(self, z: Floats) -> Floats:
        """The mean of p(x|z) in original units, of categories the most probable one: (n, L) -> (n, C)."""
        step = max(1, _CHUNK_VALUES // self.manifest.inputs.features)
        return self._joined("decoder", "mean", ({"z": part} for part in _parts(z, step)))

    @property
    def draws(self) -> bool:
        """Whether the bundle has the graph that draws from p(x|z); older ones have not."""
        return self.manifest.capabilities.draw

    def draw(self, z: Floats, seed: int) -> Floats:
        """
        One draw from p(x|z) for each z, in original units, of the families that were fitted: (n, L) -> (n, C).

        By the graph `observe`, as the service draws; where `draws` says that it is there.
        """
        shape = next(t.shape for t in self.manifest.graphs["observe"].inputs if t.name == "u")
        each = [int(size) for size in shape[1:]]
        generator = np.random.default_rng([self.seed, seed])
        step = max(1, _CHUNK_VALUES // int(np.prod(each)))
        feeds = ({"z": part, "u": generator.random((len(part), *each), np.float32)} for part in _parts(z, step))
        return self._joined("observe", "x", feeds)

    def expected(self, x: Array) -> tuple[Floats, Floats, Floats]:
        """What the model expects of rows that it sees, and the 95 % interval: (n, *shape) -> (n, C) three times."""
        draws = draws_of(self.bundle, self.seed)
        got = run_scorer(self.engine, self.manifest.inputs, x, draws, ("expected", "lower", "upper"))
        expected, lower, upper = (got[name].astype(np.float64) for name in ("expected", "lower", "upper"))
        return expected, lower, upper

    @cached_property
    def unordered(self) -> NDArray[np.bool_]:
        """Which features are categories without an order, whose numbers are names: (C,)."""
        names = [n for part in self.manifest.likelihood if part.family == "categorical" for n in part.columns or ()]
        return np.isin(self.manifest.inputs.names, names)

    @cached_property
    def units(self) -> tuple[Floats, Floats]:
        """
        What figures have in the place of 0 and 1 standard deviation: center and scale of each feature, (C,) each.

        Of numeric columns those of the model. Counts, levels, 0 and 1 pass into it as they are: theirs are the mean and
        the standard deviation of `rows`. Of categories, and of all that is no table, 0 and 1.
        """
        columns = self.manifest.inputs.columns
        center, scale = np.zeros(self.manifest.inputs.features), np.ones(self.manifest.inputs.features)
        for c, column in enumerate(columns or ()):
            seen = self.rows[:, c].astype(np.float64)
            seen = seen[~np.isnan(seen)]
            if column.kind == "numeric" and column.center is not None and column.scale is not None:
                center[c], scale[c] = column.center, column.scale
            elif not self.unordered[c] and len(seen):
                center[c], scale[c] = seen.mean(), float(seen.std()) or 1.0
        return center, scale

    def standardised(self, x: Array) -> Floats:
        """Rows in `units`: (n, C) -> (n, C), clamped as the model does it."""
        center, scale = self.units
        with np.errstate(over="ignore"):
            u: Floats = (x.astype(np.float64) - center) / scale
        return u.clip(-self.manifest.inputs.clamp, self.manifest.inputs.clamp)

    def _joined(self, graph: str, output: str, feeds: Iterable[dict[str, NDArray[np.float32]]]) -> Floats:
        parts = [self.engine.run(graph, feed, (output,))[output] for feed in feeds]
        return np.concatenate([part.reshape(len(part), -1) for part in parts]).astype(np.float64)


def _parts(z: Floats, most: int) -> Iterator[NDArray[np.float32]]:
    return (z[start : start + most].astype(np.float32) for start in range(0, len(z), most))
