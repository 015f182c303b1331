"""
A data set dealt out: the rows of each part, as the model takes them. What a bundle's manifest must know to repeat it.

The one place where split, binarisation and seed come together, so that `evaluate` finds the test rows of `fit` again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue, TypeAdapter

from service.inputs import Column, Inputs
from service.manifest import Manifest
from training.binarize import Mode, binarize, binary_inputs, grey_range
from training.blocks import apart, split_windows
from training.data import Dataset
from training.errors import DataError
from training.split import Fractions, Rows, split_folds, split_rows
from training.support import require_support
from training.thinning import most_rows, thinned

Array = NDArray[np.generic]
_PIECE_VALUES = 2**22

Draw = Callable[[Array, np.random.Generator], Array]


@dataclass(frozen=True)
class Dealing:
    """How rows are dealt out and made into model inputs. *folds*: members of an ensemble, each with its own rows."""

    fractions: Fractions = field(default_factory=Fractions)
    binarize: Mode = "none"
    seed: int = 0
    folds: int = 1

    def as_json(self) -> dict[str, JsonValue]:
        """For the manifest."""
        return cast("dict[str, JsonValue]", asdict(self))

    @classmethod
    def of(cls, training: Mapping[str, JsonValue]) -> Dealing:
        """The dealing that a bundle or a checkpoint was fitted with; without one, rows are taken as they are."""
        return TypeAdapter(cls).validate_python(training.get("dealing", {}))


@dataclass(frozen=True)
class Parts:
    """
    Rows by part, (n, *shape) each. *train* becomes model inputs by *draw* where there is one, batch by batch.

    *inputs* describes the model inputs.
    """

    inputs: Inputs
    train: Array
    validation: Array
    calibration: Array
    test: Array
    anomalies: Array | None
    draw: Draw | None
    test_labels: Array | None = None

    def learned(self, seed: int = 0) -> tuple[Array, Array]:
        """Training and validation rows as model inputs, for the baselines: thinned to as many as they look at."""
        train = thinned(self.train, most_rows(self.inputs.features), seed)
        if self.draw is not None:
            train = self.draw(train, np.random.default_rng([seed, 9]))
        return train, self.validation

    @property
    def sizes(self) -> dict[str, int]:
        """Rows by part, for the manifest."""
        names = ("train", "validation", "calibration", "test")
        return {name: len(getattr(self, name)) for name in names}


def deal(dataset: Dataset, dealing: Dealing, use_up: bool = False, fold: int = 0) -> Parts:
    """
    Deal *dataset* out: the same parts and the same binary draws every time. *fold*: which member's parts.

    *use_up*: the training rows stay where they are in memory, moved together; *dataset* is then not to be used any
    more. A table of a gigabyte needs a gigabyte less.
    """
    mode, given = dealing.binarize, dataset.test
    if mode != "none":
        grey_range(dataset.inputs)
    if dataset.places is not None:
        split = split_windows(dataset.places, dealing.fractions, dealing.seed)
    elif dealing.folds > 1:
        split = split_folds(len(dataset.x), dealing.fractions, dealing.folds, dealing.seed, given is not None)[fold]
    else:
        split = split_rows(len(dataset.x), dealing.fractions, dealing.seed, given is not None)
    given_inputs = dataset.inputs  # *draw* must not keep all of dataset.x alive
    held_out = [dataset.x[rows] for rows in (split.validation, split.calibration, split.test)]
    train = moved_together(dataset.x, split.train) if use_up and dataset.x.flags.writeable else dataset.x[split.train]
    return Parts(
        inputs=dataset.inputs if mode == "none" else binary_inputs(dataset.inputs),
        train=train if mode == "dynamic" else as_inputs(train, dataset.inputs, dealing, 0),
        validation=as_inputs(held_out[0], dataset.inputs, dealing, 1),
        calibration=as_inputs(held_out[1], dataset.inputs, dealing, 2),
        test=as_inputs(held_out[2] if given is None else given, dataset.inputs, dealing, 3),
        anomalies=None if dataset.anomalies is None else as_inputs(dataset.anomalies, dataset.inputs, dealing, 4),
        draw=(lambda rows, generator: binarize(rows, given_inputs, mode, generator)) if mode == "dynamic" else None,
        test_labels=_test_labels(dataset, split.test),
    )


def moved_together(x: Array, rows: Rows, piece_values: int = _PIECE_VALUES) -> Array:
    """
    The *rows* of *x*, ascending, in the memory of *x*, whose other rows are lost: (n, *shape) -> (m, *shape).

    About *piece_values* numbers at a time: no row is written over before it was read, because none moves down.
    """
    step = max(1, piece_values // max(1, x[0].size))
    for start in range(0, len(rows), step):
        piece = rows[start : start + step]
        x[start : start + len(piece)] = x[piece]  # the right side is a copy
    return x[: len(rows)]


def as_inputs(x: Array, inputs: Inputs, dealing: Dealing, stream: int) -> Array:
    """Rows as the model takes them; dynamic binarisation draws once, from *stream* of the seed."""
    return binarize(x, inputs, dealing.binarize, np.random.default_rng([dealing.seed, 7, stream]))


def _test_labels(dataset: Dataset, rows: Rows) -> Array | None:
    if dataset.test is not None:
        return dataset.test_labels
    return None if dataset.labels is None else dataset.labels[rows]


@dataclass(frozen=True)
class Unseen:
    """
    Rows that a bundle never saw: normal ones with their classes, and anomalies. *which*: a word on which these are.

    *learned*: the training and validation rows, where the data set is the one that the bundle was fitted to.
    """

    x: Array
    labels: Array | None
    anomalies: Array | None
    which: str
    learned: tuple[Array, Array] | None = None

    @classmethod
    def of(cls, parts: Parts) -> Unseen:
        """The test rows and the anomalies of a data set that was dealt out."""
        which = "the test rows of the split that the bundle was fitted with"
        return cls(parts.test, parts.test_labels, parts.anomalies, which, parts.learned())


def held_out(dataset: Dataset, manifest: Manifest) -> Unseen:
    """
    The rows of *dataset* that the bundle never saw.

    The data set that the bundle was fitted to gives its test rows; any other one all of its rows.
    Raises DataError where it is not of the bundle's kind, or has values that its likelihood has none for.
    """
    dealing = Dealing.of(manifest.training)
    recalibrated = manifest.training.get("recalibrated")
    if isinstance(recalibrated, dict) and recalibrated.get("data_hash") == dataset.hash:
        raise DataError(
            f"{dataset.source}: the bundle was calibrated on these rows already; give rows that it has not seen"
        )
    if dataset.hash == manifest.data.hash:
        return Unseen.of(deal(dataset, dealing))
    dataset = matched(dataset, manifest.inputs, dealing)
    which = "all rows: this is not the data that the bundle was fitted to"
    if dataset.places is not None:
        dataset = replace(dataset, x=dataset.x[apart(dataset.places)])
        which = "all windows that do not overlap: this is not the data that the bundle was fitted to"
    model = manifest.training.get("model")
    if dealing.binarize == "none" and isinstance(model, dict) and "likelihood" in model:
        require_support(dataset.x, manifest.inputs, str(model["likelihood"]), int(str(model.get("levels", 0))))
    x = as_inputs(dataset.x, dataset.inputs, dealing, 3)
    anomalies = None if dataset.anomalies is None else as_inputs(dataset.anomalies, dataset.inputs, dealing, 4)
    return Unseen(x, dataset.labels, anomalies, which)


def matched(dataset: Dataset, inputs: Inputs, dealing: Dealing) -> Dataset:
    """
    *dataset* in the form of *inputs*: columns in their order.

    Raises DataError naming what is missing, of another kind or of another shape.
    """
    have, want = dataset.inputs, inputs
    if have.columns is not None and want.columns is not None:
        if missing := [name for name in want.names if name not in have.names]:
            raise DataError(f"{dataset.source}: no column {missing[0]!r}, which the bundle takes")
        if extra := [name for name in have.names if name not in want.names]:
            raise DataError(f"{dataset.source}: the bundle has no column {extra[0]!r}")
        for column in want.columns:
            _require_kind(dataset, have.columns[have.names.index(column.name)], column)
        order = [have.names.index(name) for name in want.names]
        if order == list(range(len(order))):
            return replace(dataset, inputs=want)
        anomalies = None if dataset.anomalies is None else dataset.anomalies[:, order]
        return replace(dataset, inputs=want, x=dataset.x[:, order], anomalies=anomalies)
    if have.shape != want.shape:
        raise DataError(f"{dataset.source}: rows of shape {have.shape}; the bundle takes {want.shape}")
    return dataset


def _require_kind(dataset: Dataset, have: Column, want: Column) -> None:
    """Raise DataError, by name, where the plain numbers of an array are not what the bundle takes."""
    if dataset.schema is not None:  # it was read by the bundle's own columns
        return
    column = f"{dataset.source}: column {want.name!r}"
    if want.kind != "numeric":
        raise DataError(f"{column} is an array's, plain numbers; the bundle's is {want.kind}: give it .csv or .parquet")
    if have.missing and not want.missing:
        raise DataError(f"{column} has missing values, which the bundle does not allow")
