# SPDX-License-Identifier: Apache-2.0
"""Y = activation(X Wᵀ + b) over a pattern, for the frameworks: the function by number, and initial weights."""
import ctypes as c
import weakref

import numpy as np

from . import _native as n
from ._sparse import Pattern


class Function:
    """sl_function under a runtime's lock. Its `number` is what calls name it by; it lives until this object goes.

    `dtype` is that of inputs and outputs; values and bias are of `value_dtype`: float32 beside bfloat16 and float16.
    """

    def __init__(self, pattern, runtime, bias=False, activation=None, dtype="float32", chunk=0, parameter=0.0):
        self.pattern, self.runtime, self.dtype, self.activation = pattern, runtime, dtype, activation
        self.parameter, self.chunk, self.bias = parameter, chunk, bias
        self.value_dtype = dtype if dtype == "float64" else "float32"
        self._kept = {}
        self._twins = {dtype: self}
        if activation not in n.ACTIVATIONS:
            raise n.ArgumentError(f"activation is {activation!r}; fused are {sorted(filter(None, n.ACTIVATIONS))}",
                                  "SL_ERR_ARGUMENT")
        number = n.I64()
        n.check_bridge(n.bridge.slb_function_create(c.byref(number), runtime._handle, pattern._handle, int(bias),
                                                    n.ACTIVATIONS[activation], parameter, n.DTYPES[dtype], chunk))
        self.number = number.value
        # Whether an activation is applied inside, so that backward needs the output.
        self.fused = n.ACTIVATIONS[activation] != 0
        self._finalizer = weakref.finalize(self, n.bridge.slb_function_destroy, self.number)

    def to(self, dtype):
        """The same function of inputs of another dtype. Twins share the pattern and its edits."""
        twin = self._twins.get(dtype)
        if twin is None:
            twin = type(self)(self.pattern, self.runtime, self.bias, self.activation, dtype, self.chunk, self.parameter)
            twin._twins = self._twins
            self._twins[dtype] = twin
        return twin

    def set_pattern(self, pattern):
        """Exchange the pattern; calls that are under way end first."""
        for twin in self._twins.values():
            n.check_bridge(n.bridge.slb_function_set_pattern(twin.number, pattern._handle))
            twin.pattern = pattern

    def kept(self, batch):
        """Elements of what a forward of `batch` rows keeps for its backward; 0 for one of chunks."""
        count = self._kept.get(batch)
        if count is None:
            size = n.I64()
            n.check_bridge(n.bridge.slb_kept_bytes(self.number, batch, c.byref(size)))
            if len(self._kept) > 64:
                self._kept.clear()
            count = self._kept[batch] = size.value // n.ITEMSIZE[self.dtype]
        return count

    def capture(self, on=True):
        """Have the next backward keep what a gradient outside the pattern is made of."""
        for twin in self._twins.values():
            n.check_bridge(n.bridge.slb_capture(twin.number, int(on)))

    def captured(self):
        """(x, dz) of the backward since capture(), as NumPy arrays: input [batch, in] and gradient of the sums
        [batch, out]. None where there was no backward."""
        for twin in self._twins.values():
            found = twin._captured()
            if found is not None:
                self.capture(False)
                return found
        return None

    def _captured(self):
        batch, x, y, dy = n.I64(), c.c_void_p(), c.c_void_p(), c.c_void_p()
        n.check_bridge(n.bridge.slb_captured(self.number, c.byref(batch), c.byref(x), c.byref(y), c.byref(dy)))
        if not x.value:
            return None
        rows, (outputs, inputs) = batch.value, self.pattern.shape

        def take(at, columns):
            return n.address_view(at.value, rows * columns, self.value_dtype, None).reshape(rows, columns).copy()

        dz = take(dy, outputs)
        if self.fused:
            dz *= _slope(self.activation, self.parameter, take(y, outputs))
        return take(x, inputs), dz


def cached(pattern, make, x_dtype, has_bias, activation):
    """The Function of class `make` of a pattern for calls of these dtypes: made by the first, kept with the pattern."""
    functions = pattern.__dict__.setdefault("_functions", {})
    key = make, "float64" if x_dtype == "float64" else "float32", has_bias, activation
    function = functions.get(key)
    if function is None:
        function = functions[key] = make(pattern, bias=has_bias, activation=activation, dtype=key[1])
    return function


def check_pattern(pattern):
    if not isinstance(pattern, Pattern):
        raise n.ArgumentError(f"pattern is a {type(pattern).__name__}; a sparselayer.Pattern is needed", "SL_ERR_ARGUMENT")


def check_call(pattern, x, values, bias=None, sparse=False):
    """Shapes and dtypes of a call; each argument is (shape, name of its dtype). Unknown dimensions are None."""
    outputs, inputs = pattern.shape
    (x_shape, x_dtype), (shape, dtype) = x, values
    if dtype not in ("float32", "float64"):
        raise n.DtypeError(f"values are {dtype}; float32 or float64 is needed", "SL_ERR_DTYPE")
    fine = (dtype,) if dtype == "float64" or sparse else (dtype, "bfloat16", "float16")
    if x_dtype not in fine:
        raise n.DtypeError(f"x is {x_dtype}, values are {dtype}; x must be {' or '.join(fine)} beside them", "SL_ERR_DTYPE")
    if not x_shape or x_shape[-1] not in (inputs, None):
        raise n.ShapeError(f"x has shape {tuple(x_shape)}; the layer has {inputs} inputs, which must be its last dimension",
                           "SL_ERR_SHAPE")
    if sparse and len(x_shape) != 2:
        raise n.ShapeError(f"x has shape {tuple(x_shape)}; sparse inputs have two dimensions", "SL_ERR_SHAPE")
    if len(shape) != 1 or (shape[0] is not None and shape[0] < pattern.nnz):
        raise n.ShapeError(f"values has shape {tuple(shape)}; the pattern has {pattern.nnz} entries", "SL_ERR_SHAPE")
    if bias is None:
        return
    if bias[1] != dtype:
        raise n.DtypeError(f"bias is {bias[1]}, values are {dtype}; they must be the same", "SL_ERR_DTYPE")
    if tuple(bias[0]) != (outputs,):
        raise n.ShapeError(f"bias has shape {tuple(bias[0])}; the layer has {outputs} outputs", "SL_ERR_SHAPE")


# What sparse_linear of the frameworks says of itself, but for what differs.
SPARSE_LINEAR_DOC = """activation(x Wᵀ + bias), W being `values` at the entries of `pattern`; differentiable once, in x, values
    and bias.

    Args:
        x: [..., in_features]; or {sparse}, [batch, in_features], which costs what its entries cost and has no
            gradient itself. Of the dtype of `values`, or dense in bfloat16 or float16 beside float32 values: then
            products run on 16 bits with sums in float32, and the result has x's dtype.
        values: [pattern.nnz], in the pattern's order, float32 or float64.
        pattern: a sparselayer.Pattern of [out_features, in_features].{pattern}
        bias: [out_features] of the dtype of `values`, or None.
        activation: None, "relu", "leaky_relu", "relu6", "sigmoid" or "tanh", applied inside the product.
    Returns:
        [..., out_features]
    """


def _slope(activation, parameter, y):
    """The derivative of a fused activation, from its output."""
    if activation == "relu":
        return y > 0
    if activation in ("relu6", "clipped_relu"):
        return (y > 0) & (y < (parameter or 6))
    if activation == "leaky_relu":
        return np.where(y > 0, 1, parameter or 0.01)
    return y * (1 - y) if activation == "sigmoid" else 1 - y * y


def make_pattern(pattern, out_features, in_features, density, seed):
    """A Pattern of [out, in] from what layers accept: None (drawn at `density`), a Pattern, a SciPy matrix or a mask,
    or "n:m" as text."""
    if pattern is None:
        if not 0 < density <= 1:
            raise n.ArgumentError(f"density is {density}; it lies in (0, 1]", "SL_ERR_ARGUMENT")
        if density == 1:
            return Pattern.full(out_features, in_features)
        return Pattern.random(out_features, in_features, density, seed)
    if isinstance(pattern, str):
        try:
            kept, of = (int(part) for part in pattern.split(":"))
        except ValueError:
            raise n.ArgumentError(f"pattern is {pattern!r}; as text it is 'n:m', for instance '2:4'",
                                  "SL_ERR_ARGUMENT") from None
        return Pattern.n_m(out_features, in_features, kept, of, seed)
    if not isinstance(pattern, Pattern):
        if hasattr(pattern, "tocsr"):
            matrix = pattern.tocsr()
            matrix.sort_indices()
            pattern = Pattern.from_csr(matrix.indptr, matrix.indices, matrix.shape)
        else:
            pattern = Pattern.from_mask(pattern)
    if pattern.shape != (out_features, in_features):
        raise n.ShapeError(f"the pattern is {pattern.shape[0]}x{pattern.shape[1]}; {in_features} inputs and {out_features} "
                           f"outputs need {out_features}x{in_features}", "SL_ERR_SHAPE")
    return pattern


def fans(pattern):
    """For each entry: connections of its neuron, and of the input it reads."""
    counts = np.diff(pattern.indptr)
    incoming = np.repeat(counts, counts)
    outgoing = np.bincount(pattern.indices, minlength=pattern.shape[1])[pattern.indices]
    return incoming.astype(np.float64), outgoing.astype(np.float64)


def initial_values(pattern, rule="glorot_uniform", seed=None):
    """float32 initial weights, scaled by the connections that there are, so that activations begin with the variance
    of a dense layer's. Glorot and Bengio 2010, He et al. 2015."""
    rng = np.random.default_rng(seed)
    fan_in, fan_out = fans(pattern)
    if rule == "zeros":
        return np.zeros(pattern.nnz, np.float32)
    variance = {"glorot": 2 / (fan_in + fan_out), "he": 2 / fan_in, "lecun": 1 / fan_in}.get(rule.split("_")[0])
    if variance is None or rule.split("_")[-1] not in ("uniform", "normal"):
        raise n.ArgumentError(f"init is {rule!r}; it is zeros, or glorot, he or lecun with _uniform or _normal",
                              "SL_ERR_ARGUMENT")
    if rule.endswith("uniform"):
        return (rng.uniform(-1, 1, pattern.nnz) * np.sqrt(3 * variance)).astype(np.float32)
    return (rng.standard_normal(pattern.nnz) * np.sqrt(variance)).astype(np.float32)
