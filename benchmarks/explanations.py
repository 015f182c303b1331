"""
Does an explanation name the column that was tampered with? The 16 tables of ADBench, one column of each row planted.

    python -m benchmarks.explanations [--data ../shared/data/adbench] [--output build/explanations]

Protocol: the rows to learn from, and the other normal ones, are those of benchmarks/one_class.py, seed 0; the fit is
`vae-train fit --test 0`. In rows that nothing has seen one column gets another value, in three ways:

- outside: one standard deviation beyond what the training rows have, above or below.
- far: that of another row, at least half of the column's distribution away.
- swap: that of any other row, where it is another one.

Each way of explaining orders the columns of such a row; what counts is the rank of the planted one. The bundle is asked
by the code that the service asks it by. Prints Markdown, and writes it to --page. What is in --output, bundles and
figures, is not made again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.one_class import dealt
from benchmarks.serving.page import replace
from benchmarks.vae_train import vae_train
from service.bundle import Bundle, open_bundle
from service.engine import Engine
from service.explanations import Explanations
from training.data import load
from training.densities import ProbabilisticPCA, Standard
from training.parts import Dealing, Parts, deal
from training.scorer import entries_of, run_scorer

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

PLANTED: Final = 500
"""Rows that are planted of each table and kind; where it has fewer rows, each in several columns."""

FAR: Final = 0.5
KINDS: Final = ("outside", "far", "swap")
METHODS: Final = {
    "as served": "`explanations`: the rarest part for its column first, of those as rare the one of most nats",
    "nats": "the part of the score",
    "excess": "the part less its median among the calibration rows, as in maps and `sensors`",
    "z-score": "the standardised value",
    "PCA residual": "of probabilistic PCA with as many components as latents, standardised units",
    "conditional": "the z-score given all other columns, by the covariance of that PCA",
    "kNN": "by how much the squared distance to the nearest training row is less without the column",
}
"""What a column has more of the further in front it stands."""


class Planted(NamedTuple):
    """Rows with one value that is not theirs, (m, C), and the column that it is in, (m,)."""

    x: Floats
    column: Whole


class Ranks(NamedTuple):
    """What a method made of planted rows: the mean rank of the planted column, how often it is 1, and at most 3."""

    mean: float
    first: float
    three: float

    @classmethod
    def of(cls, surprise: Floats, column: Whole) -> Ranks:
        """From what each column has, (m, C), the higher the more surprising; equal ones share the mean of theirs."""
        own = np.take_along_axis(surprise, column[:, None], axis=1)
        rank = 1 + (surprise > own).sum(axis=1) + 0.5 * ((surprise == own).sum(axis=1) - 1)
        return cls(float(rank.mean()), float((rank == 1).mean()), float((rank <= 3).mean()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, plant, order, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.explanations", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, default=Path("../shared/data/adbench"), help=".npz files with X and y")
    add("--output", type=Path, default=Path("build/explanations"), help="for rows, bundles and figures")
    add("--processes", type=int, default=2)
    add("--page", type=Path, help="where the tables are written to as well, between markers")
    add("fit", nargs="*", help="more options of vae-train fit, behind --")
    options = parser.parse_args(arguments)
    files = sorted(options.data.glob("*.npz"), key=lambda file: int(file.stem.split("_")[0]))
    if not files:
        print(f"{options.data} has no .npz files: nothing is measured", file=sys.stderr)
        return 0
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        running = [pool.submit(measured, file, options.output / file.stem, options.fit) for file in files]
        found = {file.stem: one.result() for file, one in zip(files, running, strict=True)}
    text = "\n\n".join(["\n".join(means(found)), *("\n".join(table(kind, found)) for kind in KINDS)])
    print(text)
    if options.page is not None:
        options.page.write_text(replace(options.page.read_text(), "explanations", text))
    return 0


def measured(file: Path, output: Path, more: Sequence[str]) -> dict[str, Any]:
    """Of one table: its columns, its unseen rows, and by kind and method `Ranks`; from *output* where it is there."""
    kept = output / "ranks.json"
    if not kept.exists():
        learned, unseen, _ = dealt(file, 0)
        bundle, parts = fitted(learned, output, more)
        figures: dict[str, Any] = {"columns": unseen.shape[1], "rows": len(unseen)}
        for number, kind in enumerate(KINDS):
            rows = planted(np.asarray(parts.train, np.float64), unseen, kind, np.random.default_rng([1, number]))
            found = {**of_bundle(bundle, rows.x), **of_rows(parts, bundle.manifest.latent.dim, rows.x)}
            figures[kind] = {method: Ranks.of(found[method], rows.column) for method in METHODS}
        kept.with_suffix(".part").write_text(json.dumps(figures))
        kept.with_suffix(".part").replace(kept)
        print(f"{file.stem}: first {figures['swap']['as served'].first:.0%} of swap", file=sys.stderr, flush=True)
    read: dict[str, Any] = json.loads(kept.read_text())
    return read | {kind: {method: Ranks(*ranks) for method, ranks in read[kind].items()} for kind in KINDS}


def fitted(learned: Floats, output: Path, more: Sequence[str]) -> tuple[Bundle, Parts]:
    """The bundle of the rows *learned*, made now or before, and how they were dealt out."""
    output.mkdir(parents=True, exist_ok=True)
    rows = output / "rows.npz"
    if not (output / "1").is_dir():
        np.savez(rows, X=learned)
        vae_train("fit", f"--data={rows}", f"--output={output}", "--test=0", "--threads=1", "--quiet", *more)
    bundle = open_bundle(output / "1")
    return bundle, deal(load(str(rows)), Dealing.of(bundle.manifest.training))


def planted(train: Floats, x: Floats, kind: str, generator: np.random.Generator) -> Planted:
    """Rows of *x* with another value in one column, drawn among those that vary in *train* and allow it."""
    spread = train.std(axis=0)
    columns = np.flatnonzero(spread > 0)
    found: list[Floats] = []
    where: list[int] = []
    order = np.concatenate([generator.permutation(len(x)) for _ in range(-(-PLANTED // len(x)))])[:PLANTED]
    ends = np.stack([train.min(axis=0) - spread, train.max(axis=0) + spread])
    places = {int(c): _places(x[:, c]) for c in columns}
    for row in order:
        for c in generator.permutation(columns).tolist():
            if kind == "outside":
                values = ends[:, c]
            elif kind == "far":
                values = x[np.abs(places[c] - places[c][row]) >= FAR, c]
            else:
                values = x[x[:, c] != x[row, c], c]
            if len(values):
                changed = x[row].copy()
                changed[c] = generator.choice(values)
                found.append(changed)
                where.append(c)
                break
    return Planted(np.stack(found), np.array(where))


def _places(values: Floats) -> Floats:
    """Where each value is in the distribution of all, from 0 to 1; equal ones in the middle of theirs: (n,) -> (n,)."""
    ordered = np.sort(values)
    below, upto = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return (below + upto) / (2 * len(values))


def of_bundle(bundle: Bundle, x: Floats) -> dict[str, Floats]:
    """How surprising each column of rows *x*, (m, C), is to the bundle: (m, C) each."""
    manifest, explanations = bundle.manifest, Explanations(bundle)
    entry = entries_of(manifest, manifest.scoring.kind)[0]
    wanted = (*explanations.outputs(entry.kind, "kind"), "lower", "upper")
    outputs = run_scorer(Engine(bundle.graphs, threads=1), manifest.inputs, x, bundle.eps[: entry.samples], wanted)
    served = np.empty(x.shape)
    for row, explained in enumerate(explanations.parts(entry, x, outputs, x.shape[1])):
        served[row, [part.index for part in explained]] = -np.arange(x.shape[1])
    return {
        "as served": served,
        "nats": outputs[wanted[0]].astype(np.float64),
        "excess": explanations.maps(entry, x, outputs).excess,
    }


def of_rows(parts: Parts, components: int, x: Floats) -> dict[str, Floats]:
    """How surprising each column of rows *x*, (m, C), is beside the training rows: (m, C) each."""
    standard = Standard(parts.train, parts.inputs)
    varies = standard.varies
    u, seen = standard(x), standard(parts.train)[:, varies]
    pca = ProbabilisticPCA(seen, standard.floor[varies], components, 0)
    r = u[:, varies] - pca.mean
    precision = np.linalg.inv(pca.w @ pca.w.T + np.diag(pca.psi))
    scaled = pca.w / pca.psi[:, None]
    z = np.linalg.solve(np.eye(pca.components) + pca.w.T @ scaled, scaled.T @ r.T).T  # Tipping & Bishop 1999, eq. 12
    residual, conditional, nearest = np.zeros(u.shape), np.zeros(u.shape), np.zeros(u.shape)
    residual[:, varies] = np.abs(r - z @ pca.w.T)
    conditional[:, varies] = np.abs(r @ precision) / np.sqrt(np.diag(precision))
    nearest[:, varies] = _nearer(seen, u[:, varies])
    return {"z-score": np.abs(u), "PCA residual": residual, "conditional": conditional, "kNN": nearest}


def _nearer(seen: Floats, u: Floats) -> Floats:
    """By how much the least squared distance from rows *u* to rows *seen* falls without each column: (m, D)."""
    squared = np.zeros((len(u), len(seen)))
    for c in range(u.shape[1]):
        squared += np.square(u[:, c, None] - seen[:, c])
    without = [(squared - np.square(u[:, c, None] - seen[:, c])).min(axis=1) for c in range(u.shape[1])]
    found: Floats = squared.min(axis=1)[:, None] - np.stack(without, axis=1)
    return found


def means(found: dict[str, dict[str, Any]]) -> Iterator[str]:
    """A table of Markdown: what each method has on average over the sets."""
    yield f"| mean of {len(found)} | {' | '.join(METHODS)} |"
    yield "| --- " * (1 + len(METHODS)) + "|"
    for kind in KINDS:
        yield f"| {kind} | {' | '.join(_means(kind, found))} |"


def table(kind: str, found: dict[str, dict[str, Any]]) -> Iterator[str]:
    """A table of Markdown: a line a set, and the means."""
    yield f"| {kind} | columns | unseen rows | {' | '.join(METHODS)} |"
    yield "| --- " * (3 + len(METHODS)) + "|"
    for name, figures in found.items():
        cells = [_cell(figures[kind][method]) for method in METHODS]
        yield f"| {name} | {figures['columns']} | {figures['rows']:,} | {' | '.join(cells)} |"
    yield f"| **mean** | | | {' | '.join(f'**{cell}**' for cell in _means(kind, found))} |"


def _means(kind: str, found: dict[str, dict[str, Any]]) -> list[str]:
    by_set = [[figures[kind][method] for method in METHODS] for figures in found.values()]
    return [_cell(Ranks(*ranks)) for ranks in np.mean(by_set, axis=0).tolist()]


def _cell(ranks: Ranks) -> str:
    return f"{ranks.mean:.1f}, {ranks.first:.0%}, {ranks.three:.0%}"


if __name__ == "__main__":
    sys.exit(main())
