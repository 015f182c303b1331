"""Start, stop, deadlines and departures of the real server."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest

from service.app import create_app
from service.command import read_settings
from service.settings import Settings
from tests.bundles import edit_manifest, reseal, table_rows
from tests.raw import until_closed
from tests.server import Server


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for *condition*."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def start(*flags: str) -> subprocess.CompletedProcess[str]:
    """Start the service where it must not go on running."""
    command = [sys.executable, "-m", "service", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_a_bundle_that_must_not_be_served_stops_the_start_with_one_line(own_bundle: Path) -> None:
    """The operator reads the file and the reason, not a traceback."""
    (own_bundle / "scorer.onnx").write_bytes(b"?")
    ended = start(f"--bundle={own_bundle}", "--port=0")
    assert ended.returncode not in (0, -15)
    assert "scorer.onnx: its SHA-256 is not the one in SHA256SUMS" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_golden_vectors_that_cannot_be_run_stop_the_start(own_bundle: Path) -> None:
    """Whatever is wrong with a bundle, the port does not open."""
    golden = dict(np.load(own_bundle / "golden.npz"))
    golden["encoder/x"] = golden["encoder/x"][:, :1]
    np.savez(own_bundle / "golden.npz", **golden)
    reseal(own_bundle)
    ended = start(f"--bundle={own_bundle}", "--port=0")
    assert ended.returncode not in (0, -15)
    assert "self-check: encoder.onnx cannot run the inputs of golden.npz" in ended.stderr
    assert "running on" not in ended.stderr


def test_a_device_that_is_not_there_stops_the_start(table_bundle: Path) -> None:
    """With VAE_DEVICE=cuda there is no silent CPU."""
    ended = start(f"--bundle={table_bundle}", "--port=0", "--device=cuda")
    assert ended.returncode not in (0, -15)
    assert "device 'cuda' was asked for" in ended.stderr


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--threads=100000"], "threads: Input should be less than or equal to 256"),
        (["--drain-timeout-s=inf"], "drain_timeout_s: Input should be less than or equal to 3600"),
        (["--port=http"], "port: Input should be a valid integer"),
        (["--nope=1"], "unrecognized arguments: --nope"),
    ],
)
def test_a_wrong_setting_is_named(flags: list[str], told: str) -> None:
    """On one line, with exit status 2."""
    ended = start(*flags)
    assert (ended.returncode, told in ended.stderr, "Traceback" in ended.stderr) == (2, True, False)


@pytest.mark.parametrize(
    ("host", "reason", "advice"),
    [
        ("127.0.0.1", "Address already in use", "end that one, or choose another port (VAE_PORT, --port"),
        ("192.0.2.1", "Cannot assign requested address", "an address of this machine (VAE_HOST, --host)"),
        ("no.such.host.invalid", "cannot listen on host 'no.such.host.invalid'", "(VAE_HOST, --host)"),
        ("a" * 70 + ".org", "cannot listen on host", "(VAE_HOST, --host)"),
    ],
)
def test_an_address_that_cannot_be_had_is_told_in_one_line_before_anything_is_loaded(
    table_bundle: Path, host: str, reason: str, advice: str
) -> None:
    """Host, port, reason and what to do; exit status 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = start(f"--bundle={table_bundle}", f"--host={host}", f"--port={port}")
    assert ended.returncode == 1
    told = [line for line in ended.stderr.splitlines() if "no API keys" not in line]
    assert len(told) == 1, ended.stderr
    assert f"cannot listen on host {host!r}, port {port}: " in told[0]
    assert reason in told[0]
    assert advice in told[0]


def test_what_cannot_be_served_has_an_exit_status_of_its_own(own_bundle: Path, tmp_path: Path) -> None:
    """3: who starts the service again and again need not, before something was done."""
    missing = start(f"--bundle={tmp_path / 'nope'}", "--port=0")
    keyless = start(f"--bundle={own_bundle}", "--port=0", f"--api-keys-file={tmp_path / 'nope'}")
    assert (missing.returncode, keyless.returncode) == (3, 3)
    assert f"the file of API keys {tmp_path / 'nope'} cannot be read: No such file or directory" in keyless.stderr
    assert "Traceback" not in missing.stderr + keyless.stderr


def test_a_service_that_others_reach_without_a_key_says_so(tmp_path: Path) -> None:
    """Once, and not where only this machine reaches it. (Without a bundle it ends before it listens.)"""
    key = f"--api-keys={'k' * 16}"
    for flags, told in ((["--host=0.0.0.0"], 1), (["--host=::1"], 0), ([], 0), (["--host=0.0.0.0", key], 0)):
        ended = start(f"--bundle={tmp_path}", "--port=0", *flags)
        assert ended.stderr.count("there are no API keys: whoever reaches") == told
        assert "k" * 16 not in ended.stderr


def test_who_sends_what_is_not_http_is_in_the_log(table_bundle: Path) -> None:
    """With the address, and what was wrong."""
    with Server(table_bundle) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as strange:
            strange.sendall(b"EHLO example.org\r\n\r\n")
            strange.recv(1000)
            address = "{}:{}".format(*strange.getsockname())
        assert "Invalid method" in server.says(f"what {address} sent is not HTTP")


def test_a_flag_wins_over_the_environment_and_both_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings are read once, and cannot be changed afterwards."""
    monkeypatch.setenv("VAE_PORT", "9001")
    monkeypatch.setenv("VAE_THREADS", "3")
    monkeypatch.setenv("VAE_LOG_LEVEL", "WARNING")
    settings = read_settings(["--port", "9002"])
    assert (settings.port, settings.threads, settings.host, settings.log_level) == (9002, 3, "127.0.0.1", "warning")
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]  # which is what is tested


def test_nothing_is_answered_before_the_model_is_ready() -> None:
    """503 on every operation, and in /health/ready; /health/live is 200 all the while."""

    async def test() -> None:
        app = create_app(Settings())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            assert (await client.get("/health/live")).status_code == 200
            assert (await client.get("/health/ready")).status_code == 503
            for path in ("/v1/encode", "/v1/anomaly-score"):
                assert (await client.post(path, json={})).json()["type"] == "urn:vae-serve:not-ready"
            assert (await client.get("/v1/model")).status_code == 503

    asyncio.run(test())


def test_sigterm_fails_no_request(table_bundle: Path) -> None:
    """
    Clients that send without pause through SIGTERM get an answer to every request.

    They leave when a reply closes its connection, as a proxy's pool does.
    """
    body = {"inputs": table_rows(200).tolist()}
    answered: list[int] = []
    failed: list[Exception] = []

    def send(server: Server) -> None:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            leaving = False
            while not leaving:
                try:
                    reply = client.post("/v1/anomaly-score", json=body)
                except httpx.HTTPError as error:
                    failed.append(error)
                    return
                answered.append(reply.status_code)
                leaving = reply.headers.get("connection") == "close"

    with Server(table_bundle) as server:
        senders = [threading.Thread(target=send, args=(server,)) for _ in range(8)]
        for sender in senders:
            sender.start()
        until(lambda: len(answered) > 20)
        before = len(answered)
        assert server.stop() == 0
        for sender in senders:
            sender.join(20)
        assert failed == []
        assert set(answered) == {200}
        assert len(answered) > before


@pytest.mark.skipif(sys.platform != "linux", reason="a process that is stopped misses a turn of its loop on Linux")
def test_who_is_connected_and_not_accepted_when_the_port_closes_is_answered(table_bundle: Path) -> None:
    """
    In a drain every client connects anew, and closing the port reset those that the system held for us.

    The process is stopped for longer than it looks for a signal: when it goes on it sees that it is to end, and closes
    the port, before it has accepted anybody.
    """
    with Server(table_bundle, drain_delay_s=0) as server, contextlib.ExitStack() as stack:
        server.process.send_signal(signal.SIGSTOP)
        clients = [stack.enter_context(contextlib.closing(socket.socket())) for _ in range(32)]
        for client in clients:
            client.settimeout(20)
            client.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGCONT)
        for client in clients:
            assert until_closed(client).endswith(b'{"live":true}')
        assert server.process.wait(30) == 0


def test_while_draining_the_server_says_so_and_still_answers(table_bundle: Path) -> None:
    """A load balancer that reads /health/ready has time to leave; each reply closes its connection."""
    with Server(table_bundle, drain_delay_s=2) as server:
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        until(lambda: server.client.get("/health/ready").status_code == 503)
        assert server.client.get("/health/ready").json()["draining"] is True
        reply = server.client.post("/v1/encode", json={"inputs": table_rows(1).tolist()})
        assert (reply.status_code, reply.headers["connection"]) == (200, "close")
        stopping.join(20)
        assert server.process.returncode == 0


def test_a_deadline_of_the_client_is_kept(table_bundle: Path) -> None:
    """504 in the client's time, not the server's; others are answered."""
    with Server(table_bundle, max_batch_delay_ms=300) as server:
        body = {"inputs": table_rows(4).tolist()}
        late = server.client.post("/v1/encode", json=body, headers={"X-Request-Timeout-Ms": "20"})
        assert (late.status_code, late.json()["type"]) == (504, "urn:vae-serve:deadline-exceeded")
        assert server.client.post("/v1/encode", json=body).status_code == 200
        assert server.metric("vae_rejected_total", reason="deadline-exceeded") == 1
        assert server.metric("vae_rows_total", op="encode") == 4


def test_a_client_that_hangs_up_is_counted_and_costs_the_others_nothing(table_bundle: Path) -> None:
    """Its rows leave the queue; the next request is answered."""
    with Server(table_bundle, max_batch_delay_ms=1000) as server:
        body = json.dumps({"inputs": table_rows(3).tolist()}).encode()
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as departing:
            head = f"POST /v1/encode HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            departing.sendall(head.encode() + body)
            until(lambda: server.metric("vae_http_requests_in_progress", route="/v1/encode") == 1)
        until(lambda: server.metric("vae_rejected_total", reason="client-gone") == 1)
        assert server.client.post("/v1/encode", content=body).status_code == 200


def test_a_body_that_stops_is_told_so_in_time(table_bundle: Path) -> None:
    """408, and the connection is closed; others are answered meanwhile."""
    with Server(table_bundle, request_timeout_s=0.3) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as slow:
            slow.sendall(b"POST /v1/encode HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            assert server.client.post("/v1/encode", json={"inputs": table_rows(1).tolist()}).status_code == 200
            assert slow.recv(1000).startswith(b"HTTP/1.1 408")


def test_a_full_queue_is_429_with_a_time_to_come_back(table_bundle: Path) -> None:
    """Before the body is parsed; those that wait are answered."""
    with Server(table_bundle, max_queue_rows=4, max_batch_rows=256, max_batch_delay_ms=1000) as server:
        body = {"inputs": table_rows(4).tolist()}
        answers: list[int] = []
        sender = threading.Thread(
            target=lambda: answers.append(httpx.post(server.url + "/v1/encode", json=body, timeout=30).status_code)
        )
        sender.start()
        until(lambda: server.metric("vae_queue_rows", op="encode") == 4)
        refused = server.client.post("/v1/encode", content=b"not even JSON")
        assert (refused.status_code, refused.json()["limit"]) == (429, 4)
        assert int(refused.headers["retry-after"]) >= 1
        assert server.metric("vae_queue_oldest_age_seconds", op="encode") > 0
        sender.join(30)
        assert answers == [200]


def test_at_the_door_a_request_is_refused_as_it_would_be_inside(table_bundle: Path) -> None:
    """In the same words and headers, several in one piece too; the connection goes on when there is room again."""
    body = json.dumps({"inputs": table_rows(4).tolist()}).encode()
    post = b"POST /v1/encode HTTP/1.1\r\nHost: x\r\nX-Request-Id: me\r\nContent-Length: %d\r\n" % len(body)
    with (
        Server(table_bundle, max_queue_rows=4, max_batch_rows=256, max_batch_delay_ms=1000) as server,
        contextlib.ExitStack() as stack,
    ):
        address = server.url.removeprefix("http://")
        first, kept, closed = (
            stack.enter_context(contextlib.closing(http.client.HTTPConnection(address))) for _ in range(3)
        )
        first.request("POST", "/v1/encode", body)
        until(lambda: server.metric("vae_queue_rows", op="encode") == 4)
        kept.connect()
        kept.sock.sendall((post + b"\r\n" + body) * 3 + post + b"\r\n" + body[:10])
        inside = post + b"Connection: close\r\n\r\n" + body  # it has to be told that the connection is closed
        closed.connect()
        closed.sock.sendall(inside)
        told = [_reply(kept.sock) for _ in range(4)] + [_reply(closed.sock)]
        for status, headers, problem in told:
            assert (status, headers["x-request-id"], problem["limit"]) == (429, "me", 4)
            assert int(headers["retry-after"]) >= 1
            assert headers.keys() - {"connection"} == told[-1][1].keys() - {"connection"}
        assert [headers.get("connection") for _, headers, _ in told] == [None] * 4 + ["close"]
        assert server.metric("vae_rejected_total", reason="overloaded") == 5
        assert server.metric("vae_http_requests_total", route="/v1/encode", method="POST", code="429") == 5
        assert first.getresponse().status == 200
        kept.sock.sendall(body[10:] + post + b"\r\n" + body)
        assert _reply(kept.sock)[0] == 200
        assert server.metric("vae_http_requests_in_progress", route="/v1/encode") == 0


def _reply(sock: socket.socket) -> tuple[int, dict[str, str], Any]:
    """The next one on *sock*: status, headers, what its JSON holds."""
    with sock.makefile("rb", buffering=0) as file:
        status = int(file.readline().split()[1])
        headers = {name.lower(): value for name, value in http.client.parse_headers(file).items()}
        return status, headers, json.loads(file.read(int(headers["content-length"])))


def test_answers_are_the_same_after_a_restart(table_bundle: Path) -> None:
    """All randomness is in the request or in the bundle."""
    bodies = {"anomaly-score": {"inputs": table_rows(5).tolist()}, "sample": {"count": 3, "seed": 1}}
    replies = []
    for _ in range(2):
        with Server(table_bundle) as server:
            replies.append({op: server.client.post(f"/v1/{op}", json=body).json() for op, body in bodies.items()})
    assert replies[0] == replies[1]


def test_with_too_few_calibration_rows_scores_are_there_and_the_decision_is_null(own_bundle: Path) -> None:
    """An alpha that nobody named does not fail a request; the reason says what is missing."""
    scoring = {"kind": "nll", "samples": 16, "alpha": 0.001}
    edit_manifest(own_bundle, scoring=scoring)
    with Server(own_bundle) as server:
        reply = server.client.post("/v1/anomaly-score", json={"inputs": table_rows(2).tolist()}).json()
        assert (reply["is_anomaly"], reply["threshold"], reply["false_alarm_rate"]) == ([None, None], None, None)
        assert reply["reason"] == "alpha 0.001 needs 999 calibration rows; the bundle has 200"
        assert len(reply["p_values"]) == 2


def test_an_operation_that_the_bundle_does_not_have_is_refused_by_name(own_bundle: Path) -> None:
    """From the capabilities, before the body is read."""
    manifest = json.loads((own_bundle / "manifest.json").read_text())
    edit_manifest(own_bundle, capabilities={**manifest["capabilities"], "operations": ["encode", "decode"]})
    with Server(own_bundle) as server:
        reply = server.client.post("/v1/sample", json={})
        assert (reply.status_code, reply.json()["type"]) == (422, "urn:vae-serve:unsupported")
        assert reply.json()["detail"] == "this bundle has no operation sample; it has: encode, decode"


def test_a_graph_that_this_service_does_not_run_is_refused_at_the_start(own_bundle: Path) -> None:
    """A bundle of a later service is not half served."""
    manifest = json.loads((own_bundle / "manifest.json").read_text())
    shutil.copy(own_bundle / "decoder.onnx", own_bundle / "posterior.onnx")
    graphs = {**manifest["graphs"], "posterior": {**manifest["graphs"]["decoder"], "file": "posterior.onnx"}}
    golden = own_bundle / "golden.npz"
    arrays = dict(np.load(golden))
    arrays |= {
        name.replace("decoder", "posterior"): value for name, value in arrays.items() if name.startswith("decoder")
    }
    np.savez(golden, **arrays)
    edit_manifest(own_bundle, graphs=graphs, latent={**manifest["latent"], "posterior": "graph"})
    ended = start(f"--bundle={own_bundle}", "--port=0")
    assert ended.returncode != 0
    assert "posterior.onnx: this version of the service does not run the graph posterior" in ended.stderr


def test_a_graph_that_takes_what_this_service_does_not_give_is_refused_at_the_start(own_bundle: Path) -> None:
    """As that of a conditional model: every request would fail otherwise."""
    model = onnx.load(own_bundle / "encoder.onnx")
    model.graph.input.append(onnx.helper.make_tensor_value_info("condition", onnx.TensorProto.FLOAT, ["batch", 2]))
    onnx.save(model, own_bundle / "encoder.onnx")
    graphs = json.loads((own_bundle / "manifest.json").read_text())["graphs"]
    graphs["encoder"]["inputs"].append({"name": "condition", "dtype": "float32", "shape": ["batch", 2]})
    arrays = dict(np.load(own_bundle / "golden.npz"))
    arrays["encoder/condition"] = np.zeros((len(arrays["encoder/x"]), 2), np.float32)
    np.savez(own_bundle / "golden.npz", **arrays)
    edit_manifest(own_bundle, graphs=graphs)
    ended = start(f"--bundle={own_bundle}", "--port=0")
    assert ended.returncode != 0
    assert "encoder.onnx: this version of the service does not give encoder the tensor condition" in ended.stderr


def test_a_second_signal_ends_at_once_and_quietly(table_bundle: Path) -> None:
    """Who waits is told so; there is no traceback in the log."""
    with Server(table_bundle, max_batch_delay_ms=1000, drain_delay_s=0.1) as server:
        replies: list[httpx.Response] = []
        body = {"inputs": table_rows(1).tolist()}
        sender = threading.Thread(target=lambda: replies.append(httpx.post(server.url + "/v1/encode", json=body)))
        sender.start()
        until(lambda: server.metric("vae_http_requests_in_progress", route="/v1/encode") == 1)
        server.process.send_signal(signal.SIGTERM)
        server.says("draining")
        assert server.stop() == 0
        sender.join(20)
        assert [reply.status_code for reply in replies] == [503]
        assert "Traceback" not in "".join(server.log)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize(("number", "how"), [(signal.SIGTERM, "SigCgt:"), (signal.SIGHUP, "SigIgn:")])
def test_a_signal_in_the_first_moments_is_not_lost_and_a_sighup_ends_nothing(
    table_bundle: Path, number: signal.Signals, how: str
) -> None:
    """
    As process 1 of a container, where the system ignores what nobody handles; also while the rest is imported.

    A SIGHUP would end any other process without a word; the newest version is being opened anyway.
    """
    command = [sys.executable, "-m", "service", f"--bundle={table_bundle}", "--port=0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    with process.stderr:
        until(lambda: handles(process.pid, number, how))
        assert "onnxruntime" not in Path(f"/proc/{process.pid}/maps").read_text()
        process.send_signal(number)
        if number == signal.SIGHUP:
            assert any("running on" in line for line in iter(process.stderr.readline, ""))
            process.terminate()
            assert process.wait(20) == 0
        else:
            assert (process.wait(20), process.stderr.read()) == (0, "")


def handles(pid: int, number: int, how: str) -> bool:
    """Whether the process has a handler for a signal (*how* is "SigCgt:"), or ignores it ("SigIgn:")."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith(how))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)
