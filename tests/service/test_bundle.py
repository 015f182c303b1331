"""The bundle: what was written is what is read, and anything else is refused with the file's name and the reason."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from service.bundle import Bundle, open_bundle, pack_arrays, resolve, versions, write_bundle
from service.engine import Engine
from service.errors import BundleError
from service.manifest import Manifest
from service.scores import PLAIN
from tests.bundles import edit_manifest, make_older, reseal

FILES = (
    "SHA256SUMS",
    "manifest.json",
    "encoder.onnx",
    "decoder.onnx",
    "scorer.onnx",
    "observe.onnx",
    "eps.npy",
    "calibration.npz",
    "golden.npz",
)


def contents(bundle: Path) -> dict[str, bytes]:
    """Every file but the manifest and the sums."""
    return {p.name: p.read_bytes() for p in bundle.iterdir() if p.name not in ("SHA256SUMS", "manifest.json")}


def test_a_bundle_holds_exactly_the_files_that_the_contract_names(table_bundle: Path) -> None:
    """The list that the tests below damage is the whole list."""
    assert sorted(FILES) == sorted(p.name for p in table_bundle.iterdir())


def test_the_bundle_id_is_the_hash_of_the_sums_and_sha256sum_agrees_with_them(table_bundle: Path) -> None:
    """An operator can check a bundle with the tools of the machine."""
    bundle = open_bundle(table_bundle)
    assert bundle.bundle_id == hashlib.sha256((table_bundle / "SHA256SUMS").read_bytes()).hexdigest()
    subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=table_bundle, check=True, capture_output=True
    )


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_in_any_file_is_refused_by_the_name_of_the_file(own_bundle: Path, name: str) -> None:
    """Not one byte of a bundle can change unnoticed."""
    data = bytearray((own_bundle / name).read_bytes())
    for position in {0, len(data) // 2, len(data) - 1}:
        damaged = data.copy()
        damaged[position] ^= 0x10
        (own_bundle / name).write_bytes(damaged)
        with pytest.raises(BundleError) as refused:
            open_bundle(own_bundle)
        if name == "SHA256SUMS":  # which file looks changed then depends on the byte
            assert refused.value.file in FILES
        else:
            assert (refused.value.file, "SHA-256" in refused.value.reason) == (name, True)


@pytest.mark.parametrize("name", FILES)
def test_a_cut_file_is_refused_by_its_name(own_bundle: Path, name: str) -> None:
    """A copy that was interrupted is not served."""
    data = (own_bundle / name).read_bytes()
    for size in (0, len(data) // 2, len(data) - 1):
        (own_bundle / name).write_bytes(data[:size])
        with pytest.raises(BundleError) as refused:
            open_bundle(own_bundle)
        assert refused.value.file == name or (name == "SHA256SUMS" and "not listed" in refused.value.reason)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_its_name(own_bundle: Path, name: str) -> None:
    """Also when the sums are still whole."""
    (own_bundle / name).unlink()
    with pytest.raises(BundleError, match="cannot be read: No such file") as refused:
        open_bundle(own_bundle)
    assert refused.value.file == name


@pytest.mark.parametrize("name", FILES[1:])
def test_a_file_that_is_not_in_the_sums_is_refused_even_when_the_rest_is_resealed(own_bundle: Path, name: str) -> None:
    """What the manifest needs must be listed, or it is not the bundle that was written."""
    (own_bundle / name).unlink()
    reseal(own_bundle)
    with pytest.raises(BundleError, match="not listed in SHA256SUMS") as refused:
        open_bundle(own_bundle)
    assert refused.value.file == name


@pytest.mark.parametrize("version", [2, 0, None, "1"])
def test_another_schema_version_is_refused_by_its_number(own_bundle: Path, version: object) -> None:
    """A bundle of tomorrow is not misread today."""
    edit_manifest(own_bundle, schema_version=version)
    with pytest.raises(BundleError, match=rf"schema_version {version!r}; this service reads 1") as refused:
        open_bundle(own_bundle)
    assert refused.value.file == "manifest.json"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"version": 0}, "version: .* greater than 0"),
        ({"graphs": {}}, "operation encode needs the graph encoder"),
        ({"latent": {"dim": 4, "prior": "graph"}}, "graph prior"),
        ({"latent": {"dim": 5}}, r"graph scorer: kl is .*, of 1 members with 5 latents each"),
        ({"scoring": {"kind": "nll", "samples": 3}}, "K = 3 is not calibrated"),
        ({"name": "../etc"}, "name: "),
    ],
)
def test_a_manifest_whose_parts_do_not_belong_together_is_refused(
    own_bundle: Path, changes: dict[str, object], reason: str
) -> None:
    """The member at fault is named."""
    edit_manifest(own_bundle, **changes)
    with pytest.raises(BundleError, match=reason):
        open_bundle(own_bundle)


@pytest.mark.parametrize(
    "line", ["0" * 64 + "  ../../etc/passwd", "0" * 64 + "  /etc/passwd", "0" * 64 + "  a/../b", "x"]
)
def test_sums_that_name_files_outside_the_bundle_are_refused(own_bundle: Path, line: str) -> None:
    """The list is the only thing that decides which files are opened."""
    with (own_bundle / "SHA256SUMS").open("a") as sums:
        sums.write(line + "\n")
    with pytest.raises(BundleError, match="line 9 is not") as refused:
        open_bundle(own_bundle)
    assert refused.value.file == "SHA256SUMS"


def test_a_graph_that_keeps_its_weights_in_another_file_is_refused(own_bundle: Path) -> None:
    """The hash of the .onnx would not cover them, and onnxruntime would read any path."""
    model = onnx.load(own_bundle / "encoder.onnx")
    onnx.save_model(
        model, own_bundle / "encoder.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    reseal(own_bundle)
    with pytest.raises(BundleError, match="keeps its data in another file") as refused:
        open_bundle(own_bundle)
    assert refused.value.file == "encoder.onnx"


def test_a_graph_with_a_custom_operator_is_refused(own_bundle: Path) -> None:
    """Custom operators are code, and a bundle holds none."""
    model = onnx.load(own_bundle / "decoder.onnx")
    model.graph.node.append(helper.make_node("Own", ["z"], ["y"], domain="com.example"))
    onnx.save(model, own_bundle / "decoder.onnx")
    reseal(own_bundle)
    with pytest.raises(BundleError, match=r"custom operator com\.example::Own") as refused:
        open_bundle(own_bundle)
    assert refused.value.file == "decoder.onnx"


@pytest.mark.parametrize("name", ["calibration.npz", "golden.npz"])
def test_pickled_arrays_are_refused(own_bundle: Path, name: str) -> None:
    """Reading an array never runs code."""
    np.savez(own_bundle / name, thing=np.array([{"a": 1}], dtype=object))
    reseal(own_bundle)
    with pytest.raises(BundleError, match=r"not an \.npz of plain arrays") as refused:
        open_bundle(own_bundle)
    assert refused.value.file == name


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda scores: scores[::-1], "not finite and ascending"),
        (lambda scores: np.append(scores[:-1], np.nan), "not finite and ascending"),
        (lambda scores: scores[:-1], r"\(199,\) float64, not \(200,\)"),
        (lambda scores: scores.astype(np.float32), "float32"),
        (None, "no array scores/nll/16/all/0"),
    ],
)
def test_calibration_scores_that_p_values_cannot_be_read_off_are_refused(
    own_bundle: Path, spoil: object, reason: str
) -> None:
    """A binary search in unsorted scores would answer, wrongly."""
    arrays = dict(np.load(own_bundle / "calibration.npz"))
    scores = arrays.pop("scores/nll/16/all/0")
    if callable(spoil):
        arrays["scores/nll/16/all/0"] = spoil(scores)
    (own_bundle / "calibration.npz").write_bytes(pack_arrays(arrays))
    reseal(own_bundle)
    with pytest.raises(BundleError, match=reason) as refused:
        open_bundle(own_bundle)
    assert refused.value.file == "calibration.npz"


@pytest.mark.parametrize(
    ("name", "spoil", "reason"),
    [
        ("reference/latent/mean", None, "no array reference/latent/mean"),
        ("reference/latent/mean", lambda a: a[:-1], r"mean: \(3,\) float64, not \(4,\) float64 and finite"),
        ("reference/latent/covariance", lambda a: -a, "covariance: not symmetric and positive definite"),
        ("reference/latent/covariance", lambda a: a + np.triu(a + 1, 1), "covariance: not symmetric and positive"),
        (
            "reference/typicality/16/0",
            lambda a: a * np.nan,
            r"typicality/16/0: \(\) float64, not \(\) float64 and finite",
        ),
        ("reference/fused/16/0/knots", lambda a: a[::-1], "knots: not strictly ascending columns"),
        ("reference/fused/16/0/covariance", lambda a: a.astype(np.float32), r"\(3, 3\) float32, not \(3, 3\) float64"),
    ],
)
def test_statistics_that_scores_cannot_be_measured_by_are_refused(
    own_bundle: Path, name: str, spoil: object, reason: str
) -> None:
    """Of the reference rows; they would make scores without meaning, or none."""
    arrays = dict(np.load(own_bundle / "calibration.npz"))
    array = arrays.pop(name)
    if callable(spoil):
        arrays[name] = spoil(array)
    (own_bundle / "calibration.npz").write_bytes(pack_arrays(arrays))
    reseal(own_bundle)
    with pytest.raises(BundleError, match=reason) as refused:
        open_bundle(own_bundle)
    assert refused.value.file == "calibration.npz"


def test_a_kind_whose_output_the_scorer_has_not_is_refused(own_bundle: Path) -> None:
    """At the start, and not with the first request for it."""
    graphs = json.loads((own_bundle / "manifest.json").read_text())["graphs"]
    graphs["scorer"]["outputs"] = [tensor for tensor in graphs["scorer"]["outputs"] if tensor["name"] != "mu"]
    edit_manifest(own_bundle, graphs=graphs)
    with pytest.raises(BundleError, match="the score latent is made of mu, which is no output of the graph scorer"):
        open_bundle(own_bundle)


def test_a_bundle_of_before_there_were_reference_rows_is_opened(own_bundle: Path) -> None:
    """With the kinds that it has."""
    make_older(own_bundle)
    bundle = open_bundle(own_bundle)
    assert {entry.kind for entry in bundle.manifest.calibrated} == set(PLAIN)
    Engine.open(bundle, threads=1)


def test_the_bytes_that_were_hashed_are_the_bytes_that_are_used(own_bundle: Path) -> None:
    """A file that changes after it was read changes nothing."""
    bundle = open_bundle(own_bundle)
    before = bundle.graphs["encoder"]
    (own_bundle / "encoder.onnx").write_bytes(b"")
    assert bundle.graphs["encoder"] == before
    assert hashlib.sha256(before).hexdigest() in (own_bundle / "SHA256SUMS").read_text()


def test_what_was_written_is_what_is_read(own_bundle: Path) -> None:
    """Writing an opened bundle again as another version changes the version and nothing else."""
    first = open_bundle(own_bundle)
    manifest = first.manifest.model_copy(update={"version": 2})
    second = open_bundle(write_bundle(own_bundle.parent, manifest, contents(own_bundle)))
    assert second.manifest == manifest
    assert second.graphs == first.graphs
    assert second.bundle_id != first.bundle_id
    assert versions(own_bundle.parent) == [1, 2]


def test_a_bundle_that_would_be_refused_is_not_written(own_bundle: Path) -> None:
    """Readers see the whole bundle or nothing; no half-written directory stays behind."""
    files = contents(own_bundle)
    files["scorer.onnx"] = b"not onnx"
    manifest = open_bundle(own_bundle).manifest.model_copy(update={"version": 2})
    with pytest.raises(BundleError, match=r"scorer\.onnx: not an ONNX model"):
        write_bundle(own_bundle.parent, manifest, files)
    assert [p.name for p in own_bundle.parent.iterdir()] == ["1"]


def test_a_version_is_never_overwritten(own_bundle: Path) -> None:
    """What a reply named yesterday is what it names today."""
    bundle: Bundle = open_bundle(own_bundle)
    with pytest.raises(BundleError, match="this version exists"):
        write_bundle(own_bundle.parent, bundle.manifest, contents(own_bundle))
    assert open_bundle(own_bundle).bundle_id == bundle.bundle_id
    assert [p.name for p in own_bundle.parent.iterdir()] == ["1"]


def test_a_model_directory_means_its_newest_version(own_bundle: Path) -> None:
    """By number, not by name; temporary and other directories do not count."""
    for name in ("2", "10", ".11.x.tmp", "latest"):
        shutil.copytree(own_bundle, own_bundle.parent / name)
    assert resolve(own_bundle.parent) == own_bundle.parent / "10"
    assert resolve(own_bundle) == own_bundle


def test_a_place_without_a_bundle_is_named(tmp_path: Path) -> None:
    """Neither an empty directory nor a missing one is a bundle."""
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BundleError, match="no bundle here"):
            open_bundle(path)


def test_the_manifest_survives_json(table_bundle: Path, image_bundle: Path) -> None:
    """Nothing is lost between the schema and the file."""
    for bundle in (table_bundle, image_bundle):
        text = (bundle / "manifest.json").read_text()
        assert json.loads(Manifest.model_validate_json(text).model_dump_json()) == json.loads(text)


def test_external_data_is_found_wherever_a_tensor_can_hide() -> None:
    """In an attribute, in a subgraph, in a function."""

    def outside() -> TensorProto:
        tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="w.bin")
        return tensor

    from service.onnx_file import refusal

    def model(*nodes: onnx.NodeProto) -> onnx.ModelProto:
        return helper.make_model(helper.make_graph(nodes, "g", [], []))

    constant = helper.make_node("Constant", [], ["y"], value=outside())
    inner = helper.make_graph([constant], "inner", [], [])
    branch = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    function = helper.make_function("", "F", [], ["y"], [constant], [helper.make_opsetid("", 20)])
    with_function = model()
    with_function.functions.append(function)
    for bad in (model(constant), model(branch), with_function):
        assert "another file" in (refusal(bad.SerializeToString()) or "")
    assert refusal(model(helper.make_node("Relu", ["x"], ["y"])).SerializeToString()) is None
