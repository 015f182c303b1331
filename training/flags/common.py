"""Flags that several steps have, and words that several have in common."""

from __future__ import annotations

import argparse
from typing import Final

from training.flags.values import count, seed, threads, words

DATA: Final = (
    ".csv, .tsv, .parquet, .npy, .npz (X; optional y, labels, columns), idx files or their directory, or sklearn:digits"
)
GROUPS: Final = "calibrate rows in groups by this column, so that false-alarm rates hold within each"


def add_reading(parser: argparse.ArgumentParser) -> None:
    """How tables are read."""
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


def add_levels(parser: argparse.ArgumentParser) -> None:
    """How categories are told from other columns."""
    tables = parser.add_argument_group("categories, where no --schema says what they are")
    tables.add_argument("--max-levels", type=count, metavar="N", help="a column of more is left out (default 1000)")
    tables.add_argument(
        "--min-level-rows",
        type=count,
        metavar="N",
        help="categories in fewer rows are together another one (default 5)",
    )


def add_common(parser: argparse.ArgumentParser) -> None:
    """Seed, threads and how much is said."""
    parser.add_argument("--seed", type=seed, metavar="N", default=0, help="of all that is drawn (default %(default)s)")
    parser.add_argument("--threads", type=threads, metavar="N", default=0, help="CPU threads (default 0: all)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no table")
