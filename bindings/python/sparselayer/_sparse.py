# SPDX-License-Identifier: Apache-2.0
"""Patterns and CSR matrices."""
from __future__ import annotations

import ctypes as c
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from . import _native as n
from ._tensor import dtype_of, view
from ._types import Matrix, SupportsToCSR

# Arrays that wrapped patterns borrow, by number, until the library says it needs them no more.
_borrowed = {}
_next = [1]


def _forget(user):
    _borrowed.pop(user, None)


_release = n.RELEASE(_forget)
_release_pointer = c.cast(_release, c.c_void_p)


def _lend(*arrays):
    number = _next[0]
    _next[0] += 1
    _borrowed[number] = arrays
    return number


def _increasing(indptr, indices):
    """Whether columns strictly increase within each row."""
    if len(indices) < 2:
        return True
    steps = np.diff(indices) > 0
    starts = np.asarray(indptr[1:-1], dtype=np.int64)
    starts = starts[(starts > 0) & (starts < len(indices))]
    steps[starts - 1] = True
    return bool(steps.all())


class Pattern:
    """The structure of a sparse matrix: immutable row offsets and column indices. Layers and matrices share patterns.

    Make one with `Pattern.random`, `Pattern.n_m`, `Pattern.full`, `Pattern.from_csr`, `Pattern.from_mask`, or take a
    matrix's `pattern`.
    """

    def __init__(self, handle, runtime):
        self._handle, self._runtime = handle, runtime
        arrays = n.PatternArrays()
        runtime.call(n.sl.sl_pattern_get, handle, c.byref(arrays))
        self.shape = (arrays.rows, arrays.cols)
        self.nnz = arrays.nnz
        self._arrays = arrays

    def __del__(self):
        if getattr(self, "_handle", None):
            n.sl.sl_pattern_release(self._handle)

    @classmethod
    def random(cls, rows: int, cols: int, density: float, seed: int = 0, runtime: n.Runtime | None = None) -> Pattern:
        """round(density * rows * cols) entries drawn uniformly without replacement (an Erdős–Rényi graph)."""
        runtime = runtime or n.runtime()
        return cls(runtime.make(n.sl.sl_pattern_random, rows, cols, density, seed), runtime)

    @classmethod
    def n_m(cls, rows: int, cols: int, n_kept: int, m: int, seed: int = 0, runtime: n.Runtime | None = None) -> Pattern:
        """Of each `m` neighbouring columns `n_kept`, drawn at random."""
        runtime = runtime or n.runtime()
        return cls(runtime.make(n.sl.sl_pattern_n_m, rows, cols, n_kept, m, seed), runtime)

    @classmethod
    def full(cls, rows: int, cols: int, runtime: n.Runtime | None = None) -> Pattern:
        """All entries."""
        runtime = runtime or n.runtime()
        return cls(runtime.make(n.sl.sl_pattern_full, rows, cols), runtime)

    @classmethod
    def from_csr(cls, indptr: np.ndarray, indices: np.ndarray, shape: tuple[int, int],
                 runtime: n.Runtime | None = None) -> Pattern:
        """From row offsets (int32 or int64) and column indices. int32 columns that increase within each row are
        borrowed, and must not change from then on; others are copied."""
        runtime = runtime or n.runtime()
        indptr, indices = np.ascontiguousarray(indptr), np.ascontiguousarray(indices)
        offset_dtype, index_dtype = dtype_of(indptr, "indptr"), dtype_of(indices, "indices")
        rows, cols = shape
        if indptr.shape != (rows + 1,) or indices.ndim != 1:
            raise n.ShapeError(f"indptr has shape {indptr.shape}; {rows} rows need ({rows + 1},)", "SL_ERR_SHAPE")
        nnz = int(indptr[-1])
        if nnz > len(indices):
            raise n.ArgumentError(f"indptr ends at {nnz}, but there are {len(indices)} indices", "SL_ERR_STRUCTURE")
        at = [rows, cols, nnz, n.numpy_pointer(indptr), offset_dtype, n.numpy_pointer(indices)]
        if index_dtype != n.I32_DTYPE or not _increasing(indptr, indices[:nnz]):
            return cls(runtime.make(n.sl.sl_pattern_create, *at, index_dtype), runtime)
        lent = _lend(indptr, indices)
        try:
            return cls(runtime.make(n.sl.sl_pattern_wrap, *at, _release_pointer, lent), runtime)
        except n.Error:
            _forget(lent)
            raise

    @classmethod
    def from_mask(cls, mask: Any, runtime: n.Runtime | None = None) -> Pattern:
        """Where `mask` (2-D) is not zero."""
        rows, cols = np.nonzero(np.asarray(mask))
        shape = np.shape(mask)
        if len(shape) != 2:
            raise n.ShapeError(f"the mask has {len(shape)} dimensions; a matrix has 2", "SL_ERR_SHAPE")
        indptr = np.zeros(shape[0] + 1, np.int64)
        np.cumsum(np.bincount(rows, minlength=shape[0]), out=indptr[1:])
        return cls.from_csr(indptr, cols.astype(np.int32), shape, runtime)

    @property
    def indptr(self) -> np.ndarray:
        """Row offsets; a read-only view."""
        dtype = np.int32 if self._arrays.offset_dtype == n.I32_DTYPE else np.int64
        array = n.address_view(self._arrays.row_offsets, self.shape[0] + 1, dtype, self)
        array.flags.writeable = False
        return array

    @property
    def indices(self) -> np.ndarray:
        """Column indices, increasing within each row; a read-only view."""
        array = n.address_view(self._arrays.col_indices, self.nnz, np.int32, self)
        array.flags.writeable = False
        return array

    @property
    def density(self) -> float:
        """nnz / (rows * cols)"""
        cells = self.shape[0] * self.shape[1]
        return self.nnz / cells if cells else 0.0

    @property
    def rows(self) -> np.ndarray:
        """The row of each entry, int64."""
        return np.repeat(np.arange(self.shape[0], dtype=np.int64), np.diff(self.indptr))

    def transpose_order(self) -> np.ndarray:
        """For each entry of the transpose, in its order, the number of the entry here: int32 or int64."""
        arrays, permutation, dtype = n.PatternArrays(), c.c_void_p(), c.c_int()
        self._runtime.call(n.sl.sl_pattern_transpose, self._handle, c.byref(arrays), c.byref(permutation),
                           c.byref(dtype))
        kind = np.int32 if dtype.value == n.I32_DTYPE else np.int64
        return n.address_view(permutation.value, self.nnz, kind, self)

    def hash(self) -> int:
        """64 bits of shape and structure, the same on every machine."""
        value = c.c_uint64()
        self._runtime.call(n.sl.sl_pattern_hash, self._handle, c.byref(value))
        return value.value

    def __eq__(self, other):
        return isinstance(other, Pattern) and (self._handle == other._handle or (
            self.shape == other.shape and self.nnz == other.nnz and np.array_equal(self.indptr, other.indptr)
            and np.array_equal(self.indices, other.indices)))

    def __hash__(self):
        return self.hash()

    def __reduce__(self):
        return _rebuild_pattern, (np.array(self.indptr), np.array(self.indices), self.shape)

    def __repr__(self):
        return f"<sparselayer.Pattern {self.shape[0]}x{self.shape[1]}, {self.nnz} entries, density {self.density:.4g}>"


def _rebuild_pattern(indptr, indices, shape):
    return Pattern.from_csr(indptr, indices, shape)


class CSR:
    """A sparse matrix: a `pattern` and `data`, one value an entry. Made by `sparselayer.csr`, `from_dense`, `top_k`.

    `A @ X` and `A.T @ X` are the library's products on all cores, with the GIL released. X is an array of NumPy or of
    anything that speaks DLPack, row- or column-major, and is not copied.
    """

    def __init__(self, handle, runtime, data=None):
        self._handle, self._runtime = handle, runtime
        pattern = n.sl.sl_csr_pattern(handle)
        self.pattern = Pattern(n.sl.sl_pattern_retain(pattern), runtime)
        self._data = data
        self._plans = {}

    def __del__(self):
        for plan in getattr(self, "_plans", {}).values():
            n.sl.sl_plan_destroy(plan)
        if getattr(self, "_handle", None):
            n.sl.sl_csr_destroy(self._handle)

    @classmethod
    def from_pattern(cls, pattern: Pattern, values: np.ndarray | None = None, dtype: DTypeLike = np.float32) -> CSR:
        """`values` (borrowed; NumPy) or zeros over a pattern."""
        runtime = pattern._runtime
        if values is None:
            return cls(runtime.make(n.sl.sl_csr_create_pattern, pattern._handle, _value_dtype(np.dtype(dtype))), runtime)
        values = np.ascontiguousarray(values)
        if values.shape != (pattern.nnz,):
            raise n.ShapeError(f"values has shape {values.shape}; the pattern has {pattern.nnz} entries", "SL_ERR_SHAPE")
        handle = runtime.make(n.sl.sl_csr_wrap, pattern._handle, n.numpy_pointer(values), _value_dtype(values.dtype),
                              None, None)
        return cls(handle, runtime, values)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)"""
        return self.pattern.shape

    @property
    def nnz(self) -> int:
        """Entries stored."""
        return self.pattern.nnz

    @property
    def indptr(self) -> np.ndarray:
        """Row offsets, read-only."""
        return self.pattern.indptr

    @property
    def indices(self) -> np.ndarray:
        """Column indices, read-only."""
        return self.pattern.indices

    @property
    def data(self) -> np.ndarray:
        """The values: a view that may be written to. bfloat16 needs the package ml_dtypes."""
        if self._data is None:
            return n.address_view(n.sl.sl_csr_values(self._handle), self.nnz, self.dtype, self)
        return self._data

    @property
    def dtype(self) -> np.dtype:
        """NumPy's dtype of the values."""
        return _numpy_dtype(n.sl.sl_csr_dtype(self._handle))

    def _out(self, rows, b, out):
        if out is None:
            array = np.empty((rows, b.dense.cols), self.dtype)
            return array, view(array)
        v = view(out, "out")
        return out, v

    def matmul(self, x: Matrix, out: Matrix | None = None, transpose: bool = False, alpha: float = 1.0,
               beta: float = 0.0) -> Any:
        """out = alpha * A @ x + beta * out, or with A's transpose.

        Args:
            x: [cols, n] ([rows, n] with `transpose`) or a vector, of the matrix's dtype.
            out: [rows, n], written in place; None: a new NumPy array.
        """
        b = view(x, "x")
        rows = self.shape[1] if transpose else self.shape[0]
        array, y = self._out(rows, b, out)
        if out is None:
            beta = 0.0
        key = (transpose, b.dense.dtype, b.dense.order, b.dense.ld if b.dense.order else 0, b.dense.cols,
               y.dense.order, y.dense.ld if y.dense.order else 0)
        runtime = self._runtime
        with runtime.locked() as context:
            plan = self._plans.get(key)
            if plan is None:
                plan = runtime.make(n.sl.sl_plan_spmm, int(transpose), self._handle, c.byref(b.dense), c.byref(y.dense),
                                    None)
                if len(self._plans) >= 8:
                    n.sl.sl_plan_destroy(self._plans.pop(next(iter(self._plans))))
                self._plans[key] = plan
            status = n.sl.sl_plan_run_spmm(context, plan, alpha, self._handle, c.byref(b.dense), beta, c.byref(y.dense),
                                           None)
            if status:
                n.raise_status(status, n.sl.sl_context_message(context))
        if out is None and b.vector:
            return array.reshape(rows)
        return array

    def __matmul__(self, x: Matrix) -> np.ndarray:
        return self.matmul(x)

    __array_ufunc__ = None  # so that NumPy leaves X @ A to __rmatmul__

    def __rmatmul__(self, x: Matrix) -> np.ndarray:
        b = view(x, "x")
        if b.vector:
            return self.matmul(x, transpose=True)
        # X A = (A^T X^T)^T; neither transposition moves anything.
        if not isinstance(x, np.ndarray):
            x = np.from_dlpack(x)
        out = np.empty((x.shape[0], self.shape[1]), self.dtype)
        self.matmul(x.T, out=out.T, transpose=True)
        return out

    @property
    def T(self) -> CSR:
        """The transpose, as a matrix of its own."""
        return CSR(self._runtime.make(n.sl.sl_csr_transpose, self._handle), self._runtime)

    def to_dense(self) -> np.ndarray:
        """A NumPy array, zeros included."""
        array = np.empty(self.shape, self.dtype)
        self._runtime.call(n.sl.sl_csr_to_dense, self._handle, c.byref(view(array).dense))
        return array

    def to_scipy(self) -> Any:
        """A scipy.sparse.csr_array over the same memory."""
        import scipy.sparse
        return scipy.sparse.csr_array((self.data, self.indices, self.indptr), shape=self.shape, copy=False)

    def __repr__(self):
        return f"<sparselayer.CSR {self.shape[0]}x{self.shape[1]} of {self.dtype}, {self.nnz} entries>"


def _value_dtype(dtype):
    number = n.DTYPES.get(dtype.name)
    if number is None or number >= n.I32_DTYPE:
        raise n.DtypeError(f"values are {dtype}; float32, float64, float16 or bfloat16 is needed", "SL_ERR_DTYPE")
    return number


def _numpy_dtype(number):
    if number == n.BF16:
        import ml_dtypes
        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(n.NAMES[number])


def csr(matrix: CSR | SupportsToCSR | Matrix | tuple[Any, Any, Any], shape: tuple[int, int] | None = None,
        dtype: DTypeLike | None = None, runtime: n.Runtime | None = None) -> CSR:
    """A CSR of a SciPy matrix (any format), or of (data, indices, indptr) with `shape`.

    CSR arrays with int32 columns that increase within each row are borrowed: writing to `matrix.data` changes the
    result, and the structure must not change from then on. Others are copied; duplicates are summed.
    """
    runtime = runtime or n.runtime()
    if isinstance(matrix, CSR):
        return matrix
    if isinstance(matrix, tuple):
        data, indices, indptr = matrix
        if shape is None:
            raise n.ArgumentError("shape is needed beside (data, indices, indptr)", "SL_ERR_ARGUMENT")
    elif hasattr(matrix, "tocsr"):
        m = matrix.tocsr()
        if not m.has_canonical_format:
            m = m.copy()
            m.sum_duplicates()
        data, indices, indptr, shape = m.data, m.indices, m.indptr, m.shape
    else:
        return from_dense(matrix, dtype=dtype, runtime=runtime)
    data = np.asarray(data)
    data = data.astype(dtype or (data.dtype if data.dtype.kind == "f" or data.dtype.name == "bfloat16" else np.float32),
                       copy=False)
    indices, indptr = np.ascontiguousarray(indices), np.ascontiguousarray(indptr)
    if _increasing(indptr, indices):
        pattern = Pattern.from_csr(indptr, indices, shape, runtime)
        return CSR.from_pattern(pattern, np.ascontiguousarray(data[:pattern.nnz]))
    options = n.BuildOptions(struct_size=c.sizeof(n.BuildOptions), duplicates=1)
    data = np.ascontiguousarray(data)
    if len(data) < len(indices):
        raise n.ShapeError(f"{len(indices)} indices, but {len(data)} values", "SL_ERR_SHAPE")
    handle = runtime.make(n.sl.sl_csr_create, shape[0], shape[1], int(indptr[-1]), n.numpy_pointer(indptr),
                          dtype_of(indptr, "indptr"), n.numpy_pointer(indices), dtype_of(indices, "indices"),
                          n.numpy_pointer(data), _value_dtype(data.dtype), c.byref(options))
    return CSR(handle, runtime)


def from_dense(matrix: Matrix, threshold: float = 0.0, dtype: DTypeLike | None = None,
               runtime: n.Runtime | None = None) -> CSR:
    """The entries of a dense matrix (NumPy or DLPack) with |value| > threshold."""
    runtime = runtime or n.runtime()
    if dtype is not None:
        matrix = np.asarray(matrix, dtype=dtype)
    return CSR(runtime.make(n.sl.sl_csr_create_dense, c.byref(view(matrix).dense), threshold, None), runtime)


def top_k(matrix: Matrix, k: int, runtime: n.Runtime | None = None) -> CSR:
    """The `k` entries of largest magnitude of a dense matrix; ties go to the lower row, then column."""
    runtime = runtime or n.runtime()
    return CSR(runtime.make(n.sl.sl_csr_create_top_k, c.byref(view(matrix).dense), k, None), runtime)


def sddmm(a: Matrix, b: Matrix, pattern: Pattern, out: CSR | None = None) -> CSR:
    """The product a @ b at the pattern's entries alone: a CSR. a is [m, k], b [k, n], the pattern [m, n]."""
    va, vb = view(a, "a"), view(b, "b")
    result = out if out is not None else CSR.from_pattern(pattern, dtype=_numpy_dtype(va.dense.dtype))
    pattern._runtime.call(n.sl.sl_sddmm, 1.0, c.byref(va.dense), c.byref(vb.dense), 0.0, result._handle)
    return result
