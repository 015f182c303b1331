"""How the model learned: the ELBO and its parts by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.report.drawing import ALARM, DATA, INK, MODEL, MUTED, Inline, plot, within
from training.report.material import Material
from training.report.page import Key, Panel, Section, Verdict
from training.report.wording import number

Floats = NDArray[np.float64]

ID, TITLE = "learning", "Learning"


class _Bound(NamedTuple):
    """What was ascended: the names of its curves, what it is called in a title and in a sentence, and what it is."""

    train: str
    validation: str
    title: str
    name: str
    means: str = ""


def learning(material: Material, inline: Inline) -> Section:
    """The loss curves; missing without a log."""
    if not material.records:
        why = "no log of the epochs was given (--log fit-1.jsonl, as fit leaves it beside the bundle)"
        return Section(ID, TITLE, missing=why)
    by_epoch = {int(record["epoch"]): record for record in material.records}  # a resumed fit may repeat some
    records = [by_epoch[epoch] for epoch in sorted(by_epoch)]
    epochs = np.array(sorted(by_epoch), np.float64)
    bound = _bound_of(material, records)
    drawn = (bound.train, bound.validation, "reconstruction", "kl", "beta")
    curves = {name: _curve(records, name) for name in drawn}
    kept = _kept(material, epochs, curves[bound.validation])
    warm = epochs[curves["beta"] < 1]
    panels = []
    for title, names in (
        (bound.title, (bound.train, bound.validation)),
        ("Reconstruction, E log p(x|z)", ("reconstruction",)),
        ("KL(q(z|x) || p(z))", ("kl",)),
    ):
        figure, axes = plot(title, "epoch", "nats a row", left=0.55)
        if len(warm):
            axes.axvspan(0, warm.max(), color=MUTED, alpha=0.13, linewidth=0)
        for name in names:
            color = DATA if name == bound.train else MODEL
            axes.plot(epochs, curves[name], color=color, linewidth=1.3, marker="o" if len(epochs) == 1 else None)
        axes.axvline(epochs[kept], color=ALARM, linewidth=0.9, linestyle=(0, (3, 2)))
        within(axes, (0, epochs.max()), _telling([curves[name] for name in names]))
        value = curves[names[-1]][kept]
        axes.annotate(
            number(value),
            (epochs[kept], value),
            xytext=(-4 if epochs[kept] > epochs.max() / 2 else 4, -11),
            textcoords="offset points",
            ha="right" if epochs[kept] > epochs.max() / 2 else "left",
            fontsize=7.5,
            color=INK,
        )
        alt = f"{title} by epoch; {number(value)} nats at the kept epoch {epochs[kept]:.0f}"
        panels.append(Panel(inline(figure, alt)))
    keys: tuple[Key, ...] = (
        Key("data", "training rows, averaged while the weights changed"),
        Key("model", "validation rows"),
        Key("alarm", f"the kept epoch, {epochs[kept]:.0f}", "dash"),
    )
    if len(warm):
        keys += (Key("muted", "warm-up: the KL weighs less than 1", "area"),)
    look = (
        f"{bound.means}The validation {bound.name} should rise and level off; where it falls while training goes on "
        "rising, the model has begun to memorise. The weights of the best validation epoch were kept."
    )
    note = "The first epochs lie below the frame where they would flatten the rest."
    return Section(ID, TITLE, look, _verdicts(material, epochs, curves, kept, bound), keys, tuple(panels), note=note)


def _bound_of(material: Material, records: Sequence[Mapping[str, Any]]) -> _Bound:
    """The ELBO, or the bound of several importance samples: as `validation.criterion` decides, which needs PyTorch."""
    if not any("validation_bound" in record for record in records):
        return _Bound("train_elbo", "validation_elbo", "ELBO", "ELBO")
    options = material.manifest.training.get("options")
    draws = options.get("importance_samples") if isinstance(options, dict) else None
    known = isinstance(draws, int) and draws > 1
    of = f"{draws:,} draws" if known else "several draws"
    return _Bound(
        "train_bound",
        "validation_bound",
        f"Importance-weighted bound{f' (K = {draws})' if known else ''}",
        "bound",
        f"What was ascended is the importance-weighted bound of {of}; reconstruction and KL are the parts of the ELBO, "
        "which lies below it. ",
    )


def _verdicts(
    material: Material, epochs: Floats, curves: dict[str, Floats], kept: int, bound: _Bound
) -> tuple[Verdict, ...]:
    found = []
    gap = curves[bound.train][kept] - curves[bound.validation][kept]
    if math.isfinite(gap):
        size = f"{number(abs(gap), 2)} nats a row {'above' if gap >= 0 else 'below'}"
        found.append(Verdict(f"At the kept epoch the training {bound.name} is {size} the validation {bound.name}."))
    result = material.manifest.training.get("result")
    by_patience = isinstance(result, dict) and result.get("stopped") == "patience"
    if not by_patience and epochs[kept] >= epochs.max() - max(1, 0.02 * epochs.max()):
        found.append(Verdict("The best epoch is among the last: more epochs may still help.", "watch"))
    return tuple(found)


def _kept(material: Material, epochs: Floats, validation: Floats) -> int:
    """The place of the epoch whose weights were kept: what the manifest says, else the best there is."""
    result = material.manifest.training.get("result")
    best = result.get("best_epoch") if isinstance(result, dict) else None
    if isinstance(best, int) and best in epochs:
        return int(np.flatnonzero(epochs == best)[0])
    return int(np.nanargmax(validation)) if np.isfinite(validation).any() else 0


def _curve(records: Sequence[Any], name: str) -> Floats:
    """One figure of each record; NaN where a record has none, as a resumed or an odd log may."""
    values = [record.get(name) for record in records]
    return np.array([float(value) if isinstance(value, int | float) else math.nan for value in values])


def _telling(curves: list[Floats]) -> Floats:
    """The values that the frame is to show: those after the first tenth of the epochs."""
    late = np.concatenate([curve[len(curve) // 10 :] for curve in curves])
    finite = late[np.isfinite(late)]
    return finite if len(finite) else np.zeros(1)
