"""
The bundle: one trained model as files, and the one contract between `training` and `service`.

A bundle is a directory `models/<name>/<version>/`. It holds no code and no pickles. `SHA256SUMS` lists every
file in the format of sha256sum(1), and the SHA-256 of that list is the bundle_id. Each file is read once: the
bytes that were hashed are the bytes that are loaded. Knows files and arrays; nothing of onnxruntime or HTTP.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from service import onnx_file, reference
from service.errors import BundleError
from service.manifest import SCHEMA_VERSION, Manifest

SUMS, MANIFEST, EPS, CALIBRATION, GOLDEN = "SHA256SUMS", "manifest.json", "eps.npy", "calibration.npz", "golden.npz"
REPORT = "report.html"
_SUMS_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*)")
Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Bundle:
    """
    A bundle, verified and in memory.

    *graphs*: ONNX bytes by graph name. *eps*: (K_max, L) float32. *calibration*: the arrays of
    calibration.npz, named by `Calibrated.key`. *golden*: per graph, tensor name -> array, inputs and outputs.
    *report*: files under report/, by name.
    """

    path: Path
    bundle_id: str
    manifest: Manifest
    graphs: dict[str, bytes]
    eps: NDArray[np.float32]
    calibration: Arrays
    golden: dict[str, Arrays]
    report: dict[str, bytes]


def resolve(path: Path) -> Path:
    """
    The bundle that *path* means: itself, or the newest version where *path* is a model directory.

    Raises BundleError when there is none.
    """
    if (path / MANIFEST).exists() or (path / SUMS).exists():
        return path
    found = versions(path)
    if not found:
        raise BundleError(path, MANIFEST, "no bundle here, and no <version>/ below it")
    return path / str(found[-1])


def versions(model_dir: Path) -> list[int]:
    """The versions below a model directory, ascending. Half-written ones have other names, so they do not count."""
    if not model_dir.is_dir():
        return []
    names = [entry.name for entry in model_dir.iterdir() if entry.is_dir()]
    return sorted(int(name) for name in names if re.fullmatch(r"[1-9][0-9]*", name))


def open_bundle(path: Path) -> Bundle:
    """
    Read, verify and decode the bundle at *path* (a bundle or a model directory, see `resolve`).

    Raises BundleError, naming the file and the reason, for a file that is missing, changed, cut, or does not
    fit the manifest; for another schema version; for a graph with external data or custom operators.
    """
    path = resolve(path)
    sums = _read(path, SUMS)
    files = {name: _read(path, name, digest) for name, digest in _parse_sums(path, sums).items()}
    manifest = _parse_manifest(path, _part(path, files, MANIFEST))
    graphs: dict[str, bytes] = {}
    for name, graph in manifest.graphs.items():
        graphs[name] = _part(path, files, graph.file)
        if reason := onnx_file.refusal(graphs[name]):
            raise BundleError(path, graph.file, reason)
    golden = _golden(path, manifest, _arrays(path, GOLDEN, _part(path, files, GOLDEN)))
    eps, calibration = np.zeros((0, manifest.latent.dim), np.float32), Arrays()
    if manifest.calibrated:
        eps = _eps(path, manifest, _part(path, files, EPS))
        calibration = _arrays(path, CALIBRATION, _part(path, files, CALIBRATION))
        _check_calibration(path, manifest, calibration)
    report = {name.removeprefix("report/"): data for name, data in files.items() if name.startswith("report/")}
    digest = hashlib.sha256(sums).hexdigest()
    return Bundle(path, digest, manifest, graphs, eps, calibration, golden, report)


def write_bundle(model_dir: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Path:
    """
    Write `model_dir/<manifest.version>` at once: readers see the whole bundle or nothing.

    *files*: every file but the manifest and the sums, by its name in the bundle. What was written is opened
    again, as a reader would, before it gets its name. Raises BundleError when that fails or the version exists.
    """
    model_dir.mkdir(parents=True, exist_ok=True)
    target = model_dir / str(manifest.version)
    everything = {MANIFEST: manifest.model_dump_json(indent=1).encode() + b"\n", **files}
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(everything.items()))
    staging = Path(tempfile.mkdtemp(prefix=f".{manifest.version}.", suffix=".tmp", dir=model_dir))
    try:
        for name, data in {**everything, SUMS: sums.encode()}.items():
            file = staging / name
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
        open_bundle(staging)
        staging.chmod(0o755)  # mkdtemp makes it private to this user; the service often runs as another
        if target.exists():
            raise BundleError(target, MANIFEST, "this version exists; versions are never overwritten")
        try:
            staging.rename(target)
        except OSError as error:  # two writers: the directory came between the check and the rename
            raise BundleError(target, MANIFEST, f"cannot be put in place: {error.strerror}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(staging)
    return target


def pack_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    """The bytes of an .npz of *arrays*; the same arrays give the same bytes."""
    out = io.BytesIO()
    np.savez_compressed(out, allow_pickle=False, **arrays)
    return out.getvalue()


def pack_array(array: NDArray[np.generic]) -> bytes:
    """The bytes of an .npy of *array*."""
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def _read(path: Path, name: str, digest: str | None = None) -> bytes:
    try:
        data = (path / name).read_bytes()
    except OSError as error:
        raise BundleError(path, name, f"cannot be read: {error.strerror}") from error
    if digest is not None and hashlib.sha256(data).hexdigest() != digest:
        raise BundleError(path, name, f"its SHA-256 is not the one in {SUMS}: changed or cut ({len(data)} bytes)")
    return data


def _part(path: Path, files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise BundleError(path, name, f"not listed in {SUMS}")
    return files[name]


def _parse_sums(path: Path, sums: bytes) -> dict[str, str]:
    listed: dict[str, str] = {}
    text = sums.decode("utf-8", "replace")
    if not text.endswith("\n"):
        raise BundleError(path, SUMS, "the last line is cut")
    for number, line in enumerate(text.splitlines(), start=1):
        match = _SUMS_LINE.fullmatch(line)
        if match is None or match[2] in listed:
            raise BundleError(path, SUMS, f"line {number} is not '<sha256>  <file>' of a file named once: {line!r}")
        listed[match[2]] = match[1]
    return listed


def _parse_manifest(path: Path, data: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "manifest"
        if where == "schema_version":
            given = first["input"]
            raise BundleError(
                path, MANIFEST, f"schema_version {given!r}; this service reads {SCHEMA_VERSION}"
            ) from None
        raise BundleError(path, MANIFEST, f"{where}: {first['msg']}") from None


def _arrays(path: Path, name: str, data: bytes) -> Arrays:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise BundleError(path, name, f"not an .npz of plain arrays: {error}") from None


def _eps(path: Path, manifest: Manifest, data: bytes) -> NDArray[np.float32]:
    try:
        eps = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise BundleError(path, EPS, f"not an .npy of a plain array: {error}") from None
    most = max(entry.samples for entry in manifest.calibrated)
    want = f"(at least {most}, {manifest.latent.dim}) float32"
    if eps.dtype != np.float32 or eps.ndim != 2 or eps.shape[1] != manifest.latent.dim or len(eps) < most:
        raise BundleError(path, EPS, f"{eps.shape} {eps.dtype} where {want} is needed")
    if not np.isfinite(eps).all():
        raise BundleError(path, EPS, "holds a NaN or an infinity")
    return np.ascontiguousarray(eps)


def _golden(path: Path, manifest: Manifest, arrays: Arrays) -> dict[str, Arrays]:
    golden: dict[str, Arrays] = {}
    for name, graph in manifest.graphs.items():
        tensors = [tensor.name for tensor in (*graph.inputs, *graph.outputs)]
        missing = [tensor for tensor in tensors if f"{name}/{tensor}" not in arrays]
        if missing:
            raise BundleError(path, GOLDEN, f"no array {name}/{missing[0]}")
        golden[name] = {tensor: arrays[f"{name}/{tensor}"] for tensor in tensors}
    return golden


def _check_calibration(path: Path, manifest: Manifest, arrays: Arrays) -> None:
    if (reason := reference.refusal(manifest, arrays)) is not None:
        raise BundleError(path, CALIBRATION, reason)
    for entry in manifest.calibrated:
        scores = arrays.get(entry.key)
        if scores is None:
            raise BundleError(path, CALIBRATION, f"no array {entry.key}")
        if scores.shape != (entry.rows,) or scores.dtype != np.float64:
            raise BundleError(
                path, CALIBRATION, f"{entry.key}: {scores.shape} {scores.dtype}, not ({entry.rows},) float64"
            )
        if not np.isfinite(scores).all() or (np.diff(scores) < 0).any():
            raise BundleError(path, CALIBRATION, f"{entry.key}: not finite and ascending")
        grid = arrays.get(entry.features_key)
        ranks = arrays.get(f"{entry.features_key}/ranks")
        if grid is None:
            continue
        if (
            ranks is None
            or grid.dtype != np.float32
            or ranks.dtype != np.int64
            or grid.shape != (len(ranks), manifest.inputs.features)
            or (np.diff(grid, axis=0) < 0).any()
        ):
            raise BundleError(path, CALIBRATION, f"{entry.features_key}: not ascending columns with their ranks")
