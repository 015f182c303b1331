"""
Special functions in operators that ONNX has, exact to the digits of their dtype: log-gamma and what cancels.

ONNX has no log-gamma, and its exporter writes expm1 and log1p as they are defined, so that small results lose their
digits. Each is tested against scipy, before and after export. Pure functions of tensors, element by element; the branch
of `where` that is not taken is finite, because its gradient is taken too.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

HALF_LOG_2_PI: Final = 0.5 * math.log(2 * math.pi)

_SHIFT: Final = 8  # from here on, four terms of the series are exact to 1e-10
_STIRLING: Final = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680)  # B_2n / (2n (2n - 1)); Abramowitz & Stegun 6.1.41


def log_gamma(x: Tensor) -> Tensor:
    """
    Log Gamma(x) for x > 0.

    Stirling's series from 8 on; below, log Gamma(x) = log Gamma(x + 8) - log(x (x + 1) ... (x + 7)).
    """
    low = x.clamp(max=_SHIFT)
    product = low
    for i in range(1, _SHIFT):
        product = product * (low + i)
    y = torch.where(x < _SHIFT, x + _SHIFT, x)
    whole = (y - 0.5) * y.log() - y + HALF_LOG_2_PI + _series(y)
    return whole - torch.where(x < _SHIFT, product.log(), torch.zeros_like(x))


def stirling_error(x: Tensor) -> Tensor:
    """
    Log Gamma(x + 1) - ((x + 1/2) log x - x + log(2 pi) / 2) for x > 0: what Stirling's formula leaves out.

    Loader 2000, "Fast and accurate computation of binomial probabilities". Of the size of 1 / (12 x), and not lost in a
    difference of large numbers: below 8 by the recurrence error(x) = error(x + 1) + (x + 1/2) log(1 + 1/x) - 1.
    """
    low = x.clamp(max=_SHIFT)
    total = torch.zeros_like(x)
    for i in range(_SHIFT):
        total = total + ((low + (i + 0.5)) * (1 + 1 / (low + i)).log() - 1)
    small = x < _SHIFT
    return _series(torch.where(small, x + _SHIFT, x)) + torch.where(small, total, torch.zeros_like(x))


def exp_residual(x: Tensor) -> Tensor:
    """exp(x) - 1 - x; by its series within 1/2 of 0, where the difference would cancel."""
    near = x.clamp(-0.5, 0.5)
    series = torch.ones_like(near)
    for n in range(9, 2, -1):
        series = 1 + near * series / n
    return torch.where(x.abs() < 0.5, 0.5 * near.square() * series, x.exp() - 1 - x)


def log1p(x: Tensor) -> Tensor:
    """log(1 + x) for x > -1; within 1/4 of 0 as 2 artanh(x / (2 + x)), by its series."""
    ratio = x.clamp(-0.25, 0.25) / (2 + x.clamp(-0.25, 0.25))
    square = ratio.square()
    series = 2 * ratio * (1 + square * (1 / 3 + square * (1 / 5 + square * (1 / 7 + square / 9))))
    return torch.where(x.abs() < 0.25, series, (1 + x).log())


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(-x)) for x > 0; below 1 as log x + log((1 - exp(-x)) / x), the latter by its series."""
    near = x.clamp(max=1)
    square = near.square()
    series = near.log() - near / 2 + square * (1 / 24 - square * (1 / 2880 - square * (1 / 181440 - square / 9676800)))
    return torch.where(x < 1, series, (1 - (-x.clamp(min=1)).exp()).log())


def standard_normal(u: Tensor, angle: Tensor) -> Tensor:
    """N(0, 1) of two uniform numbers from [0, 1), of any shape (Box & Muller 1958)."""
    return (-2 * (1 - u).log()).sqrt() * (2 * math.pi * angle).cos()


def _series(x: Tensor) -> Tensor:
    inverse = 1 / x
    square = inverse.square()
    a, b, c, d = _STIRLING
    return inverse * (a + square * (b + square * (c + square * d)))
