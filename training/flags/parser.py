"""The parser of `vae-train`: its steps, and the flags of all of them but `fit`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from training.flags.common import DATA, GROUPS, add_common, add_levels, add_reading
from training.flags.fit import add_fit
from training.flags.values import count, part, positive

_BUNDLE: Final = "a bundle, or a model directory: its newest version"


def parser() -> argparse.ArgumentParser:
    """Of the whole command line; `command` is the step."""
    whole = argparse.ArgumentParser(prog="vae-train", description="Fit a VAE to data and make a bundle for vae-serve.")
    add = whole.add_subparsers(dest="command", required=True).add_parser  # no short forms: --group is not --groups
    _add_schema(add("schema", help="write down what each column of a table is taken for", allow_abbrev=False))
    add_fit(add("fit", help="the whole way: fit, export, calibrate, evaluate, write a bundle", allow_abbrev=False))
    _add_evaluate(add("evaluate", help="measure a bundle on held-out rows", allow_abbrev=False))
    _add_calibrate(add("calibrate", help="write a new version of a bundle, with new calibration", allow_abbrev=False))
    _add_report(add("report", help="make the page of a bundle: what it learned, where it fails", allow_abbrev=False))
    _add_export(add("export", help="make a bundle from a checkpoint", allow_abbrev=False))
    return whole


def _add_schema(parser: argparse.ArgumentParser) -> None:
    parser.description = "Read a table; write its schema, TOML to edit, for fit --schema. Nothing is fitted."
    parser.add_argument("data", metavar="FILE", help=".csv, .tsv or .parquet")
    parser.add_argument("--output", type=Path, metavar="FILE", help="a new file (default: print it)")
    add_reading(parser)
    add_levels(parser)
    parser.add_argument("--quiet", action="store_true", help="no line for each column")


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.description = "Read a bundle and --data; print a table. Rows that the bundle was made from are left out."
    add = parser.add_argument
    add("--bundle", required=True, type=Path, metavar="DIR", help=_BUNDLE)
    add("--data", required=True, metavar="FILE|DIR", help=DATA)
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
    add_reading(parser)
    add_common(parser)


def _add_calibrate(parser: argparse.ArgumentParser) -> None:
    parser.description = "Read a bundle and --data, normal rows that it has not seen; write the next version beside it."
    add = parser.add_argument
    add("--bundle", required=True, type=Path, metavar="DIR", help=_BUNDLE)
    add("--data", required=True, metavar="FILE|DIR", help=DATA)
    add("--groups", metavar="COLUMN", help=f"{GROUPS} (default: that of the bundle; '': no groups)")
    add_reading(parser)
    add_common(parser)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.description = "Read a bundle and --data; write one HTML page. A fit leaves one in the bundle by itself."
    add = parser.add_argument
    add("--bundle", required=True, type=Path, metavar="DIR", help=_BUNDLE)
    add("--data", required=True, metavar="FILE|DIR", help=f"{DATA}; rows that the bundle was made from are left out")
    add("--log", type=Path, metavar="FILE", help="of the fit, for the loss curves (default: the one in the bundle)")
    add("--output", type=Path, metavar="FILE", help="default report-<version>.html beside the bundle")
    add("--draws", type=count, metavar="K", default=64, help="of the bound of log p(x) (default %(default)s)")
    add_reading(parser)
    add_common(parser)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.description = "Read a checkpoint; write OUTPUT/<next version>/."
    add = parser.add_argument
    add("--checkpoint", required=True, type=Path, metavar="FILE", help="as left by fit")
    add("--output", required=True, type=Path, metavar="DIR", help="model directory, as models/NAME; made if need be")
    add("--data", metavar="FILE|DIR", help="what it was fitted to, for calibration; without it, no anomaly-score")
    add("--groups", metavar="COLUMN", help=GROUPS)
    add("--log", type=Path, metavar="FILE", help="of the fit, for the loss curves of the report")
    add("--draws", type=count, metavar="K", default=64, help="of the bound of log p(x) (default %(default)s)")
    add_reading(parser)
    add_common(parser)
