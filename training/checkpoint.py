"""
The checkpoint: weights and what is needed to rebuild the model around them, as one .npz. No pickle, no code.

The arrays are those of `VAE.state_dict`; the array `config` is JSON in UTF-8.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import JsonValue, TypeAdapter, ValidationError

from service.bundle import pack_arrays
from service.manifest import Data, Inputs
from training.errors import TrainingError
from training.models.mlp import VAE, VAEConfig

_SCHEMA = 1


@dataclass(frozen=True)
class Checkpoint:
    """A fitted model, the rows that it was fitted to, and how."""

    vae: VAE
    data: Data
    training: dict[str, JsonValue]


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write *checkpoint*; a reader sees all of it or nothing."""
    vae = checkpoint.vae
    config = {
        "schema": _SCHEMA,
        "inputs": vae.inputs.model_dump(mode="json"),
        "vae": asdict(vae.config),
        "data": checkpoint.data.model_dump(mode="json"),
        "training": checkpoint.training,
    }
    arrays = {name: value.numpy() for name, value in vae.state_dict().items()}
    arrays["config"] = np.frombuffer(json.dumps(config).encode(), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.tmp")
    part.write_bytes(pack_arrays(arrays))
    part.replace(path)


def load(path: Path) -> Checkpoint:
    """
    Read a checkpoint.

    Raises TrainingError for a file that is none, or does not fit its own configuration.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        config = json.loads(arrays.pop("config").tobytes())
        if config["schema"] != _SCHEMA:
            raise TrainingError(f"{path}: schema {config['schema']!r}; this version reads {_SCHEMA}")
        inputs = Inputs.model_validate(config["inputs"])
        vae = VAE(inputs, TypeAdapter(VAEConfig).validate_python(config["vae"]))
        vae.load_state_dict({name: torch.from_numpy(value) for name, value in arrays.items()})
        return Checkpoint(vae, Data.model_validate(config["data"]), config["training"])
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error}") from None
    except (ValueError, KeyError, TypeError, EOFError, RuntimeError, ValidationError, zipfile.BadZipFile) as error:
        raise TrainingError(f"{path}: not a checkpoint of this version: {error}") from None
