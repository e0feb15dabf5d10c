# SPDX-License-Identifier: Apache-2.0
"""Sparse layers for Keras 3, on its TensorFlow, JAX and PyTorch backends.

    from sparselayer.keras import SparseDense
    model = keras.Sequential([keras.Input((784,)), SparseDense(1024, density=0.05, activation="relu"), ...])
    model.compile(optimizer="adam", loss="mse")

`SparseDense` is `keras.layers.Dense` whose kernel is sparse: its one trainable kernel is the vector of nonzeros.
`ChunkedSparseDense` works on a batch some rows at a time. `TopologyCallback` edits patterns during `fit`. `SparseBatches`
hands rows of a SciPy matrix to `fit`, which layers take without making them dense.
"""
from .callbacks import TopologyCallback
from .data import SparseBatches, sparse_batch
from .layers import ChunkedSparseDense, SparseDense, from_dense

__all__ = ["ChunkedSparseDense", "SparseBatches", "SparseDense", "TopologyCallback", "from_dense", "sparse_batch"]
