# SPDX-License-Identifier: Apache-2.0
"""JAX's BCOO and BCSR products and its sampled product, compiled by XLA."""
import os

import numpy as np

import peer


def load():
    global jax, sparse
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if peer.THREADS == 1:
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
    import jax
    from jax.experimental import sparse

    return f"JAX {jax.__version__} on {jax.devices()[0].platform}"


def variants(offsets, columns, values, shape, dense, prefix):
    rows = np.repeat(np.arange(shape[0], dtype=np.int32), np.diff(offsets))
    indices = np.stack([rows, columns], 1)
    coo = sparse.BCOO((values, indices), shape=shape, indices_sorted=True, unique_indices=True)
    csr = sparse.BCSR((values, columns, offsets), shape=shape, indices_sorted=True, unique_indices=True)
    coo, csr, dense = jax.device_put(coo), jax.device_put(csr), jax.device_put(dense)
    multiply = jax.jit(lambda a, b: a @ b)
    return [(prefix + "bcoo", lambda: multiply(coo, dense).block_until_ready(), np.asarray),
            (prefix + "bcsr", lambda: multiply(csr, dense).block_until_ready(), np.asarray)]


def prepare(case):
    if not case.dense_room:  # the products gather [nonzeros, batch]
        return []
    if case.op == "forward":
        return variants(case.offsets, case.columns, case.values, (case.out, case.in_), case.x, "")
    if case.op == "dx":
        return variants(*case.turned(), (case.in_, case.out), case.y, "turned-")
    indices = jax.device_put(np.stack([case.rows, case.columns], 1))
    x, y = jax.device_put(case.x), jax.device_put(case.y)
    sampled = jax.jit(lambda a, b: sparse.bcoo_dot_general_sampled(
        a, b, indices, dimension_numbers=(((1,), (1,)), ((), ()))))
    gather = jax.jit(lambda a, b: (a[indices[:, 0]] * b[indices[:, 1]]).sum(1))
    return [("sampled", lambda: sampled(y, x).block_until_ready(), np.asarray),
            ("gather", lambda: gather(y, x).block_until_ready(), np.asarray)]


peer.serve(load, prepare)
