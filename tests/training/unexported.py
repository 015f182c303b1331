"""Models and fits whose bundle is not the subject: without the export, which takes longer than all the rest."""

from __future__ import annotations

import contextlib
import io
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from service.bundle import Bundle
from service.engine import Engine
from service.inputs import Inputs
from service.manifest import Capabilities, Data, Latent, Manifest
from training.__main__ import main
from training.calibrate import SAMPLES, Calibration, calibrate
from training.graphs import modules, specs
from training.masks import default_bins
from training.models.mlp import VAE
from training.noise import noise_table
from training.output import now
from training.reference import reference_of
from training.rounding import run_module

Array = NDArray[np.generic]


class _ByTorch:
    """What the engine of a bundle computes, by the modules that would be exported."""

    def __init__(self, vae: VAE) -> None:
        self._modules, self._specs = modules(vae), specs(vae)

    def run(self, graph: str, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """As `Engine.run` does."""
        module, spec = next((self._modules[name], self._specs[name]) for name in self._modules if name == graph)
        found = run_module(module, spec, dict(inputs))
        return found if outputs is None else {name: found[name] for name in outputs}


def unexported(
    vae: VAE, calibration: Array | None = None, reference: Array | None = None, samples: Sequence[int] = SAMPLES
) -> tuple[Bundle, Engine]:
    """
    The bundle of *vae* but for the graphs and what replays them, and in the place of its engine the network itself.

    As `build_bundle` makes it, which refuses graphs that do not compute the same. Reports, explanations and scores are
    made of these two.
    """
    engine = cast("Engine", _ByTorch(vae))
    eps, found, bins = noise_table(vae.config.latent_dim, 0), Calibration((), {}), default_bins(vae.inputs)
    if calibration is not None:
        like = calibration[:0] if reference is None else reference
        known = reference_of(engine, vae.inputs, eps, like, samples, bins, 0)
        found = calibrate(engine, vae.inputs, eps, calibration, 16, samples, mask_bins=bins, reference=known)
    manifest = Manifest(
        name="unexported",
        version=1,
        created=now(),
        code_commit=None,
        trained=True,
        data=Data(hash="0" * 64, rows={}),
        training={},
        capabilities=Capabilities(
            operations=("encode", "decode", "sample", *(("anomaly-score",) if found.entries else ())),
            score_kinds=tuple(dict.fromkeys(entry.kind for entry in found.entries)),
            kl="analytic" if vae.prior.analytic else "monte-carlo",
            draw=True,
            missing=vae.inputs.masked,
        ),
        inputs=_scaled(vae),
        latent=Latent(dim=vae.config.latent_dim, prior="standard-normal" if vae.prior.analytic else "graph"),
        likelihood=vae.likelihood.described(vae.inputs.names if vae.inputs.columns is not None else None),
        graphs=specs(vae),
        calibrated=found.entries,
        mask_bins=bins,
    )
    return Bundle(Path("unexported"), "", manifest, {}, eps, found.arrays, {}, {}), engine


def _scaled(vae: VAE) -> Inputs:
    """The columns with the units that the model has for them."""
    if vae.inputs.columns is None or not vae.config.standardise:
        return vae.inputs
    units = zip(vae.inputs.columns, vae.scaling.center.tolist(), vae.scaling.scale.tolist(), strict=True)
    scaled = tuple(column.model_copy(update={"center": center, "scale": scale}) for column, center, scale in units)
    return vae.inputs.model_copy(update={"columns": scaled})


class _Impatient(io.StringIO):
    """Standard output whose reader ends the program as soon as it says that it exports."""

    def write(self, said: str) -> int:
        """Keep it; where it is the line, SIGTERM."""
        written = super().write(said)
        if "making the ONNX graphs" in said:
            signal.raise_signal(signal.SIGTERM)
        return written


class Said(NamedTuple):
    """What a command has said on standard output and on standard error."""

    out: str
    err: str


def fit_alone(*words: str) -> Said:
    """
    `vae-train fit *words*`, ended by SIGTERM where its export begins: checkpoint and log are those of a finished fit.

    Not with --quiet: the signal waits for the line.
    """
    out, err = _Impatient(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert main(["fit", *words]) == 128 + signal.SIGTERM, err.getvalue()
    return Said(out.getvalue(), err.getvalue())
