# SPDX-License-Identifier: Apache-2.0
"""Sparse layers for JAX.

`sparse_linear` is x Wᵀ + b with a sparse W, differentiable, under jit: XLA calls the C library directly, through its
foreign function interface, on the CPU. x is dense, or a BCOO or BCSR matrix.
"""
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import sparse

from . import _native as n
from ._function import SPARSE_LINEAR_DOC, Function, cached, check_call, check_pattern, initial_values
from ._sparse import Pattern

__all__ = ["sparse_linear", "init", "runtime"]

_library = n.load("libsparselayer_jax.so")
for _name in ("forward", "backward", "forward_sparse", "backward_sparse"):
    jax.ffi.register_ffi_target(f"sparselayer_{_name}",
                                jax.ffi.pycapsule(getattr(_library, f"sparselayer_xla_{_name}")), platform="cpu")


def runtime() -> n.Runtime:
    """The Runtime of JAX's layers."""
    return n.runtime("jax")


class _Traced(Function):
    """A Function as a static argument: equal to itself alone, and kept alive by what was traced with it."""

    def __init__(self, pattern, shared=None, bias=False, activation=None, dtype="float32", chunk=0, parameter=0.0):
        super().__init__(pattern, shared or runtime(), bias, activation, dtype, chunk, parameter)


def _call(name, function, out, *arguments):
    return jax.ffi.ffi_call(f"sparselayer_{name}", out, vmap_method="sequential")(*arguments,
                                                                                   number=np.int64(function.number))


def _or_nothing(array, dtype):
    return jnp.zeros((0,), dtype) if array is None else array


def _shaped(wanted, shape, dtype):
    return jax.ShapeDtypeStruct(shape if wanted else (0,), dtype)


def _call_forward(function, x, values, bias, kept):
    out = (jax.ShapeDtypeStruct((x.shape[0], function.pattern.shape[0]), x.dtype),
           jax.ShapeDtypeStruct((kept,), x.dtype))
    return _call("forward", function, out, x, values, _or_nothing(bias, values.dtype))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _linear(function, x, values, bias):
    return _call_forward(function, x, values, bias, 0)[0]


def _linear_forward(function, x, values, bias):
    # What is not differentiated (data, frozen weights) is known here: its gradient is not computed.
    wanted = (() if x.perturbed else None, () if bias is not None and bias.perturbed else None)
    x, values, bias = x.value, values.value, None if bias is None else bias.value
    count = function.kept(x.shape[0])
    y, kept = _call_forward(function, x, values, bias, count)
    shape = jnp.zeros((x.shape[0], x.shape[1], 0), x.dtype)  # x's shape alone, where what was kept stands for it
    if count:
        return y, (None, values, None, kept, shape, wanted, None if bias is None else ())
    return y, (x, values, y if function.fused else None, None, shape, wanted, None if bias is None else ())


def _instantiate(dy):
    return jnp.zeros(dy.shape, dy.dtype) if isinstance(dy, jax.custom_derivatives.SymbolicZero) else dy


def _bias_gradient(function, dbias, has_bias, wanted, dtype):
    """None where there is no bias; zeros, which XLA drops, where nobody asks for it."""
    if has_bias is None:
        return None
    return dbias if wanted is not None else jnp.zeros((function.pattern.shape[0],), dtype)


def _linear_backward(function, kept, dy):
    x, values, y, panels, shape, (wants_x, wants_bias), has_bias = kept
    dtype, x_dtype, shape = values.dtype, shape.dtype, shape.shape[:2]
    shapes = (_shaped(wants_x is not None, shape, x_dtype), jax.ShapeDtypeStruct(values.shape, dtype),
              _shaped(wants_bias is not None, (function.pattern.shape[0],), dtype))
    dx, dvalues, dbias = _call("backward", function, shapes, *(_or_nothing(array, x_dtype) for array in (x, y, panels)),
                               _instantiate(dy), values)
    if wants_x is None:
        dx = jnp.zeros(shape, x_dtype)  # unused, so XLA drops it
    return dx, dvalues, _bias_gradient(function, dbias, has_bias, wants_bias, dtype)


_linear.defvjp(_linear_forward, _linear_backward, symbolic_zeros=True)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _sparse_input(function, batch, indices, entries, values, bias):
    out = jax.ShapeDtypeStruct((batch, function.pattern.shape[0]), values.dtype)
    return _call("forward_sparse", function, out, indices, entries, values, _or_nothing(bias, values.dtype))


def _sparse_input_forward(function, batch, indices, entries, values, bias):
    if entries.perturbed:
        raise n.UnsupportedError("a gradient of the entries of a sparse x was asked for; it has none", "SL_ERR_UNSUPPORTED")
    wanted = () if bias is not None and bias.perturbed else None
    indices, entries, values, bias = (None if a is None else a.value for a in (indices, entries, values, bias))
    y = _sparse_input(function, batch, indices, entries, values, bias)
    return y, (indices, entries, y if function.fused else None, values, wanted, None if bias is None else ())


def _sparse_input_backward(function, batch, kept, dy):
    indices, entries, y, values, wanted, has_bias = kept
    dtype = values.dtype
    shapes = (jax.ShapeDtypeStruct(values.shape, dtype),
              _shaped(wanted is not None, (function.pattern.shape[0],), dtype))
    dvalues, dbias = _call("backward_sparse", function, shapes, indices, entries, _or_nothing(y, dtype), _instantiate(dy))
    nothing = np.zeros(indices.shape, jax.dtypes.float0)
    return (nothing, jnp.zeros(entries.shape, dtype), dvalues,
            _bias_gradient(function, dbias, has_bias, wanted, dtype))


_sparse_input.defvjp(_sparse_input_forward, _sparse_input_backward, symbolic_zeros=True)


def _described(array):
    return None if array is None else (array.shape, str(array.dtype))


def _as_bcoo(x):
    if not isinstance(x, sparse.BCOO):
        x = x.to_bcoo() if hasattr(x, "to_bcoo") else sparse.BCOO.from_scipy_sparse(x)
    if x.n_batch or x.n_dense or x.ndim != 2:
        raise n.ShapeError(f"x is a BCOO of {x.n_batch} batch and {x.n_dense} dense dimensions; a plain matrix is needed",
                           "SL_ERR_SHAPE")
    return x


def apply(function, x, values, bias):
    """`function` (a _Traced) of x [..., in], dense or sparse; values may be longer than the pattern."""
    is_sparse = isinstance(x, sparse.JAXSparse)
    x = _as_bcoo(x) if is_sparse else x
    check_call(function.pattern, _described(x), _described(values), _described(bias), is_sparse)
    function = function.to(str(x.dtype))
    if is_sparse:
        return _sparse_input(function, x.shape[0], x.indices, x.data, values, bias)
    shape = x.shape
    y = _linear(function, x.reshape(-1, shape[-1]), values, bias)
    return y.reshape(*shape[:-1], function.pattern.shape[0])


def sparse_linear(x: Any, values: jax.Array, pattern: Pattern, bias: jax.Array | None = None,
                  activation: str | None = None) -> jax.Array:
    check_pattern(pattern)
    x = x if isinstance(x, sparse.JAXSparse) else jnp.asarray(x)
    values = jnp.asarray(values)
    bias = None if bias is None else jnp.asarray(bias)
    return apply(cached(pattern, _Traced, str(values.dtype), bias is not None, activation), x, values, bias)


sparse_linear.__doc__ = SPARSE_LINEAR_DOC.format(
    sparse="a BCOO or BCSR matrix", pattern=" Static: another one is\n            another trace.") + """
    Works under jit and grad, and under vmap, which runs one after the other: give the batch as a dimension instead.
    """


def init(key: Any, pattern: Pattern, rule: str = "glorot_uniform", dtype: Any = jnp.float32) -> jax.Array:
    """Initial weights for a pattern, [nnz], scaled by each neuron's real connections. `key`: a PRNG key or a seed."""
    if not isinstance(key, int):
        key = int(jax.random.randint(key, (), 0, np.iinfo(np.int32).max))
    return jnp.asarray(initial_values(pattern, rule, key), dtype)
