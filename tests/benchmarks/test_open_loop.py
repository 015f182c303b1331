"""The open-loop generator: its schedule, and what it counts as latency."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.serving.failures import Refused
from benchmarks.serving.open_loop import Outcome, drive, poisson, request, whole
from benchmarks.serving.wire import Body

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
REQUEST = request("/encode", Body(b"{}", {"Content-Type": "application/json"}))


@contextmanager
def responder(reply: bytes) -> Iterator[int]:
    """A server that answers each request with *reply*, one connection after another: its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                while connection.recv(len(REQUEST), socket.MSG_WAITALL):
                    connection.sendall(reply)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


@given(st.floats(1, 5000), st.floats(0.1, 3), st.integers(0, 2**32))
def test_a_schedule_is_ascending_within_its_time_and_the_same_for_one_seed(
    rate: float, seconds: float, seed: int
) -> None:
    """So that every server gets the same load, and a run can be repeated."""
    due = poisson(rate, seconds, seed)
    assert np.array_equal(due, poisson(rate, seconds, seed))
    assert (np.diff(due) >= 0).all()
    assert ((due >= 0) & (due < seconds)).all()


def test_a_schedule_has_the_rate_and_the_unevenness_of_a_poisson_process() -> None:
    """The number in a second varies as much as its mean; even gaps would hide what queues do."""
    counts = [len(poisson(200, 1, seed)) for seed in range(500)]
    assert abs(np.mean(counts) - 200) < 5 * np.sqrt(200 / 500)
    assert 0.8 < np.var(counts) / 200 < 1.25
    assert not np.array_equal(poisson(200, 1, 0), poisson(200, 1, 1))


def test_latency_counts_from_the_instant_at_which_a_request_was_due() -> None:
    """Not from when a connection was free: that leaves out what a slow reply does to those behind it."""
    due, done = np.array([0.0, 0.1, 0.2]), np.array([1.0, 1.1, 1.2])
    outcome = Outcome(due, sent=np.array([0.0, 1.0, 1.1]), done=done, waited=np.array([False, True, True]))
    assert outcome.latency_ms == pytest.approx([1000, 1000, 1000])
    figures = outcome.figures()
    assert figures["p50_ms"] == pytest.approx(1000)
    assert figures["late_ms"] == 0
    assert figures["achieved_per_s"] == pytest.approx(2.5)


def test_a_request_that_finds_every_connection_busy_waits_and_its_wait_counts() -> None:
    """Four at once on one connection: each takes at least as long as the one before it."""
    with responder(OK) as port:
        outcome = drive(port, [REQUEST], np.zeros(4), connections=1)
    assert outcome.waited.tolist() == [False, True, True, True]
    assert (np.diff(outcome.latency_ms) > 0).all()
    assert (outcome.sent[1:] >= outcome.done[:-1]).all()


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\n{}", id="not a 200"),
        pytest.param(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", id="no length"),
    ],
)
def test_a_reply_that_is_no_answer_ends_the_load(reply: bytes) -> None:
    """A server that refuses quickly would look fast."""
    with responder(reply) as port, pytest.raises(Refused):
        drive(port, [REQUEST], np.zeros(2), connections=1)


def test_who_hears_the_replies_judges_them() -> None:
    """Under overload a refusal is an answer, and its latency counts."""
    refusal = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\n{}"
    heard: list[tuple[int, bytes]] = []
    with responder(refusal) as port:
        outcome = drive(port, [REQUEST], np.zeros(2), 1, lambda number, reply: heard.append((number, reply)))
    assert heard == [(0, refusal), (1, refusal)]
    assert len(outcome.done) == 2


def test_a_load_without_requests_is_refused() -> None:
    """There is nothing to take percentiles of."""
    with pytest.raises(ValueError, match="no request is due"):
        drive(1, [REQUEST], np.zeros(0))


@given(st.integers(0, len(OK) - 1))
def test_a_reply_is_whole_when_its_last_byte_is_there(cut: int) -> None:
    """However it was cut on its way."""
    assert whole(OK)
    if cut < OK.index(b"\r\n\r\n") or cut >= OK.index(b"\r\n\r\n") + 4:
        assert not whole(OK[:cut])
