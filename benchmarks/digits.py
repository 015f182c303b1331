"""
The shipped example bundle: does it tell digits from what is not a digit, and do its false-alarm rates hold?

    python -m benchmarks.digits --bundle deploy/models/digits

Held-out digits (the test rows of the bundle's own split, made again from its manifest) against uniform noise and
against the same digits with their pixels shuffled, by score kind, as a Markdown table. The shuffled digits have the
pixels of real ones, so no score that looks at pixels one by one can tell them apart.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from service.bundle import open_bundle
from service.calibration import false_alarm_rate, rank, threshold
from service.engine import Engine
from training.data import DIGITS, load
from training.evaluate import beta_binomial_interval
from training.parts import held_out
from training.ranking import auroc
from training.scorer import scores_of

ALPHA = 0.05


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.digits", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("deploy/models/digits"), help="bundle or model directory")
    parser.add_argument("--seed", type=int, default=0, help="of the noise and the shuffling")
    options = parser.parse_args(arguments)
    bundle = open_bundle(options.bundle)
    found = held_out(load(DIGITS), bundle.manifest)
    digits = found.x
    generator = np.random.default_rng(options.seed)
    noise = generator.uniform(0, 16, digits.shape).astype(np.float32)
    shuffled = generator.permuted(digits.reshape(len(digits), -1), axis=1).reshape(digits.shape)
    engine = Engine(bundle.graphs)
    normal, noisy, mixed = (scores_of(bundle, engine, x) for x in (digits, noise, shuffled))

    samples = bundle.manifest.scoring.samples
    print(f"Bundle {bundle.manifest.name}/{bundle.manifest.version} ({bundle.bundle_id[:12]}), {len(digits)} digits:")
    print(f"{found.which}. K = {samples}.\n")
    print("| score | AUROC, uniform noise | AUROC, shuffled pixels | false alarms at 5 % | 90 % interval | holds |")
    print("|---|---|---|---|---|---|")
    for entry in bundle.manifest.calibrated:
        if entry.samples != samples:
            continue
        limit = threshold(bundle.calibration[entry.key].astype(np.float64), ALPHA)
        if limit is None:
            continue
        flagged = int((normal[entry.kind] > limit).sum())
        k = rank(entry.rows, ALPHA)
        low, high = beta_binomial_interval(len(digits), entry.rows + 1 - k, k)
        print(
            f"| {entry.kind} | {auroc(normal[entry.kind], noisy[entry.kind]):.4f} "
            f"| {auroc(normal[entry.kind], mixed[entry.kind]):.4f} | {flagged / len(digits):.4f} "
            f"| {low / len(digits):.4f} to {high / len(digits):.4f} | {'yes' if low <= flagged <= high else 'no'} |"
        )
    rows = bundle.manifest.calibrated[0].rows
    low_rate, high_rate = false_alarm_rate(rows, ALPHA)
    print(f"\nWith {rows} calibration rows the real rate lies in {low_rate:.4f} to {high_rate:.4f} (90 %).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
