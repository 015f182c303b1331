"""
One fit by pythae's BaseTrainer, timed: what `benchmarks.fit_throughput` runs in an environment that has pythae.

Prints one line of JSON: rows of training steps a second, one figure an epoch, the first (warm-up) left out. The time is
from the start of an epoch's first step to the end of its last, as pythae's own callbacks tell it: no validation, no
saving.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
import tempfile
import time
from typing import Any

import numpy as np
import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback


class Clock(TrainingCallback):  # type: ignore[misc]  # pythae has no types
    """Seconds of the steps of each epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = self._end = 0.0

    def on_train_step_begin(self, *_: Any, **__: Any) -> None:
        """Before the first step of an epoch, says pythae, in spite of the name."""
        self._start = time.perf_counter()

    def on_train_step_end(self, *_: Any, **__: Any) -> None:
        """After each step."""
        self._end = time.perf_counter()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """After validation and saving."""
        self.seconds.append(self._end - self._start)


def main() -> int:
    """Fit, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fit_pythae", description=__doc__)
    for name in ("rows", "features", "latents", "batch-size", "epochs", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.disable(logging.CRITICAL)
    x = (np.random.default_rng(0).random((options.rows, options.features)) < 0.2).astype(np.float32)
    shape = (options.features,)
    model = VAE(VAEConfig(input_dim=shape, latent_dim=options.latents, reconstruction_loss="bce"))
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        config = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=options.epochs,
            per_device_train_batch_size=options.batch_size,
            learning_rate=1e-3,
            optimizer_cls="AdamW",
            optimizer_params={"weight_decay": 0.0},
            no_cuda=True,
        )
        data = BaseDataset(torch.from_numpy(x), torch.zeros(options.rows))
        BaseTrainer(model, data, training_config=config, callbacks=[clock]).train()
    numbers = sum(p.numel() for p in model.parameters())
    rates = [options.rows / seconds for seconds in clock.seconds[1:]]
    print(json.dumps({"parameters": numbers, "rows_per_second": rates}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
