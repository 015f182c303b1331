"""What `make` is told on its command line reaches the service."""

from __future__ import annotations

import os
import subprocess

from tests.guide import ROOT


def served(*variables: str, **environment: str) -> list[str]:
    """The command that `make serve` ends with."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "--no-print-directory", "--dry-run", "serve", *variables]
    told = subprocess.run(
        command, cwd=ROOT, env={**inherited, **environment}, capture_output=True, text=True, timeout=30, check=True
    )
    return told.stdout.splitlines()[-1].split()


def test_make_serve_takes_a_port_and_a_host() -> None:
    """As the README says; each by itself too."""
    assert served("PORT=9000", "HOST=::1") == [".venv/bin/vae-serve", "--port=9000", "--host=::1"]
    assert served("HOST=0.0.0.0") == [".venv/bin/vae-serve", "--host=0.0.0.0"]


def test_make_serve_takes_neither_from_the_environment() -> None:
    """Shells export a HOST, and platforms a PORT, that mean something else."""
    assert served(PORT="9000", HOST="laptop") == [".venv/bin/vae-serve"]
