"""A new version of a bundle from its own graphs and new normal rows. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from service.bundle import Bundle
from service.engine import Engine
from service.reference import REFERENCE
from training.calibrate import calibrate
from training.errors import TrainingError
from training.output import LOG, now


def recalibrate(bundle: Bundle, version: int, rows: NDArray[np.generic], data_hash: str, threads: int = 0) -> Bundle:
    """
    *bundle* as *version*, calibrated on *rows* alone; what was measured with the old calibration is left out.

    The report is left out too, for it shows the old thresholds; the log of the fit stays, so that a new one can show
    it. The samples K stay those of the bundle, and so do the statistics of its reference rows; a bundle of before there
    were some keeps the kinds that it has. Raises TrainingError without rows, and for a bundle that was exported without
    calibration: it has no draws to score with.
    """
    old = bundle.manifest
    if not old.calibrated:
        raise TrainingError(f"{bundle.path} was exported without --data: it has no draws; export it again, with data")
    if not len(rows):
        raise TrainingError("no rows to calibrate on: of the data that a bundle was fitted to, only test rows count")
    samples = sorted({entry.samples for entry in old.calibrated})
    engine = Engine(bundle.graphs, threads=threads)
    found = calibrate(
        engine,
        old.inputs,
        bundle.eps,
        rows,
        old.scoring.samples,
        samples,
        mask_bins=old.mask_bins,
        reference={key: array for key, array in bundle.calibration.items() if key.startswith(REFERENCE)},
    )
    training: dict[str, JsonValue] = {
        **old.training,
        "recalibrated": {"from_version": old.version, "from_bundle_id": bundle.bundle_id, "data_hash": data_hash},
    }
    changes = {
        "version": version,
        "created": now(),
        "data": old.data.model_copy(update={"rows": {**old.data.rows, "calibration": len(rows)}}),
        "training": training,
        "calibrated": found.entries,
        "evaluation": {},
    }
    log = {name: content for name, content in bundle.report.items() if name == LOG}
    return replace(bundle, manifest=old.model_copy(update=changes), calibration=found.arrays, report=log)
