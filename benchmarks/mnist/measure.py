"""The figures of a run, as JSON has them: bounds of its test images, what its latents do, how its fits went."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.mnist.bound import bounds
from benchmarks.mnist.images import test_images
from benchmarks.mnist.runs import Run
from benchmarks.serving import machine
from training.checkpoint import Checkpoint
from training.evaluate import mean_of


def measured(
    run: Run, fits: Sequence[Checkpoint], *, data: Path, images: int, draws: int, seed: int, threads: int
) -> dict[str, Any]:
    """
    Of the last of *fits*: L_K with *draws* and the ELBO of so many test images.

    Their standard errors are those of a mean over images: what the draws add to them is in it.
    """
    x = test_images(data, run.binarisation, images, seed)
    vae = fits[-1].vae.eval()
    if torch.cuda.is_available():
        vae.to("cuda")
    load, start = os.getloadavg()[0], time.perf_counter()

    def told(row: int) -> None:
        if row % 500 == 0:
            print(f"{run.slug}: L_{draws} of image {row} of {len(x)}", file=sys.stderr, flush=True)

    found = bounds(vae, x, draws, seed, threads, told)
    return {
        "run": run.slug,
        "images": len(x),
        "draws": draws,
        "log_px": mean_of(found.log_px),
        "elbo": mean_of(found.elbo),
        "active_units": found.active_units,
        "latents": vae.config.latent_dim,
        "fits": [{**_result(fit), "device": _environment(fit)["device"]} for fit in fits],
        "evaluation_s": time.perf_counter() - start,
        "threads": threads,
        "seed": seed,
        "load": load,
        "machine": machine.words("torch", "numpy"),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _result(fit: Checkpoint) -> dict[str, Any]:
    found: Any = fit.training["result"]
    return dict(found)


def _environment(fit: Checkpoint) -> dict[str, Any]:
    found: Any = fit.training["environment"]
    return dict(found)
