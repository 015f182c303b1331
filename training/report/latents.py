"""The latents: how much each carries, and where rows, classes and anomalies lie in them. L latents."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.active import LEAST_VARIANCE
from training.report.drawing import ALARM, CLASSES, INK, MODEL, MUTED, Inline, crosses, dots, plain, plot, within
from training.report.material import Material
from training.report.page import Key, Panel, Section, Verdict
from training.report.wording import number, percent

Floats = NDArray[np.float64]

_MOST_BARS = 64
_MOST_DOTS = 1200
_LITTLE = 0.5  # nats a row: less than one binary choice


def used(material: Material, inline: Inline) -> Section:
    """KL per latent as bars."""
    identity, title = "latents", "What the latents carry"
    if not len(material.rows):
        return Section(identity, title, missing="there are no held-out rows to measure the latents on")
    order, active, kl = material.order, set(material.active), material.kl
    shown = order[:_MOST_BARS]
    figure, axes = plot("KL of each latent", "latent, most informative first", "nats", width=4.4, height=2.1)
    places = np.arange(len(shown), dtype=np.float64)
    axes.bar(places, kl[shown], 0.72, color=[MODEL if j in active else ALARM for j in shown])
    within(axes, (-0.6, len(shown) - 0.4), (0, max(1e-3, float(kl.max()))), 0)
    step = max(1, len(shown) // 16)
    axes.set_xticks(places[::step], [f"z{j}" for j in shown[::step]])
    alt = "KL of each latent: " + ", ".join(f"z{j} {kl[j]:.2f}" for j in shown[:16]) + " nats"
    words = f"The {_MOST_BARS} most informative of {len(order)}." if len(order) > _MOST_BARS else ""
    look = (
        "The KL is what a latent tells of a row, in nats. A latent near 0 is ignored by the decoder: a few are "
        "harmless, "
        "all of them mean a collapsed model."
    )
    keys: tuple[Key, ...] = (
        Key("model", f"active: the variance of its mean over rows is above {LEAST_VARIANCE:g}", "dot"),
    )
    if len(active) < len(order):
        keys += (Key("alarm", "inactive", "dot"),)
    return Section(identity, title, look, activity(material), keys, (Panel(inline(figure, alt), words, "double"),))


def activity(material: Material) -> tuple[Verdict, ...]:
    """How many latents are active, and which are not; nothing without rows."""
    if not len(material.rows):
        return ()
    total, active = len(material.order), len(material.active)
    bits = f"together {number(float(material.kl.sum()))} nats a row"
    if not active:
        return (
            Verdict(f"None of the {total} latents is active: the model has collapsed to one average row.", "watch"),
        )
    if float(material.kl.sum()) < _LITTLE:
        return (Verdict(f"{active} of {total} latents are active, but {bits} is next to nothing.", "watch"),)
    if active == total:
        return (Verdict(f"All {total} latents are active, {bits}.", "good"),)
    idle = sorted(set(material.order) - set(material.active))
    names = ", ".join(f"z{j}" for j in idle[:6]) + (" …" if len(idle) > 6 else "")
    are = "is" if len(idle) == 1 else "are"
    return (
        Verdict(
            f"{len(idle)} of {total} latents {are} inactive ({names}); the others carry {bits}.",
            "good" if active >= total / 2 else "watch",
        ),
    )


def map_of(material: Material, inline: Inline) -> Section:
    """Held-out rows by their mean in the latent space, in two dimensions, by class."""
    identity, title = "map", "Map of the latent space"
    mu, _ = material.posterior
    if len(mu) < 3:
        return Section(identity, title, missing="there are fewer than three held-out rows to draw")
    strange, _ = material.encode(material.strange)
    colors, keys, names = _classes(material)
    views = _views(material, mu, strange)
    panels = []
    some = np.sort(np.random.default_rng([material.seed, 10]).permutation(len(mu))[:_MOST_DOTS])
    for head, x_name, y_name, at, far in views:
        figure, axes = plot(head, x_name, y_name, width=3.8, height=3.4)
        for color in dict.fromkeys(colors):
            chosen = some[np.array([colors[i] == color for i in some])]
            dots(axes, at[chosen, 0], at[chosen, 1], color, 3.2)
        if len(far):
            crosses(axes, far[:400, 0], far[:400, 1], ALARM)
        whole = np.concatenate([at, far])
        low, high = np.quantile(whole, [0.002, 0.998], axis=0)
        within(axes, (low[0], high[0]), (low[1], high[1]), 0.06)
        for name, rows in names.items():
            if len(rows):
                center = np.median(at[rows], axis=0)
                x, y = float(center[0]), float(center[1])
                axes.text(x, y, name, color=INK, fontsize=9, fontweight="bold", ha="center", va="center")
        alt = f"{head}: held-out rows by {x_name} and {y_name}"
        panels.append(Panel(inline(figure, alt), size="small" if len(views) > 1 else "double"))
    if len(strange):
        keys += (Key("alarm", "labelled anomalies", "cross"),)
    look = "Each dot is a held-out row at the mean of its posterior. Clusters and gaps are structure of the data."
    if material.classes is not None:
        look += " The model never saw the classes: where they lie apart, it found them by itself."
    if len(strange):
        look += " Anomalies in the middle of the crowd can be told only by how badly they are explained."
    return Section(identity, title, look, _separation(material, mu), keys, tuple(panels), note=_note(material, mu))


def _views(material: Material, mu: Floats, strange: Floats) -> list[tuple[str, str, str, Floats, Floats]]:
    """Each view: title, the names of its axes, coordinates of the rows and of the anomalies."""
    latents = mu.shape[1]
    if latents == 1:
        at, far = (np.column_stack([z[:, 0], s]) for z, s in zip((mu, strange), material.scores, strict=True))
        return [("The latent and the score", "z0", "score, nats", at, far)]
    if latents == 2:
        return [("The two latents", "z0", "z1", mu, strange)]
    center = mu.mean(axis=0)
    _, singular, axes = np.linalg.svd(mu - center, full_matrices=False)
    share = np.square(singular) / max(float(np.square(singular).sum()), 1e-300)
    # a sign that does not depend on LAPACK
    turned = axes[:2] * np.where(axes[:2].sum(axis=1, keepdims=True) < 0, -1, 1)
    names = (f"first, {percent(share[0])} of the variance", f"second, {percent(share[1])}")
    i, j = material.order[:2]
    components = ((mu - center) @ turned.T, (strange - center) @ turned.T)
    return [
        ("Principal components of the means", *names, *components),
        ("The two most informative latents", f"z{i}", f"z{j}", mu[:, [i, j]], strange[:, [i, j]]),
    ]


def _classes(material: Material) -> tuple[list[str], tuple[Key, ...], dict[str, NDArray[np.int64]]]:
    """The colour of each row, what the colours mean, and the rows of each class by its mark: its name, if short."""
    if material.classes is None:
        return [MODEL] * len(material.rows), (Key("model", "held-out normal rows", "dot"),), {}
    values, place, count = np.unique(material.classes, return_inverse=True, return_counts=True)
    ranked = sorted(np.argsort(-count, kind="stable")[: len(CLASSES)].tolist())
    color = {c: CLASSES[n] for n, c in enumerate(ranked)}
    words = [plain(str(values[c]), 24) for c in ranked]
    short = [chr(ord("A") + n) if max(map(len, words)) > 4 else word for n, word in enumerate(words)]
    texts = [word if word == mark else f"{mark}: {word}" for mark, word in zip(short, words, strict=True)]
    keys = tuple(Key(f"class{n}", text, "dot") for n, text in enumerate(texts))
    if len(values) > len(ranked):
        keys += (Key("muted", f"{len(values) - len(ranked):,} smaller classes", "dot"),)
    names = {mark: np.flatnonzero(place == c) for mark, c in zip(short, ranked, strict=True)}
    return [color.get(int(c), MUTED) for c in place], keys, names


def _separation(material: Material, mu: Floats) -> tuple[Verdict, ...]:
    """How often the nearest other row is of the same class, beside what chance would give."""
    if material.classes is None:
        return ()
    _, place, count = np.unique(material.classes, return_inverse=True, return_counts=True)
    if len(count) < 2:
        return ()
    square = np.square(mu).sum(axis=1)
    distance = square[:, None] + square - 2 * mu @ mu.T
    np.fill_diagonal(distance, np.inf)
    same = float((place[distance.argmin(axis=1)] == place).mean())
    chance = float((count * (count - 1)).sum() / (len(mu) * (len(mu) - 1)))
    text = (
        f"The nearest neighbour in the latent space is of the same class for {percent(same)} of rows; "
        f"by chance it would be for {percent(chance)}."
    )
    return (Verdict(text, "good" if same > 2 * chance or same > 0.9 else "plain"),)


def _note(material: Material, mu: Floats) -> str:
    parts = []
    if len(mu) > _MOST_DOTS:
        parts.append(f"{_MOST_DOTS:,} of {len(material.x):,} rows are drawn.")
    if len(material.strange) > 400:
        parts.append(
            f"400 of {len(material.anomalies if material.anomalies is not None else ()):,} anomalies are drawn."
        )
    parts.append("The outermost fifth of a per cent of the rows lies outside the frame.")
    return " ".join(parts)
