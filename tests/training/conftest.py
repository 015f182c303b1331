"""Small real things that several tests need: exported once, because an export takes a second or two."""

from __future__ import annotations

import pytest

from service.bundle import Bundle
from service.engine import Engine
from tests.training.machines import fit_machines
from tests.training.small import Fitted, fit_gappy, fit_table


@pytest.fixture(scope="session")
def fitted() -> Fitted:
    """A Gaussian VAE of a table, fitted for a moment, and its bundle. Not to be changed."""
    return fit_table()


@pytest.fixture(scope="session")
def engine(fitted: Fitted) -> Engine:
    """The graphs of `fitted` in onnxruntime."""
    return Engine(fitted.bundle.graphs, threads=1)


@pytest.fixture(scope="session")
def gappy() -> Fitted:
    """A Gaussian VAE of a table with missing values, fitted for a moment, and its bundle. Not to be changed."""
    return fit_gappy()


@pytest.fixture(scope="session")
def machines() -> Bundle:
    """The bundle of a table with a column of each kind, and missing values. Not to be changed."""
    return fit_machines()
