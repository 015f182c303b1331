"""Pictures over HTTP: the same answers as for numbers, and refusals by name."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from service.api import MAIN, READS, ROUTES, V1, WRITES
from service.bundle import open_bundle
from service.codec.heat import heat
from service.codec.sheets import GAP
from service.errors import UnsupportedMedia
from service.http import media
from service.http.headers import Headers
from service.inputs import Inputs
from service.statistics import Statistics
from service.turns import Turns
from tests.bundles import edit_manifest, make_bundle
from tests.server import Server

COLOUR = Inputs(kind="image", shape=(3, 4, 5), dtype="float32", layout="CHW", range=(0.0, 255.0), clamp=1000.0)
PNG = {"Accept": media.PNG}
Z = [[0.1, -1.0, 2.0, 0.0], [1.0, 0.3, 0.0, -0.5], [0.0, 0.0, 0.0, 0.0]]


def colours(count: int, seed: int = 0) -> np.ndarray:
    """Pictures for the colour bundle: (n, 4, 5, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 5, 3)).astype(np.uint8)


def saved(array: np.ndarray, form: str = "PNG", **options: Any) -> bytes:
    """A file as Pillow writes it."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, form, **options)
    return file.getvalue()


def opened(reply: httpx.Response) -> Image.Image:
    """The picture that a reply is."""
    assert (reply.status_code, reply.headers["content-type"]) == (200, "image/png"), reply.text
    return Image.open(io.BytesIO(reply.content), formats=("PNG",))


def sent(*files: bytes, kind: str = media.PNG) -> list[tuple[str, tuple[str, bytes, str]]]:
    """The files of a form, for httpx."""
    return [("inputs", ("a", file, kind)) for file in files]


@pytest.fixture(scope="module")
def colour_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three planes of 4 x 5 pixels from 0 to 255, Gaussian."""
    x = np.moveaxis(colours(100), -1, 1).astype(np.float32)
    return make_bundle(tmp_path_factory.mktemp("models") / "paint", COLOUR, "gaussian", x)


@pytest.fixture(scope="module")
def colour_server(colour_bundle: Path) -> Iterator[Server]:
    """The service on it."""
    with Server(colour_bundle) as server:
        yield server


@pytest.mark.parametrize("op", ["encode", "reconstruct", "anomaly-score"])
def test_a_picture_is_answered_as_its_numbers_are(colour_server: Server, op: str) -> None:
    """To the last bit of JSON, as the body and as a form; options come with it."""
    picture = colours(1)[0]
    x = np.moveaxis(picture, -1, 0).tolist()
    want = colour_server.client.post(f"/v1/{op}", json={"inputs": [x]}).json()
    alone = colour_server.client.post(f"/v1/{op}", content=saved(picture), headers={"Content-Type": "image/png"})
    assert alone.status_code == 200, alone.text
    assert alone.headers["content-type"] == "application/json"
    assert alone.json() == want
    assert colour_server.client.post(f"/v1/{op}", files=sent(saved(picture))).json() == want
    jpeg = saved(picture, "JPEG")
    levels = np.moveaxis(np.asarray(Image.open(io.BytesIO(jpeg))), -1, 0).tolist()
    want = colour_server.client.post(f"/v1/{op}", json={"inputs": [levels]}).json()
    kind = {"Content-Type": "image/jpeg"}
    assert colour_server.client.post(f"/v1/{op}", content=jpeg, headers=kind).json() == want


def test_several_pictures_are_rows_in_their_order(colour_server: Server) -> None:
    """With options in the query and in the form."""
    pictures = colours(3, seed=1)
    x = np.moveaxis(pictures, -1, 1).tolist()
    files = sent(*map(saved, pictures))
    options = {"alpha": 0.1, "explain": 2}
    want = colour_server.client.post("/v1/anomaly-score", json={"inputs": x, **options}).json()
    got = colour_server.client.post("/v1/anomaly-score?alpha=0.1", files=files, data={"explain": "2"})
    assert got.json() == want
    want = colour_server.client.post("/v1/interpolate", json={"inputs": x, "steps": 4, "method": "lerp"}).json()
    got = colour_server.client.post("/v1/interpolate", files=files, data={"steps": "4", "method": "lerp"})
    assert got.json() == want


def test_as_many_pictures_as_rows_are_answered(colour_server: Server) -> None:
    """These are read in a thread, beside the event loop."""
    pictures = colours(1024, seed=2)
    got = colour_server.client.post("/v1/encode", files=sent(*map(saved, pictures)), headers={"Accept": media.NPY})
    want = colour_server.client.post(
        "/v1/encode", json={"inputs": np.moveaxis(pictures, -1, 1).tolist()}, headers={"Accept": media.NPY}
    )
    np.testing.assert_allclose(
        np.load(io.BytesIO(got.content)), np.load(io.BytesIO(want.content)), rtol=1e-4, atol=1e-4
    )


def test_black_and_white_are_within_a_binary_likelihood(image_server: Server) -> None:
    """1 bit a pixel, for a model of zeros and ones; grey is refused, or flagged, as its number is."""
    dots = np.array([[0, 255, 0], [255, 255, 0]], np.uint8)
    file = io.BytesIO()
    Image.fromarray(dots).convert("1").save(file, "PNG")
    kind = {"Content-Type": "image/png"}
    reply = image_server.client.post("/v1/anomaly-score", content=file.getvalue(), headers=kind)
    assert (
        reply.json() == image_server.client.post("/v1/anomaly-score", json={"inputs": [(dots / 255).tolist()]}).json()
    )
    grey = saved(np.full((2, 3), 128, np.uint8))
    reply = image_server.client.post("/v1/anomaly-score", content=grey, headers=kind)
    assert (reply.status_code, "likelihood is defined" in reply.json()["detail"]) == (422, True)
    flagged = image_server.client.post(
        "/v1/anomaly-score", files=sent(grey, saved(dots)), data={"on_invalid": "flag"}
    ).json()
    assert [row["row"] for row in flagged["invalid"]] == [0]


def tile(array: list[Any], ends: tuple[float, float]) -> np.ndarray:
    """A row as the picture that it is shown as."""
    low, high = ends
    x = np.array(array)
    x = np.moveaxis(x, 0, -1) if x.ndim == 3 else x
    return np.rint((x - low) / (high - low) * 255).clip(0, 255)


def test_a_sheet_shows_what_json_says(colour_server: Server, colour_bundle: Path) -> None:
    """Sample, decode, interpolate: rows in order; the model and the seed are in the file."""
    model = {"name": "paint", "version": 1, "bundle_id": open_bundle(colour_bundle).bundle_id}
    bodies: dict[str, dict[str, Any]] = {
        "sample": {"count": 3, "seed": 7},
        "decode": {"latents": Z},
        "interpolate": {"latents": Z, "steps": 3, "method": "lerp"},
    }
    for op, body in bodies.items():
        want = colour_server.client.post(f"/v1/{op}", json=body).json()
        sheet = opened(colour_server.client.post(f"/v1/{op}?scale=1&columns=2", json=body, headers=PNG))
        pixels = np.asarray(sheet, int)
        assert {name: sheet.info[f"model.{name}"] for name in model} == {k: str(v) for k, v in model.items()}
        assert sheet.info.get("seed") == ("7" if op == "sample" else None)
        assert sheet.info.get("degenerate") == ("false" if op == "interpolate" else None)
        for index, row in enumerate(want["outputs"]):
            top, left = index // 2 * (4 + GAP), index % 2 * (5 + GAP)
            got = pixels[top : top + 4, left : left + 5]
            assert np.abs(got - tile(row, (0.0, 255.0))).max() <= 1


def test_a_path_has_a_line_for_each_leg(image_server: Server) -> None:
    """From waypoint to waypoint, unless columns are asked for."""
    body = {"latents": Z, "steps": 5}
    sheet = opened(image_server.client.post("/v1/interpolate?scale=1", json=body, headers=PNG))
    assert sheet.size == (5 * (3 + GAP) - GAP, 2 * (2 + GAP) - GAP)
    pixels = np.asarray(sheet)
    assert np.array_equal(pixels[:2, -3:], pixels[2 + GAP :, :3])
    sheet = opened(image_server.client.post("/v1/interpolate?scale=1&columns=9", json=body, headers=PNG))
    assert sheet.size == (9 * (3 + GAP) - GAP, 2)


def test_a_reconstruction_lies_under_its_input(colour_server: Server) -> None:
    """From pictures, JSON and arrays alike."""
    pictures = colours(2, seed=3)
    x = np.moveaxis(pictures, -1, 1)
    want = colour_server.client.post("/v1/reconstruct", json={"inputs": x.tolist()}).json()["outputs"]
    array = io.BytesIO()
    np.save(array, x)
    replies = [
        colour_server.client.post("/v1/reconstruct?scale=1", json={"inputs": x.tolist()}, headers=PNG),
        colour_server.client.post("/v1/reconstruct?scale=1", files=sent(*map(saved, pictures)), headers=PNG),
        colour_server.client.post(
            "/v1/reconstruct?scale=1", content=array.getvalue(), headers={**PNG, "Content-Type": media.NPY}
        ),
    ]
    for reply in replies:
        pixels = np.asarray(opened(reply), int)
        assert pixels.shape == (2 * 4 + GAP, 2 * 5 + GAP, 3)
        for index in range(2):
            left = index * (5 + GAP)
            assert np.array_equal(pixels[:4, left : left + 5], pictures[index])
            assert np.abs(pixels[4 + GAP :, left : left + 5] - tile(want[index], (0.0, 255.0))).max() <= 1


def test_a_scored_row_lies_above_what_was_expected_of_it_and_its_map(
    colour_server: Server, colour_bundle: Path
) -> None:
    """The map is each pixel's nats above its median among the calibration rows, its channels added."""
    pictures = colours(2, seed=4)
    body = {"inputs": np.moveaxis(pictures, -1, 1).tolist(), "explain": 60, "kind": "neg_elbo"}
    want = colour_server.client.post("/v1/anomaly-score", json=body).json()
    sheet = opened(colour_server.client.post("/v1/anomaly-score?scale=1", json=body, headers=PNG))
    pixels = np.asarray(sheet, int)
    assert pixels.shape == (3 * (4 + GAP) - GAP, 2 * (5 + GAP) - GAP, 3)
    calibrated = np.asarray(open_bundle(colour_bundle).calibration["features/neg_elbo/16/all/0"], np.float64)
    usual = np.sort(calibrated, axis=0)[(len(calibrated) - 1) // 2]
    for index, explained in enumerate(want["explanations"]):
        assert len(explained) == 60
        expected, excess = np.zeros(60), np.zeros(60)
        for part in explained:
            c = int(np.ravel_multi_index(tuple(map(int, part["feature"].split(","))), (3, 4, 5)))
            expected[c], excess[c] = part["expected"], part["nats"] - usual[c]
        left = index * (5 + GAP)
        tiles = [pixels[part * (4 + GAP) : part * (4 + GAP) + 4, left : left + 5] for part in range(3)]
        assert np.array_equal(tiles[0], pictures[index])
        assert np.abs(tiles[1] - tile(expected.reshape(3, 4, 5).tolist(), (0.0, 255.0))).max() <= 1
        assert np.abs(tiles[2] - heat(excess.reshape(1, 3, 4, 5), COLOUR)[0]).max() <= 1
        assert len(np.unique(tiles[2])) > 10
    assert sheet.info["map.nats"] == "0 to 10"
    assert {name: json.loads(sheet.info[name]) for name in ("scores", "p_values", "is_anomaly", "alpha")} == {
        name: want[name] for name in ("scores", "p_values", "is_anomaly", "alpha")
    }


def test_a_row_that_cannot_be_scored_is_blank_on_the_sheet(image_server: Server) -> None:
    """In its place, where flags were asked for; beside maps in colour grey rows stay grey."""
    rows: list[list[Any]] = [[[0, 1, 0], [1, 1, 0]], [[0, 0.5, 0], [1, 1, 0]], [[1, 1, 0], [0, 0, 1]]]
    cases: list[tuple[list[list[Any]], tuple[int, ...]]] = [(rows, (0, 2)), (rows[1:2], ()), (rows[::2], (0, 1))]
    for inputs, valid in cases:
        body = {"inputs": inputs, "on_invalid": "flag", "alpha": 0.1}
        sheet = opened(image_server.client.post("/v1/anomaly-score?scale=1&columns=3", json=body, headers=PNG))
        pixels = np.asarray(sheet, int)
        assert pixels.shape == (3 * (2 + GAP) - GAP, len(inputs) * (3 + GAP) - GAP, 3)
        for index, row in enumerate(inputs):
            cell = pixels[:, index * (3 + GAP) : index * (3 + GAP) + 3]
            if index in valid:
                assert np.array_equal(cell[:2], np.repeat(tile(row, (0.0, 1.0))[..., None], 3, axis=-1))
            else:
                assert (cell == 128).all()
        assert [score is not None for score in json.loads(sheet.info["scores"])] == [
            index in valid for index in range(len(inputs))
        ]


def test_a_score_without_parts_by_pixel_has_no_map(image_server: Server) -> None:
    """By name, with the kinds that have; as JSON it is there."""
    body = {"inputs": [[[0, 1, 0], [1, 1, 0]]], "kind": "kl"}
    reply = image_server.client.post("/v1/anomaly-score", json=body, headers=PNG)
    assert (reply.status_code, reply.json()["field"]) == (422, "kind")
    assert reply.json()["detail"] == "kl has no parts by feature; those that have: nll, neg_elbo, reconstruction"
    assert image_server.client.post("/v1/anomaly-score", json=body).status_code == 200


def test_a_seed_gives_the_same_bytes(image_server: Server) -> None:
    """And a sheet without one tells which it was."""
    first = image_server.client.post("/v1/sample", json={"count": 5}, headers=PNG)
    seed = int(opened(first).info["seed"])
    again = image_server.client.post("/v1/sample", json={"count": 5, "seed": seed}, headers=PNG)
    assert again.content == first.content


@pytest.mark.parametrize(
    ("path", "request_of", "status", "told"),
    [
        ("sample?columns=0", {"json": {}, "headers": PNG}, 422, "columns: Input should be greater than or equal to 1"),
        ("sample?scale=65", {"json": {}, "headers": PNG}, 422, "scale: Input should be less than or equal to 64"),
        ("sample?scale=1.5", {"json": {}, "headers": PNG}, 422, "scale: Input should be a valid integer"),
        ("sample?columns=2", {"json": {}}, 422, "columns is an option of pictures, and the reply to this request is "),
        ("decode", {"json": {"latents": Z, "scale": 2}}, 422, "ask for a picture by Accept: image/png"),
        ("encode?scale=2", {"json": {"inputs": [[[0] * 3] * 2]}}, 422, "unknown field 'scale'"),
        ("sample", {"json": {"count": 1024, "scale": 64}, "headers": PNG}, 413, "the limit is 16777216"),
        ("encode", {"json": {"inputs": [[[0] * 3] * 2]}, "headers": PNG}, 406, "replies are application/json, "),
        ("interpolate", {"content": b"", "headers": {"Content-Type": "image/png"}}, 415, "multipart/form-data"),
        ("encode", {"content": b"GIF89a", "headers": {"Content-Type": "image/gif"}}, 415, "image/png or image/jpeg"),
        ("encode", {"content": b"GIF89a", "headers": {"Content-Type": "image/png"}}, 400, "row 0: it is not a PNG"),
        ("encode", {"files": sent(saved(np.zeros((2, 3), np.uint8)), b"x")}, 400, "inputs: row 1: it is not a PNG"),
        ("encode", {"files": sent(b"x", kind="image/gif")}, 415, "part 0 of the form, inputs, must be image/png or"),
        ("encode", {"files": [("input", ("a.png", b"\xff", "image/png"))]}, 400, "'input', is no text; the pictures'"),
        ("encode", {"files": [("draws", (None, "1"))]}, 422, "inputs is missing"),
        ("encode?inputs=1", {"files": sent(b"x")}, 422, "inputs is given twice"),
        ("encode?draws=1", {"files": [*sent(b"x"), ("draws", (None, "1"))]}, 422, "draws is given twice"),
        ("encode", {"files": [*sent(saved(np.zeros((2, 3), np.uint8))), ("no", (None, "1"))]}, 422, "unknown field"),
        ("encode", {"files": sent(*[b"x"] * 1025)}, 413, "inputs has 1025 rows; one request may have 1024"),
        ("encode", {"files": sent(*[b"x"] * 10_000)}, 413, "10000 parts or more; the limit is 1056"),
        ("encode", {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "no boundary"),
        ("interpolate", {"files": sent(saved(np.zeros((2, 3), np.uint8)))}, 422, "1 row; at least 2 needed"),
    ],
)
def test_what_is_no_picture_of_the_model_is_refused(
    image_server: Server, path: str, request_of: dict[str, Any], status: int, told: str
) -> None:
    """By name; options of drawing only where something is drawn."""
    reply = image_server.client.post(f"/v1/{path}", **request_of)
    assert (reply.status_code, reply.headers["content-type"]) == (status, "application/problem+json"), reply.text
    assert told in reply.json()["detail"]


def refused(server: Server, *told: str) -> None:
    """Hold every operation to refuse pictures, in and out, with all of these words; JSON is answered."""
    for route in ROUTES:
        for kind in (media.PNG, media.JPEG, media.FORM):
            headers = {"Content-Type": f"{kind}; boundary=b"}
            reply = server.client.post(route.path, content=b"x", headers=headers)
            assert reply.status_code == 415
            if kind in READS[route.op]:
                assert all(word in reply.json()["detail"] for word in ("send application/json", *told)), reply.text
        reply = server.client.post(route.path, json={}, headers=PNG)
        assert reply.status_code == 406
        if media.PNG in WRITES[route.op]:
            assert all(word in reply.json()["detail"] for word in ("replies are application/json", *told)), reply.text
    either = {"Accept": "image/png, application/json;q=0.5"}
    assert server.client.post("/v1/sample", json={}, headers=either).headers["content-type"] == media.JSON


def test_a_model_of_tables_has_no_pictures(table_server: Server) -> None:
    """415 and 406 say so, and what there is."""
    refused(table_server, "models of images", "'table'")


def test_a_model_whose_pixels_have_no_range_has_no_pictures(image_bundle: Path, tmp_path: Path) -> None:
    """Nothing says which value is white."""
    bundle = Path(shutil.copytree(image_bundle, tmp_path / "dots" / "1"))
    inputs = json.loads((bundle / "manifest.json").read_text())["inputs"]
    edit_manifest(bundle, inputs={**inputs, "range": None})
    with Server(bundle) as server:
        refused(server, "no range of its pixels")


class Idle:
    """A VAE that takes every request."""

    def admit(self, op: str) -> None:
        """Refuse nothing."""


class Pretend:
    """A bundle as it is served, and the service; the manifest is real."""

    def __init__(self, bundle: Path) -> None:
        opened = open_bundle(bundle)
        self.manifest = opened.manifest
        self.model = {"bundle_id": opened.bundle_id}
        self.vae = Idle()
        self.served = self


def test_another_bundle_has_its_own_media_types(image_bundle: Path, table_bundle: Path) -> None:
    """What is served may change under a running service."""
    service: Any = Pretend(image_bundle)
    route = V1("encode", service, Statistics(), Turns())
    headers = Headers({"headers": [(b"content-type", b"image/png")], "query_string": b""})
    route.admit(headers)
    service.served = Pretend(table_bundle)
    with pytest.raises(UnsupportedMedia, match="models of images"):
        route.admit(headers)


@pytest.mark.parametrize("missing", ["PIL", "python_multipart"])
def test_without_the_extra_the_service_starts_and_says_what_is_missing(
    image_bundle: Path, tmp_path: Path, missing: str
) -> None:
    """Pillow for pictures, python-multipart for forms of them."""
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{missing!r}] = None\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with Server(image_bundle, environment={"PYTHONPATH": path}) as server:
        assert server.client.post("/v1/sample", json={}).status_code == 200
        if missing == "PIL":
            refused(server, "Pillow is not installed here; pip install 'vae-serve[images]'")
        else:
            reply = server.client.post("/v1/encode", files=sent(b"x"))
            assert (reply.status_code, "python-multipart is not installed" in reply.json()["detail"]) == (415, True)
            opened(server.client.post("/v1/sample", json={}, headers=PNG))


def test_openapi_has_the_pictures(image_server: Server) -> None:
    """As bodies, as replies, and the options of drawing."""
    document = image_server.client.get("/openapi.json").json()
    assert set(READS) == set(WRITES) == set(MAIN) == {route.op for route in ROUTES}
    for route in ROUTES:
        operation = document["paths"][route.path]["post"]
        assert set(operation["requestBody"]["content"]) == set(READS[route.op])
        assert list(operation["responses"]["200"]["content"]) == list(WRITES[route.op])
        names = {parameter.get("name") for parameter in operation["parameters"]}
        assert names & {"columns", "scale"} == ({"columns", "scale"} if media.PNG in WRITES[route.op] else set())
