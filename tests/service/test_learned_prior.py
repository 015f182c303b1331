"""A bundle whose prior was learned: prior.onnx draws its samples, and its KL is an average over the draws."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from service.bundle import Bundle, open_bundle
from service.engine import Engine
from service.latent import choices, noise
from tests.bundles import TABLE, make_bundle, table_rows
from tests.server import Server

COMPONENTS = 3


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A table's, with a mixture of three normals about 0.7 from the origin."""
    made = make_bundle(
        tmp_path_factory.mktemp("models") / "mixed", TABLE, "student-t", table_rows(400), components=COMPONENTS
    )
    return open_bundle(made)


@pytest.fixture(scope="module")
def server(bundle: Bundle) -> Iterator[Server]:
    """The service of that bundle."""
    with Server(bundle.path) as running:
        yield running


def test_the_manifest_says_that_a_graph_draws_and_that_kl_is_an_average(server: Server) -> None:
    """As a client sees it."""
    model = httpx.get(server.url + "/v1/model").json()["manifest"]
    assert model["latent"]["prior"] == "graph"
    assert model["capabilities"]["kl"] == "monte-carlo"
    assert "prior" in model["graphs"]


def test_samples_are_drawn_by_the_prior_graph(server: Server, bundle: Bundle) -> None:
    """Of the seed's normals and choices; and decoded."""
    reply = httpx.post(server.url + "/v1/sample", json={"count": 50, "seed": 7}).json()
    engine = Engine.open(bundle, threads=1)
    feeds = {"eps": noise(7, 50, bundle.manifest.latent.dim), "u": choices(7, 50)}
    z = engine.run("prior", feeds)["z"].astype(np.float32)
    np.testing.assert_allclose(reply["latents"], z, rtol=1e-5)
    decoded = engine.run("decoder", {"z": z})["mean"].astype(np.float64)
    np.testing.assert_allclose(reply["outputs"], decoded, rtol=1e-4)


def test_at_temperature_0_samples_are_the_means_of_the_components(server: Server) -> None:
    """Each of them comes, and nothing else."""
    reply = httpx.post(server.url + "/v1/sample", json={"count": 200, "seed": 1, "temperature": 0}).json()
    assert len(np.unique(np.round(reply["latents"], 5), axis=0)) == COMPONENTS


def test_truncation_confines_draws_about_their_component(server: Server) -> None:
    """Half a standard deviation about one of the means: e^-0.25 is one in this mixture."""
    means = httpx.post(server.url + "/v1/sample", json={"count": 200, "seed": 1, "temperature": 0}).json()["latents"]
    asked = {"count": 200, "seed": 1, "truncation": 0.5}
    drawn = httpx.post(server.url + "/v1/sample", json=asked).json()["latents"]
    assert np.abs(np.subtract(drawn, means)).max() == pytest.approx(0.5 * np.exp(-0.25), rel=0.02)


def test_the_same_seed_gives_the_same_rows_of_more(server: Server) -> None:
    """As with the prior N(0, I)."""
    few, many = (
        httpx.post(server.url + "/v1/sample", json={"count": count, "seed": 5}).json()["latents"] for count in (3, 9)
    )
    np.testing.assert_allclose(many[:3], few, rtol=1e-6)


def test_the_negative_elbo_is_the_average_of_the_weights(bundle: Bundle) -> None:
    """KL is of the same draws as the reconstruction, so that their sum is -mean_k log w_k."""
    engine = Engine.open(bundle, threads=1)
    got = engine.run("scorer", {"x": table_rows(20, 3), "eps": bundle.eps[:16]}, ("log_w", "log_px_z", "kl"))
    elbo = got["log_px_z"].mean(axis=1) - got["kl"].sum(axis=1)
    np.testing.assert_allclose(elbo, got["log_w"].mean(axis=1), rtol=1e-4, atol=1e-3)


def test_the_parts_of_a_score_add_up_to_it(server: Server) -> None:
    """Features and the latent term, for the importance-weighted bound and for the ELBO."""
    for kind in ("nll", "neg_elbo"):
        asked = {"inputs": table_rows(5, 4).tolist(), "kind": kind, "explain": 3, "components": True}
        reply = httpx.post(server.url + "/v1/anomaly-score", json=asked).json()
        for row, score in enumerate(reply["scores"]):
            parts = sum(part["nats"] for part in reply["explanations"][row])
            assert parts + reply["components"]["latent"][row] == pytest.approx(score, rel=1e-4, abs=1e-3)
