"""
The fit: stochastic gradient ascent on the ELBO, with KL warm-up and early stopping on the validation ELBO.

Knows arrays and a model; nothing of files, bundles or scores. All randomness comes from `FitOptions.seed`: two runs
on one machine give the same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from training.errors import FitError
from training.models.mlp import VAE
from training.objective import elbo, kl_per_latent, reparameterize, warm_up

Array = NDArray[np.generic]
Record = dict[str, float | int]

CLIP_NORM = 50.0
FINAL_LEARNING_RATE = 0.02  # of the first one, by half a cosine
MOST_SKIPPED = 10
ACTIVE = 0.01  # Burda et al. 2016, section 5.2: a unit is active when Var_x(mu_j) is above this


@dataclass(frozen=True)
class FitOptions:
    """
    How to fit; lengths in epochs. *epochs* 0 means `default_epochs`.

    *minutes*: stop after the epoch in which they are over. *threads*: of PyTorch, 0 = its own choice.
    """

    epochs: int = 0
    batch_size: int = 128
    learning_rate: float = 2e-3
    warmup_epochs: float = 10
    patience: int = 30
    minutes: float = math.inf
    seed: int = 0
    threads: int = 0


@dataclass(frozen=True)
class FitResult:
    """How it went. *best_epoch*: whose weights were kept. *stopped*: by what."""

    epochs: int
    best_epoch: int
    validation_elbo: float
    seconds: float
    stopped: str


def default_epochs(rows: int, batch_size: int) -> int:
    """About 6,000 steps, between 20 and 500 epochs."""
    return min(500, max(20, math.ceil(6000 / math.ceil(rows / batch_size))))


def fit(
    vae: VAE,
    train: Array,
    validation: Array,
    options: FitOptions,
    draw: Callable[[Array, np.random.Generator], Array] | None = None,
    log: Callable[[Record], None] = lambda record: None,
    quiet: bool = True,
) -> FitResult:
    """
    Fit *vae* in place to *train*, (n, *shape) in original units; the weights of the best epoch stay.

    *draw* makes model inputs of a batch of training rows (dynamic binarisation). *log* gets one record an epoch.
    Raises FitError when the loss stays non-finite.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    epochs = options.epochs or default_epochs(len(train), options.batch_size)
    steps = math.ceil(len(train) / options.batch_size)
    generator = np.random.default_rng([options.seed, 2])
    noise = torch.Generator().manual_seed(options.seed)
    vae.adapt(train if draw is None else draw(train[:20000], np.random.default_rng([options.seed, 3])))
    optimizer = torch.optim.AdamW(vae.parameters(), lr=options.learning_rate, weight_decay=0.0)
    best, best_epoch, best_elbo = _copy(vae), 0, -math.inf
    stopped, start, skipped, epoch = "epochs", time.perf_counter(), 0, 0
    bar = tqdm(total=epochs, desc="fit", unit="epoch", disable=True if quiet else None)
    for epoch in range(1, epochs + 1):
        epoch_start, train_elbo, beta = time.perf_counter(), 0.0, 1.0
        for step, rows in enumerate(np.array_split(generator.permutation(len(train)), steps)):
            beta = warm_up(epoch - 1 + step / steps, options.warmup_epochs)
            optimizer.param_groups[0]["lr"] = _learning_rate(options.learning_rate, (epoch - 1 + step / steps) / epochs)
            batch = train[rows] if draw is None else draw(train[rows], generator)
            log_px_z, kl, _ = _terms(vae, batch, 1, noise)  # (B, 1, C), (B, L)
            bound = elbo(log_px_z.sum(dim=-1), kl.sum(dim=-1))  # (B,)
            loss = (kl.sum(dim=-1) * beta - log_px_z.sum(dim=(1, 2))).mean()  # = -bound.mean() when beta is 1
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            norm = torch.nn.utils.clip_grad_norm_(vae.parameters(), CLIP_NORM)
            skipped = 0 if bool(norm.isfinite()) else skipped + 1
            if skipped > MOST_SKIPPED:
                raise FitError(_diagnosis(vae, log_px_z))
            if not skipped:
                optimizer.step()
                train_elbo += float(bound.detach().sum())
        record = validate(vae, validation, options.seed)
        log(
            {
                "epoch": epoch,
                "train_elbo": train_elbo / len(train),
                **record,
                "beta": beta,
                "learning_rate": float(optimizer.param_groups[0]["lr"]),
                "seconds": time.perf_counter() - epoch_start,
            }
        )
        if record["validation_elbo"] > best_elbo:
            best, best_epoch, best_elbo = _copy(vae), epoch, float(record["validation_elbo"])
        bar.set_postfix(elbo=f"{record['validation_elbo']:.4g}", best=f"{best_elbo:.4g}", active=record["active_units"])
        bar.update()
        if epoch - max(best_epoch, math.ceil(options.warmup_epochs)) >= options.patience:
            stopped = "patience"
            break
        if time.perf_counter() - start > 60 * options.minutes:
            stopped = "time"
            break
    bar.close()
    if best_epoch == 0:
        raise FitError("the validation ELBO was never finite: lower --learning-rate")
    vae.load_state_dict(best)
    return FitResult(epoch, best_epoch, best_elbo, time.perf_counter() - start, stopped)


def validate(vae: VAE, rows: Array, seed: int) -> Record:
    """
    The mean ELBO of held-out rows (beta = 1 always), its two parts, and the number of active units.

    The same draws every time, so that epochs can be compared: eight a row, one where there are many rows.
    """
    noise = torch.Generator().manual_seed(seed)
    draws = 8 if len(rows) < 2000 else 1
    total, means = np.zeros(2), []
    with torch.no_grad():
        for batch in np.array_split(rows, math.ceil(len(rows) / 1000)):
            log_px_z, kl, mu = _terms(vae, batch, draws, noise)
            total += [float(log_px_z.sum(dim=-1).mean(dim=1).sum()), float(kl.sum())]
            means.append(mu)
    reconstruction, kl_mean = (total / len(rows)).tolist()
    active = int((torch.cat(means).var(dim=0, correction=0) > ACTIVE).sum())
    return {
        "validation_elbo": reconstruction - kl_mean,
        "reconstruction": reconstruction,
        "kl": kl_mean,
        "active_units": active,
    }


def _terms(vae: VAE, rows: Array, draws: int, noise: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Log p(x_c|z_k), KL_j and mu: (B, *shape) -> (B, K, C), (B, L), (B, L)."""
    v = vae.scaling(torch.from_numpy(rows.astype(vae.inputs.dtype)))
    mu, logvar = vae.encode(v)
    eps = torch.randn((len(v), draws, mu.shape[1]), generator=noise)
    theta = vae.decode(reparameterize(mu, logvar, eps))  # (B, K, P)
    return vae.likelihood.log_prob(theta, v.unsqueeze(1)), kl_per_latent(mu, logvar), mu


def _learning_rate(first: float, progress: float) -> float:
    """Half a cosine from *first* down to 2 % of it (Loshchilov & Hutter 2017, eq. 5, without restarts)."""
    return first * (FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * 0.5 * (1 + math.cos(math.pi * progress)))


def _diagnosis(vae: VAE, log_px_z: Tensor) -> str:
    bad = (~log_px_z.isfinite()).sum(dim=(0, 1))
    names = [vae.inputs.names[int(c)] for c in bad.argsort(descending=True) if bad[c]][:3]
    where = f"the likelihood of {', '.join(names)} is" if names else "the gradient is"
    return f"{MOST_SKIPPED} steps in a row were skipped because {where} not finite: lower --learning-rate"


def _copy(vae: VAE) -> Mapping[str, Tensor]:
    return {name: value.clone() for name, value in vae.state_dict().items()}
