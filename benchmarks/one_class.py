"""
One default for tables: how well it ranks anomalies on sixteen public tables, beside the figures of other detectors.

    python -m benchmarks.one_class [--seeds 0,1,2] [--folds 1]

Protocol: a random half of the normal rows, at most 5,000, is learned from; the other half and all anomalies, at most
5,000 each, are ranked. The fit is that of `vae-train fit` without options, but for `--test 0`, for the test rows are
given: it deals calibration and validation rows out of the half that it gets, or fits an ensemble of folds where these
rows are few. Nothing is chosen by table. --folds: the same with that option of `fit`.
Results are kept in --output, a line a fit; what is there is not measured again. Prints Markdown.

--data is the folder of the tables, each with X and y, and of peers.csv: AUROC by table, seed and method.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from service.calibrated import Scoring
from service.scores import PLAIN, score
from training.by_modules import scorer
from training.data import from_arrays
from training.defaults import default_config, default_folds, default_options
from training.fit import fit
from training.models.mlp import VAE, ensemble
from training.noise import noise_table
from training.ranking import auroc
from training.scorer import outputs_of, run_scorer
from training.split import Fractions, seed_of_fold, split_folds, split_rows

Floats = NDArray[np.float64]

MOST: Final = 5000
PEERS: Final = {
    "KNN": "KNN, k = 5",
    "LOF": "LOF",
    "AE": "AutoEncoder",
    "IForest": "isolation forest",
    "DeepSVDD": "DeepSVDD",
    "VAE": "VAE",
    "ECOD": "ECOD",
}
"""PyOD's detectors at their defaults, by their names in peers.csv."""

PEERS_SEED: Final = 0
"""What peers.csv has."""

NEAREST: Final = "kNN, k = 1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit what is not there yet, two at a time, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.one_class", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, default=Path("../shared/data/adbench"))
    add("--seeds", default="0,1,2")
    add("--processes", type=int, default=2)
    add("--folds", type=int)
    add("--tables", default="", help="names, as 14_glass,43_WDBC (default: all)")
    add("--output", type=Path, help="default build/one-class.jsonl, with --folds M build/one-class-M-folds.jsonl")
    options = parser.parse_args(arguments)
    if not options.data.is_dir():
        print(f"{options.data} is not here: nothing is measured", file=sys.stderr)
        return 0
    seeds = [int(seed) for seed in options.seeds.split(",")]
    names = sorted((file.stem for file in options.data.glob("*.npz")), key=lambda name: int(name.split("_")[0]))
    names = [name for name in names if not options.tables or name in options.tables.split(",")]
    folds = options.folds
    asked = "" if folds is None else f"-{folds}-folds"
    output = options.output or Path(f"build/one-class{asked}.jsonl")
    output.parent.mkdir(parents=True, exist_ok=True)
    found = _kept(output)
    wanted = [(name, seed) for seed in seeds for name in names if (name, seed) not in found]
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        running = {
            pool.submit(measured, options.data / f"{name}.npz", seed, folds): (name, seed) for name, seed in wanted
        }
        for done in as_completed(running):
            name, seed = running[done]
            found[name, seed] = done.result()
            with output.open("a") as file:
                file.write(json.dumps({"table": name, "seed": seed, **found[name, seed]}) + "\n")
            print(f"{name}, seed {seed}: {100 * found[name, seed]['nll']:.1f}", file=sys.stderr)
    print("\n".join(lines(found, _peers(options.data / "peers.csv"), names, seeds)))
    return 0


def dealt(file: Path, seed: int) -> tuple[Floats, Floats, Floats]:
    """The rows to learn from, the other normal ones, the anomalies; as the peers' figures were made."""
    with np.load(file) as arrays:
        x, y = arrays["X"].astype(np.float64), arrays["y"].astype(int)
    generator = np.random.default_rng(seed)
    normal, strange = (generator.permutation(np.flatnonzero(y == label)) for label in (0, 1))
    normal, half = normal[: 2 * MOST], len(normal[: 2 * MOST]) // 2
    return x[normal[:half]], x[normal[half:]], x[strange[:MOST]]


def measured(file: Path, seed: int, asked: int | None = None) -> dict[str, Any]:
    """AUROC by score kind, and of the nearest neighbour; models, CPU seconds and epochs of the fit."""
    torch.set_num_threads(1)
    learned, normal, strange = dealt(file, seed)
    inputs = from_arrays(file.stem, {"X": learned}).inputs
    folds = default_folds(inputs, len(learned)) if asked is None else asked
    none = Fractions(test=0.0)
    splits = [split_rows(len(learned), none, seed)] if folds == 1 else split_folds(len(learned), none, folds, seed)
    start, epochs, members = time.process_time(), 0, list[VAE]()
    for m, parts in enumerate(splits):
        options = replace(default_options(inputs, len(parts.train)), seed=seed_of_fold(seed, m), threads=1)
        members.append(VAE(inputs, default_config(inputs), options.seed))
        epochs += fit(members[-1], learned[parts.train], learned[parts.validation], options).epochs
    vae, seconds = ensemble(members), time.process_time() - start
    eps = noise_table(vae.config.latent_dim, seed)[: Scoring().samples]
    wanted, engine = outputs_of(PLAIN), scorer(vae)
    inside, outside = (run_scorer(engine, inputs, x, eps, wanted) for x in (normal, strange))
    found = {kind: auroc(score(kind, inside), score(kind, outside)) for kind in PLAIN}
    return {**found, NEAREST: nearest(learned, normal, strange), "folds": folds, "seconds": seconds, "epochs": epochs}


def nearest(learned: Floats, normal: Floats, strange: Floats) -> float:
    """AUROC of the distance to the nearest of all the rows to learn from, standardised on them."""
    center, scale = learned.mean(axis=0), learned.std(axis=0)
    scale[scale == 0] = 1.0
    neighbours = NearestNeighbors(n_neighbors=1).fit((learned - center) / scale)
    inside, outside = (neighbours.kneighbors((x - center) / scale)[0][:, 0] for x in (normal, strange))
    return auroc(inside, outside)


Found = dict[tuple[str, int], dict[str, Any]]


def lines(found: Found, peers: Mapping[tuple[str, int, str], float], names: list[str], seeds: list[int]) -> list[str]:
    """The table by data set, means over the seeds, and the means over the sets; AUROC in percent."""
    heads = [
        "table",
        "this VAE, `nll`",
        "`neg_elbo`",
        "`reconstruction`",
        NEAREST,
        *PEERS.values(),
        "models",
        "CPU s a fit",
    ]
    rows = []
    for name in names:
        own = [found[name, seed] for seed in seeds]
        means = [statistics.fmean(one[kind] for one in own) for kind in ("nll", "neg_elbo", "reconstruction", NEAREST)]
        others = [peers[name, PEERS_SEED, peer] for peer in PEERS]
        rows.append((name, [*means, *others], own[0]["folds"], statistics.fmean(one["seconds"] for one in own)))
    table = [
        f"| {name} | " + " | ".join(f"{100 * value:.1f}" for value in values) + f" | {folds} | {seconds:.0f} |"
        for name, values, folds, seconds in rows
    ]
    means = [statistics.fmean(values[i] for _, values, *_ in rows) for i in range(len(rows[0][1]))]
    table.append(
        "| **mean** | "
        + " | ".join(f"**{100 * value:.2f}**" for value in means)
        + f" | | {statistics.fmean(seconds for *_, seconds in rows):.0f} |"
    )
    by_seed = [100 * statistics.fmean(found[name, seed]["nll"] for name in names) for seed in seeds]
    beaten = sum(values[0] > values[4] for _, values, *_ in rows)
    return [
        f"| {' | '.join(heads)} |",
        f"|{' --- |' * len(heads)}",
        *table,
        "",
        f"Means of `nll` by seed: {', '.join(f'{value:.2f}' for value in by_seed)}. Better than KNN on {beaten} of "
        f"{len(rows)} tables.",
    ]


def _kept(file: Path) -> Found:
    if not file.exists():
        return {}
    records = map(json.loads, file.read_text().splitlines())
    return {(record.pop("table"), record.pop("seed")): record for record in records}


def _peers(file: Path) -> dict[tuple[str, int, str], float]:
    """AUROC by table, seed and method; nan where a method had none."""
    with file.open(newline="") as rows:
        return {(row["dataset"], int(row["seed"]), row["method"]): float(row["auroc"]) for row in csv.DictReader(rows)}


if __name__ == "__main__":
    sys.exit(main())
