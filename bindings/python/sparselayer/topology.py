# SPDX-License-Identifier: Apache-2.0
"""Patterns that change during training: pruning, SET (Mocanu et al. 2018) and RigL (Evci et al. 2020), on arrays.

These work on a pattern and value arrays and know no framework; `sparselayer.keras.TopologyCallback` and
`sparselayer.torch.SparseLinear.set_pattern` use them.
"""
import math

import numpy as np

from . import _native as n
from ._sparse import Pattern


def cells(pattern):
    """row * columns + column of each entry: increasing."""
    return pattern.rows * pattern.shape[1] + pattern.indices


def from_cells(numbers, shape):
    """The Pattern of increasing cell numbers."""
    rows, columns = np.divmod(numbers, shape[1])
    indptr = np.zeros(shape[0] + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=shape[0]), out=indptr[1:])
    return Pattern.from_csr(indptr.astype(np.int32) if len(numbers) < 2**31 else indptr, columns.astype(np.int32), shape)


def entry_map(old, new):
    """For each entry of `new` its number in `old`, -1 where it has none."""
    if old.shape != new.shape:
        raise n.ShapeError(f"the patterns are {old.shape} and {new.shape}; they must be the same", "SL_ERR_SHAPE")
    before, after = cells(old), cells(new)
    if not len(before):
        return np.full(len(after), -1, np.int64)
    at = np.minimum(np.searchsorted(before, after), len(before) - 1)
    return np.where(before[at] == after, at, -1)


def carry(values, carried, new_values=0):
    """An array over the new pattern from one over the old: kept entries keep theirs, others get `new_values`."""
    values = np.asarray(values)
    return np.where(carried >= 0, values[carried] if len(values) else 0, new_values).astype(values.dtype)


def prune(pattern, values, count):
    """The pattern of the `count` entries of largest magnitude; ties go to the lower row, then column."""
    magnitude = np.abs(np.asarray(values))
    if np.isnan(magnitude).any():
        raise n.ArgumentError("a weight is NaN, which has no rank", "SL_ERR_NONFINITE")
    if not 0 <= count <= pattern.nnz:
        raise n.ArgumentError(f"{count} entries were asked for; there are {pattern.nnz}", "SL_ERR_ARGUMENT")
    kept = np.sort(np.argsort(-magnitude, kind="stable")[:count])
    return from_cells(cells(pattern)[kept], pattern.shape)


def grow_random(pattern, count, rng):
    """`count` entries more, drawn uniformly from the cells that are empty."""
    rows, columns = pattern.shape
    taken = cells(pattern)
    free = rows * columns - len(taken)
    if count > free:
        raise n.ArgumentError(f"{count} entries were asked for; {free} cells are empty", "SL_ERR_ARGUMENT")
    # The k-th empty cell is k plus the taken cells before it, found by bisection: no dense mask.
    ranks = np.sort(rng.choice(free, count, replace=False)) if free < 4 * count else _distinct(rng, free, count)
    before = taken - np.arange(len(taken))
    chosen = ranks + np.searchsorted(before, ranks, side="right")
    return from_cells(np.sort(np.concatenate([taken, chosen])), pattern.shape)


def _distinct(rng, limit, count):
    chosen = np.unique(rng.integers(0, limit, count + count // 4 + 16))
    while len(chosen) < count:
        chosen = np.unique(np.concatenate([chosen, rng.integers(0, limit, count)]))
    return np.sort(rng.permutation(chosen)[:count])


def grow_by_gradient(pattern, count, dz, x, rows_at_once=None):
    """`count` entries more: the empty cells with the largest |gradient|, the gradient being dzᵀ x of one batch.

    The gradient is made some rows at a time and never held as a whole.

    Args:
        dz: [batch, rows], gradient of the layer's sums.
        x: [batch, columns], its input.
    """
    rows, columns = pattern.shape
    free = rows * columns - pattern.nnz
    if count > free:
        raise n.ArgumentError(f"{count} entries were asked for; {free} cells are empty", "SL_ERR_ARGUMENT")
    step = rows_at_once or max(1, (1 << 22) // max(columns, 1))
    best = np.empty(0, np.float32)
    at = np.empty(0, np.int64)
    indptr, indices = pattern.indptr, pattern.indices
    for first in range(0, rows, step):
        last = min(first + step, rows)
        part = np.abs(dz[:, first:last].T @ x)
        begin, end = int(indptr[first]), int(indptr[last])
        local = np.repeat(np.arange(last - first), np.diff(indptr[first:last + 1]))
        part[local, indices[begin:end]] = -1
        flat = part.ravel()
        if len(flat) > count:
            chosen = np.argpartition(-flat, count - 1)[:count] if count else np.empty(0, np.int64)
        else:
            chosen = np.arange(len(flat))
        chosen = chosen[flat[chosen] >= 0]
        best = np.concatenate([best, flat[chosen]])
        at = np.concatenate([at, chosen + first * columns])
        if len(best) > count:
            order = np.lexsort((at, -best))[:count]
            best, at = best[order], at[order]
    return from_cells(np.sort(np.concatenate([cells(pattern), at])), pattern.shape)


def cosine_fraction(step, end, initial=0.3):
    """The share of entries to exchange, which falls by a cosine from `initial` to 0 at step `end` (RigL, section 3)."""
    return 0.0 if step >= end else initial / 2 * (1 + math.cos(math.pi * step / end))


def cubic_density(step, begin, end, initial, final):
    """Gradual pruning's density (Zhu and Gupta 2017): from `initial` at `begin` to `final` at `end`, fast at first."""
    if step <= begin:
        return initial
    if step >= end:
        return final
    return final + (initial - final) * (1 - (step - begin) / (end - begin)) ** 3
