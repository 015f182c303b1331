"""
Whether the rows that are scored are still like the calibration rows: a conformal test martingale.

Each row is ranked among the calibration rows and the rows scored before it. As long as all are exchangeable, these
ranks are independent and uniform, and no way of betting against that wins (Vovk, Gammerman & Shafer 2005, section 8.1);
ranked among the calibration rows alone they all depend on how these happened to fall, and a bet wins in the end.
The bets are those of the Simple Jumper, and what is told is how much they have won since they had won least, as in
Page's CUSUM (Vovk et al. 2021, "Retrain or not retrain", algorithm 1 and section 4). Knows p-values; no rows.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.bundle import Bundle
from service.calibrated import ALL, Calibrated

Floats = NDArray[np.float64]

MOST_ROWS: Final = 256
"""Rows that are looked at for each telling, 0.3 ms; of more that many are taken, evenly."""

_CELLS = 1000
_JUMP = 0.01  # J of the Simple Jumper: how much of the capital is dealt out anew before each bet
_TIED = 2e-5  # of a score: equal calibration rows are kept no further apart, see training/calibrate.py
_BLOCK = 64


class Drift:
    """
    The bets against rows like those of *calibration*, (n,) ascending scores of *entry*; *seed*: of ties.

    Scores are told apart by cells between calibration scores, at most 1,000, and within a cell by chance: coarser, and
    as exact for scores of which no two are equal. Equal calibration scores are tied with what falls between them; one
    that equals no other is taken for the boundary of two cells, which is nearly right where others will equal it.
    """

    def __init__(self, entry: Calibrated, calibration: Floats, seed: int | None = None) -> None:
        n = len(calibration)
        apart = np.diff(calibration) > _TIED * np.maximum(1.0, np.abs(calibration[1:]))
        cell = np.append(0, np.cumsum(np.append(apart, True)))  # of a score above i of the n, for i = 0 to n
        self.entry = entry
        self._cell = cell * min(_CELLS, cell[-1] + 1) // (cell[-1] + 1)
        alone = np.append(True, apart) & np.append(apart, True)
        between = alone & (self._cell[:-1] != self._cell[1:])  # above all in the one cell, and below all in the next
        own, cells = self._cell[:n], self._cell[-1] + 1
        self._counts = np.bincount(own[~between], minlength=cells)  # rows in each cell, scored ones from now on
        self._bounds = np.bincount(own[between], minlength=cells)[::-1].cumsum()[::-1]  # of it, and of those above
        self._rng = np.random.default_rng(seed)
        self._seen: list[Floats] = []
        self._shares = 1 / 3, 1 / 3, 1 / 3  # of the capital, bet on large ranks, on nothing, on small ones
        self._log = 0.0

    @classmethod
    def of(cls, bundle: Bundle) -> Drift | None:
        """
        Of the default score of complete rows.

        None where these are not exchangeable with one set of calibration rows: windows overlap, groups have their own,
        and members of an ensemble rank each its own fold.
        """
        manifest = bundle.manifest
        if manifest.inputs.windows is not None or manifest.groups is not None:
            return None
        score = manifest.scoring.kind, manifest.scoring.samples, ALL, 0
        for entry in manifest.calibrated:
            if (entry.kind, entry.samples, entry.group, entry.mask_bin) == score and not entry.folds:
                return cls(entry, np.asarray(bundle.calibration[entry.key], np.float64))
        return None

    def saw(self, p_values: Floats) -> None:
        """Rows were scored; their p-values among the calibration rows, in the order in which they came: (B,)."""
        self._seen.append(p_values)

    def log_martingale(self) -> float:
        """
        Ln of what the bets have won since they had won least, of all rows seen: 0 or more.

        Where all rows are exchangeable it comes to ln c once in c rows or less often, on average (ibid., section 4).
        """
        if self._seen:
            p = np.concatenate(self._seen)
            self._seen.clear()
            if len(p) > MOST_ROWS:
                p = p[np.linspace(0, len(p) - 1, MOST_ROWS).astype(np.int64)]
            for start in range(0, len(p), _BLOCK):
                self._bet(self.ranks(p[start : start + _BLOCK]))
        return self._log

    def ranks(self, p_values: Floats) -> Floats:
        """
        The p-values among all rows so far, ties by chance, of rows with these among the calibration rows: (B,) -> (B,).

        Each is among those rows for the next. Independent and uniform where all are exchangeable.
        """
        n = len(self._cell) - 1
        cell = self._cell[n + 1 - np.rint(p_values * (n + 1)).astype(np.int64)]
        earlier = np.tri(len(cell), k=-1, dtype=np.bool_)
        as_high = self._counts[::-1].cumsum()[::-1]  # rows in this cell and those above
        above = as_high[cell] - self._counts[cell] + self._bounds[cell] + ((cell > cell[:, None]) & earlier).sum(axis=1)
        tied = self._counts[cell] + ((cell == cell[:, None]) & earlier).sum(axis=1)
        before = as_high[0] + self._bounds[0] + np.arange(len(cell))
        self._counts += np.bincount(cell, minlength=len(self._counts))
        ranks: Floats = (above + self._rng.random(len(cell)) * (tied + 1)) / (before + 1)
        return ranks

    def _bet(self, ranks: Floats) -> None:
        """1 + e (p - 1/2) for e = 1, 0 and -1, with a share of the capital each."""
        large, none, small = self._shares
        for p in ranks.tolist():
            large = (large + _JUMP * (1 / 3 - large)) * (0.5 + p)
            none += _JUMP * (1 / 3 - none)
            small = (small + _JUMP * (1 / 3 - small)) * (1.5 - p)
            won = large + none + small
            large, none, small = large / won, none / won, small / won
            self._log = max(0.0, self._log + math.log(won))
        self._shares = large, none, small
