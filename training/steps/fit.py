"""`vae-train fit`: from data to a bundle, with the checkpoint and the log beside it."""

from __future__ import annotations

import contextlib
import importlib
import shlex
import signal
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from training import checkpoint, devices, resume, start
from training.binarize import binary_inputs
from training.checkpoint import Checkpoint
from training.errors import Interrupted
from training.fit import FitResult, fit
from training.fit_log import FitLog
from training.interrupt import Interrupt, Terminated, terminable
from training.models.mlp import VAE
from training.output import next_version
from training.parts import Dealing
from training.state import State
from training.steps.job import Job, jobs_of, plain
from training.steps.said import model_name, say, warn


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
    jobs = jobs_of(options, file, log, fabric)
    with contextlib.ExitStack() as stack:
        if fabric.is_global_zero:
            stack.enter_context(resume.only_one(file))
        fitted = [_fitted(options, job, fabric, None if options.checkpoint else version) for job in jobs]
        devices.leave()
        if fabric.is_global_zero:  # it does the rest by itself, and nobody waits for it
            free = next_version(options.output)
            if free != version:
                warn(f"version {version} was written meanwhile; this fit becomes version {free}")
            try:
                with terminable():
                    # only now: what exports and evaluates takes seconds to import, which no refusal need wait for
                    bundling = importlib.import_module("training.steps.bundling")
                    bundling.make(options, jobs, fitted, name, free)
            except KeyboardInterrupt as error:
                number = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
                again = _again(options, fabric)
                raise Interrupted(number, f"interrupted after the fit; make the bundle with: {again}") from None


def _fitted(options: Namespace, job: Job, fabric: Fabric, version: int | None) -> Checkpoint:
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
        dealing, once = Dealing.of(job.training), warn if first else lambda line: None
        state = start.state_of(options.start, inputs, job.config, job.made_of, dealing, once)
        told(options, f"starting at the weights of {options.start}")

    def save(now: State) -> None:
        at = now.progress
        result = FitResult(at.epoch - 1, at.best_epoch, at.best_elbo or 0.0, at.seconds, "unfinished")
        found = {**training, "result": plain(result)}
        checkpoint.save(file, Checkpoint(inputs, job.config, now.best, job.made_of, found, now))

    vae = VAE(inputs, job.config, job.options.seed)
    with contextlib.ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt(insist=fabric.world_size > 1))
        fold = f"fold {job.fold + 1} of {job.folds}, " if job.folds > 1 else ""
        told(options, f"fitting {fold}on {devices.described(fabric)}")  # whoever reads it may stop the fit
        log = (
            stack.enter_context(contextlib.closing(FitLog(job.log, state.progress.epoch if state else 1)))
            if first
            else None
        )
        lines = f"interrupted; {file} has it all: go on with: {_again(options, fabric)}" if first else ""
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
            raise Interrupted(error.signal, lines) from None
        fitted = Checkpoint(
            inputs, job.config, vae.state_dict(), job.made_of, {**training, "result": plain(result)}, None
        )
        if first:
            checkpoint.save(file, fitted)
        if interrupt.signal is not None:  # it came after the last step, which nobody looked behind
            raise Interrupted(interrupt.signal, lines)
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
