"""`vae-train export`: a bundle from a checkpoint."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np

from training import checkpoint
from training.assemble import HeldOut, build_bundle
from training.errors import DataError, TrainingError
from training.groups import groups_by
from training.output import next_version
from training.parts import Dealing, Unseen, deal
from training.schema import Schema
from training.steps.reading import as_known
from training.steps.report import read_log, reported
from training.steps.said import model_name, say, warn
from training.steps.written import write_bundle


def run(options: Namespace) -> None:
    """A bundle from a checkpoint; calibrated, evaluated and reported on where there is data."""
    name = model_name(options.output)
    found = checkpoint.load(options.checkpoint)
    if (folds := Dealing.of(found.training).folds) > 1:
        raise TrainingError(
            f"{options.checkpoint} is one of the {folds} folds of an ensemble: fit --resume --checkpoint "
            f"{_whole(options.checkpoint)}, with the other options of the fit, makes the bundle of all of them"
        )
    if found.state is not None:
        at = found.state.progress
        which = (
            f"those of epoch {at.best_epoch}" if at.best_epoch else f"those after {at.step} steps of the first epoch"
        )
        warn(f"{options.checkpoint} is an unfinished fit (epoch {at.epoch}); the weights are {which}")
    if options.groups and options.data is None:
        raise DataError("--groups is of calibration rows: say by --data which")
    records = read_log(options.log) if options.log else []
    nothing = np.zeros((0, *found.inputs.shape), found.inputs.dtype)
    rows, unseen, groups = HeldOut(nothing, nothing), None, None
    if options.data is not None:
        known = None if found.inputs.columns is None else Schema.known(found.inputs, found.training, "the checkpoint")
        dataset = as_known(options, known)
        if dataset.hash != found.data.hash:
            raise DataError(
                f"{dataset.source} is not the data that the checkpoint was fitted to: export without --data, "
                "or export with that data and calibrate on this one"
            )
        groups = groups_by(options.groups, found.inputs, dataset.x)
        parts = deal(dataset, Dealing.of(found.training))
        rows, unseen = HeldOut.of(parts), Unseen.of(parts)
    bundle = build_bundle(
        found.vae,
        name,
        next_version(options.output),
        found.data,
        found.training,
        rows,
        seed=options.seed,
        threads=options.threads,
        draws=options.draws,
        groups=groups,
        told=lambda line: say(options, line),
    )
    if unseen is not None:
        say(options, "making the report")
        bundle = reported(bundle, unseen, records, options.seed, options.threads)
    write_bundle(options, options.output, bundle)


def _whole(fold: Path) -> Path:
    """What `fit` is told of the checkpoint of one fold: checkpoint-1-fold-2.npz is one of checkpoint-1.npz."""
    return fold.with_name(fold.stem.rpartition("-fold-")[0] + fold.suffix)
