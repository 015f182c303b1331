"""`vae-train export`: a bundle from a checkpoint."""

from __future__ import annotations

from argparse import Namespace

import numpy as np

from training import checkpoint
from training.assemble import HeldOut, build_bundle
from training.errors import DataError
from training.output import next_version
from training.parts import Dealing, Unseen, deal
from training.schema import Schema
from training.steps.reading import as_known
from training.steps.report import read_log, reported
from training.steps.said import model_name, say, warn, write_bundle


def run(options: Namespace) -> None:
    """A bundle from a checkpoint; calibrated, evaluated and reported on where there is data."""
    name = model_name(options.output)
    found = checkpoint.load(options.checkpoint)
    if found.state is not None:
        at = found.state.progress
        which = (
            f"those of epoch {at.best_epoch}" if at.best_epoch else f"those after {at.step} steps of the first epoch"
        )
        warn(f"{options.checkpoint} is an unfinished fit (epoch {at.epoch}); the weights are {which}")
    records = read_log(options.log) if options.log else []
    nothing = np.zeros((0, *found.inputs.shape), found.inputs.dtype)
    rows, unseen = HeldOut(nothing, nothing), None
    if options.data is not None:
        known = None if found.inputs.columns is None else Schema.known(found.inputs, found.training, "the checkpoint")
        dataset = as_known(options, known)
        if dataset.hash != found.data.hash:
            raise DataError(
                f"{dataset.source} is not the data that the checkpoint was fitted to: export without --data, "
                "or export with that data and calibrate on this one"
            )
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
        told=lambda line: say(options, line),
    )
    if unseen is not None:
        say(options, "making the report")
        bundle = reported(bundle, unseen, records, options.seed, options.threads)
    write_bundle(options, options.output, bundle)
