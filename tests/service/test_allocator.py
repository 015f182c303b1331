"""Memory that is freed, and what the next request pays for it."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.bundles import image_rows
from tests.server import Server

ROWS = 200_000


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and glibc")
def test_what_a_long_body_took_is_there_for_the_next_one(image_bundle: Path) -> None:
    """Pages come from the system for the first; one who has set glibc's own variables has it as they say."""
    kept = _faults(image_bundle, {})
    given_back = _faults(image_bundle, {"MALLOC_TRIM_THRESHOLD_": "131072"})
    assert kept < given_back / 5


def _faults(bundle: Path, environment: dict[str, str]) -> int:
    """Pages that the service had to be given for ten bodies of 4.8 MB, after the first three."""
    file = io.BytesIO()
    np.save(file, image_rows(ROWS))
    headers = {"content-type": "application/x-npy", "accept": "application/x-npz"}
    sizes = {"max_request_rows": ROWS, "max_batch_rows": ROWS, "max_queue_rows": ROWS}
    with Server(bundle, environment, **sizes) as server:
        stat = Path(f"/proc/{server.process.pid}/stat")
        before = 0
        for turn in range(13):
            if turn == 3:
                before = _minor_faults(stat)
            reply = server.client.post("/v1/encode", content=file.getvalue(), headers=headers)
            assert reply.status_code == 200, reply.text
        return _minor_faults(stat) - before


def _minor_faults(stat: Path) -> int:
    """Field 10 of proc(5)'s stat; the second, the name in brackets, may hold blanks."""
    return int(stat.read_text().rpartition(")")[2].split()[7])
