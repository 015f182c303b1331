"""
The bundle that the benchmarks serve: an MLP 784-400-400-32 as it is initialised, untrained, from a fixed seed.

    python -m training.bench_bundle --output build/bench

Its figures mean nothing, its speed is that of any model of its size. Calibrated on uniform random rows.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from service.bundle import open_bundle
from service.errors import StartError
from service.manifest import Data, Inputs
from training.assemble import HeldOut, build_bundle
from training.data import CLAMP
from training.models.mlp import VAE, VAEConfig
from training.output import write

SEED = 0
ROWS = 2000
INPUTS = Inputs(kind="array", shape=(784,), dtype="float32", clamp=CLAMP)
CONFIG = VAEConfig(latent_dim=32, hidden=(400, 400), likelihood="gaussian", activation="relu", standardise=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write `<output>/1`; a valid bundle already there is replaced, anything else is left alone."""
    parser = argparse.ArgumentParser(prog="python -m training.bench_bundle", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("build/bench"), help="model directory")
    output: Path = parser.parse_args(arguments).output
    rows = np.random.default_rng(SEED).random((ROWS, *INPUTS.shape), np.float32)
    data = Data(hash=hashlib.sha256(rows.tobytes()).hexdigest(), rows={"calibration": ROWS})
    held_out = HeldOut(calibration=rows, test=rows[:0])
    vae = VAE(INPUTS, CONFIG, SEED)
    bundle = build_bundle(vae, "bench", 1, data, {"seed": SEED}, held_out, seed=SEED, trained=False)
    target = output / "1"
    try:
        if target.exists():
            open_bundle(target)
            shutil.rmtree(target)
        print(f"wrote {write(output, bundle)}")
    except StartError as error:
        print(f"bench_bundle: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
