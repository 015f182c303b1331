"""
Quantiles and draws of counts, in a fixed number of steps and in operators that ONNX has.

Neither has a closed form. What stands here for one is measured in tests, and in decision 14.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from training.likelihoods.likelihood import NORMAL_95, TAILS
from training.likelihoods.special import exact_softplus, log_gamma, standard_normal

_STEPS: Final = 4
_MOST_STEP: Final = 4.0
_LEAST_LOG_SHAPE: Final = math.log(0.05)
_FEW: Final = 12.0  # rates up to here are drawn from a table
_TABLE: Final = 48  # counts in it; P(x > 47 | rate 12) is 1e-14
_RAISE: Final = 8  # by how much the shape is raised before a gamma variate is drawn from its expansion


def count_interval(log_mean: Tensor, log_shape: Tensor) -> tuple[Tensor, Tensor]:
    """
    The central 95 % interval of negative binomials: (B, C), (B, C) -> lower, upper, (B, C) each, whole numbers.

    P(X <= x) is taken as that of N(0, 1) below w + log(s / w) / w, with w the signed root of the deviance of x + 1/2
    and s its continuity-corrected Wald statistic (Barndorff-Nielsen 1986; Daniels 1987). The x where that is +-1.96 is
    found by Newton's method in log x, a fixed number of steps, each few nodes. Where that much is at 0 the end is 0,
    exactly. A shape below 0.05 is taken as 0.05.
    """
    log_shape = log_shape.clamp(min=_LEAST_LOG_SHAPE)
    mean, shape = log_mean.exp(), log_shape.exp()
    sign = torch.tensor([-1.0, 1.0], dtype=log_mean.dtype, device=log_mean.device).reshape(2, 1, 1)
    spread = 2 * (1 / mean.clamp(min=1e-30) + 1 / shape).sqrt()  # two standard deviations, over the mean
    away = (1 + spread + spread.square() / 8).log()  # of log x, from that of the mean
    for _ in range(_STEPS):
        x = (log_mean + sign * away).exp()  # (2, B, C)
        beyond = x - mean
        saddle = _log1p(shape * beyond / (mean * (shape + x)))  # log(x (r + m) / (m (r + x)))
        deviance = 2 * (x * saddle - shape * _log1p(beyond / (mean + shape)))
        w = deviance.clamp(min=1e-6).sqrt()
        wald = 2 * torch.sinh(saddle.abs() / 2) * (x + x * x / shape).sqrt()
        z = w + (wald / w).clamp(min=1e-6).log() / w
        slope = (x * saddle.abs() / w).clamp(min=1e-6)
        away = (away + ((NORMAL_95 - z) / slope).clamp(-_MOST_STEP, _MOST_STEP)).clamp(min=1e-4)
    ends = ((log_mean + sign * away).exp() - 0.5).ceil().clamp(min=0)
    zero = (-shape * exact_softplus(log_mean - log_shape)).exp()  # P(X = 0)
    lower, upper = (torch.where(zero >= tail, torch.zeros_like(zero), ends[i]) for i, tail in enumerate(TAILS))
    return lower, upper


def _log1p(x: Tensor) -> Tensor:
    """log(1 + x) to the digits of x, in few nodes; within +-16, where the ratio is 1 in float32."""
    return 2 * torch.atanh((x / (2 + x)).clamp(-1 + 1e-7, 1 - 1e-7))


def poisson_draw(log_rate: Tensor, u: Tensor) -> Tensor:
    """
    A Poisson variate of three uniform numbers: (B, C), (B, 3 or more, C) -> (B, C).

    Rates up to 12 by their table; larger ones as the Cornish-Fisher expansion of the quantile at a normal variate
    (Giles 2016), of the orders rate^(1/2) to rate^(-1).
    """
    x = torch.arange(_TABLE, dtype=log_rate.dtype, device=log_rate.device)
    few = log_rate.clamp(max=math.log(_FEW)).unsqueeze(-1)
    cumulated = (x * few - few.exp() - log_gamma(x + 1)).exp().cumsum(dim=-1)
    by_table = (cumulated <= u[:, 0].unsqueeze(-1)).to(log_rate.dtype).sum(dim=-1)
    w = standard_normal(u[:, 1], u[:, 2])
    root = (log_rate.clamp(min=math.log(_FEW)) / 2).exp()
    square = w.square()
    many = root * (root + w) + (1 / 3 + square / 6) - w * (1 / 36 + square / 72) / root
    many = many + (-8 / 405 + square * (7 / 810 + square / 270)) / root.square()
    return torch.where(log_rate < math.log(_FEW), by_table, many.floor())


def gamma_draw(log_shape: Tensor, u: Tensor) -> Tensor:
    """
    Log of a gamma variate of mean 1: (C,), (B, 10 or more, C) -> (B, C).

    A variate of the shape r + 8 by the Cornish-Fisher expansion of its quantile at a normal variate, of the orders
    r^(1/2) to r^(-3/2), made one of shape r by eight factors U^(1 / (r + i)).
    """
    shape = log_shape.exp()
    raised = shape + _RAISE
    root = raised.sqrt()
    w = standard_normal(u[:, 0], u[:, 1])
    square = w.square()
    value = raised + root * w + (square - 1) / 3 + w * (square - 7) / (36 * root)
    value = value - (square * (3 * square + 7) - 16) / (810 * raised)
    value = value + w * (square * (9 * square + 256) - 433) / (38880 * raised * root)
    lowered = shape + torch.arange(_RAISE, dtype=shape.dtype, device=shape.device).unsqueeze(-1)  # (8, C)
    factors = ((1 - u[:, 2 : 2 + _RAISE]).log() / lowered).sum(dim=1)
    return value.clamp(min=1e-6).log() - log_shape + factors
