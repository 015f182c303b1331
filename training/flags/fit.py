"""The flags of `vae-train fit`: the data, the model, the objective, its length, and who sees which row."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Final

from training.errors import FitError
from training.flags.common import DATA, GROUPS, add_common, add_levels, add_reading
from training.flags.values import count, draws, floor, levels, positive, rate, share, widths, window

_FAMILIES: Final = ("gaussian", "student-t", "bernoulli", "continuous-bernoulli", "discretised-logistic")


def add_fit(parser: argparse.ArgumentParser) -> None:
    """Those of `fit`."""
    parser.description = "Read --data; write OUTPUT/<next version>/ and, beside it, the checkpoint and the fit log."
    add = parser.add_argument
    add("--data", required=True, metavar="FILE|DIR", help=f"{DATA}; y: 1 = anomaly, never trained on")
    add("--output", required=True, type=Path, metavar="DIR", help="model directory, as models/NAME; made if need be")
    add("--schema", type=Path, metavar="FILE", help="what each column is (default: what the data suggest; see schema)")
    _add_windows(parser)
    add(
        "--likelihood",
        choices=_FAMILIES,
        help="of pixels and numeric columns (default: student-t of columns, gaussian of pixels)",
    )
    add("--count", choices=("negative-binomial", "poisson"), default="negative-binomial", help="of count columns")
    add(
        "--sigma",
        choices=("feature", "shared", "row", "fixed"),
        default="feature",
        help="learned (default: one a feature)",
    )
    add(
        "--sigma-value",
        type=positive,
        metavar="X",
        default=1.0,
        help="of --sigma fixed, standardised (default %(default)s)",
    )
    add(
        "--prior",
        choices=("standard-normal", "mixture"),
        help="N(0, I), or a mixture of normals that is learned (default: a mixture for tables, N(0, I) for images)",
    )
    add("--components", type=count, metavar="M", default=100, help="of --prior mixture (default %(default)s)")
    add(
        "--sigma-floor",
        type=floor,
        metavar="X",
        help="the least sigma that is learned, standardised, 0.001 to 1 (default 0.1 for tables, 0.01 for windows "
        "of a series, 0.001 for images)",
    )
    add(
        "--levels",
        type=levels,
        metavar="N",
        default=0,
        help="of discretised-logistic (default 0: of the range)",
    )
    add("--binarize", choices=("none", "threshold", "dynamic"), default="none", help="grey images to binary ones")
    add("--latent-dim", type=count, metavar="N", help="latents (default 2 sqrt(features), 2 to 64)")
    add(
        "--hidden",
        type=widths,
        metavar="N,N",
        help="encoder widths, reversed in the decoder; none: a linear VAE",
    )
    add("--activation", choices=("silu", "relu", "tanh"), default="silu", help="default %(default)s")
    add(
        "--epochs",
        type=count,
        metavar="N",
        help="at most so many (default 3,000 steps, of images 6,000; at least 20)",
    )
    add(
        "--minutes",
        type=positive,
        metavar="N",
        default=math.inf,
        help="stop after the epoch in which they are over, all runs counted; each of several folds has its part",
    )
    add("--batch-size", type=count, metavar="N", default=128, help="rows a step (default %(default)s)")
    add(
        "--learning-rate",
        type=positive,
        metavar="X",
        default=2e-3,
        help="the first (default %(default)s), of AdamW",
    )
    add(
        "--schedule",
        choices=("cosine", "constant", "ladder"),
        default="cosine",
        help="of the learning rate: to 2 %% over the epochs or the minutes, whichever end first (cosine, default); "
        "ladder: 10^(-i/7) of it for 3^i epochs, i = 0, 1, ... (Burda et al. 2016)",
    )
    add("--adam-epsilon", type=positive, metavar="X", default=1e-8, help="of AdamW (default %(default)s)")
    add("--warmup-epochs", type=share, metavar="N", help="KL weight from 0 to 1 (default: over 300 steps)")
    add(
        "--patience",
        type=count,
        metavar="N",
        help="epochs without a better ELBO (default: 800 steps, at least 10)",
    )
    add(
        "--importance-samples",
        type=count,
        metavar="K",
        default=1,
        help="ascend the importance-weighted bound of K draws (Burda et al. 2016; default 1: the ELBO)",
    )
    add(
        "--gradient-draws",
        type=draws,
        metavar="M",
        default=0,
        help="of the K importance samples, take the gradient of M that are chosen by weight: the same on average, in "
        "half the time (default 0: of all)",
    )
    add(
        "--mask-rate",
        type=rate,
        metavar="X",
        default=0.5,
        help="of columns that may be missing, hide up to this share of a row in training (default %(default)s)",
    )
    add(
        "--validation",
        type=share,
        metavar="X",
        default=0.1,
        help="fraction for early stopping (default %(default)s)",
    )
    add("--calibration", type=share, metavar="X", help="fraction for thresholds (default 0.15)")
    add(
        "--folds",
        type=count,
        metavar="M",
        help="an ensemble of M models, each fitted without one of M folds, which it calibrates on; 1: one model, and "
        "calibration rows set apart (default: 5 for a table of fewer than 1,000 rows beside those of the test, else 1)",
    )
    add(
        "--test",
        type=share,
        metavar="X",
        default=0.15,
        help="fraction for the evaluation (default %(default)s)",
    )
    add("--draws", type=count, metavar="K", default=64, help="of the bound of log p(x) (default %(default)s)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto (default): cuda where there is one")
    add("--start", type=Path, metavar="FILE", help="a checkpoint of the same model, whose weights are the first ones")
    add("--resume", action="store_true", help="go on with an unfinished fit of the same command; else a fresh start")
    add("--checkpoint", type=Path, metavar="FILE", help="default OUTPUT/checkpoint-<version>.npz")
    add("--log", type=Path, metavar="FILE", help="JSON lines, one an epoch (default OUTPUT/fit-<version>.jsonl)")
    add("--groups", metavar="COLUMN", help=GROUPS)
    add_levels(parser)
    add_reading(parser)
    add_common(parser)


def _add_windows(parser: argparse.ArgumentParser) -> None:
    windows = parser.add_argument_group(
        "series: the rows of the data are readings of sensors, those of the model windows"
    )
    windows.add_argument("--window", type=window, metavar="N", help="readings in a window, 2 or more")
    windows.add_argument(
        "--stride",
        type=count,
        metavar="N",
        help="from one window to the next (default: a quarter of the window)",
    )
    windows.add_argument(
        "--differences",
        action="store_true",
        help="of numeric sensors take a window's first reading, and how much each is more than the one before",
    )
    windows.add_argument("--group", metavar="COLUMN", help="names the machine or run; no window crosses between two")
    windows.add_argument("--time", metavar="COLUMN", help="must not descend within a run; no sensor")


def require_agreeing(options: argparse.Namespace) -> None:
    """Raise FitError, naming both, for two flags of `fit` that rule each other out: seen before any data is read."""
    if options.window is None:
        for name in ("stride", "differences", "group", "time"):
            if getattr(options, name):
                raise FitError(f"--{name} is for windows: say by --window how many readings each has")
    if options.gradient_draws and options.importance_samples == 1:
        raise FitError(f"--gradient-draws {options.gradient_draws}: chosen of --importance-samples, which is 1")
    if (options.folds or 1) == 1:
        return
    if options.calibration is not None:
        raise FitError(f"--folds {options.folds} calibrates on all rows but the test rows: leave --calibration away")
    if options.groups:
        raise FitError(
            f"--folds {options.folds}: with --groups calibration rows must be set apart: leave one of them away"
        )
    if options.start is not None:
        raise FitError(
            f"--folds {options.folds}: --start {options.start} may have seen the rows of any fold: leave it away"
        )
    if options.window is not None:
        raise FitError(f"--folds {options.folds}: windows of a series cannot be dealt out in folds: leave it away")
