"""
A machine's sensors, scored over HTTP from raw readings: false alarms, faults that are found, and how soon.

    python -m benchmarks.telemetry [--output build/telemetry] [--seed 0]

`vae-train fit` on normal running of a machine that does not exist (machine.py), on windows of 16 readings, one every
4; the same with a higher floor under sigma, and by differences. Each is served by a process of its own, and is sent raw
readings: runs in which a known fault begins at a known reading, and runs without any. Beside them simple references on
the same windows, calibrated on the same windows (detectors.py); what is counted is in delays.py. Prints Markdown,
and writes it to --page. A model that is in --output is not fitted again.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.serving.page import replace
from benchmarks.telemetry import page
from benchmarks.telemetry.delays import faulty, tally, watch
from benchmarks.telemetry.detectors import Detector, Reference, Served, references
from benchmarks.telemetry.machine import FAULTS, SENSORS, readings
from benchmarks.vae_train import vae_train
from service.bundle import open_bundle
from tests.server import Server
from training.data import read_numpy
from training.errors import TrainingError
from training.parts import Dealing, deal
from training.series import of_arrays, windowed

LENGTH, STRIDE = 16, 4
ALPHA = 0.01
RUNS = 3
LEARNED, NORMAL, FAULTY = range(3)  # of each seed: the stream of readings to learn from, without a fault, with one
OURS = "VAE"
FITS = {OURS: (), "VAE at floor 0.1": ("--sigma-floor=0.1",), "VAE of differences": ("--differences",)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, serve, watch, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.telemetry", description=__doc__)
    add = parser.add_argument
    add("--output", type=Path, default=Path("build/telemetry"), help="for readings and bundles")
    add("--seed", type=int, default=0, help="of the machine, the fits and the faults")
    add("--readings", type=int, default=20000, help=f"of each of the {RUNS} runs that are learned from")
    add("--normal", type=int, default=3000, help="of each of the 20 runs without a fault")
    add("--episodes", type=int, default=40, help="runs with each fault")
    add("--processes", type=int, default=2, help="fits at a time")
    add("--page", type=Path, help="where the tables are written to as well, between markers")
    add("fit", nargs="*", help="more options of vae-train fit, behind --")
    options = parser.parse_args(arguments)
    folder = options.output / f"seed-{options.seed}"
    data = write_readings(folder, options.readings, options.seed)
    with ThreadPoolExecutor(options.processes) as pool:
        bundles = dict(zip(FITS, pool.map(lambda name: fitted(data, folder, name, options), FITS), strict=True))
    with contextlib.ExitStack() as stack:
        watching: dict[str, Detector] = {
            name: Served(stack.enter_context(Server(bundle))) for name, bundle in bundles.items()
        }
        text = "\n".join(tables(watching | of_the_same_windows(bundles[OURS], data), options))
    print(text)
    if options.page is not None:
        options.page.write_text(replace(options.page.read_text(), "telemetry", text))
    return 0


def write_readings(folder: Path, count: int, seed: int) -> Path:
    """The normal running that is learned from, as `vae-train fit` takes it."""
    folder.mkdir(parents=True, exist_ok=True)
    x = np.concatenate([readings(count, np.random.default_rng([seed, LEARNED, run])) for run in range(RUNS)])
    np.savez(folder / "readings.npz", X=x, runs=np.repeat(np.arange(RUNS), count), columns=np.array(SENSORS))
    return folder / "readings.npz"


def fitted(data: Path, folder: Path, name: str, options: Namespace) -> Path:
    """The bundle of one of FITS, fitted now or before."""
    model = folder / name.lower().replace(" ", "-")
    if not (model / "1").is_dir():
        cut = f"--window={LENGTH}", f"--stride={STRIDE}"
        more = *FITS[name], f"--seed={options.seed}", "--threads=1", "--quiet", *options.fit
        vae_train("fit", f"--data={data}", f"--output={model}", *cut, *more)
    return model / "1"


def of_the_same_windows(bundle: Path, data: Path) -> dict[str, Reference]:
    """The references, on the windows that the bundle was fitted to and calibrated on, with as many components."""
    manifest = open_bundle(bundle).manifest
    windows = manifest.inputs.windows
    if windows is None:
        raise TrainingError(f"{bundle} is no model of windows")
    dataset = windowed(of_arrays(data.name, read_numpy(data)), windows)
    if dataset.hash != manifest.data.hash:
        raise TrainingError(f"{bundle} was fitted to other readings than those of {data}: remove it to fit it again")
    parts = deal(dataset, Dealing.of(manifest.training))
    train, kept = (np.asarray(rows, np.float64) for rows in (parts.train, parts.calibration))
    return references(train, kept, windows, manifest.latent.dim)


def tables(watching: dict[str, Detector], options: Namespace) -> Iterator[str]:
    """What every detector says of every run, as Markdown."""
    runs = [readings(options.normal, np.random.default_rng([options.seed, NORMAL, run])) for run in range(20)]
    quiet = {name: tally([detector(x) for x in runs], ALPHA, options.normal) for name, detector in watching.items()}
    yield from page.alarms(quiet, ALPHA)
    episodes = {
        name: [faulty(fault, (options.seed, FAULTY, at), LENGTH, STRIDE) for at in range(options.episodes)]
        for name, fault in FAULTS.items()
    }
    found = {
        name: {fault: [watch(detector, run, ALPHA) for run in runs] for fault, runs in episodes.items()}
        for name, detector in watching.items()
    }
    for name in FITS:
        yield from ("", f"{name}:", "", *page.delays(found[name]))
    yield from ("", *page.beside(found), "", *page.better(found, OURS))


if __name__ == "__main__":
    sys.exit(main())
