# SPDX-License-Identifier: Apache-2.0
"""The layers."""
from __future__ import annotations

import math
import random
from typing import Any

import keras
import numpy as np
from keras import initializers, ops

from .. import _native as n
from .._function import fans, make_pattern
from .._sparse import Pattern, top_k
from . import backends

_package = keras.saving.register_keras_serializable("sparselayer")


def _fused(activation):
    """(name, parameter) of what the product applies itself; None where Keras's own function must follow."""
    if activation is None or activation is keras.activations.linear:
        return None, 0.0
    for name in ("relu", "sigmoid", "tanh", "relu6"):
        if activation is getattr(keras.activations, name):
            return name, 0.0
    return None


def _per_entry(initializer, pattern):
    """float32 weights of a pattern from an initializer of Keras.

    Those that scale by fans use the connections that each weight's neuron really has and those of the input it reads,
    so that a sparse layer begins with the variance of a dense one; those that need a matrix are given one.
    """
    if not pattern.nnz:
        return np.zeros(0, np.float32)
    if isinstance(initializer, initializers.VarianceScaling):
        # Over a vector both of its fans are the length: undo that, and put in the real ones.
        flat = np.array(ops.convert_to_numpy(initializer((pattern.nnz,), dtype="float32")))
        incoming, outgoing = fans(pattern)
        fan = {"fan_in": incoming, "fan_out": outgoing, "fan_avg": (incoming + outgoing) / 2}[initializer.mode]
        return (flat * np.sqrt(pattern.nnz / np.maximum(fan, 1))).astype(np.float32)
    try:
        return np.array(ops.convert_to_numpy(initializer((pattern.nnz,), dtype="float32")))
    except ValueError:  # orthogonal and identity are for matrices
        matrix = ops.convert_to_numpy(initializer((pattern.shape[1], pattern.shape[0]), dtype="float32"))
        return np.ascontiguousarray(matrix[pattern.indices, pattern.rows])


@_package
class SparseDense(keras.layers.Layer):
    """`keras.layers.Dense` with a sparse kernel: activation(inputs @ kernel + bias).

    Args:
        units: outputs.
        density: share of the kernel's entries that exist, drawn at random.
        pattern: instead: a sparselayer.Pattern, SciPy matrix or 0/1 mask of [units, inputs], or "n:m".
        activation: as in Dense. relu, relu6, sigmoid and tanh are applied inside the product.
        use_bias: whether there is one.
        kernel_initializer, bias_initializer: as in Dense; fans are counted over the connections that exist.
        kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint: as in Dense, on
            the vector of nonzeros.
        chunk_size: rows of a batch that are worked on at a time; 0: all.
        seed: of the pattern; None: drawn from Python's generator, which keras.utils.set_random_seed() sets.

    Input:
        (batch, ..., inputs), dense; or a sparse batch, at the cost of its entries: `keras.Input(sparse=True)` on
        TensorFlow (SparseTensor) and JAX (BCOO), a sparse tensor on PyTorch. It has no gradient itself.

    Attributes:
        kernel: Variable (entries,): the values, in the pattern's order. Where pruning leaves fewer entries than the
            variable has elements, the last ones are zero and unused; `compact()` drops them.
        pattern: the sparselayer.Pattern of [units, inputs].

    Computes on the CPU, in the dtype of the policy: float32, float64, or under mixed_bfloat16 and mixed_float16 with
    products of 16 bits whose sums, parameters and parameters' gradients are float32 (sparse batches in float32). On
    TensorFlow the layer is not part of XLA: Keras leaves XLA off. On JAX and PyTorch `jit_compile=True` works.
    """

    def __init__(self, units: int, density: float = 0.1, pattern: Any = None, activation: Any = None, use_bias: bool = True,
                 kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros", kernel_regularizer: Any = None,
                 bias_regularizer: Any = None, activity_regularizer: Any = None, kernel_constraint: Any = None,
                 bias_constraint: Any = None, chunk_size: int = 0, seed: int | None = None, **kwargs: Any):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        if not isinstance(units, int) or units < 1:
            raise backends.error(f"units is {units!r}; it is a positive whole number")
        if pattern is None and not 0 < density <= 1:
            raise backends.error(f"density is {density}; it lies in (0, 1]")
        if not isinstance(chunk_size, int) or chunk_size < 0:
            raise backends.error(f"chunk_size is {chunk_size!r}; it is a whole number, 0 for no chunks")
        self.units, self.density, self.chunk_size, self.use_bias = units, density, chunk_size, use_bias
        self.activation = keras.activations.get(activation)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.seed = random.getrandbits(31) if seed is None else seed
        self._given = pattern
        self._function = None
        self.input_spec = keras.layers.InputSpec(min_ndim=2)
        self.supports_jit = backends.supports_jit()

    def build(self, input_shape):
        inputs = input_shape[-1]
        if inputs is None:
            raise backends.error("the last dimension of the inputs must be known", n.ShapeError, "SL_ERR_SHAPE")
        self._set_function(make_pattern(self._given, self.units, inputs, self.density, self.seed))
        values = _per_entry(self.kernel_initializer, self.pattern)
        self.kernel = self.add_weight(name="kernel", shape=(self.pattern.nnz,), autocast=False,
                                      initializer=lambda shape, dtype=None: ops.convert_to_tensor(values, dtype),
                                      regularizer=self.kernel_regularizer, constraint=self.kernel_constraint)
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.units,), initializer=self.bias_initializer,
                                        regularizer=self.bias_regularizer, constraint=self.bias_constraint,
                                        autocast=False)
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: inputs})

    def _set_function(self, pattern):
        dtype = self.variable_dtype
        if dtype not in ("float32", "float64"):
            raise backends.error(f"the layer's variables are {dtype}; float32 or float64 is needed (mixed_bfloat16 and "
                                 "mixed_float16 have float32 variables)", n.DtypeError, "SL_ERR_DTYPE")
        fused = _fused(self.activation)
        self._follows = None if fused else self.activation
        name, parameter = fused or (None, 0.0)
        self._function = backends.make(pattern, None, self.use_bias, name, dtype, self.chunk_size, parameter)

    @property
    def pattern(self) -> Pattern | None:
        """The sparselayer.Pattern of [units, inputs]; None before build()."""
        return self._function.pattern if self._function else None

    def call(self, inputs, training=False):
        kernel = ops.convert_to_tensor(self.kernel)
        bias = None if self.bias is None else ops.convert_to_tensor(self.bias)
        if backends.is_sparse(inputs):
            inputs = backends.cast(inputs, self.variable_dtype)
        else:
            inputs = ops.cast(inputs, self._product_dtype())
        y = backends.apply(self._function, inputs, kernel, bias, training)
        y = y if self.compute_dtype == backends.dtype_name(y) else ops.cast(y, self.compute_dtype)
        return y if self._follows is None else self._follows(y)

    def _product_dtype(self):
        """16 bits where the policy computes in them, beside float32 variables; else the variables' dtype."""
        half = self.compute_dtype in ("bfloat16", "float16") and self.variable_dtype == "float32"
        return self.compute_dtype if half else self.variable_dtype

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def compute_output_spec(self, inputs, training=False):
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), dtype=self.compute_dtype)

    def set_pattern(self, pattern: Any, values: np.ndarray | None = None, carried: np.ndarray | None = None) -> np.ndarray:
        """Exchange the pattern for one of at most as many entries as `kernel` has elements.

        Args:
            pattern: of [units, inputs].
            values: the new entries' values; None: those that stay keep theirs, new ones are zero.
            carried: topology.entry_map(old, new), where it is known already.
        Returns:
            for each new entry the old one's number, -1 where there was none.
        """
        from ..topology import carry, entry_map
        if not self.built:
            raise backends.error("the layer is not built yet", n.StateError, "SL_ERR_STATE")
        pattern = make_pattern(pattern, self.units, self.pattern.shape[1], None, 0)
        capacity = self.kernel.shape[0]
        if pattern.nnz > capacity:
            raise backends.error(f"the pattern has {pattern.nnz} entries; the kernel has room for {capacity}",
                                 n.ShapeError, "SL_ERR_SHAPE")
        if carried is None:
            carried = entry_map(self.pattern, pattern)
        if values is None:
            values = carry(ops.convert_to_numpy(self.kernel)[:self.pattern.nnz], carried)
        full = np.zeros(capacity, self.variable_dtype)
        full[:pattern.nnz] = values
        self._function.set_pattern(pattern)
        self.kernel.assign(full)
        return carried

    def to_dense(self) -> np.ndarray:
        """The kernel as Dense has it: a NumPy array [inputs, units]."""
        from .._sparse import CSR
        values = ops.convert_to_numpy(self.kernel)[:self.pattern.nnz]
        return CSR.from_pattern(self.pattern, values).to_dense().T

    def compact(self) -> SparseDense:
        """A layer with the same function whose kernel has no unused elements, for use after pruning."""
        config = self.get_config()
        layer = type(self).from_config(config)
        layer._given = self.pattern
        layer.build((None, self.pattern.shape[1]))
        layer.kernel.assign(ops.convert_to_numpy(self.kernel)[:self.pattern.nnz])
        if self.use_bias:
            layer.bias.assign(self.bias)
        return layer

    def save_own_variables(self, store):
        super().save_own_variables(store)
        store["row_offsets"] = np.array(self.pattern.indptr)
        store["col_indices"] = np.array(self.pattern.indices)

    def load_own_variables(self, store):
        keys = set(store.keys())
        if not {"row_offsets", "col_indices"} <= keys:
            raise backends.error(f"layer {self.name}: the file has no pattern for it; was it saved from another layer?")
        pattern = Pattern.from_csr(np.array(store["row_offsets"]), np.array(store["col_indices"]), self.pattern.shape)
        if pattern.nnz > self.kernel.shape[0]:
            raise backends.error(f"layer {self.name}: the file's pattern has {pattern.nnz} entries; the kernel has room "
                                 f"for {self.kernel.shape[0]}", n.ShapeError, "SL_ERR_SHAPE")
        super().load_own_variables({key: store[key] for key in keys - {"row_offsets", "col_indices"}})
        self._function.set_pattern(pattern)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        density, pattern = self.density, self._given if isinstance(self._given, str) else None
        if self.built and pattern is None:
            # As many entries as the kernel has: which they are is saved with the weights.
            density = self.kernel.shape[0] / (self.units * self.pattern.shape[1])
        config.update(
            units=self.units, density=density, pattern=pattern, activation=keras.activations.serialize(self.activation),
            use_bias=self.use_bias, kernel_initializer=initializers.serialize(self.kernel_initializer),
            bias_initializer=initializers.serialize(self.bias_initializer),
            kernel_regularizer=keras.regularizers.serialize(self.kernel_regularizer),
            bias_regularizer=keras.regularizers.serialize(self.bias_regularizer),
            activity_regularizer=keras.regularizers.serialize(self.activity_regularizer),
            kernel_constraint=keras.constraints.serialize(self.kernel_constraint),
            bias_constraint=keras.constraints.serialize(self.bias_constraint), chunk_size=self.chunk_size, seed=self.seed)
        return config


@_package
class ChunkedSparseDense(SparseDense):
    """SparseDense over batches that are too large to be worked on at once: `chunk_size` rows at a time.

    Workspace is that of a chunk, forward and backward, whatever the batch. Sparse batches stay sparse; a batch that is
    not sparse is taken as it is.
    """

    def __init__(self, units: int, chunk_size: int = 1024, **kwargs: Any):
        if not isinstance(chunk_size, int) or chunk_size < 1:
            raise backends.error(f"chunk_size is {chunk_size!r}; it is a positive whole number")
        super().__init__(units, chunk_size=chunk_size, **kwargs)


def from_dense(layer: keras.layers.Dense, density: float | None = None, mask: Any = None,
               cls: type[SparseDense] = SparseDense, **kwargs: Any) -> SparseDense:
    """A built SparseDense with the weights of a built keras.layers.Dense.

    Args:
        layer: the dense layer; one that tfmot's or a mask's pruning has set to zero needs nothing more.
        density: keep this share of the weights, the largest; None: those that are not zero.
        mask: [inputs, units], which weights to keep, zeros included.
    """
    kernel = np.ascontiguousarray(ops.convert_to_numpy(layer.kernel).T.astype(np.float32))
    if density is not None:
        pattern = top_k(kernel, math.floor(density * kernel.size + 0.5)).pattern
    else:
        pattern = Pattern.from_mask(kernel != 0 if mask is None else np.asarray(mask).T)
    made = cls(layer.units, pattern=pattern, activation=layer.activation, use_bias=layer.use_bias,
               kernel_regularizer=layer.kernel_regularizer, bias_regularizer=layer.bias_regularizer,
               activity_regularizer=layer.activity_regularizer, **kwargs)
    made.build((None, kernel.shape[1]))
    made.kernel.assign(kernel[pattern.rows, pattern.indices])
    if layer.use_bias:
        made.bias.assign(ops.convert_to_numpy(layer.bias))
    return made
