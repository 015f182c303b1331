"""
What each score kind finds: AUROC of labelled anomalies, and of rows that are too probable.

    python -m benchmarks.score_kinds [--data FILE.npz ...] [--splits 3]

One-class: a network as `vae-train fit` makes it by default, fitted to half of the normal rows of a table; the tables of
benchmarks/missing.md, and --data, .npz files with X and y, 1 for an anomaly, as ADBench has them. "Half-way": the
normal test rows moved half-way to the mean of the training rows, where few rows are and the likelihood is high. Beside
the kinds, what `fused` would be with ranks that end at the outermost quantiles, and of what is too high alone. Prints
Markdown: means over the splits.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.false_alarms.modules import scorer
from benchmarks.missing import Table, deal, own_tables, read
from service.engine import Engine
from service.inputs import Inputs
from service.reference import PARTS, Reference
from service.scores import SCORE_OUTPUTS
from training.data import from_arrays
from training.defaults import default_config, default_options
from training.fit import fit
from training.models.mlp import VAE
from training.noise import noise_table
from training.ranking import auroc
from training.reference import reference_of
from training.scorer import outputs_of, run_scorer

Array = NDArray[np.generic]
Floats = NDArray[np.float64]

DRAWS = 16
ENDING, ONE_SIDED = "fused, ranks that end", "fused, too high alone"
WAYS = (*SCORE_OUTPUTS, ENDING, ONE_SIDED)
LABELLED, HALF_WAY = "labelled", "half-way"


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, score, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.score_kinds", description=__doc__)
    parser.add_argument("--data", nargs="*", type=Path, default=[], metavar="FILE", help=".npz with X and y")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=0, help="of each fit; 0: as many as `vae-train fit` takes")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found: dict[str, list[dict[tuple[str, str], float]]] = {}
    for table in (*own_tables(), *map(read, options.data)):
        found[table.name] = [measure(table, split, options.epochs) for split in range(options.splits)]
        print(table.name, file=sys.stderr)
    print("\n".join(lines(found)))
    return 0


def measure(table: Table, split: int, epochs: int) -> dict[tuple[str, str], float]:
    """The AUROC of each way against each kind of anomaly, in one split."""
    parts = deal(table, split)
    inputs = from_arrays(table.name, {"X": parts.train}).inputs
    vae, length = VAE(inputs, default_config(inputs), split), default_options(inputs, len(parts.train))
    fit(vae, parts.train, parts.validation, replace(length, epochs=epochs or length.epochs, seed=split, threads=1))
    engine, eps = scorer(vae), noise_table(vae.config.latent_dim, split)[:DRAWS]
    known = Reference.of(reference_of(engine, inputs, eps, parts.validation, (DRAWS,), (), split), DRAWS, 0)
    normal = scores(engine, inputs, eps, parts.test, known)
    strange = {LABELLED: parts.anomalies, HALF_WAY: (parts.test + parts.train.mean(axis=0)) / 2}
    against = {what: scores(engine, inputs, eps, x, known) for what, x in strange.items()}
    return {(what, way): auroc(normal[way], rows[way]) for what, rows in against.items() for way in WAYS}


def scores(engine: Engine, inputs: Inputs, eps: NDArray[np.float32], x: Array, known: Reference) -> dict[str, Floats]:
    """The scores of rows by kind, and what fused might have been: (n, C) -> (n,) each."""
    outputs = run_scorer(engine, inputs, x, eps, outputs_of(SCORE_OUTPUTS))
    found = {kind: known.score(kind, outputs, None)[0] for kind in SCORE_OUTPUTS}
    if known.fusion is None:
        raise AssertionError("there are reference rows, and no statistics of them")
    parts, fusion = np.stack([found[part] for part in PARTS["fused"]], axis=1), known.fusion
    found[ENDING] = fusion.distance(parts.clip(fusion.knots[0], fusion.knots[-1]))
    found[ONE_SIDED] = np.square(fusion.ranked(parts).clip(0)).sum(axis=1)
    return found


def lines(found: dict[str, list[dict[tuple[str, str], float]]]) -> Iterator[str]:
    """A table for each kind of anomaly: a line a data set, and the mean of all."""
    for what in (LABELLED, HALF_WAY):
        yield f"| {what} | {' | '.join(WAYS)} |"
        yield "| --- " * (1 + len(WAYS)) + "|"
        means = {
            name: [np.mean([split[what, way] for split in splits]) for way in WAYS] for name, splits in found.items()
        }
        for name, values in (*means.items(), ("mean", np.mean([*means.values()], axis=0))):
            yield f"| {name} | {' | '.join(f'{value:.3f}' for value in values)} |"
        yield ""


if __name__ == "__main__":
    sys.exit(main())
