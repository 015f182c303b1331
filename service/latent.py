"""
The latent space: noise, truncation, straight lines and great circles.

Pure functions on arrays; randomness only from a seed. Knows nothing of models, batches or HTTP. L latents.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

MAX_SEED = 2**53 - 1  # the largest integer that JavaScript, and so any JSON client, keeps exactly
_CLOSE = 1e-4  # radians: nearer than this to 0 or pi, sin(omega) has lost the digits that slerp divides by


def noise(seed: int, *shape: int) -> Floats:
    """Standard normal draws, float32; the same *seed* and *shape* give the same draws (Philox, numpy's ziggurat)."""
    return np.random.Generator(np.random.Philox(seed)).standard_normal(shape, np.float32)


def truncated_noise(seed: int, bound: float, *shape: int) -> Floats:
    """
    Draws of a standard normal confined to [-bound, bound], float32, by inverse CDF: a fixed cost, no rejection.

    z = Phi^-1(Phi(-a) + u (Phi(a) - Phi(-a))); its variance is 1 - 2 a phi(a) / (2 Phi(a) - 1).
    """
    low = 0.5 * math.erfc(bound / math.sqrt(2))
    u = np.random.Generator(np.random.Philox(seed)).random(shape)
    return np.clip(normal_quantile(low + u * (1 - 2 * low)), -bound, bound).astype(np.float32)


def uniforms(seed: int, *shape: int) -> Floats:
    """Draws from [0, 1), float32; the first rows of more are those of fewer."""
    return np.random.Generator(np.random.Philox(seed)).random(shape, np.float32)


def choices(seed: int, count: int) -> Floats:
    """Draws from [0, 1), (count,) float32, that do not depend on the normal draws of the same *seed*."""
    return np.random.Generator(np.random.Philox(seed).jumped()).random(count, np.float32)


def lerp(start: Floats, stop: Floats, alphas: NDArray[np.float64]) -> Floats:
    """The straight line: (L,), (L,), (S,) -> (S, L). The ends are returned as they came, to the bit."""
    t = alphas[:, None]
    return _with_ends((1 - t) * start + t * stop, start, stop, alphas)


def slerp(start: Floats, stop: Floats, alphas: NDArray[np.float64]) -> tuple[Floats, bool]:
    """
    The great circle between the directions, with the norm interpolated by itself: (L,), (L,), (S,) -> (S, L).

    omega = 2 atan2(|a - b|, |a + b|) for unit vectors a and b, accurate near 0 and pi where arccos is not.
    White 2016, "Sampling generative networks", section 2.1, equals this for equal norms.
    Special cases: a zero vector, or opposite ones on a line (L = 1): lerp. Nearly the same direction: lerp, then
    the norm. Nearly opposite: the great circle is not defined; a fixed one is taken, by way of the axis on which
    *start* is smallest, and the second result is True.
    """
    a, b = start.astype(np.float64), stop.astype(np.float64)
    norm_a, norm_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if norm_a == 0 or norm_b == 0:
        return lerp(start, stop, alphas), False
    a, b = a / norm_a, b / norm_b
    omega = 2 * math.atan2(float(np.linalg.norm(a - b)), float(np.linalg.norm(a + b)))
    t = alphas[:, None]
    degenerate = math.pi - omega < _CLOSE
    if degenerate and len(a) == 1:
        return lerp(start, stop, alphas), True
    if degenerate:
        side = np.zeros_like(a)
        side[np.argmin(np.abs(a))] = 1.0
        side -= (side @ a) * a
        side /= np.linalg.norm(side)
        path = np.cos(t * math.pi) * a + np.sin(t * math.pi) * side
    elif omega < _CLOSE:
        path = (1 - t) * a + t * b
        path /= np.linalg.norm(path, axis=1, keepdims=True)
    else:
        path = (np.sin((1 - t) * omega) * a + np.sin(t * omega) * b) / math.sin(omega)
    path *= (1 - t) * norm_a + t * norm_b
    return _with_ends(path, start, stop, alphas), degenerate


def normal_quantile(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Phi^-1, elementwise for 0 < p < 1: Wichura 1988, algorithm AS 241 (PPND16), relative error 1e-16."""
    q = p - 0.5
    tail = np.sqrt(-np.log(np.minimum(p, 1 - p)))
    center = _ratio(0.180625 - q * q, _A, _B) * q
    near = _ratio(tail - 1.6, _C, _D)
    far = _ratio(tail - 5.0, _E, _F)
    return np.where(np.abs(q) <= 0.425, center, np.copysign(np.where(tail <= 5, near, far), q))


def _with_ends(path: NDArray[np.float64], start: Floats, stop: Floats, alphas: NDArray[np.float64]) -> Floats:
    out = path.astype(np.float32)
    out[alphas == 0] = start
    out[alphas == 1] = stop
    return out


def _ratio(r: NDArray[np.float64], above: tuple[float, ...], below: tuple[float, ...]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = np.polyval(above, r) / np.polyval(below, r)
    return ratio


# AS 241's coefficients, highest power first
_A = (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
      13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608)  # fmt: skip
_B = (5226.495278852545925, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
      5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1.0)  # fmt: skip
_C = (7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258,
      3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734)  # fmt: skip
_D = (1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459,
      0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1.0)  # fmt: skip
_E = (2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386, 0.026532189526576123093,
      0.29656057182850489123, 1.7848265399172913358, 5.4637849111641143699, 6.6579046435011037772)  # fmt: skip
_F = (2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.868691311456132591e-4,
      0.0148753612908506148525, 0.13692988092273580531, 0.59983220655588793769, 1.0)  # fmt: skip
