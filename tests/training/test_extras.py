"""What `vae-train` says where the service alone is installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT = """
import sys
sys.modules[{module!r}] = None
from training.__main__ import main
sys.exit(main({arguments!r}))
"""
"""A process in which one module cannot be imported, as if it were not installed."""


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("torch", ["fit", "--data", "sklearn:digits", "--output", "m"]),
        ("lightning_fabric", ["fit", "--data", "sklearn:digits", "--output", "m"]),
        ("torch", ["export", "--checkpoint", "c.npz", "--output", "m"]),
        ("matplotlib", ["report", "--bundle", "deploy/models/digits", "--data", "sklearn:digits"]),
        ("sklearn", ["evaluate", "--bundle", "deploy/models/digits", "--data", "sklearn:digits"]),
    ],
)
def test_without_the_extra_training_one_line_says_what_brings_it(module: str, arguments: list[str]) -> None:
    """Which module, which extra, which command; status 2, and no traceback."""
    program = WITHOUT.format(module=module, arguments=arguments)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"vae-train {arguments[0]}: {module} is not installed; the extra training brings it: make .venv/.dev in a "
        "clone, or pip install -c constraints.txt '.[training]'\n"
    )


def test_a_module_of_our_own_that_is_missing_is_a_fault() -> None:
    """Nothing that a user could install."""
    program = WITHOUT.format(module="training.table", arguments=["evaluate", "--bundle", "m", "--data", "rows.csv"])
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--folds 3 --calibration 0.2", "--folds 3 calibrates on all rows but the test rows"),
        ("--folds 3 --window 4", "--folds 3: windows of a series cannot be dealt out in folds"),
        ("--stride 4", "--stride is for windows: say by --window"),
        ("--gradient-draws 4", "--gradient-draws 4: chosen of --importance-samples, which is 1"),
    ],
)
def test_flags_that_rule_each_other_out_are_refused_before_anything_is_loaded(flags: str, told: str) -> None:
    """Whoever mistypes does not wait for PyTorch, nor for data of which there may be gigabytes."""
    arguments = ["fit", "--data", "none.csv", "--output", "m", *flags.split()]
    program = WITHOUT.format(module="torch", arguments=arguments)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"vae-train fit: {told}")
