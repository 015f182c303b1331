"""The bundles that are built for the benchmarks."""

from __future__ import annotations

from pathlib import Path

from benchmarks.serving.bundles import Bundles
from service.bundle import open_bundle
from training.bench_bundle import main


def test_a_bundle_of_any_size_is_built_once_and_says_what_it_is(tmp_path: Path) -> None:
    """One that is there already, of the size that is wanted, is not built again; that takes a minute."""
    model = tmp_path / "bench-bundles" / "columns-3"
    size = ["--columns=3", "--hidden=400,400", "--latents=32", "--rows=100", "--samples=16"]
    assert main([f"--output={model}", *size]) == 0
    manifest = open_bundle(model).manifest
    assert (manifest.inputs.shape, manifest.latent.dim, manifest.trained) == ((3,), 32, False)
    assert {entry.samples for entry in manifest.calibrated} == {16}
    assert manifest.training["hidden"] == [400, 400]
    built: list[str] = []
    assert Bundles(tmp_path, built.append).columns(3) == model / "1"
    assert built == []
