"""
What a row of a model is, as its manifest says: columns, or an array, or an image.

Only the schema; a change that an older reader would misread raises the manifest's SCHEMA_VERSION. Knows no row, and
nothing of what the model makes of one.
"""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_COUNT: Final = 2**24
"""The largest count, and the largest integer either way: float32 knows every whole number up to here."""


class Part(BaseModel):
    """A part of a manifest: it does not change, and has no field that the schema does not know."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), json_schema_serialization_defaults_required=True
    )


class Column(Part):
    """One column of a table, as the client sends it."""

    name: str = Field(min_length=1, description="as in the data", examples=["pressure"])
    kind: Literal["numeric", "integer", "categorical", "ordinal", "binary", "count"] = Field(
        "numeric",
        description="what its values are; an integer is a whole number of up to 2^24 (16,777,216) either way, a count "
        "one from 0 to 2^24",
        examples=["numeric"],
    )
    unit: str | None = Field(None, description="the unit of its values", examples=["bar"])
    center: float | None = Field(None, description="subtracted inside the graph, in the column's unit", examples=[3.0])
    scale: float | None = Field(
        None, gt=0, description="divided by inside the graph, in the column's unit", examples=[1.5]
    )
    vocabulary: tuple[str, ...] | None = Field(
        None, description="category -> index is the position here", examples=[["low", "high"]]
    )
    unknown: Literal["other", "reject"] = Field(
        "reject", description="a category that is not in the vocabulary is another one, or refused", examples=["reject"]
    )
    missing: bool = Field(False, description="whether its value may be missing", examples=[False])
    time: Literal["epoch", "iso8601"] | None = Field(
        None,
        description="of instants, which are seconds since 1970-01-01 UTC in arrays: how records tell them, as that "
        "number or as ISO 8601 text; null for all else",
        examples=["iso8601"],
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.unknown == "other" and self.kind != "categorical":
            raise ValueError(f"column {self.name!r} is {self.kind}, so unknown cannot be other")
        return self


class Windows(Part):
    """
    How the readings of a series become rows: windows of consecutive readings, in order of time.

    A row has *length* readings, of each all sensors: shape [length * sensors]. The next one begins *stride* readings
    later.
    """

    sensors: tuple[Column, ...] = Field(min_length=1, description="what a reading holds, in order: shape [S]")
    length: int = Field(ge=2, description="W, the readings of a window", examples=[16])
    stride: int = Field(ge=1, description="readings from the beginning of one window to that of the next", examples=[4])
    differences: bool = Field(
        False,
        description="whether of a numeric sensor a row has its first reading, and then how much each is more than "
        "the one before",
        examples=[True],
    )

    def differenced(self, sensor: Column) -> bool:
        """Whether all readings of *sensor* but the first are differences."""
        return self.differences and sensor.kind == "numeric"

    def lag(self, feature: int) -> int:
        """How many readings before the last one of its window a feature of a row is."""
        return self.length - 1 - feature // len(self.sensors)

    @property
    def columns(self) -> tuple[Column, ...]:
        """What a row holds, in order: shape [C]."""
        return tuple(
            sensor.model_copy(update={"name": self._name(sensor, at)})
            for at in range(self.length)
            for sensor in self.sensors
        )

    def _name(self, sensor: Column, at: int) -> str:
        name = f"{sensor.name}@{at - self.length + 1}"
        return f"change of {name}" if at and self.differenced(sensor) else name


class Inputs(Part):
    """What one row is: its shape, and the dtype in which the graphs take it."""

    kind: Literal["array", "image", "table"] = Field(description="an array of numbers, an image, or a row of a table")
    shape: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        min_length=1, description="shape of one row: [C] columns, or the axes of an image in the order of layout"
    )
    dtype: Literal["float32", "float64"] = Field(description="numbers are rounded to this")
    layout: Literal["HW", "HWC", "CHW"] | None = Field(
        None, description="the axes of an image: height, width, channels; null for all else"
    )
    range: tuple[float, float] | None = Field(
        None, description="lowest and highest value of a pixel in the training data; null where there are none"
    )
    columns: tuple[Column, ...] | None = Field(None, description="of a table, in order: shape [C]; null for all else")
    windows: Windows | None = Field(
        None, description="of a table whose rows are made of the readings of a series; null for all else"
    )
    clamp: float = Field(
        gt=0, description="standardised inputs are clamped to +- this inside the graphs, in standard deviations"
    )

    @property
    def features(self) -> int:
        """C of the scorer: original columns, or pixels."""
        return math.prod(self.shape)

    @property
    def may_be_missing(self) -> tuple[bool, ...]:
        """Whether its value may be missing, one a feature."""
        if self.columns is None:
            return (False,) * self.features
        return tuple(column.missing for column in self.columns)

    @property
    def masked(self) -> bool:
        """Whether any value may be missing: then encoder and scorer take a mask, (B, C), true where it was observed."""
        return self.columns is not None and any(column.missing for column in self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """One name a feature: the columns', or the index of the pixel ("3,5")."""
        if self.columns is not None:
            return tuple(column.name for column in self.columns)
        strides = [math.prod(self.shape[i + 1 :]) for i in range(len(self.shape))]
        return tuple(
            ",".join(str(i // stride % size) for stride, size in zip(strides, self.shape, strict=True))
            for i in range(self.features)
        )

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if (self.kind == "table") != (self.columns is not None):
            raise ValueError("columns are given for tables, and only for tables")
        if self.columns is not None and self.shape != (len(self.columns),):
            raise ValueError(f"shape {self.shape} does not fit {len(self.columns)} columns")
        if self.columns is not None and len(set(self.names)) != len(self.names):
            raise ValueError("two columns have the same name")
        if self.windows is not None and list(map(_unscaled, self.columns or ())) != list(self.windows.columns):
            raise ValueError("columns are not those of the windows")
        if (self.kind == "image") != (self.layout is not None):
            raise ValueError("layout is given for images, and only for images")
        if self.layout is not None and len(self.layout) != len(self.shape):
            raise ValueError(f"layout {self.layout} does not fit shape {self.shape}")
        return self


def _unscaled(column: Column) -> Column:
    """What a client sees of *column*."""
    return column.model_copy(update={"center": None, "scale": None})
