"""Ways through the latent space: prior draws, and pairs of rows with the straight line and the great circle between."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.latent import choices, lerp, noise, slerp
from training.report.drawing import plain
from training.report.material import Material
from training.report.page import Verdict

Floats = NDArray[np.float64]

ALPHAS: Final = np.linspace(0, 1, 9)


@dataclass(frozen=True)
class Path:
    """From *start* to *stop*, as they are called: (S, L) on the straight line and on the great circle."""

    start: str
    stop: str
    lerp: Floats
    slerp: Floats


def prior(material: Material, count: int) -> Floats:
    """Draws of the prior: (count, L), as the service's sample makes them of the seed."""
    eps = noise(material.seed, count, material.manifest.latent.dim)
    if material.manifest.latent.prior == "standard-normal":
        return eps.astype(np.float64)
    z: Floats = material.engine.run("prior", {"eps": eps, "u": choices(material.seed, count)})["z"].astype(np.float64)
    return z


def paths(material: Material, count: int = 3) -> list[Path]:
    """
    Ways between the means of pairs of held-out rows, of different classes where there are classes.

    Between prior draws where there are not enough rows.
    """
    mu, _ = material.posterior
    if len(mu) < 2:
        z = prior(material, 2 * count)
        ends = [(z[2 * i], z[2 * i + 1], "a prior draw", "another") for i in range(count)]
    else:
        ends = [(mu[i], mu[j], _name(material, i), _name(material, j)) for i, j in _pairs(material, count)]
    return [_path(start, stop, one, other) for start, stop, one, other in ends]


def norms(walks: list[Path], drawn: Floats) -> tuple[Verdict, ...]:
    """How far the middle of each kind of way is from the origin, beside draws of the prior, (n, L)."""
    middle = len(ALPHAS) // 2
    straight = float(np.mean([np.linalg.norm(walk.lerp[middle]) for walk in walks]))
    round_ = float(np.mean([np.linalg.norm(walk.slerp[middle]) for walk in walks]))
    text = (
        f"Halfway, the straight lines are {straight:.2f} from the origin and the great circles {round_:.2f}; "
        f"for draws of the prior the root mean square is {math.sqrt(np.square(drawn).sum(axis=1).mean()):.2f}."
    )
    return (Verdict(text),)


def _path(start: Floats, stop: Floats, one: str, other: str) -> Path:
    a, b = start.astype(np.float32), stop.astype(np.float32)
    circle, _ = slerp(a, b, ALPHAS)
    return Path(one, other, lerp(a, b, ALPHAS).astype(np.float64), circle.astype(np.float64))


def _pairs(material: Material, count: int) -> list[tuple[int, int]]:
    order = np.random.default_rng([material.seed, 12]).permutation(len(material.rows)).tolist()
    if material.classes is None or len(np.unique(material.classes)) < 2:
        return [(order[2 * i], order[2 * i + 1]) for i in range(min(count, len(order) // 2))]
    found: list[tuple[int, int]] = []
    while len(found) < count and len(order) > 1:
        first = order.pop(0)
        other = next((i for i in order if material.classes[i] != material.classes[first]), None)
        if other is not None:
            order.remove(other)
            found.append((first, other))
    return found


def _name(material: Material, row: int) -> str:
    return f"held-out row {row}" if material.classes is None else f"a {plain(str(material.classes[row]), 20)}"
