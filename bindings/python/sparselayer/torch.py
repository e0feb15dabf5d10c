# SPDX-License-Identifier: Apache-2.0
"""Sparse layers for PyTorch.

`SparseLinear` is `torch.nn.Linear` whose weight is sparse: its parameter is the vector of nonzeros, so stock
optimizers, regularizers and DistributedDataParallel work on it, and forward and backward take time and memory in
proportion to the nonzeros. `sparse_linear` is the function underneath. Inputs are dense, or sparse CSR or COO tensors.

Tensors are used where they lie, on the CPU: parameters in float32 or float64, inputs in the same dtype or, beside float32
parameters and under autocast, in bfloat16 or float16. The work is done by the threads of PyTorch's own OpenMP runtime
where it has one, as many as `torch.get_num_threads()` was when this module was first used.
"""
import math
import pathlib
from typing import Any

import numpy as np
import torch

from . import _native as n
from ._function import SPARSE_LINEAR_DOC, Function, cached, check_call, check_pattern, make_pattern
from ._sparse import Pattern

__all__ = ["SparseLinear", "sparse_linear", "from_linear", "runtime"]

_DTYPES = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16", torch.float16: "float16"}
_PARAMETERS = (torch.float32, torch.float64)


def _openmp():
    """The OpenMP runtime that libtorch brought along: the one mapped into this process."""
    try:
        names = {line.split(maxsplit=5)[-1].strip() for line in open("/proc/self/maps")}
    except OSError:
        return None
    found = [name for name in names if pathlib.Path(name).name.startswith(("libgomp", "libiomp5", "libomp"))]
    near = [name for name in found if "torch" in name]
    return (near or found or [None])[0]


def runtime() -> n.Runtime:
    """The Runtime of PyTorch's layers."""
    found = n._default.get("torch")
    if found is None:
        try:
            found = n.runtime("torch", threads=torch.get_num_threads(), openmp=_openmp())
        except n.Error:
            found = n.runtime("torch", threads=torch.get_num_threads())
    return found


class _Torch(Function):
    def __init__(self, pattern, shared=None, bias=False, activation=None, dtype="float32", chunk=0, parameter=0.0):
        super().__init__(pattern, shared or runtime(), bias, activation, dtype, chunk, parameter)


def _described(tensor):
    return None if tensor is None else (tensor.shape, _DTYPES.get(tensor.dtype) or str(tensor.dtype))


def _check(x, values, bias, pattern):
    """Only what may be wrong in detail; what is right passes fast."""
    outputs, inputs = pattern.shape
    if not (x.is_cpu and values.is_cpu and (bias is None or bias.is_cpu)):
        for tensor, name in ((x, "input"), (values, "values"), (bias, "bias")):
            if tensor is not None and not tensor.is_cpu:
                raise n.DeviceError(f"{name} is on {tensor.device}; sparselayer.torch computes on the CPU: move it with "
                                    ".cpu()", "SL_ERR_DEVICE")
    dtype = values.dtype
    if not (x.dtype is dtype and dtype in _PARAMETERS and x.dim() and x.shape[-1] == inputs and values.dim() == 1
            and values.shape[0] >= pattern.nnz and x.layout is torch.strided
            and (bias is None or (bias.dtype is dtype and bias.shape == (outputs,)))):
        check_call(pattern, _described(x), _described(values), _described(bias), x.layout is not torch.strided)


def _forward(number, x, values, bias, outputs, kept=None):
    """`x` [batch, in] contiguous."""
    y = x.new_empty((x.shape[0], outputs))
    status = n.forward(number, x.shape[0], x.data_ptr(), 0, values.data_ptr(),
                       None if bias is None else bias.data_ptr(), y.data_ptr(), 0,
                       None if kept is None else kept.data_ptr())
    if status:
        n.check_bridge(status)
    return y


def _backward(number, x, y, dy, values, wants_x, wants_values, wants_bias, kept=None, inputs=0):
    dy = dy.contiguous()
    batch = dy.shape[0]
    dx = dy.new_empty((batch, inputs or x.shape[1])) if wants_x else None
    dvalues = torch.empty_like(values) if wants_values else None
    dbias = values.new_empty(dy.shape[1]) if wants_bias else None
    status = n.backward(number, batch, None if x is None else x.data_ptr(), 0, None if y is None else y.data_ptr(),
                        None if kept is None else kept.data_ptr(), dy.data_ptr(), 0, values.data_ptr(),
                        dx.data_ptr() if wants_x else None,
                        dvalues.data_ptr() if wants_values else None, values.shape[0],
                        dbias.data_ptr() if wants_bias else None)
    if status:
        n.check_bridge(status)
    return dx, dvalues, dbias


class _SparseLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, values, bias, function, fused):
        outputs, inputs = function.pattern.shape
        count = function.kept(x.shape[0]) if any(ctx.needs_input_grad) else 0
        kept = x.new_empty(count) if count else None
        y = _forward(function.number, x, values, bias, outputs, kept)
        ctx.function, ctx.pattern, ctx.inputs = function, function.pattern, inputs
        ctx.has_bias = bias is not None
        if kept is None:
            ctx.save_for_backward(x, values, y if fused else None, None)
        else:  # it stands for input and output, which may be freed
            ctx.save_for_backward(None, values, None, kept)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy):
        x, values, y, kept = ctx.saved_tensors
        if ctx.pattern is not ctx.function.pattern:
            raise n.StateError("the pattern was edited between forward and backward", "SL_ERR_STATE")
        wants_x, wants_values, wants_bias = ctx.needs_input_grad[:3]
        return (*_backward(ctx.function.number, x, y, dy, values, wants_x, wants_values, wants_bias and ctx.has_bias,
                           kept, ctx.inputs), None, None)


_INDEX = {torch.int32: n.I32_DTYPE, torch.int64: n.I64_DTYPE}


def _entries(x):
    """(slb_entries of a sparse tensor, the tensors it borrows)."""
    if x.layout is torch.sparse_csr:
        offsets, columns = x.crow_indices().contiguous(), x.col_indices().contiguous()
        values = x.values().contiguous()
        return n.Entries(x.shape[0], values.shape[0], offsets.data_ptr(), _INDEX[offsets.dtype], None, columns.data_ptr(),
                         _INDEX[columns.dtype], 1, values.data_ptr(), 0), (offsets, columns, values)
    if x.layout is not torch.sparse_coo:
        raise n.UnsupportedError(f"input has the layout {x.layout}; dense, sparse CSR and sparse COO tensors are supported",
                                 "SL_ERR_UNSUPPORTED")
    if x.dense_dim():
        raise n.ShapeError("input is a hybrid tensor, with dense dimensions; a plain matrix is needed", "SL_ERR_SHAPE")
    indices, values = x._indices().contiguous(), x._values().contiguous()
    at = indices.data_ptr()
    return n.Entries(x.shape[0], values.shape[0], None, 0, at, at + 8 * indices.shape[1], n.I64_DTYPE, 1,
                     values.data_ptr(), 0), (indices, values)


class _SparseInput(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, values, bias, function):
        if ctx.needs_input_grad[0]:
            raise n.UnsupportedError("input is sparse and requires a gradient; sparse inputs have none", "SL_ERR_UNSUPPORTED")
        entries, owners = _entries(x)
        y = values.new_empty((x.shape[0], function.pattern.shape[0]))
        n.check_bridge(n.bridge.slb_forward_sparse(function.number, n.c.byref(entries), values.data_ptr(),
                                                   None if bias is None else bias.data_ptr(), y.data_ptr()))
        ctx.function, ctx.pattern, ctx.entries, ctx.owners = function, function.pattern, entries, owners
        ctx.save_for_backward(values, bias, y if function.fused else None)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy):
        values, bias, y = ctx.saved_tensors
        if ctx.pattern is not ctx.function.pattern:
            raise n.StateError("the pattern was edited between forward and backward", "SL_ERR_STATE")
        dy = dy.contiguous()
        dvalues = torch.empty_like(values)
        dbias = None if bias is None else torch.empty_like(bias)
        n.check_bridge(n.bridge.slb_backward_sparse(ctx.function.number, n.c.byref(ctx.entries),
                                                    None if y is None else y.data_ptr(), dy.data_ptr(),
                                                    dvalues.data_ptr(), values.shape[0],
                                                    None if bias is None else dbias.data_ptr()))
        return None, dvalues, dbias, None


# For torch.compile, which cannot look into the above: the same as operators with shapes and gradients it knows.
@torch.library.custom_op("sparselayer::linear", mutates_args=())
def _op(x: torch.Tensor, values: torch.Tensor, bias: torch.Tensor | None, number: int, outputs: int) -> torch.Tensor:
    return _forward(number, x.contiguous(), values, bias, outputs)


@_op.register_fake
def _(x, values, bias, number, outputs):
    return x.new_empty((x.shape[0], outputs))


@torch.library.custom_op("sparselayer::linear_backward", mutates_args=())
def _op_backward(x: torch.Tensor, y: torch.Tensor, dy: torch.Tensor, values: torch.Tensor, outputs: int,
                 number: int, wants_x: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    dx, dvalues, dbias = _backward(number, x.contiguous(), y.contiguous(), dy, values, wants_x, True, True)
    return dx if wants_x else dy.new_empty((0,)), dvalues, dbias


@_op_backward.register_fake
def _(x, y, dy, values, outputs, number, wants_x):
    return torch.empty_like(x) if wants_x else dy.new_empty((0,)), torch.empty_like(values), values.new_empty((outputs,))


def _setup(ctx, inputs, output):
    x, values, bias, ctx.number, ctx.outputs = inputs
    ctx.has_bias = bias is not None
    ctx.save_for_backward(x, values, output)


def _gradient(ctx, dy):
    x, values, y = ctx.saved_tensors
    wants_x = ctx.needs_input_grad[0]
    dx, dvalues, dbias = _op_backward(x, y, dy, values, ctx.outputs, ctx.number, wants_x)
    return dx if wants_x else None, dvalues, dbias if ctx.has_bias else None, None, None


_op.register_autograd(_gradient, setup_context=_setup)


def apply(function, x, values, bias):
    """`function` of x [..., in], dense or sparse; values may be longer than the pattern."""
    shape = x.shape
    if torch.compiler.is_compiling():
        function = function.to(_DTYPES[x.dtype])
        y = _op(x.reshape(-1, shape[-1]), values, bias, function.number, function.pattern.shape[0])
        return y.reshape(*shape[:-1], function.pattern.shape[0])
    _check(x, values, bias, function.pattern)
    if x.layout is not torch.strided:
        return _SparseInput.apply(x, values, bias, function)
    if x.dtype is not values.dtype:
        function = function.to(_DTYPES[x.dtype])
    if len(shape) != 2:
        x = x.reshape(-1, shape[-1])
    x = x.contiguous()
    y = _SparseLinear.apply(x, values, bias, function, function.fused)
    return y if len(shape) == 2 else y.reshape(*shape[:-1], y.shape[-1])


def sparse_linear(x: torch.Tensor, values: torch.Tensor, pattern: Pattern, bias: torch.Tensor | None = None,
                  activation: str | None = None) -> torch.Tensor:
    check_pattern(pattern)
    function = cached(pattern, _Torch, _DTYPES.get(values.dtype), bias is not None, activation)
    return apply(function, x, values, bias)


sparse_linear.__doc__ = SPARSE_LINEAR_DOC.format(sparse="a sparse CSR or COO tensor", pattern="")


class SparseLinear(torch.nn.Module):
    """y = activation(x Wᵀ + b) with a sparse W, as torch.nn.Linear otherwise.

    Args:
        in_features, out_features: sizes.
        density: share of W's entries that exist, drawn at random.
        pattern: instead of `density`: a sparselayer.Pattern, a SciPy matrix or a 0/1 mask of [out_features, in_features],
            or "n:m".
        bias: whether there is one.
        activation: None, "relu", "leaky_relu" (0.01), "relu6", "sigmoid" or "tanh": applied inside the product.
        init: "he_uniform" and the like, scaled by each neuron's real connections; the default is that of torch.nn.Linear,
            U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
        chunk_size: rows of a batch that are worked on at a time; 0: all.
        seed: of pattern and weights; None: drawn from PyTorch's generator.

    Attributes:
        weight: Parameter [nnz], the values of W in the pattern's order.
        bias: Parameter [out_features] or None.
        row_offsets, col_indices: buffers, the pattern; saved with the state.

    Input: [..., in_features], or a sparse CSR or COO tensor [batch, in_features], at the cost of its entries. Under
    autocast products run on 16 bits, with sums, parameters and their gradients in float32, and the output has 16.
    """

    def __init__(self, in_features: int, out_features: int, density: float = 0.1, pattern: Any = None, bias: bool = True,
                 activation: str | None = None, init: str | None = None, chunk_size: int = 0, seed: int | None = None,
                 device: torch.device | str | None = None, dtype: torch.dtype = torch.float32):
        super().__init__()
        if device is not None and torch.device(device).type != "cpu":
            raise n.DeviceError(f"device is {device}; sparselayer.torch computes on the CPU", "SL_ERR_DEVICE")
        self.in_features, self.out_features = in_features, out_features
        self.activation, self.chunk_size = activation, chunk_size
        if seed is None:
            seed = int(torch.randint(2**62, ()).item())
        self._pattern = make_pattern(pattern, out_features, in_features, density, seed)
        self._make_function(dtype, bias)
        self.weight = torch.nn.Parameter(torch.from_numpy(self._initial(init, seed)).to(dtype))
        self._register_pattern()
        if bias:
            self.bias = torch.nn.Parameter(torch.zeros(out_features, dtype=dtype))
        else:
            self.register_parameter("bias", None)

    def _initial(self, init, seed):
        from ._function import fans, initial_values
        if init is not None:
            return initial_values(self._pattern, init, seed)
        fan_in = fans(self._pattern)[0]
        return (np.random.default_rng(seed).uniform(-1, 1, self._pattern.nnz) / np.sqrt(fan_in)).astype(np.float32)

    def _make_function(self, dtype, bias):
        if dtype not in _PARAMETERS:
            raise n.DtypeError(f"the layer was converted to {dtype}; its parameters are float32 or float64: for 16-bit "
                               "products use autocast, or give it inputs of 16 bits", "SL_ERR_DTYPE")
        self._function = _Torch(self._pattern, None, bias, self.activation, _DTYPES[dtype], self.chunk_size)
        self._function_dtype = dtype

    def _register_pattern(self):
        self.register_buffer("row_offsets", torch.from_numpy(np.array(self._pattern.indptr)))
        self.register_buffer("col_indices", torch.from_numpy(np.array(self._pattern.indices)))
        self._seen = self._versions()

    def _versions(self):
        a, b = self.row_offsets, self.col_indices
        return id(a), a._version, id(b), b._version

    def _follow_buffers(self):
        """The pattern, where somebody (DistributedDataParallel, load_state_dict) wrote to its buffers."""
        indptr, indices = self.row_offsets.numpy(), self.col_indices.numpy()
        if not (np.array_equal(indptr, self._pattern.indptr) and np.array_equal(indices, self._pattern.indices)):
            self._pattern = Pattern.from_csr(indptr.copy(), indices.copy(), self._pattern.shape)
            self._function.set_pattern(self._pattern)
        self._seen = self._versions()

    @property
    def pattern(self) -> Pattern:
        """The Pattern of W. Assign another one of the same shape with set_pattern()."""
        if self._versions() != self._seen:
            self._follow_buffers()
        return self._pattern

    def set_pattern(self, pattern: Any, values: Any = None) -> np.ndarray:
        """Exchange the pattern.

        With the same number of entries the parameter stays the same object, and `values` (or zeros for entries that
        are new) are written to it; otherwise `weight` becomes another Parameter, which an optimizer must be told.
        Returns, for each new entry, the old one's number, -1 where there was none: what moments are carried over by.
        """
        from .topology import entry_map
        pattern = make_pattern(pattern, self.out_features, self.in_features, None, 0)
        carried = entry_map(self.pattern, pattern)
        if values is None:
            old = self.weight.detach().numpy()
            values = np.where(carried >= 0, old[carried] if len(old) else 0, 0)
        values = torch.as_tensor(values, dtype=self.weight.dtype)
        self._function.set_pattern(pattern)
        self._pattern = pattern
        if pattern.nnz == self.weight.shape[0]:
            with torch.no_grad():
                self.weight.copy_(values)
        else:
            self.weight = torch.nn.Parameter(values)
        self._register_pattern()
        return carried

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_autocast_enabled("cpu") and self.weight.dtype is torch.float32:
            x = x.to(torch.get_autocast_dtype("cpu") if x.layout is torch.strided else torch.float32)
        if torch.compiler.is_compiling():
            return apply(self._function, x, self.weight, self.bias)
        if self._versions() != self._seen:
            self._follow_buffers()
        if self.weight.dtype != self._function_dtype:  # .double(), .float()
            self._make_function(self.weight.dtype, self.bias is not None)
        return apply(self._function, x, self.weight, self.bias)

    def to_dense(self) -> torch.Tensor:
        """W as a dense tensor, detached."""
        from ._sparse import CSR
        return torch.from_numpy(CSR.from_pattern(self.pattern, self.weight.detach().numpy()).to_dense())

    def extra_repr(self):
        return (f"in_features={self.in_features}, out_features={self.out_features}, nnz={self.weight.shape[0]}, "
                f"density={self._pattern.density:.4g}, bias={self.bias is not None}, activation={self.activation}")

    def _load_from_state_dict(self, state_dict, prefix, *rest):
        """Another pattern may come with the state, of another number of entries too."""
        offsets, indices = state_dict.get(prefix + "row_offsets"), state_dict.get(prefix + "col_indices")
        if offsets is not None and indices is not None and offsets.shape == self.row_offsets.shape:
            pattern = Pattern.from_csr(offsets.numpy().copy(), indices.numpy().copy(), self._pattern.shape)
            if pattern != self._pattern:
                self._pattern = pattern
                self._function.set_pattern(pattern)
                if pattern.nnz != self.weight.shape[0]:
                    self.weight = torch.nn.Parameter(torch.zeros(pattern.nnz, dtype=self.weight.dtype))
                self._register_pattern()
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def __getstate__(self):
        state = self.__dict__.copy()
        del state["_function"], state["_seen"]
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        self._make_function(self.weight.dtype, self.bias is not None)
        self._seen = self._versions()


def from_linear(linear: torch.nn.Linear, density: float | None = None, mask: Any = None,
                activation: str | None = None) -> SparseLinear:
    """A SparseLinear with the weights of a torch.nn.Linear.

    Args:
        linear: the dense layer, or one pruned by torch.nn.utils.prune: its mask is used.
        density: keep this share of the weights, the largest; None: those that are not zero, or in the mask.
        mask: [out, in], which to keep, zeros of `linear` included.
    """
    from ._sparse import top_k
    weight = linear.weight.detach()
    if mask is None and hasattr(linear, "weight_mask"):
        mask = linear.weight_mask
    dense = weight.cpu().numpy()
    if density is not None:
        pattern = top_k(np.ascontiguousarray(dense), math.floor(density * dense.size + 0.5)).pattern
    else:
        pattern = Pattern.from_mask(dense != 0 if mask is None else np.asarray(mask))
    made = SparseLinear(linear.in_features, linear.out_features, pattern=pattern, bias=linear.bias is not None,
                        activation=activation, dtype=weight.dtype)
    with torch.no_grad():
        made.weight.copy_(torch.from_numpy(np.ascontiguousarray(dense[pattern.rows, pattern.indices])))
        if linear.bias is not None:
            made.bias.copy_(linear.bias)
    return made
