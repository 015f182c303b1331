"""
The bundles that are measured, built where they are missing.

Untrained but for the shipped one: only speed is of interest. Built by `training.bench_bundle` in a process of its own,
so that nothing here imports torch.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.serving.machine import ROOT

SHIPPED = ROOT / "deploy/models/digits/1"


class Bundles:
    """Bundles under *folder*; *say* is told of what is being built."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say

    def bench(self) -> Path:
        """784-400-400-32: what all servers are compared on. `make bench-bundle`."""
        return self._built(self._folder / "bench")

    def wide(self) -> Path:
        """784-2048-2048-64: so much weight that a row alone costs many times its share of a batch."""
        return self._mlp("wide", hidden=(2048, 2048), latents=64, rows=200, samples=(16,))

    def columns(self, columns: int) -> Path:
        """*columns*-400-400-32."""
        return self._mlp(f"columns-{columns}", columns=columns, rows=100, samples=(16,))

    def draws(self) -> Path:
        """784-400-400-32, calibrated for every power of two as K up to 64."""
        return self._mlp("draws", rows=200, samples=(1, 2, 4, 8, 16, 32, 64))

    def _mlp(
        self,
        name: str,
        columns: int = 784,
        hidden: Sequence[int] = (400, 400),
        latents: int = 32,
        rows: int = 2000,
        samples: Sequence[int] = (1, 16, 64),
    ) -> Path:
        sizes: dict[str, int | list[int]] = {
            "columns": columns,
            "hidden": list(hidden),
            "latents": latents,
            "rows": rows,
            "samples": list(samples),
        }
        return self._built(self._folder / "bench-bundles" / name, **sizes)

    def _built(self, model: Path, **sizes: int | list[int]) -> Path:
        bundle = model / "1"
        if self._holds(bundle, sizes):
            return bundle
        self._say(f"building {bundle}")
        flags = [
            f"--{name}={','.join(map(str, size)) if isinstance(size, list) else size}" for name, size in sizes.items()
        ]
        command = [sys.executable, "-m", "training.bench_bundle", "--output", str(model), *flags]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed: {ran.stderr.strip()[-500:]}")
        return bundle

    def _holds(self, bundle: Path, sizes: dict[str, int | list[int]]) -> bool:
        """Whether there is a bundle of these sizes; what was built by an older version does not say."""
        try:
            training = json.loads((bundle / "manifest.json").read_text())["training"]
        except (OSError, ValueError, KeyError):
            return False
        return all(training.get(name) == size for name, size in sizes.items())
