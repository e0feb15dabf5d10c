# SPDX-License-Identifier: Apache-2.0
"""Patterns that change during training: pruning, SET (Mocanu et al. 2018) and RigL (Evci et al. 2020), by the C library.

These work on a pattern and NumPy arrays and know no framework; `sparselayer.keras.TopologyCallback` and
`sparselayer.torch.SparseLinear.set_pattern` use them. An edit gives a new Pattern; `entry_map` says where its entries
were, and `carry` brings values, moments and the like along.
"""
from __future__ import annotations

import ctypes as c
import math

import numpy as np

from . import _native as n
from ._sparse import Pattern
from ._tensor import view


def _edit(pattern, values, **fields):
    values = np.ascontiguousarray(values)
    if values.shape != (pattern.nnz,):
        raise n.ShapeError(f"values has shape {values.shape}; the pattern has {pattern.nnz} entries", "SL_ERR_SHAPE")
    if values.dtype not in (np.float32, np.float64):
        raise n.DtypeError(f"values are {values.dtype}; float32 or float64 is needed", "SL_ERR_DTYPE")
    edit = n.Edit(values=n.numpy_pointer(values), dtype=n.DTYPES[values.dtype.name], **{"keep": -1, **fields})
    made = c.c_void_p()
    n.check_bridge(n.bridge.slb_pattern_edit(c.byref(made), pattern._runtime._handle, pattern._handle, c.byref(edit)))
    return Pattern(made.value, pattern._runtime)


def prune(pattern: Pattern, values: np.ndarray, count: int) -> Pattern:
    """The Pattern of the `count` entries of largest magnitude; ties go to the lower row, then column."""
    if not 0 <= count <= pattern.nnz:
        raise n.ArgumentError(f"{count} entries were asked for; there are {pattern.nnz}", "SL_ERR_ARGUMENT")
    return _edit(pattern, values, keep=count)


def regrow(pattern: Pattern, values: np.ndarray, count: int, x: np.ndarray | None = None, dz: np.ndarray | None = None,
           spread: float = 1.0, stream: int = 0) -> Pattern:
    """The Pattern without the `count` entries of smallest magnitude, and with as many where there were none.

    Without `x` and `dz` the new ones are drawn at random (SET); with them they are those with the largest |gradient|
    (RigL), the gradient being dzᵀ x, of which some rows at a time are made and none is kept.

    Args:
        values: [nnz], float32 or float64.
        count: at most pattern.nnz; where there is less room to grow, that many.
        x: [batch, columns], the layer's input in one batch, of values' dtype.
        dz: [batch, rows], the gradient of its sums.
        spread: with `x`: a row gains at most ceil(spread * mean entries of a row), and fewer are moved where rows are nearly
            full. Without a limit (math.inf, as RigL is published) adaptive optimizers let few neurons gain nearly all.
        stream: distinguishes random draws; give each call its own.
    """
    if not 0 <= count <= pattern.nnz:
        raise n.ArgumentError(f"{count} entries were asked for; there are {pattern.nnz}", "SL_ERR_ARGUMENT")
    if x is None:
        return _edit(pattern, values, exchange=count, stream=stream)
    dtype = np.asarray(values).dtype
    x, dz = view(np.asarray(x, dtype), "x"), view(np.asarray(dz, dtype), "dz")
    return _edit(pattern, values, exchange=count, spread=spread, x=c.addressof(x.dense), dz=c.addressof(dz.dense))


def entry_map(old: Pattern, new: Pattern) -> np.ndarray:
    """For each entry of `new` its number in `old`, -1 where it has none."""
    if old.shape != new.shape:
        raise n.ShapeError(f"the patterns are {old.shape} and {new.shape}; they must be the same", "SL_ERR_SHAPE")
    numbers = np.empty(new.nnz, np.int64)
    n.check_bridge(n.bridge.slb_map(old._runtime._handle, old._handle, new._handle, n.numpy_pointer(numbers)))
    return numbers


def carry(values: np.ndarray, carried: np.ndarray, new_values: float = 0) -> np.ndarray:
    """An array over the new pattern from one over the old: kept entries keep theirs, others get `new_values`."""
    values = np.asarray(values)
    return np.where(carried >= 0, values[carried] if len(values) else 0, new_values).astype(values.dtype)


def cosine_fraction(step: int, end: int, initial: float = 0.3) -> float:
    """The share of entries to exchange, which falls by a cosine from `initial` to 0 at step `end` (RigL, section 3)."""
    return 0.0 if step >= end else initial / 2 * (1 + math.cos(math.pi * step / end))


def cubic_density(step: int, begin: int, end: int, initial: float, final: float) -> float:
    """Gradual pruning's density (Zhu and Gupta 2017): from `initial` at `begin` to `final` at `end`, fast at first."""
    if step <= begin:
        return initial
    if step >= end:
        return final
    return final + (initial - final) * (1 - (step - begin) / (end - begin)) ** 3
