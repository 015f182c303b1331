"""
The bundles that the benchmarks serve: MLPs as they are initialised, untrained, from a fixed seed.

    python -m training.bench_bundle --output build/bench

By default 784-400-400-32. Their figures mean nothing, their speed is that of any model of their size. Calibrated on
uniform random rows. The manifest holds the options under `training`, so that a reader can tell what was built.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from service.bundle import open_bundle
from service.errors import StartError
from service.inputs import Inputs
from service.manifest import Data
from training.assemble import HeldOut, build_bundle
from training.calibrate import SAMPLES
from training.data import CLAMP
from training.models.mlp import VAE, VAEConfig
from training.output import write

SEED = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Write `<output>/1`; a valid bundle already there is replaced, anything else is left alone."""
    parser = argparse.ArgumentParser(prog="python -m training.bench_bundle", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("build/bench"), help="model directory")
    parser.add_argument("--columns", type=int, default=784, help="numbers in a row")
    parser.add_argument("--hidden", type=_numbers, default=(400, 400), help="widths of the encoder's layers")
    parser.add_argument("--latents", type=int, default=32)
    parser.add_argument("--rows", type=int, default=2000, help="rows to calibrate on")
    parser.add_argument("--samples", type=_numbers, default=SAMPLES, help="each K to calibrate; 16 among them")
    options = parser.parse_args(arguments)
    output: Path = options.output
    inputs = Inputs(kind="array", shape=(options.columns,), dtype="float32", clamp=CLAMP)
    config = VAEConfig(options.latents, options.hidden, "gaussian", activation="relu", standardise=False)
    generator = np.random.default_rng(SEED)
    rows = generator.random((options.rows, options.columns), np.float32)
    data = Data(hash=hashlib.sha256(rows.tobytes()).hexdigest(), rows={"calibration": options.rows})
    training: dict[str, JsonValue] = {
        "seed": SEED,
        "columns": options.columns,
        "hidden": list(options.hidden),
        "latents": options.latents,
        "rows": options.rows,
        "samples": list(options.samples),
    }
    like = generator.random((options.rows, options.columns), np.float32)
    held_out = HeldOut(calibration=rows, test=rows[:0], reference=like)
    vae = VAE(inputs, config, SEED)
    bundle = build_bundle(
        vae, output.name, 1, data, training, held_out, seed=SEED, trained=False, samples=options.samples
    )
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


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
