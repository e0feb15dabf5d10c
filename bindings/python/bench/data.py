# SPDX-License-Identifier: Apache-2.0
"""Fashion-MNIST from Debian's package, and times as text."""
import gzip
import pathlib
import statistics

import numpy as np

FOLDER = pathlib.Path("/usr/share/datasets/fashion-mnist")


def idx(name):
    path = FOLDER / f"{name}.gz"
    if not path.exists():
        raise SystemExit(f"{path} was not found: apt-get install dataset-fashion-mnist")
    raw = gzip.open(path).read()
    sizes = [int.from_bytes(raw[4 + 4 * i:8 + 4 * i], "big") for i in range(raw[3])]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(sizes)


def fashion_mnist():
    """(x, y), (x_test, y_test): float32 in [0, 1] of [samples, 784], int32 labels."""
    return [(idx(f"{part}-images-idx3-ubyte").reshape(-1, 784).astype(np.float32) / 255,
             idx(f"{part}-labels-idx1-ubyte").astype(np.int32)) for part in ("train", "t10k")]


def spread(seconds):
    """What a median stands for, as text."""
    return f"median {statistics.median(seconds):.4g}, {min(seconds):.4g} to {max(seconds):.4g} of {len(seconds)}"
