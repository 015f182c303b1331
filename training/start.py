"""
The start of a fit at the weights of another one: fine-tuning to other rows, or going on with another objective.

Knows checkpoints; nothing of loops. Everything else of the other fit, such as the optimiser's moments, is left behind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

from service.inputs import Inputs
from service.manifest import Data
from training import checkpoint
from training.errors import FitError
from training.models.mlp import VAEConfig
from training.parts import Dealing
from training.state import Progress, State


def state_of(
    file: Path, inputs: Inputs, config: VAEConfig, data: Data, dealing: Dealing, warn: Callable[[str], None]
) -> State:
    """
    The state before the first epoch, with the weights of the best epoch of *file*, scaling included.

    Raises TrainingError where *file* is no checkpoint, one of another model or of other rows, or one of the same *data*
    dealt out otherwise: rows that it was trained on would calibrate. Of other data nobody knows which rows are in
    both: *warn* gets a line.
    """
    there = checkpoint.load(file)
    for field in fields(VAEConfig):
        now, then = getattr(config, field.name), getattr(there.config, field.name)
        if now != then:
            raise FitError(f"--start {file}: its {field.name} is {_shown(then)}, and that of this fit {_shown(now)}")
    if there.inputs != inputs:
        raise FitError(f"--start {file}: its rows are not described as those of this fit")
    if there.data.hash != data.hash:
        warn(
            f"--start {file} is of other data: rows that it was trained on may be among the calibration and test rows "
            "here, and false alarms are then more than is promised; `vae-train calibrate` on rows that neither fit has "
            "seen makes it right"
        )
    elif replace(Dealing.of(there.training), binarize=dealing.binarize) != dealing:
        raise FitError(
            f"--start {file}: is of the same data, dealt out otherwise, so that rows that it was trained on would "
            "calibrate: give the same --seed, --validation, --calibration, --test and --folds"
        )
    return State(Progress(), there.weights, there.weights, {})


def fingerprint(file: Path | None) -> str | None:
    """SHA-256 of *file*, by which a fit that goes on knows that it was begun there; None for no file."""
    if file is None:
        return None
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise FitError(f"--start {file}: cannot be read: {error.strerror}") from None


def _shown(value: object) -> str:
    return (",".join(map(str, value)) or "none") if isinstance(value, tuple) else str(value)
