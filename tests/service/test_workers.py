"""Several workers behind one port are one service: to clients, to Prometheus, to whoever stops or reloads it."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.loader import load
from service.provider import available_cpus
from service.settings import Settings
from service.workers.channel import SAY_WHERE
from service.workers.port import DOUBT_S
from service.workers.supervisor import LAST_WORDS_S, LOST_S, WATCH_S
from service.workers.worker import TICK_S
from tests.bundles import publish, table_rows
from tests.server import Server

BODY = {"inputs": table_rows(3).tolist()}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several workers need Linux")


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for *condition*."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def pids(server: Server) -> dict[int, int]:
    """The process of each worker, the newest of its number."""
    return {int(n): int(pid) for n, pid in re.findall(r"worker (\d+) is process (\d+)", "".join(server.log))}


def alive(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill(server: Server, number: int) -> int:
    """Kill a worker, and wait until it is dead: the process that it was."""
    pid = pids(server)[number]
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(pid))
    return pid


def counts(server: Server) -> Path:
    """The directory that its workers count in."""
    opened = {os.readlink(file) for file in Path(f"/proc/{server.process.pid}/fd").iterdir()}
    return next(Path(name).parent for name in opened if name.endswith(".db"))


def ask(server: Server) -> tuple[str, httpx.Response]:
    """One request on a connection of its own: who answered, and the answer."""
    reply = httpx.post(f"{server.url}/v1/encode", json=BODY, timeout=30)
    return answered_by(reply), reply


def answered_by(reply: httpx.Response) -> str:
    """The worker: request ids begin with what is its own."""
    return reply.headers["x-request-id"].split("-")[0]


def counted(server: Server) -> float:
    """Good encode requests, as some worker tells it: on a connection of its own."""
    text = httpx.get(f"{server.url}/metrics", timeout=30).text
    found = re.search(r'^vae_http_requests_total\{code="200",method="POST",route="/v1/encode"\} (\S+)$', text, re.M)
    return float(found[1]) if found else 0.0


def tells(server: Server, sent: int) -> bool:
    """Whether so many good encode requests are counted."""
    return counted(server) == sent


def replaced(server: Server, number: int, old: int) -> bool:
    """Whether the process *old* is no longer the worker *number*."""
    return pids(server)[number] != old


class Two(Server):
    """The service with two workers, both ready."""

    def __init__(self, bundle: Path, **settings: Any) -> None:
        super().__init__(bundle, workers=2, **settings)
        try:
            self.says("worker 1 is ready")
        except AssertionError:
            self.__exit__()
            raise

    def metric(self, name: str, /, **labels: str) -> float:
        """On a connection of its own, which is closed then: it would count as one of its worker's, or die with it."""
        try:
            return super().metric(name, **labels)
        finally:
            self.client.close()
            self.client = httpx.Client(base_url=self.url, timeout=30)


@pytest.fixture(scope="module")
def two(table_bundle: Path) -> Iterator[Server]:
    """For tests that leave it as it was."""
    with Two(table_bundle) as server:
        yield server


@pytest.fixture
def own(table_bundle: Path, tmp_path: Path) -> Iterator[Server]:
    """For tests that do not; on a model directory with version 1, watched."""
    publish(table_bundle, tmp_path / "pumps", 1)
    with Two(tmp_path / "pumps", reload_interval_s=0.05) as server:
        yield server


def test_connections_are_shared_out_evenly(two: Server) -> None:
    """However few there are, and however busy a worker is: those of a proxy's pool stay where they went."""
    clients = [httpx.Client(timeout=30) for _ in range(8)]
    try:
        who = Counter(answered_by(client.post(f"{two.url}/v1/encode", json=BODY)) for client in clients)
        assert sorted(who.values()) == [4, 4]
    finally:
        for client in clients:
            client.close()


def test_short_connections_take_turns(two: Server) -> None:
    """One after the other, each closed before the next: no worker has fewer, and none is left idle."""
    time.sleep(2 * TICK_S)  # as long as a worker takes to tell that the connections of the test before are closed
    assert len({ask(two)[0] for _ in range(20)}) == 2


def test_every_worker_tells_the_sum(own: Server) -> None:
    """Of requests and rows, after each of them, whoever is asked; also after one was killed, and replaced."""
    sent = 0
    files: set[str] = set()
    for round_ in range(2):
        who: set[str] = set()
        while len(who) < 2:
            who.add(ask(own)[0])
            sent += 1
            until(functools.partial(tells, own, sent))
        assert [counted(own) for _ in range(6)] == [sent] * 6
        files = files or {file.name for file in counts(own).iterdir()}
        assert own.metric("vae_rows_total", op="encode") == 3 * sent
        assert own.metric("vae_http_request_duration_seconds_count", route="/v1/encode") == sent
        kill(own, round_)
        assert [counted(own) for _ in range(3)] == [sent] * 3
        until(lambda: own.metric("vae_workers_ready") == 2 and own.metric("vae_model_ready") == 1)
    assert own.metric("vae_worker_restarts_total") == 2
    assert {file.name for file in counts(own).iterdir()} == files


class Client:
    """Sends without pause on one connection, and makes a new one when that breaks."""

    def __init__(self, server: Server) -> None:
        self.who: list[str] = []
        self.failed: list[str] = []  # by whom the last good answer was given
        self.wrong: list[httpx.Response] = []
        self._stop = False
        self._url = server.url
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """Have the last answer."""
        self._stop = True
        self._thread.join(30)

    def go_on(self) -> None:
        """Until a request that began now is answered."""
        before = len(self.who)
        until(lambda: len(self.who) > before + 1)

    def _run(self) -> None:
        client = httpx.Client(timeout=30)
        while not self._stop:
            try:
                reply = client.post(f"{self._url}/v1/anomaly-score", json=BODY)
            except httpx.HTTPError:
                self.failed.append(self.who[-1])
                client.close()
                client = httpx.Client(timeout=30)
                continue
            if reply.status_code != 200:
                self.wrong.append(reply)
            self.who.append(answered_by(reply))
            if reply.headers.get("connection") == "close":
                self._stop = True
        client.close()


def test_a_killed_worker_takes_only_its_own_requests_with_it_and_is_replaced(own: Server) -> None:
    """Its neighbour's clients notice nothing; its own find another worker with their next request."""
    clients = [Client(own) for _ in range(6)]
    for client in clients:
        client.go_on()
    before = {client.who[-1] for client in clients}
    assert len(before) == 2
    old = kill(own, 0)
    own.says(f"worker 0 (process {old}) ended by signal 9; replaced in 0 s")
    until(lambda: pids(own)[0] != old)
    until(lambda: own.metric("vae_workers_ready") == 2)
    for client in clients:
        client.go_on()
    until(lambda: ask(own)[0] not in before)  # the new one has its share of new connections
    for client in clients:
        client.stop()
    assert [client.wrong for client in clients] == [[]] * 6
    assert max(len(client.failed) for client in clients) <= 1
    failed = {who for client in clients for who in client.failed}
    assert len(failed) <= 1
    assert not failed & {client.who[-1] for client in clients}


def test_connections_that_a_killed_worker_had_not_got_go_to_another(own: Server) -> None:
    """It reads from none that it has not said to have, so nothing is lost, and nothing is done twice."""
    host, port = own.url.removeprefix("http://").split(":")
    victim = pids(own)[0]
    os.kill(victim, signal.SIGSTOP)
    connections = [socket.create_connection((host, int(port)), timeout=30) for _ in range(6)]
    for connection in connections:
        connection.sendall(b"POST /v1/sample HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
    kill(own, 0)
    for connection in connections:
        with connection:
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_worker_that_hangs_is_killed_and_replaced(table_bundle: Path) -> None:
    """Its neighbour answers all the while, new connections too; what came to it and was not begun goes to another."""
    with Two(table_bundle, worker_timeout_s=2) as server:
        victim = pids(server)[0]
        os.kill(victim, signal.SIGSTOP)
        for _ in range(4):  # half of them are handed to the one that hangs
            assert ask(server)[1].status_code == 200
        server.says(f"worker 0 (process {victim}) hangs: no sign of life for")
        server.says(f"worker 0 (process {victim}) ended by signal 9; replaced in 0 s")
        until(lambda: pids(server)[0] != victim)
        until(lambda: server.metric("vae_workers_ready") == 2)
        assert {ask(server)[1].status_code for _ in range(8)} == {200}
        assert server.stop() == 0


def test_a_worker_that_has_said_nothing_for_long_gets_no_connections_and_no_statistics_wait_for_it(
    table_bundle: Path,
) -> None:
    """Long before it is killed: somebody else has the time. Its part of the statistics is what it was."""
    with Two(table_bundle, worker_timeout_s=600) as server:
        while len({ask(server)[0] for _ in range(4)}) < 2:
            pass
        before = httpx.get(f"{server.url}/v2/models/encode/stats", timeout=30).json()
        victim = pids(server)[0]
        os.kill(victim, signal.SIGSTOP)
        time.sleep(DOUBT_S + 1)
        assert httpx.get(f"{server.url}/v2/models/encode/stats", timeout=30).json() == before
        assert {ask(server)[1].status_code for _ in range(8)} == {200}
        os.kill(victim, signal.SIGCONT)
        until(lambda: len({ask(server)[0] for _ in range(8)}) == 2)
        assert pids(server)[0] == victim


def test_a_service_that_was_stopped_as_a_whole_goes_on_as_it_was(table_bundle: Path) -> None:
    """`docker pause`, or a laptop that sleeps: nobody has hung, though nobody has said anything."""
    with Two(table_bundle, worker_timeout_s=2) as server:
        workers = pids(server)
        os.killpg(server.process.pid, signal.SIGSTOP)
        time.sleep(LOST_S + 1)
        os.killpg(server.process.pid, signal.SIGCONT)
        assert {ask(server)[1].status_code for _ in range(8)} == {200}
        time.sleep(WATCH_S + LAST_WORDS_S)
        assert pids(server) == workers
        assert not any("hangs" in line for line in server.log)


def test_a_busy_worker_does_not_look_as_if_it_hung(table_bundle: Path) -> None:
    """The longest bodies there may be, to be parsed and to be refused, and the largest batches, one after another."""
    with Two(table_bundle, worker_timeout_s=2, max_request_rows=200_000, max_batch_rows=200_000) as server:
        rows = table_rows(1)[0].tolist()
        long = json.dumps({"inputs": [rows] * 150_000}).encode()
        senders = [
            threading.Thread(
                target=httpx.post, args=(f"{server.url}/v1/{op}",), kwargs={"content": body, "timeout": 60}
            )
            for op in ("encode", "anomaly-score", "reconstruct")
            for body in (long, long[:-1], b'{"inputs": [' + b"[" * 30_000_000)
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(60)
        assert not any("hangs" in line for line in server.log)
        assert server.metric("vae_worker_restarts_total") == 0


def test_a_worker_that_is_asked_where_it_is_says_so_and_goes_on(two: Server) -> None:
    """What the supervisor does before it kills one that hangs: the log has the place."""
    os.kill(pids(two)[1], SAY_WHERE)
    two.says("Current thread")
    two.says("worker.py", " in work")
    assert {ask(two)[1].status_code for _ in range(4)} == {200}


def test_statistics_are_the_sum_over_workers(own: Server) -> None:
    """Whoever is asked, right after the last answer; also when one was killed, and its place was taken."""

    def told(path: str) -> dict[str, Any]:
        reply = httpx.get(f"{own.url}{path}", timeout=30)
        return next(one for one in reply.json()["model_stats"] if one["name"] == "encode")

    sent = 0
    for round_ in range(2):
        who: set[str] = set()
        while len(who) < 2 or sent < 8 * (round_ + 1):
            who.add(ask(own)[0])
            sent += 1
            assert told("/v2/models/encode/stats")["inference_count"] == 3 * sent
        assert httpx.post(f"{own.url}/v1/encode", content=b"?", timeout=30).status_code == 400
        for path in ["/v2/models/encode/stats", "/v2/models/stats"] * 3:
            one = told(path)
            assert one["inference_stats"]["success"]["count"] == sent
            assert one["inference_stats"]["fail"]["count"] == round_ + 1
            assert one["inference_count"] == 3 * sent
            assert (
                sum(batch["compute_infer"]["count"] for batch in one["batch_stats"]) == one["execution_count"] == sent
            )
        if not round_:
            kill(own, 0)
            until(lambda: own.metric("vae_workers_ready") == 2)
            assert told("/v2/models/stats")["inference_count"] == 3 * sent


def test_a_worker_that_ends_again_and_again_is_replaced_later_and_later(own: Server) -> None:
    """At once, after 1 s, after 2 s: it must not take the CPU from the others. These answer meanwhile."""
    for wait in (0, 1, 2):
        old = kill(own, 1)
        own.says(f"worker 1 (process {old}) ended by signal 9; replaced in {wait} s")
        assert ask(own)[1].status_code == 200
        if wait > 1:
            until(lambda: own.metric("vae_workers_ready") == 1)
        until(functools.partial(replaced, own, 1, old))


@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_fails_no_request_and_leaves_nothing_behind(
    table_bundle: Path, sig: signal.Signals, group: bool
) -> None:
    """
    To the supervisor, or to all processes as a terminal and systemd send it: all drain, and it ends with 0.

    The directory of the counts is removed.
    """
    with Two(table_bundle) as server:
        directory = counts(server)
        assert directory.exists()
        clients = [Client(server) for _ in range(6)]
        for client in clients:
            client.go_on()
        workers = pids(server)
        if group:
            os.killpg(server.process.pid, sig)
        else:
            server.process.send_signal(sig)
        assert server.process.wait(30) == 0
        for client in clients:
            client.stop()
            assert (client.failed, client.wrong) == ([], [])
        assert not any(alive(pid) for pid in workers.values())
        assert not directory.exists()


def test_new_connections_are_answered_while_the_service_drains(table_bundle: Path) -> None:
    """Those whose balancer has not noticed yet; each is told to close."""
    with Two(table_bundle, drain_delay_s=2) as server:
        server.process.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{server.url}/health/ready").status_code == 503)
        replies = [ask(server) for _ in range(10)]
        assert {reply.status_code for _, reply in replies} == {200}
        assert {reply.headers["connection"] for _, reply in replies} == {"close"}
        assert len({who for who, _ in replies}) == 2
        assert server.process.wait(30) == 0


def test_a_second_signal_ends_it_at_once(table_bundle: Path) -> None:
    """However long it would drain."""
    with Two(table_bundle, drain_delay_s=600) as server:
        workers = pids(server)
        server.process.send_signal(signal.SIGTERM)
        server.says("stopping 2 workers")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 1
        assert not any(alive(pid) for pid in workers.values())


def test_without_their_supervisor_workers_finish_and_end(table_bundle: Path) -> None:
    """No process is left that holds the port and answers nobody's signals, and nothing on the disk."""
    with Two(table_bundle) as server:
        workers = pids(server)
        directory = counts(server)
        server.process.kill()
        server.process.wait(10)
        until(lambda: not any(alive(pid) for pid in workers.values()))
        assert not directory.exists()


def start(*flags: str) -> subprocess.CompletedProcess[str]:
    """Start the service where it must not go on running."""
    command = [sys.executable, "-m", "service", "--workers=3", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_a_bundle_that_must_not_be_served_stops_the_start_and_is_told_once(own_bundle: Path) -> None:
    """Not once a worker, and not again and again."""
    (own_bundle / "scorer.onnx").write_bytes(b"?")
    ended = start(f"--bundle={own_bundle}", "--port=0")
    assert ended.returncode > 0
    assert ended.stderr.count("scorer.onnx: its SHA-256 is not the one in SHA256SUMS") == 1
    assert "Traceback" not in ended.stderr
    assert "running on" not in ended.stderr


def test_a_port_that_is_taken_stops_the_start(table_bundle: Path) -> None:
    """Before anything is loaded."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken_port = taken.getsockname()[1]
        ended = start(f"--bundle={table_bundle}", f"--port={taken_port}")
    assert ended.returncode == 1
    assert f"cannot listen on host '127.0.0.1', port {taken_port}: Address already in use" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_reload_reaches_every_worker(own: Server, table_bundle: Path, tmp_path: Path) -> None:
    """By asking any of them, by SIGHUP, or by itself; under load, without a failed request."""
    models = tmp_path / "pumps"
    clients = [Client(own) for _ in range(4)]
    for client in clients:
        client.go_on()
    publish(table_bundle, models, 2)
    assert httpx.post(f"{own.url}/v1/anomaly-score", json=BODY).status_code == 200  # by version 1 or 2
    told = httpx.post(f"{own.url}/v1/admin/reload", timeout=30).json()
    assert {one["worker"] for one in told["workers"]} == {0, 1}
    assert (told["model"]["version"], {one["model"]["version"] for one in told["workers"]}) == (2, {2})
    for version in (3, 4):
        publish(table_bundle, models, version)
        if version == 4:
            own.process.send_signal(signal.SIGHUP)
        for number in (0, 1):
            own.says(f"worker {number}", f"serving pumps version {version} ")
        for _ in range(4):  # in both workers
            assert httpx.post(f"{own.url}/v1/anomaly-score", json=BODY).status_code == 200
    assert {ask(own)[1].json()["model"]["version"] for _ in range(8)} == {4}
    for client in clients:
        client.go_on()
        client.stop()
        assert (client.failed, client.wrong) == ([], [])
    assert own.metric("vae_reload_total", result="swapped") == 6
    text = own.client.get("/metrics").text
    (info,) = [line for line in text.splitlines() if line.startswith("vae_model_info{")]
    assert 'version="4"' in info
    assert set(re.findall('vae_anomaly_p_value_count{version="(.)"}', text)) == {"3", "4"}


def test_a_broken_version_is_refused_by_one_and_a_killed_worker_is_replaced_with_the_good_one(
    own: Server, table_bundle: Path, tmp_path: Path
) -> None:
    """What is served goes on being served, by as many workers as before, whatever lies in the directory."""
    publish(table_bundle, tmp_path / "pumps", 2)
    for number in (0, 1):
        own.says(f"worker {number}", "serving pumps version 2 ")
    # Each worker may have found version 2. What the second asks of all may still be under way, and would try version 3
    # in the one that it reaches last; what is asked after it is answered after it.
    assert httpx.post(f"{own.url}/v1/admin/reload", timeout=30).json()["result"] == "unchanged"
    publish(table_bundle, tmp_path / "pumps", 3, lambda bundle: (bundle / "eps.npy").write_bytes(b"?"))
    own.says("version 3 is refused, version 2 stays")
    refused = httpx.post(f"{own.url}/v1/admin/reload", timeout=30)
    assert refused.status_code == 409
    assert [one["result"] for one in refused.json()["workers"]] == ["refused"]
    assert own.metric("vae_reload_total", result="refused") == 1
    assert sum("is refused" in line for line in own.log) == 1
    old = kill(own, 1)
    until(lambda: pids(own)[1] != old)
    until(lambda: own.metric("vae_workers_ready") == 2)
    until(lambda: sum("worker 1 " in line and "serving pumps version 2 " in line for line in own.log) == 2)
    assert {ask(own)[1].json()["model"]["version"] for _ in range(8)} == {2}


def test_what_waits_in_one_worker_is_told_by_the_other(table_bundle: Path) -> None:
    """The gauges that are only known inside a process."""
    with Two(table_bundle, max_batch_delay_ms=1000) as server:
        senders = [threading.Thread(target=ask, args=(server,)) for _ in range(2)]  # one to each
        for sender in senders:
            sender.start()
        until(lambda: server.metric("vae_queue_rows", op="encode") == 6)
        assert server.metric("vae_queue_oldest_age_seconds", op="encode") > 0
        assert server.metric("vae_http_requests_in_progress", route="/v1/encode") == 2
        for sender in senders:
            sender.join(30)
        until(lambda: server.metric("vae_queue_rows", op="encode") == 0)
        assert server.metric("vae_http_requests_in_progress", route="/v1/encode") == 0


def test_the_processes_are_told_of_as_one(own: Server) -> None:
    """CPU seconds never go down, though a worker that has used some is killed; the start is the supervisor's."""

    def told(name: str) -> float:
        return own.metric(name)

    start_, before = told("process_start_time_seconds"), told("process_cpu_seconds_total")
    assert told("process_resident_memory_bytes") > 3 * 2**20
    assert 0 < told("process_open_fds") < told("process_max_fds")
    seen = [before]
    kill(own, 0)
    while told("vae_worker_restarts_total") < 1 or told("vae_workers_ready") < 2:
        seen.append(told("process_cpu_seconds_total"))
    seen.append(told("process_cpu_seconds_total"))
    assert seen == sorted(seen)
    assert told("process_start_time_seconds") == start_


def test_a_worker_is_stopped_by_the_supervisor_alone(two: Server) -> None:
    """A SIGTERM to one of them, as systemd sends to all, is not answered twice, nor by ending without order."""
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pids(two)[0], sig)
    end = time.monotonic() + 0.5  # a server notices a signal every 0.1 s
    while time.monotonic() < end:
        assert ask(two)[1].status_code == 200
    assert not any("draining" in line for line in two.log)
    assert all(alive(pid) for pid in pids(two).values())


@pytest.mark.parametrize(
    ("settings", "threads"), [({}, 0), ({"workers": 2}, 0), ({"workers": 64}, 0), ({"threads": 3}, 3)]
)
def test_workers_share_the_cpus_unless_told_otherwise(
    table_bundle: Path, settings: dict[str, Any], threads: int
) -> None:
    """Two workers on two CPUs with two threads each would be four for two."""
    placement = load(table_bundle, Settings(**settings)).engine.placement
    assert placement.threads == (threads or max(1, available_cpus() // settings.get("workers", 1)))
