# SPDX-License-Identifier: Apache-2.0
"""The sparse layer as ops of TensorFlow, for `sparselayer.keras` and for code of one's own.

The kernels are registered through TensorFlow's C interface and run on the CPU. They are no part of XLA's compiler: inside
`jit_compile=True` TensorFlow refuses them.
"""
import weakref

import tensorflow as tf

from . import _native as n
from ._function import SPARSE_LINEAR_DOC, Function, cached, check_call, check_pattern
from ._sparse import Pattern

__all__ = ["sparse_linear", "runtime"]

# First by TensorFlow, which watches what is registered meanwhile.
_ops = tf.load_op_library(str(n.library_folder() / "libsparselayer_tf.so"))
_library = n.load("libsparselayer_tf.so")
_library.sparselayer_tf_problem.restype = n.c.c_char_p
_problem = _library.sparselayer_tf_problem().decode()
if _problem:
    raise ImportError(f"the ops could not be registered: {_problem}; TensorFlow 2.16 or newer is needed")


def runtime() -> n.Runtime:
    """The Runtime of TensorFlow's layers."""
    return n.runtime("tensorflow")


_by_number = weakref.WeakValueDictionary()


class _Op(Function):
    """A Function that the gradient finds by its number."""

    def __init__(self, pattern, shared=None, bias=False, activation=None, dtype="float32", chunk=0, parameter=0.0):
        super().__init__(pattern, shared or runtime(), bias, activation, dtype, chunk, parameter)
        _by_number[self.number] = self


def _output(op, number, dtype):
    return op.outputs[0] if _by_number[number].fused else tf.zeros((0,), dtype)


@tf.RegisterGradient("SparselayerForward")
def _gradient(op, dy, _):
    x, values, bias = op.inputs
    number = op.get_attr("number")
    # The tape says which gradients nobody asks for: that of data.
    wants_x = 0 not in (getattr(op, "skip_input_indices", None) or ())
    dx, dvalues, dbias = _ops.sparselayer_backward(x=x, y=_output(op, number, x.dtype), kept=op.outputs[1], dy=dy,
                                                   values=values, number=number, option=int(wants_x))
    dvalues.set_shape(values.shape)
    dbias.set_shape(bias.shape)
    if wants_x:
        dx.set_shape(x.shape)
    return dx if wants_x else None, dvalues, dbias


@tf.RegisterGradient("SparselayerForwardSparse")
def _gradient_sparse(op, dy):
    indices, entries, shape, values, bias = op.inputs
    number = op.get_attr("number")
    dvalues, dbias = _ops.sparselayer_backward_sparse(indices=indices, entries=entries, shape=shape,
                                                      y=_output(op, number, entries.dtype), dy=dy, values=values,
                                                      number=number, option=0)
    dvalues.set_shape(values.shape)
    dbias.set_shape(bias.shape)
    return None, None, None, dvalues, dbias


def _described(tensor):
    return None if tensor is None else (() if tensor.shape.rank is None else tensor.shape, tensor.dtype.name)


def apply(function, x, values, bias, keep=True):
    """`function` (an _Op) of x [..., in], dense or sparse; values may be longer than the pattern. `keep`: a gradient will
    be asked for (without it there is one too, but slower)."""
    outputs, inputs = function.pattern.shape
    is_sparse = isinstance(x, tf.SparseTensor)
    values, bias = tf.convert_to_tensor(values), None if bias is None else tf.convert_to_tensor(bias)
    check_call(function.pattern, _described(x), _described(values), _described(bias), is_sparse)
    function = function.to(x.dtype.name)
    if bias is None:
        bias = tf.zeros((0,), values.dtype)
    if is_sparse:
        y = _ops.sparselayer_forward_sparse(indices=x.indices, entries=x.values, shape=x.dense_shape, values=values,
                                            bias=bias, number=function.number, option=0)
        y.set_shape((x.shape[0], outputs))
        return y
    flat = x if x.shape.rank == 2 else tf.reshape(x, (-1, inputs))
    y, _ = _ops.sparselayer_forward(x=flat, values=values, bias=bias, number=function.number, option=int(keep))
    y.set_shape((flat.shape[0], outputs))
    if x.shape.rank == 2:
        return y
    return tf.ensure_shape(tf.reshape(y, tf.concat([tf.shape(x)[:-1], [outputs]], 0)), (*x.shape[:-1], outputs))


def sparse_linear(x: tf.Tensor | tf.SparseTensor, values: tf.Tensor, pattern: Pattern, bias: tf.Tensor | None = None,
                  activation: str | None = None) -> tf.Tensor:
    check_pattern(pattern)
    x = x if isinstance(x, tf.SparseTensor) else tf.convert_to_tensor(x)
    values = tf.convert_to_tensor(values)
    return apply(cached(pattern, _Op, values.dtype.name, bias is not None, activation), x, values, bias)


sparse_linear.__doc__ = SPARSE_LINEAR_DOC.format(sparse="a tf.SparseTensor", pattern="")
