# SPDX-License-Identifier: Apache-2.0
"""The sparse layer as ops of TensorFlow, for `sparselayer.keras` and for code of one's own.

The kernels are registered through TensorFlow's C interface and run on the CPU, in float32 or float64. They are no part
of XLA's compiler: inside `jit_compile=True` TensorFlow refuses them.
"""
import weakref

import tensorflow as tf

from . import _native as n
from ._function import Function
from ._sparse import Pattern

__all__ = ["sparse_linear", "runtime"]

# First by TensorFlow, which watches what is registered meanwhile.
_ops = tf.load_op_library(str(n.library_folder() / "libsparselayer_tf.so"))
_library = n.load("libsparselayer_tf.so")
_library.sparselayer_tf_problem.restype = n.c.c_char_p
_problem = _library.sparselayer_tf_problem().decode()
if _problem:
    raise ImportError(f"the ops could not be registered: {_problem}; TensorFlow 2.16 or newer is needed")


def runtime():
    """The Runtime of TensorFlow's layers."""
    return n.runtime("tensorflow")


@tf.RegisterGradient("SparselayerForward")
def _gradient(op, dy, _):
    x, values, bias = op.inputs
    function = _by_number[op.get_attr("number")]
    y = op.outputs[0] if function.fused else tf.zeros((0,), x.dtype)
    # The tape says which gradients nobody asks for: that of data.
    wants_x = 0 not in (getattr(op, "skip_input_indices", None) or ())
    dx, dvalues, dbias = _ops.sparselayer_backward(x=x, y=y, kept=op.outputs[1], dy=dy, values=values, number=op.get_attr("number"),
                                                   wants_x=int(wants_x))
    dvalues.set_shape(values.shape)
    dbias.set_shape(bias.shape)
    if wants_x:
        dx.set_shape(x.shape)
    return dx if wants_x else None, dvalues, dbias


_by_number = weakref.WeakValueDictionary()


class _Op(Function):
    """A Function that the gradient finds by its number."""

    def __init__(self, pattern, bias, activation, dtype, chunk=0, parameter=0.0):
        super().__init__(pattern, runtime(), bias, activation, dtype, chunk, parameter)
        _by_number[self.number] = self


def apply(function, x, values, bias, keep=True):
    """`function` (an _Op) of x [..., in]; values may be longer than the pattern. `keep`: a gradient will be asked for
    (without it there is one too, but slower)."""
    outputs, inputs = function.pattern.shape
    if x.shape.rank is None or x.shape.rank < 1 or x.shape[-1] not in (inputs, None):
        raise n.ShapeError(f"x has shape {x.shape}; the layer has {inputs} inputs, which must be its last dimension",
                           "SL_ERR_SHAPE")
    if x.dtype != values.dtype or x.dtype not in (tf.float32, tf.float64):
        raise n.DtypeError(f"x is {x.dtype.name}, values are {values.dtype.name}; both must be float32 or both float64",
                           "SL_ERR_DTYPE")
    if bias is None:
        bias = tf.zeros((0,), x.dtype)
    flat = x if x.shape.rank == 2 else tf.reshape(x, (-1, inputs))
    y, _ = _ops.sparselayer_forward(x=flat, values=values, bias=bias, number=function.number, keep=int(keep))
    y.set_shape((flat.shape[0], outputs))
    if x.shape.rank == 2:
        return y
    return tf.ensure_shape(tf.reshape(y, tf.concat([tf.shape(x)[:-1], [outputs]], 0)), (*x.shape[:-1], outputs))


def sparse_linear(x, values, pattern, bias=None, activation=None):
    """activation(x Wᵀ + bias), W being `values` at the entries of `pattern`; differentiable once.

    Args:
        x: [..., in_features], float32 or float64.
        values: [pattern.nnz], in the pattern's order, of x's dtype.
        pattern: a sparselayer.Pattern of [out_features, in_features].
        bias: [out_features] or None.
        activation: None, "relu", "leaky_relu", "relu6", "sigmoid" or "tanh", applied inside the product.
    Returns:
        [..., out_features]
    """
    if not isinstance(pattern, Pattern):
        raise n.ArgumentError(f"pattern is a {type(pattern).__name__}; a sparselayer.Pattern is needed", "SL_ERR_ARGUMENT")
    x, values = tf.convert_to_tensor(x), tf.convert_to_tensor(values)
    cache = pattern.__dict__.setdefault("_tf", {})
    key = values.dtype.name, bias is not None, activation
    function = cache.get(key)
    if function is None:
        if key[0] not in ("float32", "float64"):
            raise n.DtypeError(f"values are {key[0]}; float32 or float64 is needed", "SL_ERR_DTYPE")
        function = cache[key] = _Op(pattern, bias is not None, activation, key[0])
    return apply(function, x, values, bias)
