"""
The idx files of MNIST and its successors: http://yann.lecun.com/exdb/mnist, section "File formats".

Big-endian: two zero bytes, a type, the number of axes, their lengths, the values. Plain or gzipped.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.errors import counted
from training.errors import DataError

Array = NDArray[np.generic]

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> Array:
    """
    The array in one idx file, in native byte order.

    Raises DataError for a file that is cut or of another format.
    """
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path.name}: cannot be read: {error}") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES or len(data) < 4 + 4 * data[3]:
        raise DataError(f"{path.name}: not an idx file")
    dtype, start = np.dtype(_TYPES[data[2]]), 4 + 4 * data[3]
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", data[3], offset=4))
    want = start + math.prod(shape) * dtype.itemsize
    if len(data) != want:
        raise DataError(f"{path.name}: {counted(len(data), 'byte')}; its header announces {want}")
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def read_idx_directory(path: Path) -> tuple[Array, Array | None, Array | None, Array | None]:
    """
    Training images and labels, test images and labels, from the four file names of MNIST; all but the first optional.

    Raises DataError when there are no training images, or images and labels differ in number.
    """
    x = _find(path, "train-images-idx3-ubyte")
    if x is None:
        raise DataError(f"{path}: no train-images-idx3-ubyte or train-images-idx3-ubyte.gz in this directory")
    labels = _find(path, "train-labels-idx1-ubyte")
    test, test_labels = _find(path, "t10k-images-idx3-ubyte"), _find(path, "t10k-labels-idx1-ubyte")
    for images, classes, name in ((x, labels, "train"), (test, test_labels, "t10k")):
        if images is not None and (images.ndim != 3 or not images.size):
            raise DataError(f"{path.name}: the {name} images have shape {images.shape}; (n, height, width) is needed")
        if classes is not None and classes.ndim != 1:
            raise DataError(f"{path.name}: the {name} labels have shape {classes.shape}; (n,) is needed")
        if images is not None and classes is not None and len(images) != len(classes):
            raise DataError(f"{path.name}: {len(images)} {name} images, but {len(classes)} labels")
    if test is not None and test.shape[1:] != x.shape[1:]:
        raise DataError(f"{path.name}: test images are {test.shape[1:]}, training images {x.shape[1:]}")
    return x, labels, test, test_labels


def _find(path: Path, name: str) -> Array | None:
    for candidate in (path / name, path / f"{name}.gz"):
        if candidate.exists():
            return read_idx(candidate)
    return None
