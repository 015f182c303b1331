"""
What a row of the model is, and the checks that make an array of rows trustworthy.

Shape, type and finiteness for every operation, and of a table what its columns are; the likelihood's support only where
a likelihood is evaluated. What is missing is NaN. Knows the manifest; nothing of JSON or any other wire format.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from service.codec.columns import Flaw, between
from service.codec.support import Support, Supports, domain
from service.codec.table import RECORDS, Table
from service.errors import InvalidInput, TooLarge, counted, plain
from service.finite import SMALL, all_finite
from service.inputs import Windows
from service.manifest import Manifest
from service.windows import count, needed, rows_of

Array = NDArray[np.generic]

INPUTS, SERIES = "inputs", "series"
"""The fields of a request that hold rows, and readings that rows are made of."""

MAX_LATENT = 1e6  # standard deviations of the prior: far beyond any use, and no decoder overflows


@dataclass(frozen=True)
class RowSpec:
    """
    One field of rows: its name in the request, the shape and dtype of what is sent, and the support of its features.

    *bound*: what no value may pass, beside the dtype. Of tables: *names* of the columns, *table* reads rows as records,
    *domains* are what the columns are whatever is asked, *missing* is whether each may be missing (empty: none may).
    *windows*: what is sent are readings, of which rows are made; all of this is then of readings, but for the
    supports, which are of rows.
    """

    field: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    supports: tuple[Support, ...] = ()
    bound: float = math.inf
    names: tuple[str, ...] = ()
    table: Table | None = None
    domains: tuple[Support, ...] = ()
    missing: tuple[bool, ...] = ()
    windows: Windows | None = None

    @classmethod
    def inputs(cls, manifest: Manifest) -> Self:
        """The rows that clients send: x."""
        inputs = manifest.inputs
        supports = []
        for likelihood in manifest.likelihood:
            if likelihood.support == "real":
                continue
            for index, name in enumerate(inputs.names):
                if likelihood.columns is None or name in likelihood.columns:
                    low = -np.inf if likelihood.low is None else likelihood.low
                    high = np.inf if likelihood.high is None else likelihood.high
                    supports.append(Support(index, name, likelihood.support, low, high))
        windows = inputs.windows
        columns = inputs.columns if windows is None else windows.sensors
        if columns is None:
            return cls(INPUTS, inputs.shape, np.dtype(inputs.dtype), tuple(supports))
        missing = tuple(column.missing for column in columns)
        domains = (domain(index, column) for index, column in enumerate(columns))
        return cls(
            INPUTS if windows is None else SERIES,
            (len(columns),),
            np.dtype(inputs.dtype),
            tuple(supports),
            names=tuple(column.name for column in columns),
            table=Table(columns),
            domains=tuple(domain for domain in domains if domain is not None),
            missing=missing if any(missing) else (),
            windows=windows,
        )

    @classmethod
    def latents(cls, manifest: Manifest) -> Self:
        """Latent vectors: z."""
        return cls("latents", (manifest.latent.dim,), np.dtype(np.float32), bound=MAX_LATENT)

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The fields of a request that rows are looked for in."""
        return self.field, *self.others

    @cached_property
    def others(self) -> tuple[str, ...]:
        """Those of `fields` with another name: records, and what other models have their rows in."""
        return {INPUTS: (RECORDS, SERIES), SERIES: (RECORDS, INPUTS)}.get(self.field, ())

    @cached_property
    def of_records(self) -> RowSpec:
        """The same of rows that come as records."""
        return replace(self, field=RECORDS)

    @cached_property
    def lists(self) -> int:
        """How many lists a row is in JSON: itself, and those in it."""
        return sum(math.prod(self.shape[:depth]) for depth in range(len(self.shape)))

    def most_sent(self, rows: int) -> int:
        """How many of what is sent make so many rows at most."""
        return rows if self.windows is None else needed(rows + 1, self.windows) - 1

    def check_count(self, sent: int, least: int, most: int) -> None:
        """Raise where what is *sent* makes fewer rows than *least* (InvalidInput) or more than *most* (TooLarge)."""
        rows, told = sent, f"{self.field} has {counted(sent, 'row')}"
        if self.windows is not None:
            rows, length = count(sent, self.windows), self.windows.length
            told = f"{self.field} has {counted(sent, 'reading')}, which make {counted(rows, 'window')} of {length}"
        if rows > most:
            raise TooLarge(f"{told}; one request may have {most}", field=self.field, limit=most, value=rows)
        if rows < least:
            raise InvalidInput(f"{told}; at least {least} needed", field=self.field, limit=least, value=rows)

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise InvalidInput where an array of *shape* is not rows of this shape."""
        if not shape or shape[1:] != self.shape:
            want = ", ".join(map(str, ("n", *self.shape)))
            raise InvalidInput(
                f"{self.field} has the shape {list(shape)}; [{want}] needed",
                field=self.field,
                limit=f"[{want}]",
                value=list(shape),
            )

    def rows(self, values: Array) -> Array:
        """What *values*, (n, *shape), are as rows: `cast`, and `made` of that."""
        return self.made(self.cast(values))

    def made(self, cast: Array) -> Array:
        """The rows that readings make, (n, C); what are rows already as they are."""
        if self.windows is None:
            return cast
        return rows_of(cast.astype(np.float64, copy=False), self.windows).astype(self.dtype, copy=False)

    def cast(self, values: Array) -> Array:
        """
        *values* (n, *shape) of any real dtype as the graphs take them; the same array where nothing has to change.

        Floating-point numbers are rounded to the dtype, integers must be exact in it. Raises InvalidInput naming the
        first row that holds an infinity, a NaN in a column that may not be missing, a number beyond dtype or *bound*,
        or what is no value of its column.
        """
        if values.size <= SMALL and values.dtype.char in "fd":
            flat: NDArray[Any] = values.ravel(order="K")
            if float(np.vdot(flat, flat)) < self._limit * self._limit:  # then no element is beyond the limit, or NaN
                rows = values.astype(self.dtype, order="C", copy=False)
                return self._in_domain(rows) if self.domains else rows
        if values.dtype == self.dtype and values.flags.c_contiguous:
            rows = values
        else:
            with np.errstate(over="ignore"):
                rows = values.astype(self.dtype, order="C")
            if values.dtype.kind in "iu":
                self.check_exact(values)
        if self.bound == math.inf and all_finite(rows):
            return self._in_domain(rows) if self.domains else rows
        good = np.isfinite(rows) if self.bound == math.inf else np.abs(rows) <= self.bound  # False for NaN
        if self.missing:
            good |= np.isnan(rows) & np.array(self.missing)
        if not good.all():
            row, *where = (int(i) for i in np.argwhere(~good)[0])
            self._refuse(row, where, values[(row, *where)].item())
        return self._in_domain(rows) if self.domains else rows

    def _refuse(self, row: int, where: list[int], value: Any) -> None:
        """Raise InvalidInput for *value* at *where* in *row*, which is not finite, too large or missing."""
        of = {"column": self.names[where[0]]} if self.names else {}
        if self.missing and of and math.isnan(value):
            raise InvalidInput(
                f"{self.field}: row {row}, position {where} is missing; column {of['column']!r} must have a value",
                field=self.field,
                row=row,
                **of,
            )
        limit = self._limit
        what = f"is beyond +-{limit:.4g}" if math.isfinite(value) else "is not finite"
        raise InvalidInput(
            f"{self.field}: row {row}, position {where} holds {value}, which {what}",
            field=self.field,
            row=row,
            limit=limit,
            value=str(value),
            **of,
        )

    @cached_property
    def _limit(self) -> float:
        """What no value may pass: *bound*, or the largest number of the dtype."""
        return min(self.bound, float(np.finfo(self.dtype.name).max))

    def check_exact(self, values: Array) -> None:
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

    @cached_property
    def _domains(self) -> Supports:
        return Supports(self.domains)

    @cached_property
    def _supports(self) -> Supports:
        return Supports(self.supports)

    def _in_domain(self, rows: Array) -> Array:
        """The *rows*, or InvalidInput for the first that holds what is no value of its column."""
        if found := self._domains.outside(rows):
            support = found.support
            what = between(support.low, support.high)
            raise InvalidInput(
                f"{self.field}: row {found.row}, column {support.name!r} is {plain(found.value)}; it must be {what}",
                field=self.field,
                row=found.row,
                column=support.name,
                limit=what,
                value=found.value,
            )
        return rows

    def outside(self, rows: Array) -> tuple[int, Flaw] | None:
        """The first row that has no likelihood, and what is wrong with it; None when there is none."""
        bare = self._bare(rows) if self.missing else None
        found = self._supports.outside(rows) if self.supports else None
        if bare is not None and (found is None or bare <= found.row):
            return bare, Flaw(": it has no value at all; one at least is needed", {})
        if found is None:
            return None
        support = found.support
        limit = f"{'whole numbers' if found.whole else 'numbers'} from {plain(support.low)} to {plain(support.high)}"
        facts: dict[str, object] = {"limit": limit, "value": found.value}
        if self.table is not None:
            facts = {"column": support.name, **facts}
        return found.row, Flaw(
            f": feature {support.name!r} is {plain(found.value)}; its likelihood is defined for {limit}", facts
        )

    def check_support(self, rows: Array) -> None:
        """Raise InvalidInput for the first row outside the likelihood's support, or with nothing in it."""
        if found := self.outside(rows):
            row, flaw = found
            raise InvalidInput(f"{self.field}: row {row}{flaw.reason}", field=self.field, row=row, **flaw.facts)

    def _bare(self, rows: Array) -> int | None:
        """The first row with no value at all."""
        bare = np.isnan(rows).all(axis=1)
        return int(bare.argmax()) if bare.any() else None
