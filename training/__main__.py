"""
`vae-train`, or `python -m training`: one subcommand a step.

    vae-train schema rows.csv --output schema.toml
    vae-train fit --data rows.csv --output models/pumps
    torchrun --nproc-per-node 2 -m training fit --data rows.csv --output models/pumps
    vae-train evaluate --bundle models/pumps --data rows.csv
    vae-train calibrate --bundle models/pumps --data normals.csv
    vae-train report --bundle models/pumps --data rows.csv
    vae-train export --checkpoint models/pumps/checkpoint-1.npz --output models/pumps --data rows.csv

What goes wrong through data or options ends as one line on stderr and exit status 2.
"""

from __future__ import annotations

import argparse
import importlib
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from service.errors import StartError
from training.arguments import (
    count,
    draws,
    floor,
    levels,
    part,
    positive,
    rate,
    seed,
    share,
    threads,
    widths,
    window,
    words,
)
from training.errors import Interrupted, TrainingError

_DATA = (
    ".csv, .tsv, .parquet, .npy, .npz (X; optional y, labels, columns), idx files or their directory, or sklearn:digits"
)
_BUNDLE = "a bundle, or a model directory: its newest version"
_GROUPS = "calibrate rows in groups by this column, so that false-alarm rates hold within each"
_FAMILIES = ("gaussian", "student-t", "bernoulli", "continuous-bernoulli", "discretised-logistic")
_EXTRA = "the extra training brings it: make .venv/.dev in a clone, or pip install -c constraints.txt '.[training]'"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run one step, and say in one line what the user must change, if anything."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    options.arguments = given
    try:
        # only now, so that --help need not wait for PyTorch, and evaluate, calibrate and report do without it
        importlib.import_module(f"training.steps.{options.command}").run(options)
    except Interrupted as error:
        if str(error):
            print(f"vae-train {options.command}: {error}", file=sys.stderr)
        return 128 + error.signal
    except (TrainingError, StartError, OSError) as error:
        print(f"vae-train {options.command}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "service", "training"):
            raise
        print(f"vae-train {options.command}: {missing} is not installed; {_EXTRA}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"vae-train {options.command}: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vae-train", description="Fit a VAE to data and make a bundle for vae-serve.")
    add = parser.add_subparsers(dest="command", required=True).add_parser  # no short forms: --group is not --groups
    _add_schema(add("schema", help="write down what each column of a table is taken for", allow_abbrev=False))
    _add_fit(add("fit", help="the whole way: fit, export, calibrate, evaluate, write a bundle", allow_abbrev=False))
    _add_evaluate(add("evaluate", help="measure a bundle on held-out rows", allow_abbrev=False))
    _add_calibrate(add("calibrate", help="write a new version of a bundle, with new calibration", allow_abbrev=False))
    _add_report(add("report", help="make the page of a bundle: what it learned, where it fails", allow_abbrev=False))
    _add_export(add("export", help="make a bundle from a checkpoint", allow_abbrev=False))
    return parser


def _add_schema(parser: argparse.ArgumentParser) -> None:
    parser.description = "Read a table; write its schema, TOML to edit, for fit --schema. Nothing is fitted."
    parser.add_argument("data", metavar="FILE", help=".csv, .tsv or .parquet")
    parser.add_argument("--output", type=Path, metavar="FILE", help="a new file (default: print it)")
    _add_reading(parser)
    _add_levels(parser)
    parser.add_argument("--quiet", action="store_true", help="no line for each column")


def _add_fit(parser: argparse.ArgumentParser) -> None:
    parser.description = "Read --data; write OUTPUT/<next version>/ and, beside it, the checkpoint and the fit log."
    add = parser.add_argument
    add("--data", required=True, metavar="FILE|DIR", help=f"{_DATA}; y: 1 = anomaly, never trained on")
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
        help="the least sigma that is learned, standardised, 0.001 to 1 (default 0.1 for tables, 0.001 for images)",
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
        help="stop after the epoch in which they are over, all runs counted",
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
        default=1,
        help="for few rows: an ensemble of M models, each fitted without one of M folds, which it calibrates on "
        "(default %(default)s: one model, and calibration rows set apart)",
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
    add("--groups", metavar="COLUMN", help=_GROUPS)
    _add_levels(parser)
    _add_reading(parser)
    _add_common(parser)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.description = "Read a bundle and --data; print a table. Rows that the bundle was made from are left out."
    add = parser.add_argument
    add("--bundle", required=True, type=Path, metavar="DIR", help=_BUNDLE)
    add("--data", required=True, metavar="FILE|DIR", help=_DATA)
    add("--draws", type=count, metavar="K", default=64, help="of the bound of log p(x) (default %(default)s)")
    add(
        "--miss-cost",
        type=positive,
        metavar="X",
        help="with labelled anomalies: what missing one costs, in false alarms; the alpha that costs least is told",
    )
    add(
        "--anomaly-share",
        type=part,
        metavar="X",
        help="of anomalies among the rows to be judged, for F1 and cost (default: as in the labelled data)",
    )
    add("--json", type=Path, metavar="FILE", help="write the figures there too")
    _add_reading(parser)
    _add_common(parser)


def _add_calibrate(parser: argparse.ArgumentParser) -> None:
    parser.description = "Read a bundle and --data, normal rows that it has not seen; write the next version beside it."
    add = parser.add_argument
    add("--bundle", required=True, type=Path, metavar="DIR", help=_BUNDLE)
    add("--data", required=True, metavar="FILE|DIR", help=_DATA)
    add("--groups", metavar="COLUMN", help=f"{_GROUPS} (default: that of the bundle; '': no groups)")
    _add_reading(parser)
    _add_common(parser)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.description = "Read a bundle and --data; write one HTML page. A fit leaves one in the bundle by itself."
    add = parser.add_argument
    add("--bundle", required=True, type=Path, metavar="DIR", help=_BUNDLE)
    add("--data", required=True, metavar="FILE|DIR", help=f"{_DATA}; rows that the bundle was made from are left out")
    add("--log", type=Path, metavar="FILE", help="of the fit, for the loss curves (default: the one in the bundle)")
    add("--output", type=Path, metavar="FILE", help="default report-<version>.html beside the bundle")
    add("--draws", type=count, metavar="K", default=64, help="of the bound of log p(x) (default %(default)s)")
    _add_reading(parser)
    _add_common(parser)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.description = "Read a checkpoint; write OUTPUT/<next version>/."
    add = parser.add_argument
    add("--checkpoint", required=True, type=Path, metavar="FILE", help="as left by fit")
    add("--output", required=True, type=Path, metavar="DIR", help="model directory, as models/NAME; made if need be")
    add("--data", metavar="FILE|DIR", help="what it was fitted to, for calibration; without it, no anomaly-score")
    add("--groups", metavar="COLUMN", help=_GROUPS)
    add("--log", type=Path, metavar="FILE", help="of the fit, for the loss curves of the report")
    add("--draws", type=count, metavar="K", default=64, help="of the bound of log p(x) (default %(default)s)")
    _add_reading(parser)
    _add_common(parser)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    tables = parser.add_argument_group("tables (.csv, .tsv, .parquet)")
    tables.add_argument("--label", metavar="COLUMN", help="says which rows are anomalies: 1; never trained on")
    tables.add_argument(
        "--delimiter", choices=("comma", "semicolon", "tab"), help="of CSV (default: seen in the header)"
    )
    tables.add_argument("--decimal", choices=("point", "comma"), help="of CSV (default point)")
    tables.add_argument(
        "--missing",
        type=words,
        metavar="A,B",
        help="words for a missing value, beside the empty one, in any case (default NA,N/A,null,none,NaN,?)",
    )


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


def _add_levels(parser: argparse.ArgumentParser) -> None:
    tables = parser.add_argument_group("categories, where no --schema says what they are")
    tables.add_argument("--max-levels", type=count, metavar="N", help="a column of more is left out (default 1000)")
    tables.add_argument(
        "--min-level-rows",
        type=count,
        metavar="N",
        help="categories in fewer rows are together another one (default 5)",
    )


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=seed, metavar="N", default=0, help="of all that is drawn (default %(default)s)")
    parser.add_argument("--threads", type=threads, metavar="N", default=0, help="CPU threads (default 0: all)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no table")


if __name__ == "__main__":
    sys.exit(main())
