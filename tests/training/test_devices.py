"""Devices and processes: what is asked for is taken or refused, and two processes fit what one does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.commanded import QUICK, write_csv
from tests.training.unexported import fit_alone
from training import checkpoint
from training.devices import described, fast_matmul, launch
from training.errors import FitError

ROOT = Path(__file__).parents[2]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
}  # torchrun announces it where it is not set


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_where_there_is_none_is_refused_by_name() -> None:
    """No fallback unless asked for: `auto` says what it took."""
    with pytest.raises(FitError, match=r"--device cuda: PyTorch .* sees no CUDA device here"):
        launch("cuda")
    assert described(launch("auto")).startswith("cpu, ")


def test_fast_matrix_products_are_as_exact_as_float32() -> None:
    """Whatever the switch permits, this machine does not compute in bfloat16; and it is off again afterwards."""
    a, b = torch.randn(512, 784), torch.randn(784, 512)
    exact = a.double() @ b.double()
    before = torch.backends.mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]  # torch's stubs lack it
    with fast_matmul(launch(), 512, 784 * 512):
        error = ((a @ b).double() - exact).abs().max() / exact.abs().max()
    assert float(error) < 1e-5
    assert torch.backends.mkldnn.matmul.fp32_precision == before  # type: ignore[attr-defined]  # torch's stubs lack it


def test_two_processes_fit_what_one_does(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """
    `torchrun` with two processes: the weights of the single-process fit within 1e-4, one bundle, one log.

    Batches of 9 rows, so that the two shares are unequal. The sums have another order, and Adam divides small
    gradients by themselves, so not to the bit.
    """
    data = write_csv(tmp_path / "rows.csv", 100, 0)
    command = ["fit", "--data", str(data), "--batch-size", "9", "--warmup-epochs", "1", *QUICK]
    many = subprocess.run(
        [*TORCHRUN, "-m", "training", *command, "--output", str(tmp_path / "two")],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert many.returncode == 0, many.stderr
    assert many.stderr.count("\n") == 1, many.stderr  # few calibration rows, and nothing of Fabric's or PyTorch's
    assert many.stdout.count("fitting on 2 processes, cpu, 1 threads each") == 1
    assert many.stdout.count("wrote") == 1
    alone = fit_alone(*command[1:], "--output", str(tmp_path / "one"))
    assert (alone.err.count("\n"), capfd.readouterr().err) == (1, "")  # that it was ended, and nothing else
    found = [checkpoint.load(tmp_path / name / "checkpoint-1.npz") for name in ("one", "two")]
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["1", "checkpoint-1.npz", "fit-1.jsonl"]
    for name, value in found[0].weights.items():
        np.testing.assert_allclose(found[1].weights[name], value, rtol=1e-4, atol=1e-4, err_msg=name)
    assert found[0].training["options"] == found[1].training["options"]
    assert len((tmp_path / "two" / "fit-1.jsonl").read_text().splitlines()) == 3


def test_a_process_that_dies_ends_the_fit_of_the_others(tmp_path: Path) -> None:
    """The second of two processes is killed: the first does not wait for it, and has saved what it had."""
    data = write_csv(tmp_path / "rows.csv", 2000, 0)
    log = tmp_path / "m" / "fit-1.jsonl"
    command = ["training", "fit", "--data", str(data), "--output", str(tmp_path / "m"), "--epochs", "5000", "--quiet"]
    agent = subprocess.Popen(
        [*TORCHRUN, "-m", *command, "--patience", "5000"],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while agent.poll() is None and (not log.exists() or log.read_text().count("\n") < 3):
        time.sleep(0.02)
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    second = [pid for pid in children if b"\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes()]
    os.kill(int(second[0]), signal.SIGKILL)
    assert agent.wait(timeout=60) == 1
    state = checkpoint.load(tmp_path / "m" / "checkpoint-1.npz").state
    assert state is not None
    assert state.progress.epoch == 1 + log.read_text().count("\n")
