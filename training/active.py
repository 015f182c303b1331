"""
Active latents: those that the encoder tells anything by.

Burda et al. 2016, section 5.2. The one place for it: the fit's log, the evaluation and the report speak of the same.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

LEAST_VARIANCE: Final = 0.01
"""Of E[z_j given x] over rows, where the prior's variance is about 1."""


def are_active(variance: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which latents are, by the variance of their posterior mean over rows, Var_x(mu_j): (L,) -> (L,)."""
    active: NDArray[np.bool_] = variance > LEAST_VARIANCE
    return active
