"""The section of the page, from figures as they are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks.mnist.runs import RUNS, Run
from benchmarks.serving.tables import table

SECTION: Final = "mnist"

EMPTY: Final = f"# MNIST\n\n<!-- begin {SECTION} -->\n<!-- end {SECTION} -->\n"

Figures = Mapping[str, Any]


def results(kept: Sequence[Figures]) -> str:
    """A row a run and, below, what each cost and the commands that made it."""
    parts = []
    for full, title in ((False, "By the clock"), (True, "The whole schedule")):
        found = {one["run"]: one for one in kept if one["full"] == full}
        if found or not full:
            rows = [_row(run, found.get(run.slug)) for run in RUNS]
            parts += [f"### {title}", table(_head(list(found.values())), rows), *map(_said, found.values())]
    return "\n\n".join(parts)


def _head(found: Sequence[Figures]) -> list[str]:
    draws = "/".join(str(k) for k in sorted({one["draws"] for one in found})) or "5000"
    return ["run", "minutes of fit", "epochs (kept)", f"L_{draws}", "ELBO", "active latents", "published L_5000"]


def _row(run: Run, one: Figures | None) -> list[str]:
    if one is None:
        return [run.words, "not run yet", "", "", "", "", run.published]
    minutes = sum(fit["seconds"] for fit in one["fits"]) / 60
    epochs = " + ".join(f"{fit['epochs']:,} ({fit['best_epoch']:,})" for fit in one["fits"])
    return [
        run.words,
        f"{minutes:.1f}",
        epochs,
        _figure(one["log_px"]),
        _figure(one["elbo"]),
        f"{one['active_units']} of {one['latents']}",
        run.published,
    ]


def _said(one: Figures) -> str:
    """What the figures of a run depend on, and its commands."""
    run = next(run for run in RUNS if run.slug == one["run"])
    lines = [f"vae-train {' '.join(command)}" for command in one["commands"]]
    where = f"{one['date']}, {one['machine']}, fit on {one['fits'][-1]['device']}, {one['threads']} threads"
    cost = f"took {one['evaluation_s'] / 60:.1f} minutes; the load average before it was {one['load']:.1f}"
    head = f"**{run.words}**, {where}, seed {one['seed']}. L_{one['draws']} of {one['images']:,} test images {cost}."
    return f"{head}\n\n```sh\n" + "\n".join(lines) + "\n```"


def _figure(figure: Mapping[str, float]) -> str:
    return f"{figure['mean']:.2f} +- {figure['standard_error']:.2f}"
