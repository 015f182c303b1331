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
from service.manifest import Data
from training.__main__ import main
from training.assemble import manifest_of
from training.calibrate import SAMPLES, Calibration, calibrate
from training.graphs import modules, specs
from training.masks import default_bins
from training.models.mlp import VAE
from training.noise import noise_table
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
    manifest = manifest_of(vae, "unexported", 1, Data(hash="0" * 64, rows={}), {}, found, bins)
    return Bundle(Path("unexported"), "", manifest, {}, eps, found.arrays, {}, {}), engine


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
