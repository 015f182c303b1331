"""Tiny real bundles: exported by `training`, in every part what a large one is."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch

from service.bundle import pack_arrays
from service.engine import Engine
from service.inputs import Column, Inputs
from service.manifest import Data
from service.scores import PLAIN
from training.assemble import HeldOut, build_bundle
from training.likelihoods.choose import Count, Family, as_they_are
from training.models.mlp import VAE, VAEConfig
from training.output import write

TABLE = Inputs(
    kind="table",
    shape=(3,),
    dtype="float64",
    columns=(Column(name="speed", unit="rpm"), Column(name="pressure", unit="bar"), Column(name="flow")),
    clamp=1000.0,
)
IMAGE = Inputs(kind="image", shape=(2, 3), dtype="float32", layout="HW", range=(0.0, 1.0), clamp=1000.0)


def table_rows(n: int, seed: int = 0) -> np.ndarray:
    """Rows like those that the table bundle was made from: (n, 3) float64, in three very different units."""
    rng = np.random.default_rng(seed)
    load = rng.normal(size=n)
    noise = rng.normal(size=(n, 3))
    return np.stack(
        [1500 + 200 * load + 10 * noise[:, 0], 3 + load + 0.1 * noise[:, 1], 0.02 * load + 0.001 * noise[:, 2]], axis=1
    )


def image_rows(n: int, seed: int = 0) -> np.ndarray:
    """Rows like those that the image bundle was made from: (n, 2, 3) float32, 0 or 1."""
    return (np.random.default_rng(seed).random((n, 2, 3)) < 0.4).astype(np.float32)


def untrained(
    inputs: Inputs,
    family: Family,
    x: np.ndarray,
    seed: int = 1,
    latent_dim: int = 4,
    count: Count = "negative-binomial",
    components: int = 0,
) -> VAE:
    """A VAE on *inputs* that knows the scale of the first half of the rows *x*. *components*: see `make_bundle`."""
    torch.set_num_threads(1)
    standardise = not as_they_are(inputs, family)
    config = VAEConfig(latent_dim=latent_dim, hidden=(8,), likelihood=family, standardise=standardise, count=count)
    if components:
        config = replace(config, prior="mixture", components=components)
    vae = VAE(inputs, config, seed=seed)
    vae.adapt(x[: len(x) // 2])
    return vae


def make_bundle(
    model_dir: Path,
    inputs: Inputs,
    family: Family,
    x: np.ndarray,
    version: int = 1,
    latent_dim: int = 4,
    count: Count = "negative-binomial",
    components: int = 0,
) -> Path:
    """
    An untrained VAE on *inputs* as a bundle, calibrated on the second half of the rows *x*.

    *components*: of a mixture as the prior; 0: N(0, I).
    """
    vae = untrained(inputs, family, x, version, latent_dim, count, components)
    calibration = x[len(x) // 2 :]
    data = Data(hash="0" * 64, rows={"train": len(x) // 2, "calibration": len(calibration)})
    held_out = HeldOut(calibration, x[:0], reference=x[: len(x) // 2])
    bundle = build_bundle(vae, model_dir.name, version, data, {}, held_out, threads=1, trained=False)
    return write(model_dir, bundle)


def reseal(bundle: Path) -> None:
    """Make SHA256SUMS fit the files again, as somebody who changes a bundle on purpose would."""
    names = [str(p.relative_to(bundle)) for p in sorted(bundle.rglob("*")) if p.is_file() and p.name != "SHA256SUMS"]
    lines = [f"{hashlib.sha256((bundle / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (bundle / "SHA256SUMS").write_text("".join(lines))


def edit_manifest(bundle: Path, **changes: object) -> None:
    """Change members of the manifest, and reseal."""
    file = bundle / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    reseal(bundle)


def make_older(bundle: Path) -> None:
    """Make *bundle* what it was before scorers had mu: without the kinds that compare a row with reference rows."""
    model = onnx.load(bundle / "scorer.onnx")
    kept = [output for output in model.graph.output if output.name != "mu"]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    onnx.save(model, bundle / "scorer.onnx")
    document = json.loads((bundle / "manifest.json").read_text())
    scorer = document["graphs"]["scorer"]
    scorer["outputs"] = [tensor for tensor in scorer["outputs"] if tensor["name"] != "mu"]
    arrays = dict(np.load(bundle / "calibration.npz"))
    some = {name: arrays[name] for name in arrays if not name.startswith("reference/") and name.split("/")[1] in PLAIN}
    (bundle / "calibration.npz").write_bytes(pack_arrays(some))
    edit_manifest(
        bundle,
        graphs=document["graphs"],
        calibrated=[entry for entry in document["calibrated"] if entry["kind"] in PLAIN],
        capabilities={**document["capabilities"], "score_kinds": list(PLAIN)},
    )


def make_other(bundle: Path) -> None:
    """Give *bundle* other weights, twice those of mu and theta, and the golden vectors of these, without an export."""
    names = [file.stem for file in sorted(bundle.glob("*.onnx"))]
    for name in names:
        model = onnx.load(bundle / f"{name}.onnx")
        weights = [w for w in model.graph.initializer if w.name.endswith(("vae.mu.weight", "vae.theta.weight"))]
        assert weights, f"{name}.onnx has none of the weights"
        for weight in weights:
            weight.CopyFrom(onnx.numpy_helper.from_array(2 * onnx.numpy_helper.to_array(weight), weight.name))
        onnx.save(model, bundle / f"{name}.onnx")
    engine = Engine({name: (bundle / f"{name}.onnx").read_bytes() for name in names}, threads=1)
    golden = dict(np.load(bundle / "golden.npz"))
    for name, graph in json.loads((bundle / "manifest.json").read_text())["graphs"].items():
        inputs = {tensor["name"]: golden[f"{name}/{tensor['name']}"] for tensor in graph["inputs"]}
        golden |= {f"{name}/{tensor}": array for tensor, array in engine.run(name, inputs).items()}
    (bundle / "golden.npz").write_bytes(pack_arrays(golden))
    reseal(bundle)


def publish(
    bundle: Path, model_dir: Path, version: int, damage: Callable[[Path], object] | None = None, **changes: object
) -> Path:
    """Put a copy of *bundle* into *model_dir* as *version*, at once, with *changes* of its manifest, then *damage*."""
    staging = model_dir / f".{version}.tmp"
    shutil.copytree(bundle, staging)
    edit_manifest(staging, **{"name": model_dir.name, "version": version, **changes})
    if damage is not None:
        damage(staging)
    return staging.rename(model_dir / str(version))
