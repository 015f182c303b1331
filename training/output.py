"""A bundle in memory becomes a directory. Knows files, versions and the clock; nothing of models."""

from __future__ import annotations

import datetime
import tempfile
from pathlib import Path
from typing import Final

from service import bundle as bundles
from service.bundle import Bundle
from training.errors import TrainingError

PAGE: Final = bundles.REPORT
LOG: Final = "fit.jsonl"
"""The page and the log of the fit, under report/ in a bundle."""


def write(model_dir: Path, bundle: Bundle) -> Path:
    """Write *bundle* as `model_dir/<version>`, verified. Raises BundleError when that version exists."""
    files = {graph.file: bundle.graphs[name] for name, graph in bundle.manifest.graphs.items()}
    golden = {f"{name}/{tensor}": value for name, arrays in bundle.golden.items() for tensor, value in arrays.items()}
    files[bundles.GOLDEN] = bundles.pack_arrays(golden)
    files |= {f"report/{name}": content for name, content in bundle.report.items()}
    if bundle.manifest.calibrated:
        files |= {
            bundles.EPS: bundles.pack_array(bundle.eps),
            bundles.CALIBRATION: bundles.pack_arrays(bundle.calibration),
        }
    return bundles.write_bundle(model_dir, bundle.manifest, files)


def require_writable(flag: str, directory: Path) -> None:
    """
    Raises TrainingError, naming *flag* with its value, where *directory* cannot be written to, or cannot be made.

    Nothing is made yet: what is refused later, for its data, leaves nothing behind.
    """
    there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise TrainingError(f"{flag}: cannot be written: {error.strerror}") from None


def next_version(model_dir: Path) -> int:
    """One more than the newest version there; 1 for the first."""
    return max(bundles.versions(model_dir), default=0) + 1


def now() -> str:
    """The time for a manifest: UTC, to the second, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
