"""
MNIST by the protocol of Burda et al. 2016, one stochastic layer: VAE and IWAE-50, dynamic and static binarisation.

    python -m benchmarks.mnist --minutes 30 --threads 2    all four runs, each 30 minutes of two threads, and the page
    python -m benchmarks.mnist --only iwae-dynamic         one of them
    python -m benchmarks.mnist --full                      the whole schedule, 3,280 epochs, on CUDA where there is one
    python -m benchmarks.mnist --only nothing              the page again, of what is there

Fits by `vae-train fit`, takes L_5000 of the 10,000 test images, and writes the section of --page. Each fit leaves a
checkpoint and each run its figures in --output: the same command goes on with what was ended, its used minutes counted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.mnist import page
from benchmarks.mnist.images import GREY, STATIC, to_fit
from benchmarks.mnist.measure import measured
from benchmarks.mnist.runs import RUNS, Run, Stage, stages
from benchmarks.serving.page import replace
from training import checkpoint
from training.__main__ import main as vae_train


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit and measure what is not there yet; write the page."""
    options = _parser().parse_args(arguments)
    for name in (GREY, STATIC):
        if not (options.data / name).exists():
            print(f"{options.data / name} is not there: nothing is measured")
            return 0
    for run in RUNS:
        if options.only is None or run.slug in options.only:
            status = _one(run, options)
            if status:
                return status
    kept = [json.loads(file.read_text()) for run in RUNS for file in _figures(run, options.output) if file.exists()]
    text = options.page.read_text() if options.page.exists() else page.EMPTY
    options.page.write_text(replace(text, page.SECTION, page.results(kept)))
    print(f"wrote {options.page}")
    return 0


def _one(run: Run, options: argparse.Namespace) -> int:
    """Fit *run* and keep its figures, as far as that is not done. Returns the status of a fit that was ended."""
    file = _figures(run, options.output)[options.full]
    if file.exists():
        print(f"{file} is there: {run.words} is not measured again")
        return 0
    done = stages(run, None if options.full else options.minutes, options.output)
    data, commands = to_fit(options.data, run.binarisation, options.output), []
    for stage in done:
        command = stage.command(options.output, data, options.seed, options.threads)
        commands.append(command)
        if not _is_over(stage, options.output):
            print(f"vae-train {' '.join(command)}", flush=True)
            status = vae_train(command)
            if status:
                return status
    found = measured(
        run,
        [checkpoint.load(stage.checkpoint(options.output)) for stage in done],
        data=options.data,
        images=options.test_images,
        draws=options.draws,
        seed=options.seed,
        threads=options.threads,
    )
    part = file.with_suffix(".part")
    part.write_text(json.dumps({**found, "full": options.full, "commands": commands}, indent=1) + "\n")
    part.replace(file)
    return 0


def _is_over(stage: Stage, folder: Path) -> bool:
    """Whether the fit of *stage* has ended; what is left of it then is its bundle, which no figure needs."""
    file = stage.checkpoint(folder)
    return file.exists() and checkpoint.load(file).state is None


def _figures(run: Run, folder: Path) -> tuple[Path, Path]:
    """Where the figures of *run* are kept: those of the timed one, of the whole one."""
    return folder / f"{run.slug}.json", folder / f"{run.slug}-full.json"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mnist", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, default=Path("../shared/data"), help=f"directory of {GREY}/ and {STATIC}")
    add("--output", type=Path, default=Path("build/mnist"), help="checkpoints, bundles, figures")
    add("--page", type=Path, default=Path("benchmarks/mnist.md"))
    add("--only", nargs="*", choices=[*(run.slug for run in RUNS), "nothing"], help="these runs (default: all)")
    add("--minutes", type=float, default=30, help="of each run's fit; the evaluation comes on top")
    add("--full", action="store_true", help="the whole schedule in the place of the minutes")
    add("--test-images", type=_several, default=10000, metavar="N", help="of the 10,000, chosen by the seed")
    add("--draws", type=_several, default=5000, metavar="K", help="of the bound")
    add("--threads", type=int, choices=range(1, 257), default=2, metavar="N", help="CPU threads")
    add("--seed", type=int, default=0)
    return parser


def _several(text: str) -> int:
    if int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text} is too small: at least 2")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
