"""`vae-train fit`: from data to a bundle, with the checkpoint and the log beside it."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import asdict
from typing import Any

from pydantic import JsonValue

from service.manifest import Data
from training import checkpoint, data
from training.assemble import HeldOut, build_bundle
from training.binarize import binary_inputs, require_binary
from training.fit import FitOptions, fit
from training.models.mlp import VAE, VAEConfig, default_hidden, default_latent_dim
from training.output import next_version
from training.parts import Dealing, deal
from training.split import Fractions
from training.steps.said import model_name, say, write_bundle


def run(options: Namespace) -> None:
    """Fit, export, calibrate, evaluate; write the next version, the checkpoint and the log."""
    name = model_name(options.output)
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
        result = fit(
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
    say(
        options,
        f"{result.stopped} ended the fit after {result.epochs} epochs and {result.seconds:.0f} s; "
        f"the weights are those of epoch {result.best_epoch}",
    )
    bundle = build_bundle(
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
    write_bundle(options, options.output, bundle)


def _plain(part: Any) -> JsonValue:
    """A dataclass as JSON: tuples as lists, an infinity as null."""
    found: JsonValue = json.loads(json.dumps(asdict(part)).replace("Infinity", "null"))
    return found
