"""
The subcommands of `vae-train`: files in, files out, a few lines on stdout. The work itself is elsewhere.

PyTorch is imported by the steps that need it, so that a bundle can be evaluated and calibrated without it.
"""

from __future__ import annotations

import json
import re
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import JsonValue

from service.bundle import Bundle, open_bundle
from service.engine import Engine
from service.manifest import Data
from training import assemble, data, table
from training.assemble import HeldOut, next_version
from training.errors import DataError, TrainingError
from training.evaluate import evaluate as evaluate_bundle
from training.parts import Dealing, deal, held_out
from training.split import Fractions

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def fit(options: Namespace) -> None:
    """Fit, export, calibrate, evaluate; write the next version, the checkpoint and the log."""
    from training import checkpoint  # noqa: PLC0415
    from training.binarize import binary_inputs, require_binary  # noqa: PLC0415
    from training.fit import FitOptions  # noqa: PLC0415
    from training.fit import fit as fit_vae  # noqa: PLC0415
    from training.models.mlp import VAE, VAEConfig, default_hidden, default_latent_dim  # noqa: PLC0415

    name = _model_name(options.output)
    fractions = Fractions(options.validation, options.calibration, options.test)
    dealing = Dealing(fractions, options.binarize, options.seed)
    dataset = data.load(options.data)
    parts = deal(dataset, dealing)
    features = parts.inputs.features
    if options.likelihood == "bernoulli" and options.binarize == "none":
        require_binary(dataset.x, dataset.inputs)
    inputs = binary_inputs(parts.inputs) if options.likelihood == "bernoulli" else parts.inputs
    config = VAEConfig(
        latent_dim=options.latent_dim or default_latent_dim(features),
        hidden=default_hidden(features) if options.hidden is None else options.hidden,
        likelihood=options.likelihood,
        activation=options.activation,
        sigma=options.sigma,
        standardise=options.likelihood != "bernoulli",
    )
    fit_options = FitOptions(
        epochs=options.epochs or 0,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        warmup_epochs=options.warmup_epochs,
        patience=options.patience,
        minutes=options.minutes,
        seed=options.seed,
        threads=options.threads,
    )
    version = next_version(options.output)
    log_file = options.log or options.output / f"fit-{version}.jsonl"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    vae = VAE(inputs, config, options.seed)
    with log_file.open("w") as log:
        result = fit_vae(
            vae,
            parts.train,
            parts.validation,
            fit_options,
            parts.draw,
            log=lambda record: print(json.dumps(record), file=log, flush=True),
            quiet=options.quiet,
        )
    training: dict[str, JsonValue] = {
        "source": dataset.source,
        "dealing": dealing.as_json(),
        "model": _plain(config),
        "options": _plain(fit_options),
        "result": _plain(result),
    }
    made_of = Data(hash=dataset.hash, rows=parts.sizes)
    checkpoint_file = options.checkpoint or options.output / f"checkpoint-{version}.npz"
    checkpoint.save(checkpoint_file, checkpoint.Checkpoint(vae, made_of, training))
    _say(
        options,
        f"{result.stopped} ended the fit after {result.epochs} epochs and {result.seconds:.0f} s; "
        f"the weights are those of epoch {result.best_epoch}",
    )
    bundle = assemble.build_bundle(
        vae,
        name,
        version,
        made_of,
        training,
        HeldOut(parts.calibration, parts.test, parts.anomalies),
        seed=options.seed,
        threads=options.threads,
        draws=options.draws,
    )
    _write(options, options.output, bundle)


def export(options: Namespace) -> None:
    """A bundle from a checkpoint; calibrated and evaluated where there is data."""
    from training import checkpoint  # noqa: PLC0415

    name = _model_name(options.output)
    found = checkpoint.load(options.checkpoint)
    nothing = np.zeros((0, *found.vae.inputs.shape), found.vae.inputs.dtype)
    rows = HeldOut(nothing, nothing)
    if options.data is not None:
        dataset = data.load(options.data)
        if dataset.hash != found.data.hash:
            raise DataError(
                f"{dataset.source} is not the data that the checkpoint was fitted to: export without --data, "
                "or export with that data and calibrate on this one"
            )
        parts = deal(dataset, Dealing.of(found.training))
        rows = HeldOut(parts.calibration, parts.test, parts.anomalies)
    bundle = assemble.build_bundle(
        found.vae,
        name,
        next_version(options.output),
        found.data,
        found.training,
        rows,
        seed=options.seed,
        threads=options.threads,
        draws=options.draws,
    )
    _write(options, options.output, bundle)


def evaluate(options: Namespace) -> None:
    """The figures of a bundle on rows that it has not seen."""
    bundle = open_bundle(options.bundle)
    x, anomalies, which = held_out(data.load(options.data), bundle.manifest)
    if not len(x):
        raise TrainingError(f"{options.data}: there are no test rows: the bundle was fitted with --test 0")
    engine = Engine(bundle.graphs, threads=options.threads)
    evaluation = evaluate_bundle(bundle, engine, x, anomalies, options.draws, options.seed)
    if options.json:
        options.json.write_text(json.dumps(evaluation, indent=1) + "\n")
    _say(options, f"{bundle.path}: {which}", *table.lines(evaluation))


def calibrate(options: Namespace) -> None:
    """The next version of a bundle, calibrated on these rows."""
    bundle = open_bundle(options.bundle)
    dataset = data.load(options.data)
    x, _, _ = held_out(dataset, bundle.manifest)
    model_dir = bundle.path.parent
    made = assemble.recalibrate(bundle, next_version(model_dir), x, dataset.hash, options.threads)
    _write(options, model_dir, made)


def _write(options: Namespace, model_dir: Path, bundle: Bundle) -> None:
    path = assemble.write(model_dir, bundle)
    evaluation: Mapping[str, Any] = bundle.manifest.evaluation
    _say(options, *(table.lines(evaluation) if evaluation else ()), f"wrote {path}")


def _model_name(output: Path) -> str:
    name = output.resolve().name
    if not _NAME.fullmatch(name):
        raise TrainingError(f"--output {output}: {name!r} cannot name a model: letters, digits, '.', '_' and '-' only")
    return name


def _plain(part: Any) -> JsonValue:
    """A dataclass as JSON: tuples as lists, an infinity as null."""
    found: JsonValue = json.loads(json.dumps(asdict(part)).replace("Infinity", "null"))
    return found


def _say(options: Namespace, *lines: str) -> None:
    if not options.quiet:
        print(*lines, sep="\n")
