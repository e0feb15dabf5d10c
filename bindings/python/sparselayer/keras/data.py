# SPDX-License-Identifier: Apache-2.0
"""Batches of SciPy matrices as the backend's sparse tensors."""
from typing import Any

import keras
import numpy as np

from .._types import SupportsToCSR
from . import backends


def sparse_batch(matrix: SupportsToCSR, padded: int | None = None) -> Any:
    """A SciPy matrix as what layers take as a sparse batch on this backend: tf.SparseTensor, JAX's BCOO, or a sparse COO
    tensor of PyTorch.

    Args:
        matrix: of any SciPy format. Its values become float32 unless they are floating-point already.
        padded: on JAX, how many entries to pad to with entries that count for nothing, so that batches have one shape
            and are traced once. Other backends do not need it.
    """
    matrix = matrix.tocsr()
    values = matrix.data if matrix.data.dtype.kind == "f" else matrix.data.astype(np.float32)
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return backends.sparse_tensor(rows, matrix.indices, values, matrix.shape, padded)


class SparseBatches(keras.utils.PyDataset):
    """Rows of a SciPy matrix for `fit`, `evaluate` and `predict`: nothing is made dense.

    Args:
        x: a SciPy matrix [samples, features]; CSR is taken as it is.
        y, sample_weight: arrays over the samples, or None.
        batch_size: rows of a batch; the last one may have fewer.
        shuffle: draw another order for each epoch.
        seed: of that order.
        kwargs: of keras.utils.PyDataset (workers, ...).
    """

    def __init__(self, x: SupportsToCSR, y: np.ndarray | None = None, sample_weight: np.ndarray | None = None,
                 batch_size: int = 32, shuffle: bool = True, seed: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.x, self.y, self.sample_weight = x.tocsr(), y, sample_weight
        for array, name in ((y, "y"), (sample_weight, "sample_weight")):
            if array is not None and len(array) != self.x.shape[0]:
                raise backends.error(f"{name} has {len(array)} elements; x has {self.x.shape[0]} rows", backends.ShapeError,
                                     "SL_ERR_SHAPE")
        self.batch_size, self.shuffle = batch_size, shuffle
        self._rng = np.random.default_rng(seed)
        self._order = np.arange(self.x.shape[0])
        self.on_epoch_end()
        lengths = np.sort(np.diff(self.x.indptr))[::-1]
        most = int(lengths[:batch_size].sum())  # no batch has more entries
        self._padded = -(-most // 256) * 256

    def __len__(self):
        return -(-self.x.shape[0] // self.batch_size)

    def __getitem__(self, index):
        rows = self._order[index * self.batch_size:(index + 1) * self.batch_size]
        batch = sparse_batch(self.x[rows], self._padded)
        if self.y is None:
            return (batch,)
        return (batch, self.y[rows]) if self.sample_weight is None else (batch, self.y[rows], self.sample_weight[rows])

    def on_epoch_end(self):
        if self.shuffle:
            self._rng.shuffle(self._order)
