"""MNIST with both binarisations: what is fitted to, as a file, and the test images, binary. Knows no models."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from training.data import load
from training.parts import Dealing, as_inputs

Array = NDArray[np.generic]

GREY: Final = "mnist"
"""The folder of MNIST's four files, whose greys are the probabilities of dynamic binarisation."""

STATIC: Final = "binarized_mnist/binarized_mnist.npz"
"""The binary images of Larochelle & Murray 2011, drawn once, as Salakhutdinov had them: train, valid and test."""

_TEST = 3  # of `as_inputs`: the stream that a fit's own test images are drawn from


def to_fit(data: Path, binarisation: Literal["dynamic", "static"], folder: Path) -> Path:
    """
    What `vae-train --data` takes: 60,000 training images below *data*, or made of that in *folder*.

    The static ones are the training and the validation images together, as in Burda et al. 2016.
    """
    if binarisation == "dynamic":
        return data / GREY / "train-images-idx3-ubyte.gz"
    file = folder / "static.npz"
    if not file.exists():
        with np.load(data / STATIC, allow_pickle=False) as there:
            x = np.concatenate([there["train"], there["valid"]]).astype(np.uint8).reshape(-1, 28, 28)
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / "static.part.npz"
        np.savez_compressed(part, X=x)
        part.replace(file)
    return file


def test_images(data: Path, binarisation: Literal["dynamic", "static"], images: int, seed: int) -> Array:
    """Zeros and ones, (n, 28, 28): all 10,000, or fewer that *seed* chooses; dynamic ones are drawn once, by *seed*."""
    if binarisation == "dynamic":
        dataset = load(str(data / GREY))
        assert dataset.test is not None, "MNIST has a test set."
        found = as_inputs(dataset.test, dataset.inputs, Dealing(binarize="dynamic", seed=seed), _TEST)
    else:
        with np.load(data / STATIC, allow_pickle=False) as there:
            found = there["test"].astype(np.uint8).reshape(-1, 28, 28)
    rows = np.sort(np.random.default_rng([seed, 15]).permutation(len(found))[:images])
    return found[rows]
