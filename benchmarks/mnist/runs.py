"""
The four runs, and how each is fitted: objective and binarisation, the stages of its fit as `vae-train` commands.

Burda et al. 2016: 784-200-200-50, tanh, Bernoulli, one stochastic layer. Knows neither clocks nor figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

Objective = Literal["vae", "iwae"]

DRAWS: Final = 50
"""K of the IWAE."""

EPOCHS: Final = 3280
"""Of the whole ladder: 3^i epochs at 10^(-i/7) of the first learning rate, i = 0 to 7."""

_NETWORK: Final = (
    *("--likelihood", "bernoulli", "--hidden", "200,200", "--latent-dim", "50", "--activation", "tanh"),
    *("--validation", "0.02", "--calibration", "0", "--test", "0", "--patience", "1000000"),
)
_FULL: Final = (
    *("--epochs", str(EPOCHS), "--schedule", "ladder", "--learning-rate", "1e-3", "--adam-epsilon", "1e-4"),
    *("--batch-size", "20", "--warmup-epochs", "0", "--device", "auto"),
)
_TIMED: Final = ("--epochs", "1000000", "--device", "cpu")


class Part(NamedTuple):
    """A stage of a timed fit: its *share* of the minutes, its *draws*, and how it goes."""

    name: str
    share: float
    draws: int
    options: tuple[str, ...]


_FIRST: Final = ("--batch-size", "200", "--learning-rate", "4e-3", "--warmup-epochs", "5")
_LAST: Final = ("--batch-size", "50", "--learning-rate", "5e-4", "--warmup-epochs", "0", "--gradient-draws", "4")
_PARTS: Final[dict[Objective, tuple[Part, ...]]] = {
    "vae": (Part("", 1, 1, _FIRST),),
    "iwae": (Part("-1", 0.4, 1, _FIRST), Part("", 0.6, DRAWS, _LAST)),
}
"""Most of what an IWAE has to learn is what a VAE has to, in a twentieth of the time a step; so it begins as one, to
the end of that one's schedule."""


class Run(NamedTuple):
    """*published*: L_5000 of the same network, by whom."""

    objective: Objective
    binarisation: Literal["dynamic", "static"]
    published: str

    @property
    def slug(self) -> str:
        """Its name on the command line and of its files."""
        return f"{self.objective}-{self.binarisation}"

    @property
    def words(self) -> str:
        """Its name in a table."""
        return f"{'VAE' if self.objective == 'vae' else f'IWAE-{DRAWS}'}, {self.binarisation}"


RUNS: Final = (
    Run("vae", "dynamic", "-86.76 (Burda), -86.35 (nbip)"),
    Run("iwae", "dynamic", "-84.78 (Burda), -84.59 (nbip)"),
    Run("vae", "static", "-88.71 (Burda), -89.93 (nbip)"),
    Run("iwae", "static", "-87.10 (Burda), -86.71 (nbip)"),
)


class Stage(NamedTuple):
    """One fit of a run: its *name*, that of its files, and the options of `vae-train fit`."""

    name: str
    options: tuple[str, ...]

    def checkpoint(self, folder: Path) -> Path:
        """What the fit leaves."""
        return folder / f"{self.name}.npz"

    def command(self, folder: Path, data: Path, seed: int, threads: int) -> list[str]:
        """`vae-train`'s words: begin, or go on."""
        files = ("--output", folder / "models" / self.name, "--checkpoint", self.checkpoint(folder))
        words = ("--data", data, *files, "--log", folder / f"{self.name}.jsonl", "--seed", seed, "--threads", threads)
        return ["fit", *map(str, words), *self.options, "--resume"]


def stages(run: Run, minutes: float | None, folder: Path) -> Sequence[Stage]:
    """
    The fits of *run*, each from the weights of the one before; their minutes add to *minutes*.

    None: the whole ladder, in one fit, with the objective of *run* from its first step on.
    """
    network = (*_NETWORK, "--binarize", "dynamic" if run.binarisation == "dynamic" else "none")
    parts = _PARTS[run.objective]
    if minutes is None:
        return [Stage(f"{run.slug}-full", (*network, *_FULL, "--importance-samples", str(parts[-1].draws)))]
    found: list[Stage] = []
    for part in parts:
        start = ("--start", str(found[-1].checkpoint(folder))) if found else ()
        time = ("--minutes", f"{part.share * minutes:g}")
        draws = ("--importance-samples", str(part.draws))
        found.append(Stage(f"{run.slug}{part.name}", (*network, *_TIMED, *part.options, *draws, *time, *start)))
    return found
