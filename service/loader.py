"""
From a path to a model that could be served: opened, verified, on the device, warmed and self-checked.

Blocks for as long as that takes; to be called in a thread where something is served meanwhile. Knows bundles and the
engine; nothing of requests.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from service.bundle import MANIFEST, Bundle, open_bundle, resolve
from service.engine import Engine
from service.errors import BundleError
from service.provider import available_cpus
from service.settings import Settings


@dataclass(frozen=True)
class Loaded:
    """A bundle and the engine that has proven itself on it; *seconds*: what that took."""

    bundle: Bundle
    engine: Engine
    seconds: float


def load(path: Path, settings: Settings, version: int | None = None) -> Loaded:
    """
    The model at *path*, a bundle or a model directory.

    Raises StartError where it must not be served: BundleError also where its manifest does not say *version*, or the
    version that its directory in a model directory is named for.
    """
    start = time.perf_counter()
    found = resolve(path)
    if found != path:
        version = int(found.name)
    bundle = open_bundle(found)
    if version not in (None, bundle.manifest.version):
        raise BundleError(found, MANIFEST, f"says version {bundle.manifest.version}, and its directory {version}")
    threads = settings.threads or max(1, available_cpus() // settings.workers)
    engine = Engine.open(bundle, settings.device, threads, settings.max_batch_rows)
    return Loaded(bundle, engine, time.perf_counter() - start)
