"""
The start of a fit at the weights of another one: fine-tuning to other rows, or going on with another objective.

Knows checkpoints; nothing of loops. Everything else of the other fit, such as the optimiser's moments, is left behind.
"""

from __future__ import annotations

import hashlib
from dataclasses import fields
from pathlib import Path

from service.inputs import Inputs
from training import checkpoint
from training.errors import FitError
from training.models.mlp import VAEConfig
from training.state import Progress, State


def state_of(file: Path, inputs: Inputs, config: VAEConfig) -> State:
    """
    The state before the first epoch, with the weights of the best epoch of *file*, scaling included.

    Raises TrainingError where *file* is no checkpoint, or one of another model or of other rows.
    """
    there = checkpoint.load(file)
    for field in fields(VAEConfig):
        now, then = getattr(config, field.name), getattr(there.config, field.name)
        if now != then:
            raise FitError(f"--start {file}: its {field.name} is {_shown(then)}, and that of this fit {_shown(now)}")
    if there.inputs != inputs:
        raise FitError(f"--start {file}: its rows are not described as those of this fit")
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
