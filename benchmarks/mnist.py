"""
MNIST, dynamically binarised, the whole way: `vae-train fit`, then the figures of the exported bundle.

    python -m benchmarks.mnist --minutes 15 --threads 1

The network of Burda et al. 2016: 784-200-200-50, tanh, Bernoulli, one draw. Prints Markdown: the ELBO and the bound
L_K of the test images beside published figures. Those are L_5000, and L_500 is a looser bound. The test
images come from other writers than the training images, so their false alarms need not lie inside the interval.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving import machine
from service.bundle import open_bundle
from training.__main__ import main as vae_train

PUBLISHED = (
    ("VAE, one draw (Burda et al. 2016, table 1), L_5000", "-86.76"),
    ("the same, reproduced (nbip/IWAE), L_5000", "-86.35"),
    ("IWAE, 50 draws (Burda et al. 2016, table 1), L_5000", "-84.78"),
)
CONFIGURATION = (
    *("--likelihood", "bernoulli", "--binarize", "dynamic", "--hidden", "200,200", "--latent-dim", "50"),
    *(
        "--activation",
        "tanh",
        "--batch-size",
        "100",
        "--learning-rate",
        "1e-3",
        "--warmup-epochs",
        "10",
        "--patience",
        "1000",
    ),
    *("--validation", "0.02", "--calibration", "0.05", "--test", "0"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, evaluate, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mnist", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/mnist"), help="directory of the idx files")
    parser.add_argument("--output", type=Path, default=Path("build/mnist"), help="model directory")
    parser.add_argument("--minutes", default="15", help="limit of the fit; evaluation comes on top")
    parser.add_argument("--epochs", default="300", help="at most so many; the learning rate falls over these")
    parser.add_argument("--draws", default="500", help="K of the bound")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--threads", default="1", help="CPU threads")
    options = parser.parse_args(arguments)
    if not options.data.is_dir():
        print(f"{options.data} is not there: nothing is measured")
        return 0
    command = ["fit", "--data", str(options.data), "--output", str(options.output), *CONFIGURATION]
    for name in ("minutes", "epochs", "draws", "seed", "threads"):
        command += [f"--{name}", getattr(options, name)]
    start = time.perf_counter()
    status = vae_train([*command, "--quiet"])
    if status:
        return status
    minutes = (time.perf_counter() - start) / 60
    manifest = open_bundle(options.output).manifest
    fit: Any = manifest.training["result"]
    found: Any = manifest.evaluation
    bounds = (("log_px", f"L_{found['draws']}"), ("elbo", "ELBO"))
    rows = [(f"this bundle, {name}", _figure(found[key])) for key, name in bounds]
    print(f"`vae-train {' '.join(command)}`\n")
    print(f"{fit['epochs']} epochs in {fit['seconds'] / 60:.1f} minutes ({fit['stopped']}; best epoch", end=" ")
    print(f"{fit['best_epoch']}); {minutes:.1f} minutes with export, calibration and evaluation.")
    print(f"{found['active_units']} of {manifest.latent.dim} latents are active.", end=" ")
    print(f"{options.threads} thread(s) of {machine.words('torch', 'onnxruntime', 'numpy')}.\n")
    print("| 10,000 test images | log p(x), nats |\n|---|---|")
    for label, figure in (*rows, *PUBLISHED):
        print(f"| {label} | {figure} |")
    print("\n| alpha | false alarms | 90 % interval |\n|---|---|---|")
    for row in found["false_alarms"]:
        print(f"| {row['alpha']:g} | {row['rate']:.4f} | {row['interval'][0]:.4f} to {row['interval'][1]:.4f} |")
    print(f"\n`{json.dumps({'elbo': found['elbo'], 'log_px': found['log_px'], 'kl': found['kl']})}`")
    return 0


def _figure(figure: Any) -> str:
    return f"{figure['mean']:.2f} +- {figure['standard_error']:.2f}"


if __name__ == "__main__":
    sys.exit(main())
