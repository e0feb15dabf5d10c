# SPDX-License-Identifier: Apache-2.0
"""The product on the backend that Keras runs on, chosen at import. Each has `make`, the class of its functions;
`apply`; `is_sparse`; and `cast`, of a sparse batch."""
import keras
import numpy as np

from .. import _native as n
from .._native import ShapeError

BACKEND = keras.backend.backend()

if BACKEND == "tensorflow":
    import tensorflow as tf

    from .. import tensorflow as ops

    make = ops._Op

    def is_sparse(x):
        return isinstance(x, tf.SparseTensor)

    def apply(function, x, values, bias, training):
        return ops.apply(function, x, values, bias, bool(training))

    def cast(x, dtype):
        return tf.cast(x, dtype)

    def sparse_tensor(rows, columns, values, shape, padded):
        indices = np.empty((len(values), 2), np.int64)
        indices[:, 0], indices[:, 1] = rows, columns
        return tf.SparseTensor(indices, values, shape)

elif BACKEND == "jax":
    import jax.numpy as jnp
    from jax.experimental import sparse as jax_sparse

    from .. import jax as ops

    make = ops._Traced

    def is_sparse(x):
        return isinstance(x, jax_sparse.JAXSparse)

    def apply(function, x, values, bias, training):
        return ops.apply(function, x, values, bias)

    def cast(x, dtype):
        x = x.to_bcoo() if hasattr(x, "to_bcoo") else x
        return jax_sparse.BCOO((x.data.astype(dtype), x.indices), shape=x.shape)

    def sparse_tensor(rows, columns, values, shape, padded):
        indices = np.full((max(padded or 0, len(values)), 2), max(shape), np.int32)  # outside: padding
        indices[:len(values), 0], indices[:len(values), 1] = rows, columns
        data = np.zeros(len(indices), values.dtype)
        data[:len(values)] = values
        return jax_sparse.BCOO((jnp.asarray(data), jnp.asarray(indices)), shape=shape)

elif BACKEND == "torch":
    import torch

    from .. import torch as ops

    make = ops._Torch

    def is_sparse(x):
        return isinstance(x, torch.Tensor) and x.layout != torch.strided

    def apply(function, x, values, bias, training):
        return ops.apply(function, x, values, bias)

    def cast(x, dtype):
        return x.to(getattr(torch, dtype))

    def sparse_tensor(rows, columns, values, shape, padded):
        indices = torch.from_numpy(np.stack([rows, columns]).astype(np.int64))
        return torch.sparse_coo_tensor(indices, torch.from_numpy(values), shape, is_coalesced=True, check_invariants=False)

else:
    raise ImportError(f"sparselayer.keras runs on the backends tensorflow, jax and torch; Keras is set to {BACKEND!r}")


def supports_jit():
    """Whether a layer may be inside what the backend compiles: TensorFlow's compiler knows no kernels but its own."""
    return BACKEND != "tensorflow"


def dtype_name(x):
    return keras.backend.standardize_dtype(x.dtype)


def error(message, kind=n.ArgumentError, status="SL_ERR_ARGUMENT"):
    return kind(message, status)
