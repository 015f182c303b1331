"""Small real things that several tests need: exported once, because an export takes a second or two."""

from __future__ import annotations

import pytest

from service.engine import Engine
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
