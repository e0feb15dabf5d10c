# SPDX-License-Identifier: Apache-2.0
"""The product on the backend that Keras runs on: one small class each, chosen at import."""
import keras

from .. import _native as n

BACKEND = keras.backend.backend()

if BACKEND == "tensorflow":
    import tensorflow as tf

    from .. import tensorflow as ops

    make = ops._Op

    def is_sparse(x):
        return isinstance(x, tf.SparseTensor)

    def apply(function, x, values, bias, training):
        return ops.apply(function, x, values, bias, bool(training))

    def to_dense(x):
        return tf.sparse.to_dense(tf.sparse.reorder(x))

elif BACKEND == "jax":
    from jax.experimental import sparse as jax_sparse

    from .. import jax as ops

    make = ops._Traced

    def is_sparse(x):
        return isinstance(x, jax_sparse.JAXSparse)

    def apply(function, x, values, bias, training):
        return ops.apply(function, x, values, bias)

    def to_dense(x):
        return x.todense()

elif BACKEND == "torch":
    import torch

    from .. import torch as ops
    from .._function import Function

    def make(pattern, bias, activation, dtype, chunk=0, parameter=0.0):
        return Function(pattern, ops.runtime(), bias, activation, dtype, chunk, parameter)

    def is_sparse(x):
        return isinstance(x, torch.Tensor) and x.layout != torch.strided

    def apply(function, x, values, bias, training):
        return ops.apply(function, x, values, bias)

    def to_dense(x):
        return x.to_dense()

else:
    raise ImportError(f"sparselayer.keras runs on the backends tensorflow, jax and torch; Keras is set to {BACKEND!r}")


def supports_jit():
    """Whether a layer may be inside what the backend compiles: TensorFlow's compiler knows no kernels but its own."""
    return BACKEND != "tensorflow"


def sparse_is_supported():
    """Whether the backend hands sparse batches to layers."""
    return BACKEND in ("tensorflow", "jax")


def error(message, kind=n.ArgumentError, status="SL_ERR_ARGUMENT"):
    return kind(message, status)
