"""
Groups: do rates hold within each where rows are calibrated by group, and how far off are they where rows are not?

Rows of a known distribution from three sites that are noisy by different measures; one model, and a pool of rows that
it has not seen, dealt out again and again as in `pools`. Given which rows a site has among them, its own calibration
and test rows are a partition of its pool, so that the law is that of `tally`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.false_alarms.refits import COLUMNS, draw
from benchmarks.false_alarms.tally import ALPHAS, Tally, count
from service import calibration
from service.engine import Engine
from service.inputs import Column, Inputs
from service.reference import Reference
from service.scores import SCORE_OUTPUTS
from training.by_modules import scorer
from training.data import CLAMP
from training.defaults import default_latent_dim
from training.fit import FitOptions, fit
from training.models.mlp import VAE, VAEConfig
from training.noise import noise_table
from training.reference import reference_of
from training.scorer import outputs_of, run_scorer

Floats = NDArray[np.float64]

SITES = {"north": (0.7, 0.0), "south": (0.2, 0.5), "west": (0.1, 1.5)}
"""By name: its share of the rows, and the noise that its sensors add, in units of the spread of a column."""

BY_ALL, BY_OWN = "all rows", "its own rows"
DRAWS = 16
LEARN, POOL = 3000, 4000
INPUTS = Inputs(
    kind="table",
    shape=(COLUMNS + 1,),
    dtype="float64",
    columns=(
        *(Column(name=f"x{c}") for c in range(COLUMNS)),
        Column(name="site", kind="categorical", vocabulary=tuple(SITES)),
    ),
    clamp=CLAMP,
)


def rows(n: int, generator: np.random.Generator) -> Floats:
    """Rows of the three sites: (n, 9), the last column which site."""
    shares, noise = (np.array(part) for part in zip(*SITES.values(), strict=True))
    site = generator.choice(len(SITES), n, p=shares)
    x = draw(n, generator)
    noisy = x + noise[site, None] * generator.normal(size=x.shape) * np.logspace(-3, 3, COLUMNS)
    return np.concatenate([noisy, site[:, None]], axis=1)


def measure(splits: int, epochs: int = 30, seed: int = 0) -> dict[str, Tally]:
    """By "kind|site|judged by|alpha", over *splits* partitions of one pool in halves."""
    generator = np.random.default_rng([seed, 30])
    train, validation, pool = (rows(n, generator) for n in (LEARN * 9 // 10, LEARN // 10, POOL))
    latent = default_latent_dim(COLUMNS + 1)
    vae = VAE(INPUTS, VAEConfig(latent, (128, 128), "gaussian"), seed)
    fit(vae, train, validation, FitOptions(epochs=epochs, seed=seed, threads=1))
    eps, site = noise_table(latent, seed)[:DRAWS], pool[:, -1]
    by_kind = _scores(scorer(vae), eps, validation, pool)
    found: dict[str, Tally] = {}
    for _ in range(splits):
        order = generator.permutation(POOL)
        kept, test = np.split(order, 2)
        for index, name in enumerate(SITES):
            own, asked = kept[site[kept] == index], test[site[test] == index]
            for kind, scores in by_kind.items():
                for by, judges in ((BY_ALL, kept), (BY_OWN, own)):
                    for alpha in ALPHAS:
                        if len(judges) >= calibration.rows_needed(alpha):
                            tally = found.setdefault(f"{kind}|{name}|{by}|{alpha}", Tally())
                            flagged = count(scores[judges], scores[asked], alpha)
                            tally.add(flagged, len(judges), len(asked), alpha)
    return found


def _scores(engine: Engine, eps: NDArray[np.float32], validation: Floats, x: Floats) -> dict[str, Floats]:
    """The scores of rows by kind: (n, C) -> (n,) each."""
    known = Reference.of(reference_of(engine, INPUTS, eps, validation, (DRAWS,)), DRAWS, 0)
    outputs = run_scorer(engine, INPUTS, x, eps, outputs_of(SCORE_OUTPUTS))
    return {kind: known.score(kind, outputs, None)[0] for kind in SCORE_OUTPUTS}
