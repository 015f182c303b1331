"""
What a row of the model is, and the checks that make an array of rows trustworthy.

Shape, type and finiteness for every operation; the likelihood's support only where a likelihood is evaluated.
Knows the manifest; nothing of JSON or any other wire format.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidInput, TooLarge, counted
from service.finite import SMALL, all_finite
from service.manifest import Manifest

Array = NDArray[np.generic]

MAX_LATENT = 1e6  # standard deviations of the prior: far beyond any use, and no decoder overflows


@dataclass(frozen=True)
class Support:
    """The values that the likelihood of feature *index* has a density for."""

    index: int
    name: str
    kind: str
    low: float
    high: float


@dataclass(frozen=True)
class RowSpec:
    """
    One field of rows: its name in the request, the shape and dtype of a row, and the support of its features.

    *bound*: what no value may pass, beside the dtype.
    """

    field: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    supports: tuple[Support, ...] = ()
    bound: float = math.inf

    @classmethod
    def inputs(cls, manifest: Manifest) -> Self:
        """The rows that clients send: x."""
        names = manifest.inputs.names
        supports = []
        for likelihood in manifest.likelihood:
            if likelihood.support == "real":
                continue
            for index, name in enumerate(names):
                if likelihood.columns is None or name in likelihood.columns:
                    low = -np.inf if likelihood.low is None else likelihood.low
                    high = np.inf if likelihood.high is None else likelihood.high
                    supports.append(Support(index, name, likelihood.support, low, high))
        return cls("inputs", manifest.inputs.shape, np.dtype(manifest.inputs.dtype), tuple(supports))

    @classmethod
    def latents(cls, manifest: Manifest) -> Self:
        """Latent vectors: z."""
        return cls("latents", (manifest.latent.dim,), np.dtype(np.float32), bound=MAX_LATENT)

    @cached_property
    def lists(self) -> int:
        """How many lists a row is in JSON: itself, and those in it."""
        return sum(math.prod(self.shape[:depth]) for depth in range(len(self.shape)))

    def check_count(self, rows: int, least: int, most: int) -> None:
        """Raise for fewer rows than *least* (InvalidInput) or more than *most* (TooLarge)."""
        if rows > most:
            raise TooLarge(
                f"{self.field} has {rows} rows; one request may have {most}", field=self.field, limit=most, value=rows
            )
        if rows < least:
            raise InvalidInput(
                f"{self.field} has {counted(rows, 'row')}; at least {least} needed",
                field=self.field,
                limit=least,
                value=rows,
            )

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise InvalidInput where an array of *shape* is not rows of this shape."""
        if not shape or shape[1:] != self.shape:
            want = ", ".join(map(str, ("n", *self.shape)))
            raise InvalidInput(
                f"{self.field} has the shape {list(shape)}; [{want}] needed", field=self.field, value=list(shape)
            )

    def cast(self, values: Array) -> Array:
        """
        *values* (n, *shape) of any real dtype as the graphs take them; the same array where nothing has to change.

        Floating-point numbers are rounded to the dtype, integers must be exact in it. Raises InvalidInput naming the
        first row that holds a NaN, an infinity or a number beyond dtype or *bound*.
        """
        if values.size <= SMALL and values.dtype.char in "fd":
            flat: NDArray[Any] = values.ravel(order="K")
            if float(np.vdot(flat, flat)) < self._limit * self._limit:  # then no element is beyond the limit, or NaN
                return values.astype(self.dtype, order="C", copy=False)
        if values.dtype == self.dtype and values.flags.c_contiguous:
            rows = values
        else:
            with np.errstate(over="ignore"):
                rows = values.astype(self.dtype, order="C")
            if values.dtype.kind in "iu":
                self._check_exact(values)
        if self.bound == math.inf and all_finite(rows):
            return rows
        good = np.isfinite(rows) if self.bound == math.inf else np.abs(rows) <= self.bound  # False for NaN
        if not good.all():
            row, *where = (int(i) for i in np.argwhere(~good)[0])
            value = values[(row, *where)].item()
            limit = self._limit
            what = f"is beyond +-{limit:.4g}" if np.isfinite(value) else "is not finite"
            raise InvalidInput(
                f"{self.field}: row {row}, position {where} holds {value}, which {what}",
                field=self.field,
                row=row,
                limit=limit,
                value=str(value),
            )
        return rows

    @cached_property
    def _limit(self) -> float:
        """What no value may pass: *bound*, or the largest number of the dtype."""
        return min(self.bound, float(np.finfo(self.dtype.name).max))

    def _check_exact(self, values: Array) -> None:
        """Raise InvalidInput for the first integer that the dtype would round."""
        most = 2 ** (np.finfo(self.dtype.name).nmant + 1)
        if np.iinfo(values.dtype.name).max <= most:
            return
        if (bad := (values > most) | (values < -most)).any():
            row, *where = (int(i) for i in np.argwhere(bad)[0])
            value = values[(row, *where)].item()
            raise InvalidInput(
                f"{self.field}: row {row}, position {where} holds {value}; whole numbers are exact in "
                f"{self.dtype.name} up to {most}",
                field=self.field,
                row=row,
                limit=most,
                value=value,
            )

    def outside(self, rows: Array) -> tuple[int, str] | None:
        """The first row with a value outside the likelihood's support, and the reason; None when there is none."""
        if not self.supports:
            return None
        flat = rows.reshape(len(rows), -1)
        index = np.array([support.index for support in self.supports])
        low = np.array([support.low for support in self.supports])
        high = np.array([support.high for support in self.supports])
        whole = np.array([support.kind in ("binary", "count", "index") for support in self.supports])
        values = flat[:, index].astype(np.float64)
        bad = (values < low) | (values > high) | (whole & (values != np.floor(values)))
        if not bad.any():
            return None
        row, column = (int(i) for i in np.argwhere(bad)[0])
        support = self.supports[column]
        kind = "whole numbers" if whole[column] else "numbers"
        return row, (
            f"feature {support.name!r} is {values[row, column]}; its likelihood is defined for {kind} "
            f"from {support.low:g} to {support.high:g}"
        )

    def check_support(self, rows: Array) -> None:
        """Raise InvalidInput for the first row outside the likelihood's support."""
        if found := self.outside(rows):
            row, reason = found
            raise InvalidInput(f"{self.field}: row {row}: {reason}", field=self.field, row=row)
