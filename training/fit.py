"""
The fit: stochastic gradient ascent on the ELBO, with KL warm-up and early stopping on the validation ELBO.

Knows arrays and a model; nothing of files, bundles or scores. All randomness comes from `FitOptions.seed`: two runs
on one machine give the same weights, also when one of them was interrupted and went on from its state.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from training.batches import Batches, Draw, adaptation_rows
from training.devices import fast_matmul, launch
from training.errors import FitError, Interrupted
from training.interrupt import Interrupt
from training.models.mlp import VAE
from training.objective import warm_up
from training.saver import Saver
from training.schedule import Schedule, share
from training.state import Progress, State
from training.step import Stepper
from training.validation import Record, Validation, criterion

Array = NDArray[np.generic]

MOST_SKIPPED = 10
_MOST_CAUSES = 3  # named of one epoch


@dataclass(frozen=True)
class FitOptions:
    """
    How to fit; lengths in epochs.

    *schedule*: of the learning rate. *minutes*: stop after the epoch in which they are over, those of earlier runs
    included; a cosine is down by then. *threads*: of PyTorch, 0 = its own choice. *mask_rate*: see `Batches`; of no
    effect where no value may be missing. *importance_samples*: K of the bound that is ascended; 1: the ELBO.
    *gradient_draws*: of how many of them the gradient is taken, see `Bound`; 0: of all.
    """

    epochs: int = 100
    batch_size: int = 128
    learning_rate: float = 2e-3
    warmup_epochs: float = 10
    patience: int = 30
    minutes: float = math.inf
    seed: int = 0
    threads: int = 0
    mask_rate: float = 0.5
    importance_samples: int = 1
    gradient_draws: int = 0
    schedule: Schedule = "cosine"
    adam_epsilon: float = 1e-8


@dataclass(frozen=True)
class FitResult:
    """
    How it went. *best_epoch*: whose weights were kept. *stopped*: by what.

    *validation_elbo*: of the best epoch; with several importance samples their bound, which was ascended.
    """

    epochs: int
    best_epoch: int
    validation_elbo: float
    seconds: float
    stopped: str


def fit(
    vae: VAE,
    train: Array,
    validation: Array,
    options: FitOptions,
    draw: Draw | None = None,
    log: Callable[[Record], None] = lambda record: None,
    quiet: bool = True,
    *,
    warn: Callable[[str], None] = lambda line: None,
    save: Callable[[State], None] = lambda state: None,
    resume: State | None = None,
    interrupt: Interrupt | None = None,
    fabric: Fabric | None = None,
) -> FitResult:
    """
    Fit *vae* in place to *train*, (n, *shape) in original units; the weights of the best epoch stay, on the CPU.

    NaN is a missing value. *draw* makes model inputs of a batch of training rows (dynamic binarisation). *log* gets one
    record an epoch, *warn* a line when steps were skipped, *save* the state now and then; these three in the first
    process only. *fabric*: where to run; by default on the CPU. Raises FitError when the loss stays non-finite,
    Interrupted after a signal, when the state was saved.
    """
    if options.gradient_draws and options.importance_samples == 1:
        raise FitError(f"--gradient-draws {options.gradient_draws}: chosen of --importance-samples, which is 1")
    if options.threads:
        torch.set_num_threads(options.threads)
    fabric = fabric if fabric is not None else launch()
    if resume is None:
        vae.adapt(adaptation_rows(train, draw, options.seed))
    else:
        vae.load_state_dict(resume.weights)
    vae.to(fabric.device)
    if not fabric.is_global_zero:
        log, warn, save, quiet = (lambda record: None), (lambda line: None), (lambda state: None), True
    loop = _Loop(vae, train, options, draw, fabric, resume, Saver(save, interrupt if fabric.is_global_zero else None))
    measure = Validation(vae, validation, options.seed, fabric, options.importance_samples)
    at, stopped = loop.at, "epochs"
    if options.epochs < options.warmup_epochs:
        warn(_within_warm_up(f"a fit of {options.epochs} epochs ends", options, options.epochs))
    bar = tqdm(total=options.epochs, initial=at.epoch - 1, desc="fit", unit="epoch", disable=True if quiet else None)
    with bar, _as_fit_errors(fabric, interrupt), fast_matmul(fabric, options.batch_size, loop.stepper.parameters):
        while at.epoch <= options.epochs:
            record = loop.epoch(measure)
            if at.skipped:
                causes = "; ".join(at.causes)
                warn(f"epoch {at.epoch}: {at.skipped} of {loop.batches.steps} steps skipped: {causes}")
            log(record)
            bar.set_postfix(elbo=f"{record['validation_elbo']:.4g}", active=record["active_units"])
            bar.update()
            at.next_epoch()
            if at.epoch - 1 - max(at.best_epoch, math.ceil(options.warmup_epochs)) >= options.patience:
                stopped = "patience"
                break
            if loop.out_of_time():
                stopped = "time"
                break
    if at.best_elbo is None:
        raise FitError("the validation ELBO was never finite: lower --learning-rate")
    if stopped == "time" and (ended := at.epoch - 1) < options.warmup_epochs <= options.epochs:
        warn(_within_warm_up(f"the minutes were over after epoch {ended},", options, ended))
    vae.to("cpu").load_state_dict(loop.best)
    return FitResult(at.epoch - 1, at.best_epoch, at.best_elbo, at.seconds, stopped)


def _within_warm_up(what: str, options: FitOptions, epochs: int) -> str:
    more = "--minutes" if epochs < options.epochs else "--epochs"
    reached = f"{options.warmup_epochs:g} epochs, at {warm_up(epochs, options.warmup_epochs):.0%}"
    return f"{what} within the KL warm-up of {reached}: give it more {more} or fewer --warmup-epochs"


class _Loop:
    """The epochs: where the fit is (*at*), its best weights so far, and what makes its steps."""

    def __init__(
        self,
        vae: VAE,
        train: Array,
        options: FitOptions,
        draw: Draw | None,
        fabric: Fabric,
        resume: State | None,
        saver: Saver,
    ) -> None:
        self.at, self.best = (Progress(), _copy(vae)) if resume is None else (resume.progress, resume.best)
        self.stepper = Stepper(vae, fabric, options.adam_epsilon)
        if resume is not None:
            self.stepper.restore(resume.moments)
        rank, processes = fabric.global_rank, fabric.world_size
        self.batches = Batches(
            vae,
            train,
            draw,
            options.batch_size,
            options.seed,
            rank,
            processes,
            mask_rate=options.mask_rate,
            draws=options.importance_samples,
            chosen=options.gradient_draws,
        )
        self._vae, self._options, self._fabric, self._saver = vae, options, fabric, saver

    def epoch(self, measure: Validation) -> Record:
        """The rest of the epoch in progress, and its record. *best* becomes its weights if they are better."""
        at, fabric = self.at, self._fabric
        start = time.perf_counter() - at.epoch_seconds
        bound = torch.tensor(at.bound, dtype=torch.float64, device=fabric.device)  # the sum of the rows' ELBOs
        try:
            self._steps(start, bound)
            sums = torch.stack([bound, bound.new_tensor(at.rows)])
            total, rows = torch.as_tensor(fabric.all_reduce(sums, reduce_op="sum")).tolist()
            found = measure()
        except RuntimeError:
            if fabric.world_size > 1:  # another process has gone; what this one has is whole up to the last step
                self._save(start, bound)
            raise
        if criterion(found) > (-math.inf if at.best_elbo is None else at.best_elbo):
            self.best, at.best_epoch, at.best_elbo = _copy(self._vae), at.epoch, criterion(found)
        beta, rate = self._schedules(at.step - 1)
        at.epoch_seconds = time.perf_counter() - start
        ascended = "train_elbo" if self._options.importance_samples == 1 else "train_bound"
        record = {"epoch": at.epoch, ascended: total / rows if rows else math.nan, **found}
        record |= {"beta": beta, "learning_rate": rate, "seconds": at.epoch_seconds}
        return {**record, "skipped": at.skipped, "skipped_because": at.causes} if at.skipped else record

    def out_of_time(self) -> bool:
        """Whether the minutes are over, between two epochs, as the first process sees it."""
        try:
            self.at.seconds = self._fabric.broadcast(self.at.seconds)  # the rate is made of it
        except RuntimeError:
            if self._fabric.world_size > 1:  # another process has gone, as in `epoch`
                self._save(time.perf_counter(), torch.zeros((), dtype=torch.float64))
            raise
        return self.at.seconds > 60 * self._options.minutes

    def _steps(self, start: float, bound: Tensor) -> None:
        """The steps left of the epoch that began at *start*; their ELBOs are added to *bound*, float64, ()."""
        at = self.at
        for batch in self.batches.epoch(at.epoch, at.step):
            found = self.stepper(batch, *self._schedules(at.step))
            at.step += 1
            if found is None:
                _skip(at, self.stepper.cause)
            else:
                at.in_a_row, at.rows = 0, at.rows + len(batch.v)
                bound += found
            if self._saver.due():
                self._save(start, bound)

    def _save(self, start: float, bound: Tensor) -> None:
        """Save the state between two steps. Raises Interrupted when there was a signal."""
        self.at.bound, self.at.epoch_seconds = float(bound), time.perf_counter() - start
        self._saver.save(State(self.at, self._vae.state_dict(), self.best, self.stepper.moments()))

    def _schedules(self, step: int) -> tuple[float, float]:
        """
        Beta and the learning rate of a step, from 0, of the epoch in progress.

        What is done of the fit is the larger of the shares of the epochs and of the minutes that are over; the latter
        as at the start of the epoch, so that one which goes on from its middle has the same rates.
        """
        options, epoch = self._options, self.at.epoch - 1 + step / self.batches.steps
        done = max(epoch / options.epochs, self.at.seconds / (60 * options.minutes))
        rate = options.learning_rate * share(options.schedule, epoch, done)
        return warm_up(epoch, options.warmup_epochs), rate


def _skip(at: Progress, cause: str | None) -> None:
    """Count a step that was not made, and keep its cause. Raises FitError after too many in a row."""
    at.skipped, at.in_a_row = at.skipped + 1, at.in_a_row + 1
    if len(at.causes) < _MOST_CAUSES:
        at.causes.append(f"step {at.step}: {cause}")
    if at.in_a_row > MOST_SKIPPED:
        raise FitError(
            f"epoch {at.epoch}, step {at.step}: {MOST_SKIPPED} steps in a row were skipped because {cause}: "
            "lower --learning-rate"
        )


@contextlib.contextmanager
def _as_fit_errors(fabric: Fabric, interrupt: Interrupt | None) -> Iterator[None]:
    """What is left of a group of processes when one of them has ended says so in one line."""
    try:
        yield
    except RuntimeError as error:
        if fabric.world_size == 1:
            raise
        if interrupt is not None and interrupt.signal is not None:  # the first process has saved, and stopped
            raise Interrupted(interrupt.signal) from None
        raise FitError(f"process {fabric.global_rank}: another process has ended, or failed: {error}") from error


def _copy(vae: VAE) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in vae.state_dict().items()}
