"""Every program of docs/clients.md runs, and prints what is shown under it."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guide import ROOT, Program, agrees, programs, run
from tests.server import Server

GUIDE = (ROOT / "docs/clients.md").read_text("utf-8")
PROGRAMS = programs(GUIDE)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The service on the shipped example, as `make serve` starts it."""
    with Server(ROOT / "deploy/models/digits") as running:
        yield running


def names() -> list[str]:
    """One for each program: its place and its language."""
    return [f"{number} {program.language}" for number, program in enumerate(PROGRAMS, 1)]


def printed_by(program: Program, server: Server, folder: Path) -> str:
    """What it prints; skipped where its language is not there."""
    if program.language == "js" and shutil.which("node") is None:
        pytest.skip("node is not installed")
    if program.language == "python" and "digits_client" in program.code:  # made by the program before it
        run(PROGRAMS[PROGRAMS.index(program) - 1], server, folder)
    return run(program, server, folder)


@pytest.mark.parametrize("program", PROGRAMS, ids=names())
def test_every_program_prints_what_is_shown_under_it(server: Server, program: Program, tmp_path: Path) -> None:
    """As a reader would run it, against the shipped example."""
    assert program.shown is not None, "nothing is shown under this program"
    printed = printed_by(program, server, tmp_path)
    assert agrees(program.shown, printed), printed


def test_every_block_of_the_guide_is_run() -> None:
    """A fence in another language, or one that is not closed, would never be looked at."""
    fences = re.findall(r"^ *(```|~~~)(.*)$", GUIDE, re.M)
    shown = sum(program.shown is not None for program in PROGRAMS)
    assert len(fences) == 2 * (len(PROGRAMS) + shown)
    assert {program.language for program in PROGRAMS} == {"sh", "python", "js"}


PATIENT = [program for program in PROGRAMS if "Retry-After" in program.code]


@pytest.mark.parametrize("program", PATIENT, ids=[program.language for program in PATIENT])
def test_a_patient_client_gets_through_a_full_queue(program: Program, tmp_path: Path) -> None:
    """429 is not the end: it waits as long as it is told, comes back, and prints the same."""
    found = re.search(r"/v1/(?:anomaly-score|sample)", program.code)
    assert found is not None
    refused = {"route": found[0], "method": "POST", "code": "429"}
    with Server(ROOT / "deploy/models/digits", max_queue_rows=40, max_batch_delay_ms=1000) as server:

        def keep_full() -> None:
            while not server.metric("vae_http_requests_total", **refused) and not over.is_set():
                server.client.post("/v1/encode", json={"inputs": [[[0] * 8] * 8] * 40})

        for _ in range(3):  # a program may find the moment in which one batch has left and the next has not come
            over = threading.Event()
            filler = threading.Thread(target=keep_full)
            filler.start()
            try:
                printed = printed_by(program, server, tmp_path)
            finally:
                over.set()
                filler.join(30)
            assert program.shown is not None
            assert agrees(program.shown, printed), printed
            if server.metric("vae_http_requests_total", **refused):
                return
        raise AssertionError("the queue was never full when the program asked")


def test_the_service_sends_no_cors_headers(server: Server) -> None:
    """As the guide says of browsers."""
    origin = {"Origin": "http://example.org"}
    asked = server.client.options("/v1/encode", headers={**origin, "Access-Control-Request-Method": "POST"})
    assert asked.status_code == 405
    replies = (
        asked,
        server.client.post("/v1/sample", json={}, headers=origin),
        server.client.get("/v1/model", headers=origin),
    )
    for reply in replies:
        assert not [name for name in reply.headers if name.startswith("access-control")]
