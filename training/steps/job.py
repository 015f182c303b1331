"""What `vae-train fit` has to do: the data, dealt out, and every option settled; one job for each model."""

from __future__ import annotations

import json
import math
import platform
from argparse import Namespace
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from pydantic import JsonValue

from service.calibrated import Groups
from service.manifest import Data
from training import resume, start
from training.data import Dataset
from training.defaults import FEW_ROWS, default_config, default_folds, default_options
from training.fit import FitOptions
from training.groups import groups_by
from training.likelihoods.choose import Family, as_they_are
from training.models.mlp import VAEConfig
from training.parts import Dealing, Parts, deal
from training.split import CALIBRATION, Fractions, seed_of_fold
from training.steps.reading import to_fit
from training.steps.said import say
from training.support import require_support


@dataclass(frozen=True)
class Job:
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


def jobs_of(options: Namespace, file: Path, log: Path, fabric: Fabric) -> list[Job]:
    """Read the data; of several folds the fit of each, else the one."""
    dataset = to_fit(options, fabric.is_global_zero)
    folds = options.folds or _usual_folds(options, dataset, fabric)
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
    rows = len(dataset.x) if dataset.test is not None else len(dataset.x) - math.ceil(len(dataset.x) * options.test)
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


def _job(options: Namespace, dataset: Dataset, fold: int, folds: int, file: Path, log: Path, fabric: Fabric) -> Job:
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
        minutes=options.minutes / folds,
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
        "model": plain(config),
        "options": plain(fit_options),
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
    return Job(
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


def plain(part: Any) -> JsonValue:
    """A dataclass as JSON: tuples as lists, an infinity as null."""
    found: JsonValue = json.loads(json.dumps(asdict(part)).replace("Infinity", "null"))
    return found
