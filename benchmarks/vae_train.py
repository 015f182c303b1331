"""`vae-train` in a process of its own, as a user starts it: for benchmarks that fit on the way."""

from __future__ import annotations

import subprocess
import sys

from training.errors import TrainingError


def vae_train(*words: str) -> None:
    """Run it, and say so on stderr. Raises TrainingError where it fails; what is wrong it has said itself by then."""
    print("vae-train", *words, file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, "-m", "training", *words], stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise TrainingError(f"vae-train {' '.join(words)} ended with {done.returncode}")
