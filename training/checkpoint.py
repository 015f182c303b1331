"""
The checkpoint: one .npz from which a bundle can be exported at any time, and an unfinished fit goes on. No pickle.

`weights/...` are those of the best epoch, by the names of `VAE.state_dict`. While the fit is unfinished, `now/...` and
`moments/...` are its state. The array `config` is JSON in UTF-8.
"""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from pydantic import JsonValue, TypeAdapter, ValidationError

from service.inputs import Inputs
from service.manifest import Data
from training.errors import TrainingError
from training.models.mlp import VAE, VAEConfig
from training.state import Progress, State, Tensors

_SCHEMA = 2


@dataclass(frozen=True)
class Checkpoint:
    """
    A model, the rows that it is fitted to, and how.

    *weights*: of the best epoch. *state*: of the fit while it is unfinished; None when it is over.
    """

    inputs: Inputs
    config: VAEConfig
    weights: Tensors
    data: Data
    training: dict[str, JsonValue]
    state: State | None = None

    @cached_property
    def vae(self) -> VAE:
        """The model with these weights."""
        vae = VAE(self.inputs, self.config)
        vae.load_state_dict(self.weights)
        return vae


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write *checkpoint*; a reader sees all of it or what was there before, also after a crash of the machine."""
    config = {
        "schema": _SCHEMA,
        "inputs": checkpoint.inputs.model_dump(mode="json"),
        "vae": asdict(checkpoint.config),
        "data": checkpoint.data.model_dump(mode="json"),
        "training": checkpoint.training,
        "progress": None if checkpoint.state is None else checkpoint.state.progress.as_json(),
    }
    groups = {"weights": checkpoint.weights}
    if checkpoint.state is not None:
        groups |= {"now": checkpoint.state.weights, "moments": checkpoint.state.moments}
    arrays = {
        f"{group}/{name}": value.numpy(force=True)
        for group, tensors in groups.items()
        for name, value in tensors.items()
    }
    arrays["config"] = np.frombuffer(json.dumps(config).encode(), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.tmp")
    try:
        with part.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        kept = "; what it held before is whole" if path.exists() else ""
        raise TrainingError(f"{path}: cannot be written: {error.strerror}{kept}") from None


def load(path: Path) -> Checkpoint:
    """
    Read a checkpoint.

    Raises TrainingError for a file that is none, is of another schema, or does not fit its own configuration.
    """
    try:
        if not zipfile.is_zipfile(path) and path.is_file():
            raise TrainingError(f"{path}: not a checkpoint, as fit leaves them")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        config = json.loads(arrays.pop("config").tobytes())
        if config["schema"] != _SCHEMA:
            raise TrainingError(
                f"{path}: a checkpoint of schema {config['schema']!r}; this version of vae-train reads {_SCHEMA} only: "
                "fit again, or use the version that wrote it"
            )
        groups: dict[str, Tensors] = {"weights": {}, "now": {}, "moments": {}}
        for name, value in arrays.items():
            group, _, rest = name.partition("/")
            groups[group][rest] = torch.from_numpy(value)
        state = None
        if config["progress"] is not None:
            progress = TypeAdapter(Progress).validate_python(config["progress"])
            state = State(progress, groups["now"], groups["weights"], groups["moments"])
        inputs, shape = Inputs.model_validate(config["inputs"]), TypeAdapter(VAEConfig).validate_python(config["vae"])
        data = Data.model_validate(config["data"])
        found = Checkpoint(inputs, shape, groups["weights"], data, config["training"], state)
        found.vae.load_state_dict(found.weights if state is None else state.weights)
        found.vae.load_state_dict(found.weights)
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error}") from None
    except (ValueError, KeyError, TypeError, EOFError, RuntimeError, ValidationError, zipfile.BadZipFile) as error:
        raise TrainingError(f"{path}: not a checkpoint of this version: {error}") from None
    return found
