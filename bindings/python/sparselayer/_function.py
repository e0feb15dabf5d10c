# SPDX-License-Identifier: Apache-2.0
"""Y = activation(X Wᵀ + b) over a pattern, for the frameworks: the function by number, and initial weights."""
import ctypes as c
import weakref

import numpy as np

from . import _native as n
from ._sparse import Pattern


class Function:
    """sl_function under a runtime's lock. Its `number` is what calls name it by; it lives until this object goes."""

    def __init__(self, pattern, runtime, bias=False, activation=None, dtype="float32", chunk=0, parameter=0.0):
        self.pattern, self.runtime, self.dtype, self.activation = pattern, runtime, dtype, activation
        self.parameter, self.chunk = parameter, chunk
        self._kept = {}
        if activation not in n.ACTIVATIONS:
            raise n.ArgumentError(f"activation is {activation!r}; fused are {sorted(filter(None, n.ACTIVATIONS))}",
                                  "SL_ERR_ARGUMENT")
        number = n.I64()
        n.check_bridge(n.bridge.slb_function_create(c.byref(number), runtime._handle, pattern._handle, int(bias),
                                                    n.ACTIVATIONS[activation], parameter, n.DTYPES[dtype], chunk))
        self.number = number.value
        self._finalizer = weakref.finalize(self, n.bridge.slb_function_destroy, self.number)

    def set_pattern(self, pattern):
        """Exchange the pattern; calls that are under way end first."""
        n.check_bridge(n.bridge.slb_function_set_pattern(self.number, pattern._handle))
        self.pattern = pattern

    @property
    def fused(self):
        """Whether an activation is applied inside, so that backward needs the output."""
        return n.ACTIVATIONS[self.activation] != 0

    def kept(self, batch):
        """Elements of what a forward of `batch` rows keeps for its backward; 0 for one of chunks."""
        count = self._kept.get(batch)
        if count is None:
            size = n.I64()
            n.check_bridge(n.bridge.slb_kept_bytes(self.number, batch, c.byref(size)))
            if len(self._kept) > 64:
                self._kept.clear()
            count = self._kept[batch] = size.value // np.dtype(self.dtype).itemsize
        return count

    def capture(self, on=True):
        """Have the next backward keep what a gradient outside the pattern is made of."""
        n.check_bridge(n.bridge.slb_capture(self.number, int(on)))

    def captured(self):
        """(x, dz) of the backward since capture(), as NumPy arrays: input [batch, in] and gradient of the sums
        [batch, out]. None where there was no backward."""
        batch, x, y, dy = n.I64(), c.c_void_p(), c.c_void_p(), c.c_void_p()
        n.check_bridge(n.bridge.slb_captured(self.number, c.byref(batch), c.byref(x), c.byref(y), c.byref(dy)))
        if not x.value:
            return None
        rows, (outputs, inputs) = batch.value, self.pattern.shape
        take = lambda at, columns: n.address_view(at.value, rows * columns, self.dtype, None).reshape(rows, columns).copy()
        x, dz = take(x, inputs), take(dy, outputs)
        if self.fused:
            dz *= _slope(self.activation, self.parameter, take(y, outputs))
        self.capture(False)
        return x, dz


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
