# SPDX-License-Identifier: Apache-2.0
"""Sparse layers for JAX.

`sparse_linear` is x Wᵀ + b with a sparse W, differentiable, under jit: XLA calls the C library directly, through its
foreign function interface. On the CPU, in float32 or (with jax_enable_x64) float64.
"""
import functools

import jax
import jax.numpy as jnp
import numpy as np

from . import _native as n
from ._function import Function, initial_values
from ._sparse import Pattern

__all__ = ["sparse_linear", "init", "runtime"]

_library = n.load("libsparselayer_jax.so")
for _name in ("forward", "backward"):
    jax.ffi.register_ffi_target(f"sparselayer_{_name}",
                                jax.ffi.pycapsule(getattr(_library, f"sparselayer_xla_{_name}")), platform="cpu")


def runtime():
    """The Runtime of JAX's layers."""
    return n.runtime("jax")


def _call_forward(function, x, values, bias, kept):
    out = (jax.ShapeDtypeStruct((x.shape[0], function.pattern.shape[0]), x.dtype),
           jax.ShapeDtypeStruct((kept,), x.dtype))
    if bias is None:
        bias = jnp.zeros((0,), x.dtype)
    return jax.ffi.ffi_call("sparselayer_forward", out, vmap_method="sequential")(
        x, values, bias, number=np.int64(function.number))


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


def _linear_backward(function, kept, dy):
    x, values, y, panels, shape, (wants_x, wants_bias), has_bias = kept
    dtype, shape = values.dtype, shape.shape[:2]
    outputs = function.pattern.shape[0]
    if isinstance(dy, jax.custom_derivatives.SymbolicZero):
        dy = jnp.zeros(dy.shape, dtype)
    none, nothing = jax.ShapeDtypeStruct((0,), dtype), jnp.zeros((0,), dtype)
    shapes = (jax.ShapeDtypeStruct(shape, dtype) if wants_x is not None else none,
              jax.ShapeDtypeStruct(values.shape, values.dtype),
              jax.ShapeDtypeStruct((outputs,), dtype) if wants_bias is not None else none)
    dx, dvalues, dbias = jax.ffi.ffi_call("sparselayer_backward", shapes, vmap_method="sequential")(
        *(nothing if array is None else array for array in (x, y, panels)), dy, values, number=np.int64(function.number))
    if wants_x is None:
        dx = jnp.zeros(shape, dtype)  # unused, so XLA drops it
    if has_bias is None:
        return dx, dvalues, None
    return dx, dvalues, dbias if wants_bias is not None else jnp.zeros((outputs,), dtype)


_linear.defvjp(_linear_forward, _linear_backward, symbolic_zeros=True)


class _Traced(Function):
    """A Function as a static argument: equal to itself alone, and kept alive by what was traced with it."""

    def __init__(self, pattern, bias, activation, dtype, chunk=0, parameter=0.0):
        super().__init__(pattern, runtime(), bias, activation, dtype, chunk, parameter)


def apply(function, x, values, bias):
    """`function` (a _Traced) of x [..., in]; values may be longer than the pattern."""
    pattern = function.pattern
    dtype = values.dtype
    if dtype not in (jnp.float32, jnp.float64):
        raise n.DtypeError(f"values are {dtype}; float32 or float64 is needed", "SL_ERR_DTYPE")
    for array, name in ((x, "x"), (bias, "bias")):
        if array is not None and array.dtype != dtype:
            raise n.DtypeError(f"{name} is {array.dtype}, values are {dtype}; they must be the same", "SL_ERR_DTYPE")
    if x.ndim == 0 or x.shape[-1] != pattern.shape[1]:
        raise n.ShapeError(f"x has shape {x.shape}; the layer has {pattern.shape[1]} inputs, which must be its last "
                           "dimension", "SL_ERR_SHAPE")
    if values.ndim != 1 or values.shape[0] < pattern.nnz:
        raise n.ShapeError(f"values has shape {values.shape}; the pattern has {pattern.nnz} entries", "SL_ERR_SHAPE")
    if bias is not None and bias.shape != (pattern.shape[0],):
        raise n.ShapeError(f"bias has shape {bias.shape}; the layer has {pattern.shape[0]} outputs", "SL_ERR_SHAPE")
    shape = x.shape
    y = _linear(function, x.reshape(-1, shape[-1]), values, bias)
    return y.reshape(*shape[:-1], pattern.shape[0])


def sparse_linear(x, values, pattern, bias=None, activation=None):
    """activation(x Wᵀ + bias), W being `values` at the entries of `pattern`.

    Differentiable (reverse mode, once) in x, values and bias; under jit, grad and vmap (which runs one after the other:
    give the batch as a dimension instead). `pattern` is static: another one is another trace.

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
    x, values = jnp.asarray(x), jnp.asarray(values)
    bias = None if bias is None else jnp.asarray(bias)
    cache = pattern.__dict__.setdefault("_traced", {})
    key = str(values.dtype), bias is not None, activation
    function = cache.get(key)
    if function is None:
        if key[0] not in ("float32", "float64"):
            raise n.DtypeError(f"values are {key[0]}; float32 or float64 is needed", "SL_ERR_DTYPE")
        function = cache[key] = _Traced(pattern, bias is not None, activation, key[0])
    return apply(function, x, values, bias)


def init(key, pattern, rule="glorot_uniform", dtype=jnp.float32):
    """Initial weights for a pattern, [nnz], scaled by each neuron's real connections. `key`: a PRNG key or a seed."""
    if not isinstance(key, int):
        key = int(jax.random.randint(key, (), 0, np.iinfo(np.int32).max))
    return jnp.asarray(initial_values(pattern, rule, key), dtype)
