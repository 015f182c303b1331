"""
Every answer that the OpenAPI document shows, from the real service on the shipped example, and on a table.

`python -m tests.openapi` (make openapi) records them in service/examples.json and writes docs/openapi.json; the tests
compare. Needs no network but the loopback interface.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import math
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from service.app import App
from service.errors import ServiceError
from service.http.cold import Cold
from service.oip.endpoint import OIP
from service.settings import Settings
from service.statistics import Statistics
from service.web import make_web
from tests.bundles import publish, reseal
from tests.mixed import make_mixed
from tests.server import Server

ROOT = Path(__file__).parent.parent
BUNDLE = ROOT / "deploy/models/digits"
EXAMPLES = ROOT / "service/examples.json"
DOCUMENT = ROOT / "docs/openapi.json"
IMAGES, TABLE = "digits", "pumps"
"""The models that examples are of: the shipped one, and where an example's "of" says so, a table."""

VARYING = {"v2_statistics", "v2_model_statistics", "v2_model_version_statistics"}
"""Operations whose replies are other numbers each time."""

COUNTED = {"deadline-exceeded", "headers-too-large"}
"""Errors that tell of seconds or bytes, which are others each time."""

REQUEST_ID = "order-17"
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
_MOMENT = timedelta(seconds=100)  # a thousandth of the standard deviation of the table's instants
WATCHER = "a-key-of-prometheus"
_STATUS = {error.type: error.status for error in ServiceError.__subclasses__()}
_ROWS: dict[str, dict[str, Any]] = {
    "/v1": {"inputs": [[[0] * 8] * 8]},
    "/v2": {"inputs": [{"name": "x", "shape": [1, 8, 8], "datatype": "FP32", "data": [0] * 64}]},
}


class Answer(NamedTuple):
    """What came back from one operation, called by its method and path; *type*: the error that was provoked."""

    method: str
    path: str
    status: int
    headers: dict[str, str]
    body: bytes
    type: str = ""

    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


def answer(reply: httpx.Response, kind: str = "") -> Answer:
    """One of httpx's."""
    headers = {name.lower(): value for name, value in reply.headers.items()}
    path = reply.request.url.raw_path.decode().split("?")[0]
    return Answer(reply.request.method, path, reply.status_code, headers, reply.content, kind)


@contextlib.contextmanager
def serving(model: str, like: Path | None = None) -> Iterator[Server]:
    """The service on the model that examples are of: the shipped one, or the table of tests/mixed.py, see there."""
    with contextlib.ExitStack() as stack:
        bundle = BUNDLE
        if model == TABLE:
            bundle = make_mixed(Path(stack.enter_context(tempfile.TemporaryDirectory())) / TABLE, like=like)
        yield stack.enter_context(Server(bundle, device="cpu"))


def examples(document: dict[str, Any], server: Server, model: str = IMAGES) -> Iterator[tuple[str, str, Answer]]:
    """Each documented request to *model*, sent: the operation's id, the example's name, the answer."""
    known = json.loads(EXAMPLES.read_text("utf-8"))["operations"]
    for path, item in document["paths"].items():
        for method, operation in item.items():
            values = {p["name"]: p["example"] for p in operation["parameters"] if p.get("in") == "path"}
            sent = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("examples", {})
            replies = operation["responses"]["200"]["content"].get("application/json", {}).get("examples", {})
            of = {name: one.get("of", IMAGES) for name, one in known.get(operation["operationId"], {}).items()}
            for name in sent or replies or {"": None}:
                if of.get(name, IMAGES) != model:
                    continue
                body = {"json": sent[name]["value"]} if sent else {}
                reply = server.client.request(method, path.format(**values), **body)
                yield operation["operationId"], name, answer(reply)


def problems() -> Iterator[Answer]:
    """Every error that can be had, of /v1 and of /v2, on every operation where it costs little."""
    for reply in _problems():
        status = _STATUS.get(reply.type, reply.status)
        assert reply.status == (400 if status == 422 and reply.path.startswith("/v2") else status), reply
        yield reply


def _problems() -> Iterator[Answer]:
    with Server(BUNDLE, device="cpu") as server:
        hot = [
            ("/v1", f"/v1/{op}") for op in ("encode", "decode", "sample", "interpolate", "reconstruct", "anomaly-score")
        ] + [("/v2", "/v2/models/encode/infer"), ("/v2", "/v2/models/encode/versions/1/infer")]
        for under, path in hot:
            yield from _of_any_body(server, under, path)
        yield from _of_rows(server)
        for path in ("/v2/models/nope", "/v2/models/nope/ready", "/v2/models/nope/config", "/v2/models/nope/stats"):
            yield _get(server, path, "unknown-model")
        for path in ("", "/ready", "/config", "/stats"):
            yield _get(server, f"/v2/models/encode/versions/9{path}", "unknown-model")
        for path in ("/v2/models/nope/infer", "/v2/models/encode/versions/9/infer"):
            yield _post(server, path, "unknown-model", json=_ROWS["/v2"])
    with Server(BUNDLE, device="cpu", max_queue_rows=1, max_batch_delay_ms=600) as server:
        for under, path in (("/v1", "/v1/encode"), ("/v2", "/v2/models/encode/infer")):
            yield from _of_a_queue(server, under, path)
    yield from _of_a_process(BUNDLE)
    with Server(BUNDLE, {"VAE_API_KEYS": f"metrics:{WATCHER}", "VAE_METRICS_NEED_KEY": "true"}, device="cpu") as server:
        yield from _of_keys(server)
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(shutil.copytree(BUNDLE / "1", Path(folder) / "1"))
        shutil.rmtree(bare / "report")
        reseal(bare)
        with Server(bare) as server:
            yield _get(server, "/v1/model/report", "no-report")
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "digits"
        publish(BUNDLE / "1", models, 1)
        with Server(models, reload_interval_s=0) as server:
            publish(BUNDLE / "1", models, 2, name="letters")  # a bundle of another model
            yield _post(server, "/v1/admin/reload", "reload-refused")


def _get(server: Server, path: str, kind: str, headers: dict[str, str] | None = None) -> Answer:
    return answer(server.client.get(path, headers={"X-Request-Id": REQUEST_ID, **(headers or {})}), kind)


def _post(server: Server, path: str, kind: str, headers: dict[str, str] | None = None, **body: Any) -> Answer:
    return answer(server.client.post(path, headers={"X-Request-Id": REQUEST_ID, **(headers or {})}, **body), kind)


def _of_keys(server: Server) -> Iterator[Answer]:
    """Without a key, and with one that is for something else; the last path of /v1 and of /v2 has the example."""
    yield _get(server, "/metrics", "unauthorized")
    for path in ("/v1/model/report", "/v1/model", "/v2/models/stats", "/v2/models/encode", "/v2"):
        yield _get(server, path, "unauthorized")
        yield _get(server, path, "forbidden", {"Authorization": f"Bearer {WATCHER}"})
    for path in ("/v1/admin/reload", "/v1/anomaly-score", "/v2/repository/index", "/v2/models/encode/infer"):
        yield _post(server, path, "unauthorized", json={})
        yield _post(server, path, "forbidden", {"X-API-Key": WATCHER}, json={})


def _of_any_body(server: Server, under: str, path: str) -> Iterator[Answer]:
    """What is wrong whatever the operation."""
    yield _post(server, path, "malformed-body", content=b"[1]")
    yield _post(server, path, "headers-too-large", {"X-Long": "x" * 66000}, json={})
    yield _post(server, path, "invalid-input", {"X-Request-Timeout-Ms": "soon"}, json={})
    yield _raw(server, path, "length-required", {})
    yield _raw(server, path, "slow-body", {"Content-Length": "100", "X-Request-Timeout-Ms": "30"})
    yield _raw(server, path, "too-large", {"Content-Length": "1000000000"})
    if under == "/v1":
        yield _post(server, path, "not-acceptable", {"Accept": "text/csv"}, json={})
        yield _post(server, path, "unsupported-media-type", {"Content-Type": "text/csv"}, content=b"1,2,3")
    else:
        yield _post(server, path, "unsupported-media-type", {"Content-Encoding": "br"}, content=b"1,2,3")


def _of_rows(server: Server) -> Iterator[Answer]:
    """What is wrong with what a body holds; of each type the last is the example."""
    yield _post(server, "/v1/sample", "too-large", json={"count": 2000})
    yield _post(server, "/v1/encode", "invalid-input", json={"inputs": [[[0] * 8] * 8, [[0] * 8] * 7]})
    yield _post(server, "/v1/decode", "unsupported", json={"latents": [[0] * 16], "records": True})
    yield _post(server, "/v1/anomaly-score", "unsupported", json={**_ROWS["/v1"], "alpha": 1e-6})
    short = {"inputs": [{"name": "x", "shape": [1, 8, 7], "datatype": "FP32", "data": [0] * 56}]}
    many = {"inputs": [{"name": "count", "shape": [1], "datatype": "INT64", "data": [2000]}]}
    rare = {**_ROWS["/v2"], "parameters": {"alpha": 1e-6}}
    yield _post(server, "/v2/models/sample/infer", "too-large", json=many)
    yield _post(server, "/v2/models/encode/infer", "invalid-input", json=short)
    yield _post(server, "/v2/models/anomaly-score/infer", "unsupported", json=rare)


def _of_a_queue(server: Server, under: str, path: str) -> Iterator[Answer]:
    """A batch that waits fills the queue, and outlasts the patience of a client."""
    body = _ROWS[under]
    _wait_for(server, 0)

    def fill() -> None:
        with contextlib.suppress(httpx.TransportError):  # when a test has failed and the server is gone
            httpx.post(server.url + path, json=body, timeout=30)

    first = threading.Thread(target=fill)
    first.start()
    _wait_for(server, 1)
    yield _post(server, path, "overloaded", json=body)
    first.join(30)
    _wait_for(server, 0)
    yield _post(server, path, "deadline-exceeded", {"X-Request-Timeout-Ms": "20"}, json=body)


def _wait_for(server: Server, rows: int) -> None:
    """Until so many rows wait for the model."""
    end = time.monotonic() + 20
    while server.metric("vae_queue_rows", op="encode") != rows:
        assert time.monotonic() < end, f"there are never {rows} rows in the queue"
        time.sleep(0.01)


class _Broken(OIP):
    """Its catalog cannot be had."""

    def catalog(self) -> Any:
        """Fail as a bug would."""
        raise RuntimeError("a secret")


class _BrokenApp(App):
    """What it serves cannot be told."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        web = make_web(self, _Broken(self, Statistics(), settings.max_body_bytes, self.exchange.bodies))
        self._cold = Cold(web, self.exchange, self.metrics, str)

    def model(self) -> dict[str, Any]:
        """Fail as a bug would."""
        raise RuntimeError("a secret")


def _of_a_process(bundle: Path) -> Iterator[Answer]:
    """Before the start, and with a bug: in this process, because no sound server shows either."""
    app = App(Settings(bundle=bundle))
    for under, path in (("/v1", "/v1/encode"), ("/v2", "/v2/models/encode/infer")):
        yield _in_process(app, "POST", path, "not-ready", _ROWS[under])
    for path in ("/v1/model", "/v1/model/report", "/v2/health/ready", "/v2/models/encode", "/v2/models/stats"):
        yield _in_process(app, "GET", path, "not-ready")
    for path in ("/v1/admin/reload", "/v2/repository/index"):
        yield _in_process(app, "POST", path, "not-ready")
    yield _in_process(app, "GET", "/health/ready", "")
    broken = _BrokenApp(Settings(bundle=bundle))
    for path in ("/v1/model", "/v2/models/encode", "/v2/models/stats", "/v2/health/ready"):
        yield _in_process(broken, "GET", path, "inference-failed")


def _in_process(app: App, method: str, path: str, kind: str, body: Any = None) -> Answer:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, json=body, headers={"X-Request-Id": REQUEST_ID})

    return answer(asyncio.run(ask()), kind)


def _raw(server: Server, path: str, kind: str, headers: dict[str, str]) -> Answer:
    """A POST whose body does not come."""
    host, port = server.url.removeprefix("http://").split(":")
    with contextlib.closing(http.client.HTTPConnection(host, int(port), timeout=20)) as connection:
        connection.putrequest("POST", path)
        for name, value in {"X-Request-Id": REQUEST_ID, **headers}.items():
            connection.putheader(name, value)
        connection.endheaders()
        reply = connection.getresponse()
        told = {name.lower(): value for name, value in reply.getheaders()}
        return Answer("POST", path, reply.status, told, reply.read(), kind)


def near(recorded: Any, real: Any) -> bool:
    """Whether the two are the same but for the last digits of their numbers, and of instants."""
    if isinstance(recorded, dict):
        return isinstance(real, dict) and list(recorded) == list(real) and all(near(recorded[k], real[k]) for k in real)
    if isinstance(recorded, list):
        return isinstance(real, list) and len(recorded) == len(real) and all(map(near, recorded, real))
    if (
        isinstance(recorded, str)
        and isinstance(real, str)
        and _INSTANT.fullmatch(recorded)
        and _INSTANT.fullmatch(real)
    ):
        return abs(datetime.fromisoformat(recorded) - datetime.fromisoformat(real)) < _MOMENT
    if isinstance(recorded, float) or isinstance(real, float):
        return type(real) in (int, float) and math.isclose(recorded, real, rel_tol=2e-3, abs_tol=2e-3)
    return type(recorded) is type(real) and bool(recorded == real)


def as_recorded(real: Any, recorded: Any) -> Any:
    """
    A reply of the table, under the bundle_id that was recorded.

    The table's bundle is made anew each time, and another release of PyTorch, or another processor, gives it another.
    """
    if not isinstance(real, dict) or not isinstance(recorded, dict):
        return real
    same = {"bundle_id": recorded["bundle_id"]} if "bundle_id" in real and "bundle_id" in recorded else {}
    parts = {name: as_recorded(real[name], recorded.get(name)) for name in ("model", "parameters") if name in real}
    return {**real, **parts, **same}


def rounded(value: Any) -> Any:
    """With four digits a number, which is enough to see what it is."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def pretty(document: Any) -> str:
    """As JSON with a line for each member, and each row of numbers."""
    scalar = r"(?:-?\d[\d.eE+-]*|null|true|false)"
    text = json.dumps(document, indent=1, ensure_ascii=False)
    rows = re.compile(rf"\[\s*({scalar}(?:,\s+{scalar})*)\s*\]")
    return rows.sub(lambda row: "[" + ", ".join(re.split(r",\s+", row[1])) + "]", text) + "\n"


def record(found: dict[str, Any]) -> None:
    """Replies into *found*, the content of examples.json, where what is there is not what comes."""

    def keep(place: dict[str, Any], name: str, real: Any, varying: bool = False) -> None:
        if place.get(name) is None or not (varying or near(place[name], real)):
            place[name] = rounded(real)

    for reply in problems():
        if reply.type:
            place = found["problems"]["/v2" if reply.path.startswith("/v2") else "/v1"]
            keep(place, reply.type, reply.json(), reply.type in COUNTED)
    for one in [one for operation in found["operations"].values() for one in operation.values()]:
        one.setdefault("reply", None)
    EXAMPLES.write_text(pretty(found), "utf-8")
    for model in (IMAGES, TABLE):
        with serving(model) as server:
            document = server.client.get("/openapi.json").json()
            for operation_id, name, reply in examples(document, server, model):
                assert reply.status == 200, reply
                if name:
                    place = found["operations"][operation_id][name]
                    real = as_recorded(reply.json(), place["reply"]) if model == TABLE else reply.json()
                    keep(place, "reply", real, operation_id in VARYING)
    EXAMPLES.write_text(pretty(found), "utf-8")


def main() -> None:
    """Record, then write the document."""
    record(json.loads(EXAMPLES.read_text("utf-8")))
    with Server(BUNDLE, device="cpu") as server:
        DOCUMENT.write_text(pretty(server.client.get("/openapi.json").json()), "utf-8")


if __name__ == "__main__":
    main()
