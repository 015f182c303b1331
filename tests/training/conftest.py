"""Small real things that several tests need: exported once, because an export takes a second or two."""

from __future__ import annotations

import pytest

from service.engine import Engine
from tests.shared import once
from tests.training.commanded import ByCommand, fit_by_command
from tests.training.small import Fitted, fit_gappy, fit_table


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """A Gaussian VAE of a table, fitted for a moment, and its bundle. Not to be changed."""
    return once(tmp_path_factory, "fitted", lambda _: fit_table())


@pytest.fixture(scope="session")
def engine(fitted: Fitted) -> Engine:
    """The graphs of `fitted` in onnxruntime."""
    return Engine(fitted.bundle.graphs, threads=1)


@pytest.fixture(scope="session")
def gappy(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """A Gaussian VAE of a table with missing values, fitted for a moment, and its bundle. Not to be changed."""
    return once(tmp_path_factory, "gappy", lambda _: fit_gappy())


@pytest.fixture(scope="session")
def by_command(tmp_path_factory: pytest.TempPathFactory) -> ByCommand:
    """What `vae-train fit` makes of a CSV. Not to be changed: see `ByCommand.copied`."""
    return once(tmp_path_factory, "by-command", fit_by_command)
