"""
The learning rate while a fit goes on, as a share of the first one. Pure functions.

`cosine`: half a cosine down to 2 % (Loshchilov & Hutter 2017, eq. 5, without restarts). `constant`: 1. `ladder`: 3^i
epochs at 10^(-i/7), i = 0, 1, ...; its first eight rungs are 3,280 epochs (Burda et al. 2016, section 5).
"""

from __future__ import annotations

import math
from typing import Final, Literal

Schedule = Literal["cosine", "constant", "ladder"]

FINAL_SHARE: Final = 0.02


def share(schedule: Schedule, epoch: float, done: float) -> float:
    """The share after *epoch* epochs, from 0; *done*: what part of the fit that is, 0 to 1."""
    if schedule == "constant":
        return 1.0
    if schedule == "ladder":
        return float(10 ** (-rung(math.floor(epoch)) / 7))
    return FINAL_SHARE + (1 - FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def rung(epoch: int) -> int:
    """The rung of an epoch, from 0: rung i begins after 1 + 3 + ... + 3^(i - 1) epochs."""
    i, end = 0, 1
    while epoch >= end:
        i += 1
        end += 3**i
    return i
