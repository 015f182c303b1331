"""
Quantiles and draws of counts, in a fixed number of steps and in operators that ONNX has.

Neither has a closed form. What stands here for one is measured in tests, and in decision 14.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from training.likelihoods.likelihood import NORMAL_95, TAILS
from training.likelihoods.special import exp_residual, log1p, log_gamma, standard_normal

_STEPS: Final = 6
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
    found by six steps of Newton's method in log x. Where that much is at 0 the end is 0, exactly. A shape below 0.05 is
    taken as 0.05.
    """
    log_shape = log_shape.clamp(min=_LEAST_LOG_SHAPE)
    sign = torch.stack([torch.full_like(log_mean, -1.0), torch.full_like(log_mean, 1.0)])
    relative = ((-log_mean).exp() + (-log_shape).exp()).sqrt()  # standard deviation over mean
    width = torch.log1p(2 * relative + 0.5 * relative.square())
    log_x = log_mean + sign * width  # (2, B, C)
    for _ in range(_STEPS):
        log_x = _newton(log_x, log_mean, log_shape, sign)
    ends = (log_x.exp() - 0.5).ceil().clamp(min=0)
    zero = (-log_shape.exp() * functional.softplus(log_mean - log_shape)).exp()  # P(X = 0)
    lower, upper = (torch.where(zero >= tail, torch.zeros_like(zero), ends[i]) for i, tail in enumerate(TAILS))
    return lower, upper


def _newton(log_x: Tensor, log_mean: Tensor, log_shape: Tensor, sign: Tensor) -> Tensor:
    shape = log_shape.exp()
    d = functional.softplus(log_x - log_shape) - functional.softplus(log_mean - log_shape)
    x = log_x.exp()
    saddle = log1p(shape * ((log_x - log_mean).exp() - 1) / (shape + x))  # log(x (r + m) / (m (r + x)))
    deviance = 2 * (x * exp_residual(-saddle) + shape * exp_residual(d))
    w = sign * deviance.clamp(min=1e-12).sqrt()
    wald = 2 * torch.sinh(saddle / 2) * (x + (2 * log_x - log_shape).exp()).sqrt()
    ratio = (wald / w).clamp(min=1e-12)
    z = w + ratio.log() / w
    slope = (x * saddle / w).clamp(min=1e-12)
    step = ((sign * NORMAL_95 - z) / slope).clamp(-_MOST_STEP, _MOST_STEP)
    moved = log_x + step
    away = sign * (moved - log_mean)  # the two ends stay on their sides of the mean, where w is not 0
    return torch.where(away > 1e-3, moved, log_mean + sign * 1e-3)


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
    total = value.clamp(min=1e-6).log() - log_shape
    for i in range(_RAISE):
        total = total + (1 - u[:, 2 + i]).log() / (shape + i)
    return total
