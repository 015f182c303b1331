"""A newer version is taken while requests are answered; an unfit one is not; the old one leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.app import App, create_app
from service.bundle import open_bundle
from service.reload import unfit
from service.settings import Settings
from service.watch import Watch
from tests.bundles import edit_manifest, make_other, publish, reseal, table_rows
from tests.server import Server

ROWS = table_rows(3).tolist()


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for *condition*."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def odd_and_even(table_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two bundles with different weights: for versions that are odd, and for those that are even."""
    return table_bundle, publish(table_bundle, tmp_path_factory.mktemp("models") / "pumps", 2, make_other)


@pytest.fixture
def models(odd_and_even: tuple[Path, Path], tmp_path: Path) -> Path:
    """A model directory with version 1."""
    publish(odd_and_even[0], tmp_path / "pumps", 1)
    return tmp_path / "pumps"


@pytest.fixture
def server(models: Path) -> Iterator[Server]:
    """The service on *models*, which looks for newer versions only when it is asked to."""
    with Server(models, reload_interval_s=0) as running:
        yield running


def version_of(server: Server) -> int:
    """The version that is served."""
    return int(server.client.get("/v1/model").json()["manifest"]["version"])


def reload(server: Server) -> Any:
    """What /v1/admin/reload answers."""
    return server.client.post("/v1/admin/reload").json()


def cut_decoder(bundle: Path) -> None:
    """Leave a file that is not what SHA256SUMS says."""
    (bundle / "decoder.onnx").write_bytes(b"?")


class Caller:
    """Sends one kind of request without pause, and keeps what is wrong with the answers."""

    def __init__(self, url: str, path: str, body: Any, read: Callable[[Any], tuple[int, Any]], bundles: Any) -> None:
        self.answers = 0
        self.versions: set[int] = set()
        self.wrong: list[object] = []
        self._stop = False
        self._ask = url + path, body
        self._read = read
        self._expected: dict[int, Any] = {}
        self._bundles = bundles
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def go_on(self) -> None:
        """Until a request that began now is answered."""
        before = self.answers
        until(lambda: self.answers > before + 1 or bool(self.wrong))

    def stop(self) -> None:
        """Have the last answer."""
        self._stop = True
        self._thread.join(30)

    def _run(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._stop:
                try:
                    reply = client.post(self._ask[0], json=self._ask[1])
                    version, got = self._read(reply.raise_for_status().json())
                except Exception as error:
                    self.wrong.append(error)
                    return
                expected = self._expected.setdefault(version % 2, got)
                if not np.allclose(expected, got, rtol=1e-3, atol=1e-3):
                    self.wrong.append((version, expected, got))
                self.answers += 1
                self.versions.add(version)
        if np.allclose(self._expected[0], self._expected[1], rtol=1e-3, atol=1e-3):
            self.wrong.append("the two bundles cannot be told apart")


def test_twenty_reloads_under_load_fail_no_request_and_mix_no_versions(
    odd_and_even: tuple[Path, Path], models: Path
) -> None:
    """
    Each answer is of the version that it names, by its outputs; interpolate runs the model twice.

    In between come versions that are damaged. Some are found by looking, some are told of.
    """
    calls: list[tuple[str, Any, Callable[[Any], tuple[int, Any]]]] = [
        ("/v1/encode", {"inputs": ROWS}, lambda r: (r["model"]["version"], r["mu"])),
        ("/v1/anomaly-score", {"inputs": ROWS}, lambda r: (r["model"]["version"], r["scores"])),
        ("/v1/interpolate", {"inputs": ROWS, "steps": 4}, lambda r: (r["model"]["version"], r["outputs"])),
        (
            "/v2/models/reconstruct/infer",
            {"inputs": [{"name": "x", "datatype": "FP64", "shape": [3, 3], "data": ROWS}]},
            lambda r: (int(r["model_version"]), r["outputs"][0]["data"]),
        ),
    ]
    with Server(models, reload_interval_s=0.05) as server:
        callers = [Caller(server.url, path, body, read, odd_and_even) for path, body, read in calls]
        for caller in callers:
            caller.go_on()
        for version in range(2, 24):
            broken = version % 7 == 0
            publish(odd_and_even[(version + 1) % 2], models, version, cut_decoder if broken else None)
            if version % 2:
                told = server.client.post("/v1/admin/reload")
                assert told.status_code == (409 if broken else 200)
            elif broken:
                server.says(f"/{version}: decoder.onnx")
            else:
                server.says(f"serving pumps version {version} ")
            for caller in callers:
                caller.go_on()
        for caller in callers:
            caller.stop()
            assert caller.wrong == []
            assert caller.versions == set(range(1, 24)) - {7, 14, 21}
        assert server.metric("vae_reload_total", result="swapped") == 19
        assert server.metric("vae_reload_total", result="refused") == 3


def other_golden(bundle: Path) -> None:
    """Golden vectors that the graphs do not give."""
    golden = dict(np.load(bundle / "golden.npz"))
    golden["encoder/mu"] = golden["encoder/mu"] + 1
    np.savez(bundle / "golden.npz", **golden)
    reseal(bundle)


def no_graph(bundle: Path) -> None:
    """A graph that is not ONNX, with its right sum."""
    (bundle / "scorer.onnx").write_bytes(b"not a graph")
    reseal(bundle)


def other_column(bundle: Path) -> None:
    """A column of another name."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["inputs"]["columns"][0]["name"] = "torque"
    edit_manifest(bundle, inputs=manifest["inputs"])


def fewer_operations(bundle: Path) -> None:
    """A bundle that can only encode."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    edit_manifest(bundle, capabilities={**manifest["capabilities"], "operations": ["encode"]})


UNFIT: list[tuple[Callable[[Path], object], str]] = [
    (cut_decoder, "decoder.onnx: its SHA-256 is not the one in SHA256SUMS"),
    (no_graph, "scorer.onnx: "),
    (other_golden, "self-check: encoder.onnx output mu is"),
    (lambda bundle: (bundle / "SHA256SUMS").unlink(), "SHA256SUMS: cannot be read"),
    (lambda bundle: edit_manifest(bundle, schema_version=99), "schema"),
    (lambda bundle: edit_manifest(bundle, name="fans"), "is a bundle of 'fans'; 'pumps' is served here"),
    (lambda bundle: edit_manifest(bundle, version=1), "says version 1, and its directory"),
    (other_column, "its rows are not those of the version that is served"),
    (fewer_operations, "has no operation decode, which the version that is served has"),
]


def test_an_unfit_version_is_refused_with_its_reason_and_the_old_one_stays(
    odd_and_even: tuple[Path, Path], models: Path, server: Server
) -> None:
    """Whatever is wrong with it. Readiness, answers and the model's name do not change; the next good one is taken."""
    model, ready = server.client.get("/v1/model").json(), server.client.get("/health/ready").json()
    body = {"inputs": ROWS}
    answer = server.client.post("/v1/anomaly-score", json=body).json()
    for version, (damage, reason) in enumerate(UNFIT, start=2):
        publish(odd_and_even[1], models, version, damage)
        refused = server.client.post("/v1/admin/reload")
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:vae-serve:reload-refused")
        assert reason in refused.json()["detail"]
        assert refused.json()["model"] == answer["model"]
        server.says(f"version {version} is refused, version 1 stays: ", reason)
    assert server.metric("vae_reload_total", result="refused") == len(UNFIT)
    assert server.client.get("/v1/model").json() == model
    assert server.client.get("/health/ready").json() == ready
    assert server.client.post("/v1/anomaly-score", json=body).json() == answer
    good = len(UNFIT) + 2
    publish(odd_and_even[1], models, good)
    told = reload(server)
    assert (told["result"], told["before"]["version"], told["model"]["version"]) == ("swapped", 1, good)
    assert "Traceback" not in "".join(server.log)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (11, "has 11 calibration rows, too few for alpha 0.05, which needs 19"),
        (98, "has 98 calibration rows, too few for alpha 0.01, which needs 99"),
        (99, None),
    ],
)
def test_a_version_with_too_few_calibration_rows_for_what_is_asked_now_is_refused(
    odd_and_even: tuple[Path, Path], rows: int, reason: str | None
) -> None:
    """Down to the default alpha, 0.01; with fewer rows than before it is taken as long as that can be asked for."""
    old = open_bundle(odd_and_even[0]).manifest
    assert min(entry.rows for entry in old.calibrated) > 99
    few = tuple(entry.model_copy(update={"rows": rows}) for entry in old.calibrated)
    found = unfit(old.model_copy(update={"calibrated": few}), old)
    assert found is None if reason is None else found is not None and reason in found


def test_a_version_without_a_score_that_is_answered_now_is_refused(odd_and_even: tuple[Path, Path]) -> None:
    """By its kind and its draws."""
    old = open_bundle(odd_and_even[0]).manifest
    less = tuple(entry for entry in old.calibrated if (entry.kind, entry.samples) != ("kl", 64))
    assert "has not the score kl with 64 samples" in str(unfit(old.model_copy(update={"calibrated": less}), old))
    assert unfit(old, old.model_copy(update={"calibrated": less})) is None


def test_an_unfit_version_is_told_of_once_and_tried_again_when_it_changes(
    odd_and_even: tuple[Path, Path], models: Path
) -> None:
    """The log is not filled by looking; a version that was mended is taken without being asked for."""
    with Server(models, reload_interval_s=0.02) as server:
        made = publish(odd_and_even[1], models, 2, cut_decoder)
        until(lambda: server.metric("vae_reload_total", result="refused") == 1)
        looked = time.monotonic()
        until(lambda: time.monotonic() > looked + 0.5)  # some twenty looks
        assert sum("refused" in line for line in server.log) == 1
        shutil.copy(odd_and_even[1] / "decoder.onnx", made / "decoder.onnx")
        until(lambda: version_of(server) == 2)
        assert server.metric("vae_reload_total", result="refused") == 1


def test_asking_again_and_again_for_a_refused_version_does_not_open_it_again(
    odd_and_even: tuple[Path, Path], models: Path, server: Server
) -> None:
    """Anyone who reaches the port may ask; reading and hashing a large bundle is not free."""
    publish(odd_and_even[1], models, 2, cut_decoder)
    answers = [server.client.post("/v1/admin/reload") for _ in range(20)]
    assert {answer.status_code for answer in answers} == {409}
    assert len({answer.json()["detail"] for answer in answers}) == 1
    assert server.metric("vae_reload_total", result="refused") == 1


def test_all_who_ask_at_once_are_told_the_same(odd_and_even: tuple[Path, Path], models: Path, server: Server) -> None:
    """One reload at a time: the new version is opened once."""
    publish(odd_and_even[1], models, 2)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: httpx.post(f"{server.url}/v1/admin/reload", timeout=30), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["model"]["version"] for answer in answers} == {2}
    told = sorted((answer.json()["result"], answer.json()["before"]["version"]) for answer in answers)
    assert told == [("swapped", 1), *[("unchanged", 2)] * 15]
    assert server.metric("vae_reload_total", result="swapped") == 1


def test_a_directory_is_not_tried_while_it_changes(odd_and_even: tuple[Path, Path], models: Path) -> None:
    """A version that is copied in place, which it should not be, is waited for; each state of it is tried once."""
    watch = Watch(models)
    assert not watch.look(serving=1)
    (models / "2").mkdir()
    for file in sorted(odd_and_even[1].iterdir()):
        assert not watch.look(serving=1)
        shutil.copy(file, models / "2" / file.name)
    assert [watch.look(serving=1) for _ in range(4)] == [False, True, False, False]
    (models / "2" / "eps.npy").write_bytes(b"")
    assert [watch.look(serving=1) for _ in range(4)] == [False, True, False, False]
    assert not watch.look(serving=2)
    assert not watch.look(serving=3)


def test_a_directory_that_cannot_be_read_is_nothing_to_try(models: Path) -> None:
    """A network file system that is away for a while is no reason to stop serving, nor to stop looking."""
    watch = Watch(models)
    assert not watch.look(serving=0)
    models.rename(models.with_name("away"))
    assert [watch.look(serving=0) for _ in range(2)] == [False, False]
    models.with_name("away").rename(models)
    assert [watch.look(serving=0) for _ in range(2)] == [False, True]


def test_a_pinned_version_does_not_change(odd_and_even: tuple[Path, Path], models: Path) -> None:
    """VAE_BUNDLE=models/pumps/1 is how to go back to version 1, and to stay there."""
    with Server(models / "1", reload_interval_s=0.02) as server:
        publish(odd_and_even[1], models, 2)
        told = reload(server)
        assert (told["result"], told["model"]["version"]) == ("unchanged", 1)
        assert version_of(server) == 1


def test_an_older_version_never_replaces_a_newer_one(odd_and_even: tuple[Path, Path], models: Path) -> None:
    """Not even when the newer one is gone from the disk: it is served on, and the log says so once."""
    publish(odd_and_even[1], models, 2)
    with Server(models, reload_interval_s=0.02) as server:
        shutil.rmtree(models / "2")
        gone = f"{models}: version 2 is gone, and is served on from memory; a restart would serve version 1"
        server.says(gone)
        assert reload(server)["result"] == "unchanged"
        assert server.client.post("/v1/encode", json={"inputs": ROWS}).json()["model"]["version"] == 2
        assert sum("is gone" in line for line in server.log) == 1


def test_sighup_takes_the_newest_version(odd_and_even: tuple[Path, Path], models: Path, server: Server) -> None:
    """As for every other daemon; where there is none the process goes on all the same."""
    server.process.send_signal(signal.SIGHUP)
    server.says("asked to reload: unchanged, version 1")
    publish(odd_and_even[1], models, 2)
    server.process.send_signal(signal.SIGHUP)
    until(lambda: version_of(server) == 2)


def test_a_request_that_came_before_the_swap_is_answered_by_the_old_version(
    odd_and_even: tuple[Path, Path], models: Path, server: Server
) -> None:
    """Its body may take its time; the old version is let go of after it, and not before."""
    body = json.dumps({"inputs": ROWS}).encode()
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as slow:
        head = f"POST /v1/encode HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        slow.sendall(head.encode() + body[:10])
        until(lambda: server.metric("vae_http_requests_in_progress", route="/v1/encode") == 1)
        publish(odd_and_even[1], models, 2)
        assert reload(server)["result"] == "swapped"
        assert server.client.post("/v1/encode", json={"inputs": ROWS}).json()["model"]["version"] == 2
        assert not any("version 1 is let go of" in line for line in server.log)
        slow.sendall(body[10:])
        reply = b"".join(iter(lambda: slow.recv(65536), b""))
        assert b" 200 " in reply.splitlines()[0]
        assert b'"version":1' in reply
    server.says("version 1 is let go of")


def test_metrics_and_the_open_inference_protocol_follow(
    odd_and_even: tuple[Path, Path], models: Path, server: Server
) -> None:
    """One version is served, under its number; the counts go on."""
    infer = "/v2/models/encode/versions/{}/infer"
    body = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [3, 3], "data": ROWS}]}
    assert server.client.post(infer.format(1), json=body).status_code == 200
    publish(odd_and_even[1], models, 2)
    new = reload(server)["model"]
    assert server.client.post(infer.format(1), json=body).status_code == 404
    assert server.client.post(infer.format(2), json=body).json()["parameters"]["bundle_id"] == new["bundle_id"]
    assert server.client.get("/v2/models/encode").json()["versions"] == ["2"]
    (counted,) = server.client.get("/v2/models/encode/stats").json()["model_stats"]
    assert (counted["version"], counted["inference_stats"]["success"]["count"]) == ("2", 2)
    series = [line for line in server.client.get("/metrics").text.splitlines() if line.startswith("vae_model_info{")]
    assert series == [f'vae_model_info{{bundle_id="{new["bundle_id"]}",name="pumps",version="2"}} 1.0']
    server.client.post("/v1/anomaly-score", json={"inputs": ROWS})
    assert server.metric("vae_anomaly_p_value_count", version="2") == 3
    assert server.metric("vae_rows_total", op="encode") == 6


class Alive:
    """The application inside its lifespan, without a server."""

    def __init__(self, settings: Settings) -> None:
        self.app: App = create_app(settings)
        self._inbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._told: asyncio.Queue[Any] = asyncio.Queue()

    async def __aenter__(self) -> App:
        self._task = asyncio.create_task(self.app({"type": "lifespan"}, self._inbox.get, self._told.put))
        await self._inbox.put({"type": "lifespan.startup"})
        assert await self._told.get() == {"type": "lifespan.startup.complete"}
        return self.app

    async def __aexit__(self, *_: object) -> None:
        await self._inbox.put({"type": "lifespan.shutdown"})
        await self._task


@pytest.mark.parametrize("reloads", [1, 5])
def test_what_was_served_leaves_nothing_in_memory(odd_and_even: tuple[Path, Path], models: Path, reloads: int) -> None:
    """Not the first one either, which the garbage collector was told to leave alone. Sessions, arrays, threads."""

    async def test() -> None:
        async with Alive(Settings(bundle=models, reload_interval_s=0, threads=1)) as app:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                old: list[weakref.ref[Any]] = []
                for version in range(2, reloads + 2):
                    for path in ("/v1/interpolate", "/v1/anomaly-score"):
                        assert (await client.post(path, json={"inputs": ROWS})).status_code == 200
                    assert (await client.get("/v2/models/encode")).status_code == 200
                    assert app.served is not None
                    vae = app.served.vae
                    old += [weakref.ref(vae), weakref.ref(vae.bundle), weakref.ref(vae.anomaly)]
                    del vae
                    publish(odd_and_even[version % 2], models, version)
                    assert (await app.reload())["model"]["version"] == version
                end = asyncio.get_running_loop().time() + 30
                while any(ref() is not None for ref in old):
                    assert asyncio.get_running_loop().time() < end, [ref() for ref in old if ref() is not None]
                    await asyncio.sleep(0.01)
                while sum(thread.name.startswith("engine") for thread in threading.enumerate()) > 1:
                    assert asyncio.get_running_loop().time() < end
                    await asyncio.sleep(0.01)

    asyncio.run(test())


def test_a_broken_newest_version_stops_a_start(odd_and_even: tuple[Path, Path], models: Path) -> None:
    """Nothing falls back in silence: who wants the version before says so, by its path."""
    publish(odd_and_even[1], models, 2, cut_decoder)
    command = [sys.executable, "-m", "service", "--port=0"]
    for path, ready in ((models, False), (models / "1", True)):
        process = subprocess.Popen([*command, f"--bundle={path}"], stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        told = next((line for line in lines if "running on" in line or "its SHA-256 is not" in line), "")
        assert ("running on" in told) == ready
        process.terminate()
        process.communicate(timeout=30)


def test_a_version_in_a_directory_of_another_number_stops_a_start(
    odd_and_even: tuple[Path, Path], models: Path
) -> None:
    """Which of the two would be served, and what would be newer than it?"""
    publish(odd_and_even[1], models, 3, lambda bundle: edit_manifest(bundle, version=2))
    ended = subprocess.run(
        [sys.executable, "-m", "service", "--port=0", f"--bundle={models}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode != 0
    assert "manifest.json: says version 2, and its directory 3" in ended.stderr
