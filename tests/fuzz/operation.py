"""
An operation of /v1 as the judges of its bodies see it: how its route reads them, and what documents them.

Bodies are read at once, and in slices of a few bytes as long ones are. Judges nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from pydantic import BaseModel

from service.codec import json, slices
from service.codec.bound import most_elements
from service.codec.fields import Fields, read_options, read_rows
from service.codec.rows import MAX_LATENT, Array, RowSpec
from service.errors import ServiceError
from tests.fuzz.verdicts import check_refusal

MOST = 5
"""Rows that a request may have."""
TABLE = RowSpec("inputs", (3,), np.dtype(np.float64))
LATENT = RowSpec("latents", (4,), np.dtype(np.float32), bound=MAX_LATENT)

Outcome = tuple[Array, dict[str, Any]]
"""The rows and the options of a body."""


@dataclass(frozen=True)
class Operation:
    """How one route reads its body, the models that document it, and good texts for its options."""

    spec: RowSpec
    request: type[BaseModel]
    options: type[BaseModel]
    texts: dict[str, tuple[str, ...]]

    @property
    def specs(self) -> tuple[RowSpec, RowSpec]:
        """As a service has them: rows of both kinds."""
        return (TABLE, self.spec) if self.spec.field == "latents" else (self.spec, LATENT)

    def read(self, body: bytes, sliced: bool = False) -> tuple[str, Outcome | None]:
        """As the route does: "accepted" and what was read, or the class of the refusal."""
        try:
            fields = self.fields(body, sliced)
            x = read_rows(fields, self.spec, MOST)
            return "accepted", (x, read_options(self.options, fields).model_dump())
        except ServiceError as error:
            return check_refusal(error), None

    def fields(self, body: bytes, sliced: bool = False) -> Fields:
        """The fields of a body, not checked yet. Raises ServiceError where it has none."""
        if not sliced:
            return json.read_object(body, *self.specs, most=MOST)
        reading = slices.read(body, *self.specs, most=MOST, step=len(body) % 32)
        while True:
            try:
                next(reading)
            except StopIteration as done:
                return cast(Fields, done.value)

    def is_beyond(self, body: bytes) -> bool:
        """Whether *body* has more commas and brackets that open than a request can need."""
        return sum(map(body.count, (b",", b"[", b"{"))) > most_elements(self.specs, MOST)
