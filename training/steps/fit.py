"""`vae-train fit`: from data to a bundle, with the checkpoint and the log beside it."""

from __future__ import annotations

import contextlib
import json
import platform
import shlex
import signal
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from pydantic import JsonValue

from service.calibrated import Groups
from service.manifest import Data
from training import checkpoint, devices, resume, start
from training.assemble import HeldOut, build_bundle
from training.binarize import binary_inputs
from training.checkpoint import Checkpoint
from training.data import Dataset
from training.defaults import FEW_ROWS, default_config, default_folds, default_options
from training.errors import FitError, Interrupted
from training.fit import FitOptions, FitResult, fit
from training.fit_log import FitLog
from training.groups import groups_by
from training.interrupt import Interrupt, Terminated, terminable
from training.likelihoods.choose import Family, as_they_are
from training.models.mlp import VAE, VAEConfig, ensemble
from training.output import next_version
from training.parts import Dealing, Parts, Unseen, deal
from training.split import CALIBRATION, Fractions, seed_of_fold
from training.state import State
from training.steps.reading import to_fit
from training.steps.report import read_log, reported
from training.steps.said import model_name, say, warn, write_bundle
from training.support import require_support


@dataclass(frozen=True)
class _Job:
    """What is to be fitted to what, where it is written, and what the manifest says of it."""

    parts: Parts
    made_of: Data
    config: VAEConfig
    options: FitOptions
    training: dict[str, JsonValue]
    checkpoint: Path
    log: Path
    fold: int
    folds: int
    groups: Groups | None


def run(options: Namespace) -> None:
    """Fit, export, calibrate, evaluate; write the next version, the checkpoint and the log."""
    name = model_name(options.output)
    fabric = devices.launch(options.device)
    version = next_version(options.output)
    file = options.checkpoint or options.output / f"checkpoint-{version}.npz"
    log = options.log or options.output / f"fit-{version}.jsonl"
    begun = {} if options.start is None else {"--start": options.start}
    resume.require_apart({"--data": Path(options.data), "--checkpoint": file, "--log": log, **begun})
    for flag, place in (("--checkpoint", file), ("--log", log)):
        resume.require_file(flag, place)
    jobs = _jobs(options, file, log, fabric)
    with contextlib.ExitStack() as stack:
        if fabric.is_global_zero:
            stack.enter_context(resume.only_one(file))
        fitted = [_fitted(options, job, fabric, None if options.checkpoint else version) for job in jobs]
        devices.leave()
        if fabric.is_global_zero:  # it does the rest by itself, and nobody waits for it
            free = next_version(options.output)
            if free != version:
                warn(f"version {version} was written meanwhile; this fit becomes version {free}")
            _write(options, jobs, fitted, name, free, fabric)


def _write(
    options: Namespace, jobs: Sequence[_Job], fitted: Sequence[Checkpoint], name: str, version: int, fabric: Fabric
) -> None:
    """Make the bundle of what was *fitted*, of several an ensemble, with its report, and write it."""
    job, folds = jobs[0], [HeldOut.of(job.parts) for job in jobs]
    nothing, rows = folds[0].calibration[:0], dict(job.made_of.rows)
    rows["calibration"] = sum(len(fold.calibration) for fold in folds)
    try:
        with terminable():
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
    except KeyboardInterrupt as error:
        number = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
        again = _again(options, fabric)
        raise Interrupted(number, f"interrupted after the fit; make the bundle with: {again}") from None


def _jobs(options: Namespace, file: Path, log: Path, fabric: Fabric) -> list[_Job]:
    """Read the data; of several folds the fit of each, else the one."""
    folds = options.folds or 1
    if folds > 1 and options.calibration is not None:
        raise FitError(f"--folds {folds} calibrates on all rows but the test rows: leave --calibration away")
    if folds > 1 and options.groups:
        raise FitError(f"--folds {folds}: with --groups calibration rows must be set apart: leave one of them away")
    if folds > 1 and options.start is not None:
        raise FitError(f"--folds {folds}: --start {options.start} may have seen the rows of any fold: leave it away")
    dataset = to_fit(options, fabric.is_global_zero)
    if folds > 1 and dataset.places is not None:
        raise FitError(f"--folds {folds}: windows of a series cannot be dealt out in folds: leave it away")
    if options.folds is None:
        folds = _usual_folds(options, dataset, fabric)
    likelihood: Family = options.likelihood or default_config(dataset.inputs).likelihood
    if options.binarize == "none":
        for rows in (dataset.x, dataset.test):
            if rows is not None:
                require_support(rows, dataset.inputs, likelihood, options.levels)
    files, logs = _by_fold(file, folds), _by_fold(log, folds)
    for place in logs:
        resume.require_log(place)
    return [_job(options, dataset, fold, folds, files[fold], logs[fold], fabric) for fold in range(folds)]


def _usual_folds(options: Namespace, dataset: Dataset, fabric: Fabric) -> int:
    """What is taken where nobody says: one model where the rows, or what is asked for, rule out several."""
    apart = options.calibration is not None or options.groups or options.start is not None
    if apart or dataset.places is not None:
        return 1
    rows = len(dataset.x) if dataset.test is not None else round(len(dataset.x) * (1 - options.test))
    folds = default_folds(dataset.inputs, rows)
    if folds > 1 and fabric.is_global_zero:
        few = f"{rows} rows that are not test rows are fewer than {FEW_ROWS:,}"
        say(options, f"{few}: an ensemble of {folds} models, without thresholds (--folds 1: one model, with them)")
    return folds


def _by_fold(file: Path, folds: int) -> list[Path]:
    """The file of each fold: checkpoint-1.npz is checkpoint-1-fold-1.npz and so on."""
    if folds == 1:
        return [file]
    return [file.with_name(f"{file.stem}-fold-{fold + 1}{file.suffix}") for fold in range(folds)]


def _job(options: Namespace, dataset: Dataset, fold: int, folds: int, file: Path, log: Path, fabric: Fabric) -> _Job:
    """Deal the data; settle every option that depends on them."""
    calibration = CALIBRATION if options.calibration is None else options.calibration
    fractions = Fractions(options.validation, calibration if folds == 1 else 0.0, options.test)
    dealing = Dealing(fractions, options.binarize, options.seed, folds)
    usual = default_config(dataset.inputs)
    likelihood: Family = options.likelihood or usual.likelihood
    groups = groups_by(options.groups, dataset.inputs, dataset.x)
    made_of = dataset.hash
    parts = deal(dataset, dealing, use_up=folds == 1, fold=fold)
    config = replace(
        usual,
        latent_dim=options.latent_dim or usual.latent_dim,
        hidden=usual.hidden if options.hidden is None else options.hidden,
        likelihood=likelihood,
        activation=options.activation,
        sigma=options.sigma,
        standardise=not as_they_are(parts.inputs, likelihood),
        sigma_value=options.sigma_value,
        levels=options.levels,
        count=options.count,
        prior=options.prior or usual.prior,
        components=options.components,
        sigma_floor=options.sigma_floor or usual.sigma_floor,
    )
    length = default_options(parts.inputs, len(parts.train), options.batch_size)
    fit_options = replace(
        length,
        epochs=options.epochs or length.epochs,
        learning_rate=options.learning_rate,
        warmup_epochs=length.warmup_epochs if options.warmup_epochs is None else options.warmup_epochs,
        patience=options.patience or length.patience,
        minutes=options.minutes,
        seed=seed_of_fold(options.seed, fold),
        threads=options.threads,
        mask_rate=options.mask_rate,
        importance_samples=options.importance_samples,
        gradient_draws=options.gradient_draws,
        schedule=options.schedule,
        adam_epsilon=options.adam_epsilon,
    )
    if options.threads:
        torch.set_num_threads(options.threads)
    training: dict[str, JsonValue] = {
        "source": dataset.source,
        **({} if dataset.schema is None else {"table": dataset.schema.as_json()}),
        "dealing": dealing.as_json(),
        "model": _plain(config),
        "options": _plain(fit_options),
        "start": {"start": start.fingerprint(options.start)},
        "environment": {
            "device": fabric.device.type,
            "processes": fabric.world_size,
            "threads": torch.get_num_threads(),
            "resumed": 0,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    return _Job(
        parts,
        Data(hash=made_of, rows=parts.sizes),
        config,
        fit_options,
        training,
        checkpoint=file,
        log=log,
        fold=fold,
        folds=folds,
        groups=groups,
    )


def _fitted(options: Namespace, job: _Job, fabric: Fabric, version: int | None) -> Checkpoint:
    """The finished checkpoint: fitted now, or from where an earlier run was. *version*: see `resume.found`."""
    file, first = job.checkpoint, fabric.is_global_zero
    told: Callable[..., None] = say if first else lambda *_: None
    source, columns = str(job.training["source"]), job.parts.inputs.columns
    before = resume.found(file, options.resume, version, job.made_of, source, job.training, columns)
    if options.resume and before is None and first and not job.fold:  # later folds begin when those before are over
        warn(f"--resume: there is no {file}; this is a fresh start")
    if before is not None and before.state is None:
        told(options, f"{file} is a finished fit: going on with the bundle")
        return before
    inputs = binary_inputs(job.parts.inputs) if job.config.likelihood == "bernoulli" else job.parts.inputs
    training, state = job.training, None
    if before is not None and before.state is not None:
        state = before.state
        there: Any = before.training["environment"]
        now: Any = training["environment"]
        training = {**training, "environment": {**now, "resumed": there["resumed"] + 1}}
        told(options, f"going on in epoch {state.progress.epoch}, step {state.progress.step}, from {file}")
    elif options.start is not None:
        state = start.state_of(options.start, inputs, job.config)
        told(options, f"starting at the weights of {options.start}")
    fold = f"fold {job.fold + 1} of {job.folds}, " if job.folds > 1 else ""
    told(options, f"fitting {fold}on {devices.described(fabric)}")

    def save(now: State) -> None:
        at = now.progress
        result = FitResult(at.epoch - 1, at.best_epoch, at.best_elbo or 0.0, at.seconds, "unfinished")
        found = {**training, "result": _plain(result)}
        checkpoint.save(file, Checkpoint(inputs, job.config, now.best, job.made_of, found, now))

    vae = VAE(inputs, job.config, job.options.seed)
    with contextlib.ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt(insist=fabric.world_size > 1))
        log = (
            stack.enter_context(contextlib.closing(FitLog(job.log, state.progress.epoch if state else 1)))
            if first
            else None
        )
        try:
            result = fit(
                vae,
                job.parts.train,
                job.parts.validation,
                job.options,
                job.parts.draw,
                log=log or (lambda record: None),
                quiet=options.quiet,
                warn=warn,
                save=save,
                resume=state,
                interrupt=interrupt,
                fabric=fabric,
            )
        except Interrupted as error:
            lines = f"interrupted; {file} has it all: go on with: {_again(options, fabric)}"
            raise Interrupted(error.signal, lines if first else "") from None
        fitted = Checkpoint(
            inputs, job.config, vae.state_dict(), job.made_of, {**training, "result": _plain(result)}, None
        )
        if first:
            checkpoint.save(file, fitted)
    told(
        options,
        f"{result.stopped} ended the fit after {result.epochs} epochs and {result.seconds:.0f} s; "
        f"the weights are those of epoch {result.best_epoch}",
    )
    return fitted


def _again(options: Namespace, fabric: Fabric) -> str:
    """The command that goes on with this fit."""
    command = "vae-train" if fabric.world_size == 1 else f"torchrun --nproc-per-node {fabric.world_size} -m training"
    return f"{command} {shlex.join([word for word in options.arguments if word != '--resume'])} --resume"


def _plain(part: Any) -> JsonValue:
    """A dataclass as JSON: tuples as lists, an infinity as null."""
    found: JsonValue = json.loads(json.dumps(asdict(part)).replace("Infinity", "null"))
    return found
