"""What `vae-train fit` does when all is fitted: export, calibrate, evaluate, report, write."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace

from training.assemble import HeldOut, build_bundle
from training.checkpoint import Checkpoint
from training.models.mlp import ensemble
from training.parts import Unseen
from training.steps.job import Job
from training.steps.report import read_log, reported
from training.steps.said import say
from training.steps.written import write_bundle


def make(options: Namespace, jobs: Sequence[Job], fitted: Sequence[Checkpoint], name: str, version: int) -> None:
    """The bundle of what was *fitted*, of several an ensemble, with its report, written."""
    job, folds = jobs[0], [HeldOut.of(job.parts) for job in jobs]
    nothing, rows = folds[0].calibration[:0], dict(job.made_of.rows)
    rows["calibration"] = sum(len(fold.calibration) for fold in folds)
    bundle = build_bundle(
        ensemble([checkpoint.vae for checkpoint in fitted]),
        name,
        version,
        job.made_of.model_copy(update={"rows": rows}),
        fitted[0].training,
        folds[0] if len(folds) == 1 else replace(folds[0], calibration=nothing),
        folds=folds if len(folds) > 1 else (),
        seed=options.seed,
        threads=options.threads,
        draws=options.draws,
        groups=job.groups,
        told=lambda line: say(options, line),
    )
    say(options, "making the report")
    records = read_log(job.log) if job.log.exists() else []
    bundle = reported(bundle, Unseen.of(job.parts), records, options.seed, options.threads)
    write_bundle(options, options.output, bundle)
