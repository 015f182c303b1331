"""The memory of a process, as benchmarks tell it."""

from __future__ import annotations

import subprocess
import sys

from benchmarks import memory

SIZE = 64 * 2**20
HOLDS = "import sys; x = b'x' * int(sys.argv[1]); {}; print('here', flush=True); sys.stdin.read()"


def test_a_peak_can_be_forgotten() -> None:
    """What was let go of before is not told as what came after."""
    command = [sys.executable, "-c", HOLDS.format("del x"), str(SIZE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        before = memory.peak(process.pid)
        memory.forget_peak(process.pid)
        after = memory.peak(process.pid)
        process.communicate()
    assert before - after > SIZE / 2


def test_what_a_process_has_now_is_less_than_its_peak_and_than_all_its_addresses() -> None:
    """Three counts of one process, which are not to be taken for each other."""
    command = [sys.executable, "-c", HOLDS.format("del x"), str(SIZE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        resident, peak, virtual = (count(process.pid) for count in (memory.resident, memory.peak, memory.virtual))
        process.communicate()
    assert peak - resident > SIZE / 2
    assert resident < virtual
