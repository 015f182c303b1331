"""One tiny real bundle of each kind a session, and one real server on each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.bundle import Bundle
from tests.bundles import IMAGE, TABLE, image_rows, make_bundle, table_rows
from tests.mixed import make_mixed
from tests.server import Server
from tests.shared import once
from tests.training.machines import fit_machines

# Tests speak plain HTTP. For each client httpx reads the certificates of all authorities, which takes longer than most
# of the requests; of a directory it reads what it needs.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = str(Path(__file__).parent)


@pytest.fixture(scope="session")
def table_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three columns, Gaussian, calibrated on 200 rows. Not to be changed: see `own_bundle`."""
    return once(tmp_path_factory, "pumps", lambda at: make_bundle(at / "pumps", TABLE, "gaussian", table_rows(400)))


@pytest.fixture(scope="session")
def image_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 x 3 pixels, Bernoulli, calibrated on 50 rows."""
    return once(tmp_path_factory, "dots", lambda at: make_bundle(at / "dots", IMAGE, "bernoulli", image_rows(100)))


@pytest.fixture(scope="session")
def mixed_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind of column, values that may be missing, draws; calibrated on 200 rows in each mask bin."""
    return once(tmp_path_factory, "mixed", lambda at: make_mixed(at / "mixed"))


@pytest.fixture(scope="session")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The trainer's bundle of a table with a column of each kind, and missing values. Not to be changed."""
    return once(tmp_path_factory, "machines", lambda _: fit_machines())


@pytest.fixture
def own_bundle(table_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the table bundle that the test may damage."""
    return Path(shutil.copytree(table_bundle, tmp_path / "pumps" / "1"))


@pytest.fixture(scope="session")
def table_server(table_bundle: Path) -> Iterator[Server]:
    """The service on the table bundle."""
    with Server(table_bundle) as server:
        yield server


@pytest.fixture(scope="session")
def image_server(image_bundle: Path) -> Iterator[Server]:
    """The service on the image bundle."""
    with Server(image_bundle) as server:
        yield server
