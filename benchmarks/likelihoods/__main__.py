"""
What each likelihood makes of images: bounds of log p(x), and who is found anomalous; MNIST and Fashion-MNIST.

    python -m benchmarks.likelihoods                   fit and measure what is not there yet, print all as Markdown
    python -m benchmarks.likelihoods --only families   one half of it: families, or digits
    python -m benchmarks.likelihoods --only nothing    print what is there

Every family is fitted to the training images of both sets by the same network. It is asked for the ELBO and L_K of its
own test images, and for the AUROC of the other set's test images against these, by every kind of score. Then some are
fitted to nine of the ten digits, for each digit left out (An & Cho 2015). Each fit leaves a checkpoint and its figures
in --output, so that a run that was ended goes on. On one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.likelihoods import page
from benchmarks.likelihoods.kinds import DIGITS, FAMILIES, Kind
from benchmarks.likelihoods.measure import family, left_out
from benchmarks.likelihoods.page import SETS, Fitted
from training.data import Dataset, load


def main(
    arguments: Sequence[str] | None = None, families: Sequence[Kind] = FAMILIES, digits: Sequence[Kind] = DIGITS
) -> int:
    """Fit, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.likelihoods", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help=f"directory of {', '.join(SETS)}")
    parser.add_argument("--output", type=Path, default=Path("build/likelihoods"), help="for checkpoints and figures")
    parser.add_argument("--epochs", type=int, default=12, help="of each fit to a whole set")
    parser.add_argument("--digit-epochs", type=int, default=4, help="of each fit to nine digits")
    parser.add_argument("--draws", type=int, default=500, help="K of the bound")
    parser.add_argument("--images", type=int, default=500, help="test images that the bound is taken of")
    parser.add_argument("--only", choices=("families", "digits", "nothing"), help="measure these; print what is there")
    options = parser.parse_args(arguments)
    if missing := [name for name in SETS if not (options.data / name).is_dir()]:
        print(f"{options.data / missing[0]} is not there: nothing is measured")
        return 0
    options.output.mkdir(parents=True, exist_ok=True)
    sets = {name: load(str(options.data / name)) for name in SETS}
    fits = _families(sets, families, options)
    print(page.bounds(fits, options.draws), page.strangers(fits), page.published_strangers(), sep="\n\n", end="\n\n")
    print(page.digits(_digits(sets["mnist"], digits, options)))
    return 0


def _families(sets: dict[str, Dataset], kinds: Sequence[Kind], options: argparse.Namespace) -> list[Fitted]:
    """Every kind fitted to each set, as far as it is there or to be measured."""
    how = {"epochs": options.epochs, "draws": options.draws, "images": options.images}
    found = []
    for kind in kinds:
        for name, other in zip(SETS, reversed(SETS), strict=True):

            def measure(file: Path, kind: Kind = kind, name: str = name, other: str = other) -> dict[str, Any]:
                return family(kind, sets[name], sets[other], file, **how)

            figures = _kept(options, "families", f"{name}-{kind.slug}-{options.epochs}", measure)
            if figures is not None:
                found.append(Fitted(kind, SETS[name], SETS[other], math.prod(sets[name].inputs.shape), figures))
    return found


def _digits(mnist: Dataset, kinds: Sequence[Kind], options: argparse.Namespace) -> dict[Kind, dict[int, Any]]:
    """Every kind without each digit, as far as it is there or to be measured."""
    found: dict[Kind, dict[int, Any]] = {}
    for kind in kinds:
        for digit in range(10):

            def measure(file: Path, kind: Kind = kind, digit: int = digit) -> dict[str, Any]:
                return left_out(kind, mnist, digit, file, epochs=options.digit_epochs)

            figures = _kept(options, "digits", f"without-{digit}-{kind.slug}-{options.digit_epochs}", measure)
            if figures is not None:
                found.setdefault(kind, {})[digit] = figures
    return found


def _kept(
    options: argparse.Namespace, half: str, name: str, measure: Callable[[Path], dict[str, Any]]
) -> dict[str, Any] | None:
    """What *measure* found, now or in an earlier run; None where it did not, and is not to."""
    file = options.output / f"{name}.json"
    if not file.exists():
        if options.only not in (None, half):
            return None
        print(f"{name} ...", file=sys.stderr, flush=True)
        part = file.with_suffix(".part")
        part.write_text(json.dumps(measure(options.output / f"{name}.npz"), indent=1))
        part.replace(file)
    found: dict[str, Any] = json.loads(file.read_text())
    return found


if __name__ == "__main__":
    sys.exit(main())
