"""Data files: what is read, and what the user is told about a file that cannot be."""

from __future__ import annotations

import gzip
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from training.data import from_arrays, load
from training.errors import DataError


def write_idx(path: Path, array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    """*array* as an idx file, gzipped where the name says so."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(struct.pack(">I", size) for size in array.shape)
    data = header + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def test_a_csv_is_a_table_with_the_names_of_its_header(tmp_path: Path) -> None:
    """Quotes, blank lines, a byte-order mark and exponents are read; values are float64."""
    file = tmp_path / "rows.csv"
    file.write_text('\ufefftime,"flow, in"\n1700000000.25,1e-3\n\n2,-3\n', encoding="utf-8")
    dataset = load(str(file))
    assert dataset.inputs.names == ("time", "flow, in")
    assert dataset.inputs.dtype == "float64"
    np.testing.assert_array_equal(dataset.x, [[1700000000.25, 1e-3], [2, -3]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3,x\n", "rows.csv: line 3, column 'b': 'x' is not a number, and 1 of 2 values are"),
        ("a,b\n1,2\n3,1_000\n", "rows.csv: line 3, column 'b': '1_000' is not a number"),
        ("a,b\n1,\n", "rows.csv: column 'b': every value is missing"),
        ("a,b\n-inf,2\n", "rows.csv: line 2, column 'a': '-inf' is not a finite number"),
    ],
)
def test_a_csv_that_cannot_be_read_names_line_column_and_reason(tmp_path: Path, text: str, message: str) -> None:
    """The message is enough to mend the file. More in test_csv_file.py, test_infer.py and test_coding.py."""
    file = tmp_path / "rows.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        load(str(file))


def test_missing_values_of_a_table_are_nan(tmp_path: Path) -> None:
    """Of a CSV file and of an array alike; the columns that have some say so."""
    file = tmp_path / "rows.csv"
    file.write_text("a,b\n1.5,NA\n2.5,4\n")
    x = np.array([[1.5, np.nan], [2.5, 4]])
    for dataset in (load(str(file)), from_arrays("rows.npz", {"X": x, "columns": np.array(["a", "b"])})):
        np.testing.assert_array_equal(dataset.x, x)
        assert [column.missing for column in dataset.inputs.columns or ()] == [False, True]


def test_labelled_anomalies_are_kept_apart(tmp_path: Path) -> None:
    """`y` = 1 goes to the anomalies, with the labels of the others kept in step."""
    file = tmp_path / "rows.npz"
    x = np.arange(12, dtype=np.int16).reshape(6, 2)
    np.savez(file, X=x, y=[0, 1, 0, 0, 1, 0], labels=[0, 1, 2, 3, 4, 5], columns=["u", "v"])
    dataset = load(str(file))
    assert dataset.anomalies is not None
    assert dataset.labels is not None
    np.testing.assert_array_equal(dataset.x, x[[0, 2, 3, 5]])
    np.testing.assert_array_equal(dataset.anomalies, x[[1, 4]])
    np.testing.assert_array_equal(dataset.labels, [0, 2, 3, 5])
    assert dataset.x.dtype == np.int16
    assert dataset.inputs.names == ("u", "v")


@pytest.mark.parametrize(
    ("shape", "layout"), [((5, 8, 9), "HW"), ((5, 8, 9, 3), "HWC"), ((5, 3, 8, 9), "CHW"), ((5, 8, 9, 1), "HWC")]
)
def test_the_shape_of_an_array_tells_the_layout_of_its_images(shape: tuple[int, ...], layout: str) -> None:
    """Images are float32 in the units of the file."""
    dataset = from_arrays("images.npy", {"X": np.full(shape, 200, np.uint8)})
    assert dataset.inputs.kind == "image"
    assert dataset.inputs.layout == layout
    assert dataset.inputs.range == (0, 255)
    assert dataset.inputs.shape == shape[1:]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"Z": np.zeros((3, 2))}, "holds Z; the rows must be called X"),
        ({"X": np.zeros(3)}, r"shape \(3,\)"),
        ({"X": np.zeros((0, 2))}, "no values"),
        ({"X": np.array([["a", "b"]])}, "not numbers"),
        ({"X": np.array([[0.0, 1.0], [2.0, np.inf]])}, "row 1, column 'x1': inf is not a finite number"),
        ({"X": np.full((2, 3, 3), np.nan)}, "row 0, pixel '0,0': nan is not a finite number"),
        ({"X": np.full((2, 3, 3), np.inf)}, "row 0, pixel '0,0': inf is not a finite number"),
        ({"X": np.full((2, 3, 3), 1e300)}, r"row 0, pixel '0,0': 1e\+300 is too large for float32"),
        ({"X": np.full((2, 3), np.longdouble("1e4000"))}, r"row 0, column 'x0': 1e\+4000 is too large for float64"),
        ({"X": np.zeros((3, 2)), "y": np.array([0, 1])}, r"y has shape \(2,\)"),
        ({"X": np.zeros((3, 2)), "y": np.array([0, 1, 2])}, "y must be 0 .* row 2 is not"),
        ({"X": np.zeros((3, 2)), "y": np.ones(3)}, "every row is an anomaly"),
        ({"X": np.zeros((3, 2)), "columns": np.array(["a"])}, "1 name; X has 2 columns"),
        ({"X": np.zeros((3, 2)), "columns": np.array(["a", "a"])}, "column 1 is called 'a', as one before it"),
        ({"X": np.zeros((3, 2)), "columns": np.array(["a", ""])}, "column 1 has no name"),
        ({"X": np.zeros((3, 9, 9, 9))}, "no axis has 1, 3 or 4 channels"),
    ],
)
def test_arrays_that_do_not_belong_together_are_named(
    arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]], message: str
) -> None:
    """Each refusal names the file and the reason."""
    with pytest.raises(DataError, match=f"rows.npz: .*{message}"):
        from_arrays("rows.npz", arrays)


def test_a_value_that_is_not_finite_is_found_far_down() -> None:
    """The check goes a piece at a time, and counts rows from the start."""
    x = np.zeros((70_000, 64), np.float32)
    x[69_999, 7] = -np.inf
    with pytest.raises(DataError, match=r"rows.npy: row 69999, column 'x7': -inf is not a finite number"):
        from_arrays("rows.npy", {"X": x})


def test_a_long_csv_is_read_whole(tmp_path: Path) -> None:
    """In its order."""
    file, x = tmp_path / "rows.csv", np.arange(50_006.0).reshape(-1, 2)
    np.savetxt(file, x, delimiter=",", header="a,b", comments="", fmt="%d")
    np.testing.assert_array_equal(load(str(file)).x, x)


@pytest.mark.parametrize(
    ("train", "labels", "message"),
    [
        (np.zeros(4, np.uint8), None, r"the train images have shape \(4,\)"),
        (np.zeros((0, 2, 2), np.uint8), None, r"the train images have shape \(0, 2, 2\)"),
        (np.zeros((2, 2, 2), np.uint8), np.zeros((2, 1), np.uint8), r"the train labels have shape \(2, 1\)"),
        (np.zeros((2, 2, 2), np.uint8), np.zeros(3, np.uint8), "2 train images, but 3 labels"),
    ],
)
def test_a_directory_of_idx_files_of_other_shapes_is_refused(
    tmp_path: Path,
    train: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    labels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None,
    message: str,
) -> None:
    """Files under the names of MNIST's that hold something else."""
    write_idx(tmp_path / "train-images-idx3-ubyte", train)
    if labels is not None:
        write_idx(tmp_path / "train-labels-idx1-ubyte", labels)
    with pytest.raises(DataError, match=message):
        load(str(tmp_path))


def test_a_member_of_an_npz_that_is_no_array_is_refused(tmp_path: Path) -> None:
    """Numpy gives its bytes instead."""
    with zipfile.ZipFile(tmp_path / "rows.npz", "w") as archive:
        archive.writestr("X.npy", b"garbage")
    with pytest.raises(DataError, match=r"rows.npz: X is not a numpy array"):
        load(str(tmp_path / "rows.npz"))


def test_pickles_are_refused(tmp_path: Path) -> None:
    """An array of objects would run code when loaded."""
    file = tmp_path / "rows.npy"
    np.save(file, np.array([[1, None]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"rows.npy: not a file of plain numpy arrays"):
        load(str(file))


def test_a_directory_of_idx_files_has_its_own_test_split(tmp_path: Path) -> None:
    """The t10k files are the test rows; gzipped or not makes no difference."""
    images = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", images)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.arange(5, dtype=np.uint8))
    write_idx(tmp_path / "t10k-images-idx3-ubyte", images[:2])
    dataset = load(str(tmp_path))
    assert dataset.test is not None
    np.testing.assert_array_equal(dataset.x, images)
    np.testing.assert_array_equal(dataset.test, images[:2])
    np.testing.assert_array_equal(load(str(tmp_path / "train-images-idx3-ubyte.gz")).x, images)


def test_an_idx_file_that_is_cut_is_refused(tmp_path: Path) -> None:
    """The header says how long the file must be."""
    file = tmp_path / "train-images-idx3-ubyte"
    write_idx(file, np.zeros((5, 4, 3), np.uint8))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match="75 bytes; its header announces 76"):
        load(str(tmp_path))


def test_the_digits_are_images_from_0_to_16() -> None:
    """The data set of the shipped example."""
    dataset = load("sklearn:digits")
    assert dataset.x.shape == (1797, 8, 8)
    assert dataset.inputs.range == (0, 16)


def test_a_missing_or_unknown_file_is_named(tmp_path: Path) -> None:
    """So that a slip of the keyboard is seen at once."""
    with pytest.raises(DataError, match="no such file"):
        load(str(tmp_path / "rows.csv"))
    (tmp_path / "rows.xlsx").touch()
    with pytest.raises(DataError, match=r"not a .csv, .tsv, .parquet, .npy, .npz or idx file"):
        load(str(tmp_path / "rows.xlsx"))


def test_the_hash_is_of_the_values() -> None:
    """Equal data have equal hashes; one other value, or another role of a row, has another."""
    x = np.arange(12.0).reshape(6, 2)
    hashes = {
        from_arrays("a.npy", {"X": x}).hash,
        from_arrays("b.npy", {"X": x.copy()}).hash,
        from_arrays("a.npy", {"X": x + np.array([1e-9, 0])}).hash,
        from_arrays("a.npz", {"X": x, "y": np.array([0, 0, 0, 0, 0, 1])}).hash,
    }
    assert len(hashes) == 3
