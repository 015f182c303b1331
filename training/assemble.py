"""
From a fitted VAE to a bundle on disk: export, parity, draws, calibration, evaluation, manifest, in this order.

Whatever fails, nothing is written. `recalibrate` makes a new version of a bundle from its own graphs, without torch.
"""

from __future__ import annotations

import datetime
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from service import bundle as bundles
from service.bundle import Bundle
from service.engine import Engine
from service.manifest import Capabilities, Data, GraphName, Inputs, Latent, Manifest, Operation, Scoring
from training.calibrate import KINDS, Calibration, calibrate
from training.errors import TrainingError
from training.evaluate import evaluate

if TYPE_CHECKING:
    from training.models.mlp import VAE

Array = NDArray[np.generic]

_PLAIN: tuple[Operation, ...] = ("encode", "decode", "sample", "interpolate", "reconstruct")


@dataclass(frozen=True)
class HeldOut:
    """Model inputs that the fit did not see. *calibration* empty: the bundle cannot score. *test* may be empty."""

    calibration: Array
    test: Array
    anomalies: Array | None = None


def build_bundle(
    vae: VAE,
    name: str,
    version: int,
    data: Data,
    training: dict[str, JsonValue],
    held_out: HeldOut,
    *,
    seed: int = 0,
    threads: int = 0,
    draws: int = 64,
    trained: bool = True,
    export: Callable[[VAE], Mapping[GraphName, bytes]] | None = None,
) -> Bundle:
    """
    The bundle of *vae*, in memory. *draws*: K of the evaluation. *export*: what makes the graphs.

    Raises ParityError when the graphs do not compute what *vae* computes.
    """
    from training.export import export_graphs  # noqa: PLC0415 - torch is not needed by the rest of this file
    from training.graphs import specs  # noqa: PLC0415
    from training.noise import noise_table  # noqa: PLC0415
    from training.parity import check_parity, golden_vectors  # noqa: PLC0415

    graphs = (export or export_graphs)(vae)
    check_parity(vae, graphs, seed)
    eps = noise_table(vae.config.latent_dim, seed)
    engine = Engine(_by_name(graphs), threads=threads)
    found = Calibration((), {})
    if len(held_out.calibration):
        found = calibrate(engine, vae.inputs, eps, held_out.calibration, Scoring().samples)
    manifest = Manifest(
        name=name,
        version=version,
        created=_now(),
        code_commit=_code_commit(),
        trained=trained,
        data=data,
        training=training,
        capabilities=Capabilities(
            operations=(*_PLAIN, "anomaly-score") if found.entries else _PLAIN,
            score_kinds=KINDS if found.entries else (),
        ),
        inputs=_inputs(vae),
        latent=Latent(dim=vae.config.latent_dim),
        likelihood=(vae.likelihood.described(),),
        graphs=specs(vae),
        calibrated=found.entries,
    )
    golden = golden_vectors(vae, eps, seed)
    made = Bundle(Path(name), "", manifest, _by_name(graphs), eps, found.arrays, golden, {})
    if not len(held_out.test):
        return made
    evaluation = evaluate(made, engine, held_out.test, held_out.anomalies, draws, seed)
    return replace(made, manifest=manifest.model_copy(update={"evaluation": evaluation}))


def recalibrate(bundle: Bundle, version: int, rows: Array, data_hash: str, threads: int = 0) -> Bundle:
    """
    *bundle* as *version*, calibrated on *rows* alone; what was measured with the old calibration is left out.

    The samples K stay those of the bundle. Raises TrainingError for a bundle that was exported without
    calibration: it has no draws to score with.
    """
    old = bundle.manifest
    if not old.calibrated:
        raise TrainingError(f"{bundle.path} was exported without --data: it has no draws; export it again, with data")
    samples = sorted({entry.samples for entry in old.calibrated})
    engine = Engine(bundle.graphs, threads=threads)
    found = calibrate(engine, old.inputs, bundle.eps, rows, old.scoring.samples, samples)
    training: dict[str, JsonValue] = {
        **old.training,
        "recalibrated": {"from_version": old.version, "from_bundle_id": bundle.bundle_id, "data_hash": data_hash},
    }
    changes = {
        "version": version,
        "created": _now(),
        "data": old.data.model_copy(update={"rows": {**old.data.rows, "calibration": len(rows)}}),
        "training": training,
        "calibrated": found.entries,
        "evaluation": {},
    }
    return replace(bundle, manifest=old.model_copy(update=changes), calibration=found.arrays)


def write(model_dir: Path, bundle: Bundle) -> Path:
    """Write *bundle* as `model_dir/<version>`, verified. Raises BundleError when that version exists."""
    files = {graph.file: bundle.graphs[name] for name, graph in bundle.manifest.graphs.items()}
    golden = {f"{name}/{tensor}": value for name, arrays in bundle.golden.items() for tensor, value in arrays.items()}
    files[bundles.GOLDEN] = bundles.pack_arrays(golden)
    files |= {f"report/{name}": content for name, content in bundle.report.items()}
    if bundle.manifest.calibrated:
        files |= {
            bundles.EPS: bundles.pack_array(bundle.eps),
            bundles.CALIBRATION: bundles.pack_arrays(bundle.calibration),
        }
    return bundles.write_bundle(model_dir, bundle.manifest, files)


def next_version(model_dir: Path) -> int:
    """One more than the newest version there; 1 for the first."""
    return max(bundles.versions(model_dir), default=0) + 1


def _inputs(vae: VAE) -> Inputs:
    """What a row is, with the scaling that the graphs apply to each column."""
    columns = vae.inputs.columns
    if columns is None or not vae.config.standardise:
        return vae.inputs
    center, scale = vae.scaling.center.tolist(), vae.scaling.scale.tolist()
    scaled = [column.model_copy(update={"center": center[i], "scale": scale[i]}) for i, column in enumerate(columns)]
    return vae.inputs.model_copy(update={"columns": tuple(scaled)})


def _by_name(graphs: Mapping[GraphName, bytes]) -> dict[str, bytes]:
    return {str(name): model for name, model in graphs.items()}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _code_commit() -> str | None:
    """The commit of this code, "-dirty" when changed since; None outside of a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None
