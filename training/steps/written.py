"""The last of several steps: a bundle is written, and what it is worth is said."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.bundle import Bundle
from service.calibrated import ALL
from service.calibration import lacking, rows_needed
from service.manifest import Manifest
from training import table
from training.output import write
from training.steps.said import say, warn


def write_bundle(options: Namespace, model_dir: Path, bundle: Bundle) -> None:
    """Write *bundle* below *model_dir*; say what it is worth, and where it is."""
    path = write(model_dir, bundle)
    evaluation: Mapping[str, Any] = bundle.manifest.evaluation
    figures = (*table.sigmas(bundle.manifest), *table.lines(evaluation)) if evaluation else ()
    say(options, *figures, f"wrote {path}")
    scoring, calibrated = bundle.manifest.scoring, bundle.manifest.calibrated
    if not calibrated:
        warn("no calibration rows: this bundle has no anomaly-score")
        return
    score = scoring.kind, scoring.samples, ALL
    rows = [entry.rows for entry in calibrated if (entry.kind, entry.samples, entry.group) == score]
    needed, most, fewest = rows_needed(scoring.alpha), max(rows), min(rows)
    if most < needed:
        warn(
            f"{most} calibration rows are too few for alpha {scoring.alpha}, the default, which needs {needed}: "
            f"requests must name an alpha of {_least_alpha(fewest):g} or more, or is_anomaly is null; more calibration "
            "rows help"
        )
    elif short := _lacking(bundle.manifest, needed):
        warn(
            f"alpha {scoring.alpha}, the default, needs {needed} calibration rows, and of some rows there are fewer: "
            f"of those {', '.join(short)}; their is_anomaly is null; more calibration rows help"
        )
    if few := _few(bundle.manifest, needed):
        warn(
            f"groups with fewer than the {needed} calibration rows that alpha {scoring.alpha}, the default, needs: "
            f"{', '.join(few)}; their rows are judged by those of all groups, and replies say so"
        )


def _few(manifest: Manifest, needed: int) -> list[str]:
    """The groups of complete rows with fewer than *needed* calibration rows, and how many they have."""
    scoring, names = manifest.scoring, () if manifest.groups is None else manifest.groups.names
    score = scoring.kind, scoring.samples, 0
    rows = {e.group: e.rows for e in manifest.calibrated if (e.kind, e.samples, e.mask_bin) == score}
    return [f"{name} ({rows.get(name, 0)})" for name in names if rows.get(name, 0) < needed]


def _lacking(manifest: Manifest, needed: int) -> list[str]:
    """The rows, by how much they miss, that fewer than *needed* calibration rows are like, and how many these are."""
    score = manifest.scoring.kind, manifest.scoring.samples, ALL
    entries = (e for e in manifest.calibrated if (e.kind, e.samples, e.group) == score and e.rows < needed)
    return [f"{lacking(entry.mask_bin, manifest.mask_bins)} ({entry.rows})" for entry in entries]


def _least_alpha(rows: int) -> float:
    """The least alpha that *rows* calibration rows can show, rounded up."""
    return math.ceil(1e4 / (rows + 1)) / 1e4
