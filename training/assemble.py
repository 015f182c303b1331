"""
From a fitted VAE to a bundle in memory: export, parity, draws, calibration, evaluation, manifest, in this order.

Whatever fails, nothing is written, because writing comes after (`output`).
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from service.bundle import Bundle
from service.calibrated import Groups, Scoring
from service.engine import Engine
from service.inputs import Inputs
from service.manifest import Capabilities, Data, GraphName, Latent, Manifest, Operation
from training.by_modules import scorer
from training.calibrate import SAMPLES, Calibration, Fold, calibrate, cross_calibrate
from training.evaluate import evaluate
from training.export import export_graphs
from training.graphs import specs
from training.masks import default_bins
from training.models.mlp import VAE, alone
from training.noise import noise_table
from training.output import now
from training.parity import check_parity, golden_vectors
from training.parts import Parts
from training.reference import reference_of

Array = NDArray[np.generic]

_PLAIN: tuple[Operation, ...] = ("encode", "decode", "sample", "interpolate", "reconstruct")


@dataclass(frozen=True)
class HeldOut:
    """
    Model inputs that the fit did not see. *calibration* empty: the bundle cannot score. *test* may be empty.

    *learned*: what it did see, training and validation rows, for the baselines. *reference*: the rows that scores are
    measured by, validation rows and none of *calibration*; without them the bundle has the kinds that need none.
    """

    calibration: Array
    test: Array
    anomalies: Array | None = None
    learned: tuple[Array, Array] | None = None
    reference: Array | None = None

    @classmethod
    def of(cls, parts: Parts) -> HeldOut:
        """The parts of a data set that was dealt out."""
        return cls(parts.calibration, parts.test, parts.anomalies, parts.learned(), parts.validation)


def build_bundle(
    vae: VAE,
    name: str,
    version: int,
    data: Data,
    training: dict[str, JsonValue],
    held_out: HeldOut,
    *,
    folds: Sequence[HeldOut] = (),
    seed: int = 0,
    threads: int = 0,
    draws: int = 64,
    trained: bool = True,
    samples: Sequence[int] = SAMPLES,
    groups: Groups | None = None,
    export: Callable[[VAE], Mapping[GraphName, bytes]] = export_graphs,
    told: Callable[[str], None] = lambda line: None,
) -> Bundle:
    """
    The bundle of *vae*, in memory.

    *folds*: of an ensemble, for each member the rows that it has not seen: calibration is cross-conformal, and
    *held_out* has no calibration rows. *draws*: K of the evaluation. *samples*: each K of the calibration, the default
    of `Scoring` among them. *groups*: of calibration rows, see `calibrate`. *export*: what makes the graphs. *told*:
    gets a line at the beginning of each step, because some take minutes.

    Raises ParityError when the graphs do not compute what *vae* computes, and what the service's engine raises when
    it opens a bundle.
    """
    told("making the ONNX graphs")
    graphs = export(vae)
    told("checking that onnxruntime computes with them what PyTorch does")
    check_parity(vae, graphs, seed)
    eps = noise_table(vae.config.latent_dim, seed)
    engine = Engine(_by_name(graphs), threads=threads)
    found, mask_bins = Calibration((), {}), default_bins(vae.inputs)
    if folds:
        told(f"calibrating on {sum(len(fold.calibration) for fold in folds):,} rows, each by the model of another fold")
        ranking = [
            _fold(member, own, eps, samples, mask_bins, seed) for member, own in zip(vae.members, folds, strict=True)
        ]
        found = cross_calibrate(ranking, vae.inputs, eps, Scoring().samples, samples, mask_bins=mask_bins, seed=seed)
    elif len(held_out.calibration):
        told(f"calibrating on {len(held_out.calibration):,} rows")
        like = held_out.calibration[:0] if held_out.reference is None else held_out.reference
        reference = reference_of(engine, vae.inputs, eps, like, samples, mask_bins, seed)
        found = calibrate(
            engine,
            vae.inputs,
            eps,
            held_out.calibration,
            Scoring().samples,
            samples,
            mask_bins=mask_bins,
            reference=reference,
            groups=groups,
            seed=seed,
        )
    manifest = manifest_of(vae, name, version, data, training, found, mask_bins, trained=trained)
    golden = golden_vectors(vae, eps, seed)
    made = Bundle(Path(name), "", manifest, _by_name(graphs), eps, found.arrays, golden, {})
    engine.check_tensors(made)  # as the service does at start: what it would refuse is not written
    engine.self_check(made)
    if not len(held_out.test):
        return made
    told(f"evaluating on {len(held_out.test):,} rows")
    evaluation = evaluate(made, engine, held_out.test, held_out.anomalies, draws, seed, held_out.learned)
    return replace(made, manifest=manifest.model_copy(update={"evaluation": evaluation}))


def manifest_of(
    vae: VAE,
    name: str,
    version: int,
    data: Data,
    training: dict[str, JsonValue],
    found: Calibration,
    mask_bins: tuple[float, ...],
    *,
    trained: bool = True,
) -> Manifest:
    """What there is to say of *vae* and its calibration, before an evaluation."""
    return Manifest(
        name=name,
        version=version,
        created=now(),
        code_commit=_code_commit(),
        trained=trained,
        data=data,
        training=training,
        capabilities=Capabilities(
            operations=(*_PLAIN, "anomaly-score") if found.entries else _PLAIN,
            score_kinds=tuple(dict.fromkeys(entry.kind for entry in found.entries)),
            kl="analytic" if vae.prior.analytic else "monte-carlo",
            draw=True,
            missing=vae.inputs.masked,
        ),
        inputs=_inputs(vae),
        latent=Latent(dim=vae.config.latent_dim, prior="standard-normal" if vae.prior.analytic else "graph"),
        likelihood=vae.likelihood.described(vae.inputs.names if vae.inputs.columns is not None else None),
        graphs=specs(vae),
        members=len(vae.members),
        calibrated=found.entries,
        mask_bins=mask_bins,
        groups=found.groups,
    )


def _fold(
    member: VAE,
    held_out: HeldOut,
    eps: NDArray[np.float32],
    samples: Sequence[int],
    mask_bins: Sequence[float],
    seed: int,
) -> Fold:
    """
    The rows that *member* has not seen, and its own scorer.

    By PyTorch: it is a part of the scorer of the ensemble, which parity is checked of. Validation rows are few, too few
    for a covariance of encodings; so all rows that the member has seen are encoded.
    """
    engine = scorer(alone(member))
    like = held_out.calibration[:0] if held_out.reference is None else held_out.reference
    seen = None if held_out.learned is None else np.concatenate(held_out.learned)
    reference = reference_of(engine, member.inputs, eps, like, samples, mask_bins, seed, seen)
    return Fold(engine, held_out.calibration, reference)


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


def _code_commit() -> str | None:
    """The commit of this code, "-dirty" when changed since; None outside of a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None
